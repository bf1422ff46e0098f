"""References of images, as engines and registries write them."""

from __future__ import annotations


def repository_of(reference: str) -> str:
    """The name without tag and digest."""
    name = reference.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    return before if colon and "/" not in tag else name


def pinned(reference: str, digest: str) -> str:
    """The reference of one image, whatever the tag of `reference` means."""
    return f"{repository_of(reference)}@{digest}"
