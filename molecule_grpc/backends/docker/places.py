"""Where a path leads inside a container, link by link, so that no link leads out of its root."""

from __future__ import annotations

import base64
import json
import posixpath
from typing import Final, NamedTuple

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.failures import OutsideRoot
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import is_missing
from molecule_grpc.backends.docker.names import Json

_STAT: Final = "X-Docker-Container-Path-Stat"
# As Go writes the mode of a file.
_LINK_BIT, _DIRECTORY_BIT = 1 << 27, 1 << 31


class Stat(NamedTuple):
    """What the engine says of a path. `target` is where a link leads in the end; empty for none."""

    directory: bool
    target: str


async def resolved(engine: Engine, container_id: str, path: str, *, follow: bool = True) -> str:
    """The path without links, as far as it is there.

    The engine keeps links inside the container; that they stay below `/workspace` or another top
    directory is seen here. An agent that changes links meanwhile reaches what is its own anyway.

    Args:
        path: absolute, without `.` and `..`.
        follow: also the last component, where this is a link.

    Raises:
        OutsideRoot: a link leads out of the path's top directory.
    """
    root, _, below = path[1:].partition("/")
    at = root = f"/{root}"
    names = below.split("/") if below else []
    for number, name in enumerate(names, 1):
        at = f"{at}/{name}"
        if number == len(names) and not follow:
            return at
        found = await look(engine, container_id, at)
        if found is None:
            return posixpath.join(at, *names[number:])
        if found.target:
            at = found.target
            if at != root and not at.startswith(f"{root}/"):
                raise OutsideRoot(path)
    return at


async def look(engine: Engine, container_id: str, path: str) -> Stat | None:
    """What lies at a path; None for nothing."""
    address = f"containers/{container_id}/archive"
    try:
        async with engine.request("HEAD", address, params={"path": path}) as answer:
            told = json.loads(base64.b64decode(answer.headers[_STAT]))
    except DockerError as error:
        if is_missing(error):
            return None
        raise
    mode = int(told.get("mode") or 0)
    target = str(told.get("linkTarget") or "") if mode & _LINK_BIT else ""
    return Stat(bool(mode & _DIRECTORY_BIT), target)


def mount_of(found: Json, path: str) -> str:
    """The mount that holds a path: with a read-only root the engine writes to no other place."""
    places = [each["Destination"] for each in found.get("Mounts", [])]
    holding = [place for place in places if path == place or path.startswith(f"{place}/")]
    return str(max(holding, key=len, default="/"))


def may_be_written(found: Json, path: str) -> bool:
    """Whether a path lies on a writable mount, or on a root that may be written."""
    mount = mount_of(found, path)
    if mount == "/":
        return not (found.get("HostConfig") or {}).get("ReadonlyRootfs", False)
    return any(each["Destination"] == mount and each.get("RW", True) for each in found["Mounts"])
