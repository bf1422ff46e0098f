"""What callers read when an upload cannot be."""

from __future__ import annotations

from molecule_grpc.kernel.errors import Conflict, NotFound, Unavailable


def not_found() -> NotFound:
    """Unknown, another workspace's, acknowledged or expired: all read the same."""
    return NotFound("upload not found", reason="UPLOAD_NOT_FOUND")


def no_workspace() -> NotFound:
    """Unknown or removed."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def not_yet() -> Unavailable:
    """It is starting up."""
    return Unavailable(
        "workspace url not registered yet", reason="URL_NOT_REGISTERED", retry_after=15
    )


def no_way() -> Conflict:
    """It cannot be called and does not read its inbox."""
    return Conflict(
        "no way leads to this workspace: it has no URL and does not read its inbox; register it "
        "with delivery_mode poll, or with a public URL",
        reason="NO_DISPATCH_PATH",
    )


def store_unavailable() -> Unavailable:
    """The store of file contents does not answer."""
    return Unavailable(
        "files cannot be stored or read now, try again",
        reason="UPLOAD_STORE_UNAVAILABLE",
        retry_after=5,
    )
