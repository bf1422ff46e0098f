"""The image of tests' agents, from what this machine has: its Python, busybox and a program.

No registry and no download: 60 MB are copied in two seconds, once for each state of the recipe.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

IMAGE = "molecule-test-agent:1"
_HERE = Path(__file__).parent
_AGENT = _HERE / "agent.py"
# What of the standard library no agent needs: 600 of its 700 MB.
_LEFT_OUT = re.compile(
    r"(^|/)(test|tests|site-packages|config-[^/]*|idlelib|ensurepip|tkinter|lib2to3|turtledemo)/"
    r"|/_tkinter\.|/_dbm\.|/_gdbm\.|\.opt-[12]\.pyc$|\.a$"
)
_DIRECTORIES = ("configs", "dev", "etc", "proc", "root", "run", "sys", "tmp", "workspace")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/workspace:/bin/sh\n"
CHANGES = ('CMD ["/usr/bin/python3","/agent.py"]', "ENV PATH=/usr/bin:/bin")


@functools.cache
def image_file() -> Path:
    """The image as a tar file, made when there is none of this recipe."""
    parts = [Path(__file__).read_bytes(), _AGENT.read_bytes(), sys.version.encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"molecule-test-images-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    target = directory / f"{digest}.tar"
    if not target.exists():
        for old in directory.glob("*.tar"):
            old.unlink(missing_ok=True)
        unfinished = directory / f"{digest}.{os.getpid()}"
        _write(unfinished)
        unfinished.rename(target)
    return target


def _write(target: Path) -> None:
    with tarfile.open(target, "w") as image:
        for name in _DIRECTORIES:
            _directory(image, name)
        base = Path(sys.base_prefix)
        library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(base)}))
        image.add(library, _inside(library), filter=_wanted)
        program = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        image.add(program.resolve(), _inside(program))
        for file in _libraries([program, *library.glob("lib-dynload/*.so")]):
            image.add(file.resolve(), _inside(file))
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox is not installed (Debian: busybox-static)"
        image.add(busybox, "bin/busybox")
        image.add(_AGENT, "agent.py")
        for name in ("sh", "cat", "ls", "stat", "find", "mv", "rm", "mkdir", "sleep", "nc", "kill"):
            _link(image, f"bin/{name}", "busybox")
        _link(image, "usr/bin/python3", str(program))
        _file(image, "etc/passwd", _PASSWD)


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(member.name + "/" * member.isdir()) else member


def _libraries(files: list[Path]) -> set[Path]:
    """Shared libraries of programs and modules, with those of the libraries."""
    wanted = [str(file) for file in files if not _LEFT_OUT.search(str(file))]
    found = subprocess.run(["ldd", *wanted], check=True, capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"^\s.*?(/\S+) \(0x", found, re.MULTILINE)}


def _inside(path: Path) -> str:
    return str(path).lstrip("/")


def _directory(image: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    image.addfile(member)


def _link(image: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    image.addfile(member)


def _file(image: tarfile.TarFile, name: str, text: str) -> None:
    import io

    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    image.addfile(member, io.BytesIO(text.encode()))
