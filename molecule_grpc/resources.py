"""Finds the files that are not Python: in a checkout, or in the `_data` of the installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def migrations_dir() -> Path:
    """The numbered SQL files."""
    return _resource("migrations")


def envoy_dir() -> Path:
    """The edge's configuration templates."""
    return _resource("envoy")


def descriptor_set() -> Path:
    """Every proto as one serialized FileDescriptorSet, for the edge's transcoder."""
    return _resource("gen/descriptor.binpb")


def _resource(name: str) -> Path:
    """A file or folder, by its path in the repository.

    Raises:
        FileNotFoundError: this installation lacks the file.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        path = root / name
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is missing from this installation of molecule-grpc")
