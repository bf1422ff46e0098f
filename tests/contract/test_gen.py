"""The protos keep their rules, and gen/ is current."""

from __future__ import annotations

import base64
import codecs
import filecmp
import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from openapi_spec_validator import validate as validate_openapi

from tools.descriptors import Contract, Rpc

ROOT = Path(__file__).parent.parent.parent
GEN = ROOT / "gen"
BUF = str(Path(sys.executable).parent / "buf")
# REST carries requests one after the other, so a stream of them has no REST form. The events'
# REST form is an RPC of its own.
WITHOUT_REST = {
    "moleculeai.delegation.v1.DelegationService.SubscribeInbox",
    "moleculeai.delegation.v1.DelegationService.SubscribeEvents",
    "moleculeai.upload.v1.UploadService.StageUploads",
    "moleculeai.workspace.v1.WorkspaceService.ExecWorkspace",
}
SIXTY_FOUR_BITS = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
}
# protoc-gen-es writes `fileDesc("…")`; protoc-gen-go a constant of concatenated literals.
TS_DESCRIPTOR = re.compile(r'fileDesc\("([^"]*)"')
GO_DESCRIPTOR = re.compile(r'_rawDesc = ""((?: \+\n\t"(?:[^"\\]|\\.)*")+)')
GO_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the protos generate now."""
    out = tmp_path_factory.mktemp("fresh")
    _run("bash", "tools/gen.sh", "server", str(out))
    return out / "gen"


def test_every_rpc_has_a_rest_form(contract: Contract) -> None:
    """An RPC that REST can express has a binding, and the others are known."""
    without = {_name(rpc) for rpc in contract.rpcs() if not rpc.bindings}
    assert without == WITHOUT_REST


def test_no_two_rpcs_answer_the_same_rest_call(contract: Contract) -> None:
    """The edge would serve only one of them."""
    calls = Counter(
        (binding.verb, re.sub(r"\{[^}]*\}", "{}", binding.path))
        for rpc in contract.rpcs()
        for binding in rpc.bindings
    )
    assert [call for call, count in calls.items() if count > 1] == []


def test_no_binding_uses_response_body(contract: Contract) -> None:
    """Envoy refuses to start with one: `bare_array` says it instead."""
    assert [_name(r) for r in contract.rpcs() for b in r.bindings if b.response_body] == []


def test_every_bare_array_is_the_only_field_and_repeated(contract: Contract) -> None:
    """The edge cuts the array out of `{"name":[…]}`, which works for nothing else."""
    for rpc in contract.rpcs():
        if rpc.face.bare_array:
            (field,) = rpc.response.fields
            assert (field.name, field.is_repeated) == (rpc.face.bare_array, True), _name(rpc)


def test_every_server_stream_with_a_rest_form_is_offered_as_sse(contract: Contract) -> None:
    """Only server streams are events, and one that isn't offered as such is a JSON array.

    A stream of HttpBody is a download: bytes as they are.
    """
    for rpc in contract.rpcs():
        if rpc.bindings and rpc.response.full_name != "google.api.HttpBody":
            assert rpc.face.sse == rpc.method.server_streaming, _name(rpc)


def test_every_rpc_says_what_it_does(commented: Contract) -> None:
    """The comment is the RPC's documentation in every language and in the OpenAPI document."""
    silent = [_name(rpc) for rpc in commented.rpcs() if not commented.comment(_name(rpc))]
    assert silent == []


def test_rest_carries_no_number_of_64_bits(contract: Contract) -> None:
    """JSON would print it as a string, which existing clients don't read as a number."""
    wide = {
        f"{_name(rpc)}: {field.full_name}"
        for rpc in contract.rpcs()
        if rpc.bindings
        for message in (*_reachable(rpc.request), *_reachable(rpc.response))
        for field in message.fields
        if field.type in SIXTY_FOUR_BITS
    }
    assert wide == set()


def test_the_edge_knows_every_error_detail(contract: Contract) -> None:
    """One unknown detail and Envoy drops the whole error body."""
    names = {file.name for file in contract.files.file}
    assert {"google/rpc/error_details.proto", "google/rpc/status.proto"} <= names


def test_python_stubs_are_current(fresh: Path) -> None:
    """Whoever edits a proto runs tools/gen.sh and commits the result."""
    assert list(_differences(GEN / "python", fresh / "python")) == []


@pytest.mark.parametrize("name", ["descriptor.binpb", "http_surface.txt", "openapi/openapi.json"])
def test_the_generated_file_is_current(fresh: Path, name: str) -> None:
    """Whoever edits a proto runs tools/gen.sh and commits the result."""
    assert (GEN / name).read_bytes() == (fresh / name).read_bytes()


