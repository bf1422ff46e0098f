"""A protoc plugin for `*_pb2_grpc.py`: grpcio-tools writes these files but offers buf no plugin."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def main() -> None:
    """Answer one CodeGeneratorRequest from stdin on stdout."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    services = {file.name for file in request.proto_file if file.service}
    wanted = [name for name in request.file_to_generate if name in services]
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    if wanted:
        generate(FileDescriptorSet(file=request.proto_file), wanted, response)
    sys.stdout.buffer.write(response.SerializeToString())


def generate(
    files: FileDescriptorSet, wanted: list[str], response: plugin_pb2.CodeGeneratorResponse
) -> None:
    """Run grpcio-tools on the given descriptors and add its files to the response."""
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(files.SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc"),
                *(f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}"),
                *wanted,
            ],
            check=True,
        )
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())


if __name__ == "__main__":
    main()
