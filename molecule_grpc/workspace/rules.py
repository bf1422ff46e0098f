"""Decisions about workspaces that need no database."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from molecule_grpc.host_list import HostList
from molecule_grpc.kernel.errors import Invalid

EXTERNAL: Final = "external"
DEFAULT_RUNTIME: Final = "langgraph"
NO_BACKEND: Final = "no compute backend is configured on this server"

PUSH: Final = "push"
POLL: Final = "poll"

NO_ACCESS: Final = "none"

# Levels of the tree, the root's included.
MAX_DEPTH: Final = 50

# An error rate of 0.5 or more degrades a workspace; a rate below 0.1 ends that.
DEGRADED_FROM: Final = 0.5
WELL_BELOW: Final = 0.1

MAX_SPEND_CENTS: Final = 1_000_000_000_000

_LINE_BREAKS: Final = "\n\r\x00"
_MARKUP: Final = "{}[]|>*&!"
_SYSTEM_DIRECTORIES: Final = (
    "/etc", "/var", "/proc", "/sys", "/dev", "/boot", "/sbin", "/bin", "/lib", "/usr",
)  # fmt: skip


def check_name(name: str) -> str:
    """A name that may stand in YAML and on one line.

    Raises:
        Invalid: it may not.
    """
    if not name.strip():
        raise Invalid("name must not be blank", field="name")
    return _one_plain_line(name, "name")


def check_role(role: str) -> str:
    """A role that may stand in YAML and on one line.

    Raises:
        Invalid: it may not.
    """
    return _one_plain_line(role, "role")


def check_runtime(runtime: str) -> str:
    """A runtime on one line.

    Raises:
        Invalid: it is not.
    """
    if any(character in runtime for character in _LINE_BREAKS):
        raise Invalid("runtime must not contain line breaks", field="runtime")
    return runtime


def check_egress(hosts: HostList, *, external: bool) -> HostList:
    """Hosts that a workspace may reach. The platform can bound only workloads that it runs.

    Raises:
        Invalid: a list for an external workspace.
    """
    if external and not hosts.is_open:
        raise Invalid("an external workspace runs elsewhere, egress must be open", field="egress")
    return hosts


def check_directory(path: str) -> str:
    """A host directory that may be mounted: absolute, without `..`, and not the system's.

    Raises:
        Invalid: it may not.
    """
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or any(c in path for c in _LINE_BREAKS):
        raise Invalid("workspace_dir must be an absolute path without ..", field="workspace_dir")
    plain = "/" + "/".join(part for part in parts if part not in ("", "."))
    if plain == "/" or plain.startswith(tuple(f"{each}/" for each in _SYSTEM_DIRECTORIES)):
        raise Invalid("workspace_dir must not be a system directory", field="workspace_dir")
    if plain in _SYSTEM_DIRECTORIES:
        raise Invalid("workspace_dir must not be a system directory", field="workspace_dir")
    return plain


def check_access(access: str, directory: str) -> str:
    """The host directory of a workspace; empty where none is mounted.

    Raises:
        Invalid: access to a directory needs one, and `check_directory` allows it.
    """
    if directory:
        return check_directory(directory)
    if access != NO_ACCESS:
        raise Invalid("workspace_access needs workspace_dir", field="workspace_dir")
    return ""


def check_place(x: float, y: float) -> None:
    """Raise unless this is a place on the canvas.

    Raises:
        Invalid: a coordinate is not a finite number.
    """
    if not (math.isfinite(x) and math.isfinite(y)):
        raise Invalid("canvas coordinates must be finite numbers", field="canvas")


def is_remote(url: str) -> bool:
    """Whether a URL only says that the agent cannot be called."""
    return url.strip().lower().startswith("remote:")


class RegisteredMode(NamedTuple):
    """How messages reach an agent that registers.

    Args:
        stated: what the row keeps; None where nobody has stated a mode, and the URL decides anew.
        in_force: `push` or `poll`.
    """

    stated: str | None
    in_force: str


def registered_mode(stated: str, stored: str | None, url: str, runtime: str) -> RegisteredMode:
    """The mode of a registration: as stated, else as stated earlier, else by the URL.

    Only a stated mode is kept: an agent that comes back with a URL, or without, is not bound by
    what had been worked out of the former one. The column `mode_in_force` says the same in SQL.

    Args:
        stated: what the agent says; empty when it says nothing.
        stored: what the row keeps of an earlier statement.
        url: as announced. With the scheme `remote:` it revokes an earlier statement.
    """
    remote = is_remote(url)
    kept = stated or (None if remote else stored)
    if kept:
        return RegisteredMode(kept, kept)
    polls = remote or (runtime == EXTERNAL and not url.strip())
    return RegisteredMode(None, POLL if polls else PUSH)


def reported_spend(cents: float | None) -> int | None:
    """The spend to store, 0 to 1e12 cents; None where the report says nothing: zero, NaN, None."""
    if cents is None or math.isnan(cents):
        return None
    return round(min(max(cents, 0.0), float(MAX_SPEND_CENTS))) or None


def reachable(status: str, mode: str, url: str) -> bool:
    """Whether a message can be sent now. An agent that polls may be away: the inbox keeps it."""
    if mode == POLL:
        return status in ("online", "degraded", "awaiting_agent", "offline")
    return status in ("online", "degraded") and bool(url)


def _one_plain_line(text: str, field: str) -> str:
    if any(character in text for character in _LINE_BREAKS):
        raise Invalid(f"{field} must not contain line breaks", field=field)
    if any(character in text for character in _MARKUP):
        raise Invalid(f"{field} must not contain any of {' '.join(_MARKUP)}", field=field)
    return text