def test_typescript_and_go_are_current(contract: Contract) -> None:
    """Both embed the descriptors they were made from; `tools/gen.sh check` compares every byte."""
    ours = {
        file.name: _bare(file)
        for file in contract.files.file
        if file.package.startswith("moleculeai.")
    }
    typescript = {
        file.name: _bare(file)
        for path in (GEN / "ts/src/moleculeai").rglob("*_pb.js")
        for file in (_typescript_descriptor(path),)
    }
    go = {
        file.name: _bare(file)
        for path in (GEN / "go/moleculeai").rglob("*.pb.go")
        if not path.name.endswith("_grpc.pb.go")
        for file in (_go_descriptor(path),)
    }
    assert typescript == ours
    assert go == ours


def test_buf_finds_nothing_to_say() -> None:
    """Names, comments and layout follow the style guide."""
    _run(BUF, "lint")


@pytest.mark.parametrize("of", ["main", "the last release"])
def test_no_change_breaks_clients(tmp_path: Path, of: str) -> None:
    """On the wire or in JSON. `http_surface.txt` shows changes of URLs."""
    baseline = next((ref for ref in _baselines(of) if _unpack_protos(ref, tmp_path)), None)
    if baseline is None:
        pytest.skip(f"this clone does not know the protos of {of}")
    _run(BUF, "breaking", "--against", str(tmp_path))


def test_the_openapi_document_is_valid() -> None:
    """By the schema of OpenAPI 3.1."""
    validate_openapi(json.loads((GEN / "openapi/openapi.json").read_text()))


def test_the_openapi_document_tells_what_the_edge_serves() -> None:
    """Statuses, bare arrays, events, raw bodies and limits are those of the REST face."""
    paths = json.loads((GEN / "openapi/openapi.json").read_text())["paths"]
    create = paths["/workspaces"]["post"]
    name = create["requestBody"]["content"]["application/json"]["schema"]["properties"]["name"]
    listed = paths["/workspaces"]["get"]["responses"]["200"]["content"]["application/json"]
    inbox = paths["/workspaces/{workspace_id}/inbox/stream"]["get"]
    message = paths["/workspaces/{workspace_id}/a2a"]["post"]

    assert set(create["responses"]) == {"201", "default"}
    assert (name["minLength"], name["maxLength"]) == (1, 255)
    assert listed["schema"]["items"] == {"$ref": "#/components/schemas/workspace.Workspace"}
    assert "text/event-stream" in inbox["responses"]["200"]["content"]
    assert inbox["parameters"][0]["schema"] == {"type": "string", "format": "uuid"}
    assert "*/*" in message["requestBody"]["content"]


def _run(*command: str) -> None:
    """Run in the repository, and fail with everything the command said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _name(rpc: Rpc) -> str:
    return f"{rpc.service}.{rpc.name}"


def _reachable(message: Descriptor, seen: set[str] | None = None) -> Iterator[Descriptor]:
    """The message and every message inside it; Google's own have a JSON form of their own."""
    seen = set() if seen is None else seen
    if message.full_name in seen or message.file.package.startswith("google."):
        return
    seen.add(message.full_name)
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _reachable(field.message_type, seen)


def _differences(committed: Path, fresh: Path) -> Iterator[str]:
    """Paths present in one folder only, and paths whose bytes differ."""
    both = filecmp.dircmp(committed, fresh, ignore=["__pycache__"])
    _, different, unread = filecmp.cmpfiles(committed, fresh, both.common_files, shallow=False)
    for name in (*both.left_only, *both.right_only, *different, *unread):
        yield str(committed / name)
    for folder in both.common_dirs:
        yield from _differences(committed / folder, fresh / folder)


def _bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """The descriptor without what one generator keeps and another drops."""
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    bare.ClearField("dependency")
    bare.options.ClearField("go_package")
    if not bare.options.ListFields():
        bare.ClearField("options")
    for message in bare.message_type:
        _drop_json_names(message)
    for extension in bare.extension:
        extension.ClearField("json_name")
    return bare


def _drop_json_names(message: DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _drop_json_names(nested)


def _typescript_descriptor(path: Path) -> FileDescriptorProto:
    (encoded,) = TS_DESCRIPTOR.findall(path.read_text())
    padded = encoded + "=" * (-len(encoded) % 4)
    return FileDescriptorProto.FromString(base64.b64decode(padded))


def _go_descriptor(path: Path) -> FileDescriptorProto:
    (literals,) = GO_DESCRIPTOR.findall(path.read_text())
    raw = "".join(GO_LITERAL.findall(literals)).encode()
    return FileDescriptorProto.FromString(codecs.escape_decode(raw)[0])


def _baselines(of: str) -> list[str]:
    """Git revisions to look for, the best first."""
    if of == "main":
        return ["main", "origin/main"]
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v*").stdout.decode().strip()
    return [tag] if tag else []


def _unpack_protos(revision: str, folder: Path) -> bool:
    """Whether the revision has protos; if so they are in the folder, also from a shallow clone."""
    archive = _git("archive", revision, "proto", "third_party", "buf.yaml")
    if archive.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
    return archive.returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
