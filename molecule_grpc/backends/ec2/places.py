"""Where a workspace's files lie on its machine."""

from __future__ import annotations

import posixpath
from typing import Final

from molecule_grpc.backends.contract.failures import Refused
from molecule_grpc.backends.contract.names import BackendName

CONFIGS: Final = "/configs"
# Directories of runtimes that read files elsewhere. A file in a wrong place is never seen: the
# agent's container binds this directory of the machine.
_ELSEWHERE: Final = {
    "hermes": "/home/ubuntu/.hermes",
    "langgraph": "/opt/configs",
    "external": "/opt/configs",
}


def config_directory(runtime: str) -> str:
    """The directory of the machine that a runtime knows as /configs."""
    return _ELSEWHERE.get(runtime.strip().lower(), CONFIGS)


def on_machine(path: str, runtime: str) -> str:
    """Where a path of the workspace lies on its machine.

    Raises:
        Refused: the path is not below /configs.
    """
    inside = posixpath.relpath(posixpath.normpath(path), CONFIGS)
    if not path.startswith("/") or inside == ".." or inside.startswith("../"):
        raise Refused(BackendName.EC2, "files outside of /configs")
    return posixpath.normpath(posixpath.join(config_directory(runtime), inside))
