"""Which paths of a workspace may be named."""

from __future__ import annotations

from typing import Final

from molecule_grpc.kernel.errors import Invalid

DEFAULT_ROOT: Final = "/configs"
_COMPONENT_BYTES: Final = 255


def absolute(root: str, path: str, *, itself: bool = False) -> str:
    """The absolute path of what a request names.

    Args:
        root: as the request names it; empty for `/configs`.
        itself: whether an empty path means the root.

    Raises:
        Invalid: the path is empty, absolute, too long, or has a component that no file may have.
    """
    root = root or DEFAULT_ROOT
    if not path and itself:
        return root
    for component in path.split("/"):
        if component in ("", ".", ".."):
            raise Invalid(
                "path must be relative to its root, without empty components, . and ..",
                field="path",
            )
        if "\0" in component or len(component.encode()) > _COMPONENT_BYTES:
            raise Invalid(
                f"each component of path has at most {_COMPONENT_BYTES} bytes and no NUL",
                field="path",
            )
    return f"{root}/{path}"
