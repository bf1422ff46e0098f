"""The errors that callers of this slice read, each made in one place."""

from __future__ import annotations

from molecule_grpc.kernel.errors import Conflict, NotFound, Unavailable


def not_found() -> NotFound:
    """A file that is unknown, another workspace's, acknowledged or expired: all read the same."""
    return NotFound("upload not found", reason="UPLOAD_NOT_FOUND")


def no_workspace() -> NotFound:
    """The workspace is unknown or removed."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def url_not_registered() -> Unavailable:
    """The workspace is starting up: retry after 15 s."""
    return Unavailable(
        "workspace url not registered yet", reason="URL_NOT_REGISTERED", retry_after=15
    )


def no_route() -> Conflict:
    """The workspace cannot be called and does not read its inbox: no retry helps."""
    return Conflict(
        "no way leads to this workspace: it has no URL and does not read its inbox; register it "
        "with delivery_mode poll, or with a public URL",
        reason="NO_DISPATCH_PATH",
    )


def one_request_only() -> Conflict:
    """The agent can be called, and files are forwarded to it in one request."""
    return Conflict(
        "this agent can be called: send the files in one request", reason="NO_DISPATCH_PATH"
    )


def refused_by_agent(status: int) -> Conflict:
    """The agent answered forwarded files with an HTTP status of 300 or more."""
    return Conflict(f"the agent refused the files with status {status}")


def store_unavailable() -> Unavailable:
    """The blob store does not answer, or the settings no longer name it: retry after 5 s."""
    return Unavailable(
        "files cannot be stored or read now, try again",
        reason="UPLOAD_STORE_UNAVAILABLE",
        retry_after=5,
    )
