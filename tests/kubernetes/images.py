"""The image of tests' agents as containerd reads it, and one for the sandboxes of pods."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Final

from tests.engine.image import IMAGE, image_file

PAUSE: Final = "docker.io/library/molecule-test-pause:1"
AGENT: Final = f"docker.io/library/{IMAGE}"
_PATH: Final = "PATH=/usr/bin:/bin"
_COMMANDS: Final = {
    AGENT: ["/usr/bin/python3", "/agent.py"],
    PAUSE: ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait; done"],
}


def write_archive(target: Path) -> None:
    """Both images, on one layer, as `docker save` writes them."""
    layer = image_file()
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    with tarfile.open(target, "w") as archive:
        archive.add(layer, "layer.tar")
        manifest = []
        for at, (name, command) in enumerate(_COMMANDS.items()):
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": command, "Env": [_PATH]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
            _add(archive, f"{at}.json", config)
            manifest.append({"Config": f"{at}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
        _add(archive, "manifest.json", manifest)


def _add(archive: tarfile.TarFile, name: str, value: object) -> None:
    text = json.dumps(value).encode()
    member = tarfile.TarInfo(name)
    member.size = len(text)
    archive.addfile(member, io.BytesIO(text))
