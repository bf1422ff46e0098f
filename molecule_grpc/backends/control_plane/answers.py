"""What the control plane answers, read into values: nothing of a body is repeated to anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    Started,
    Status,
    Stopped,
    Unknown,
)

_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")
# Codes of a 404 for a machine that is gone; any other 404 may come from a wrong address.
_GONE: Final = frozenset({"not_found", "instance_not_found", "workspace_not_found"})

_RUNNING: Final = frozenset({"running", "pending", "provisioning", "starting"})
_STOPPED: Final = frozenset({"stopped", "stopping"})
_ABSENT: Final = frozenset({"terminated", "shutting-down", "absent", "deleted"})

_BY_STATUS: Final[Mapping[int, tuple[FailureReason, str, bool]]] = {
    401: (FailureReason.FORBIDDEN, "the control plane refuses this platform's credentials", False),
    402: (FailureReason.QUOTA, "the control plane's quota is used up", False),
    403: (FailureReason.FORBIDDEN, "the control plane refuses this platform's credentials", False),
    408: (FailureReason.TIMEOUT, "the control plane took too long", True),
    429: (FailureReason.THROTTLED, "the control plane asks to slow down", True),
    507: (FailureReason.NO_SPACE, "the control plane has no space left", False),
}
_BY_CODE: Final[Mapping[str, tuple[FailureReason, str, bool]]] = {
    "quota_exceeded": (FailureReason.QUOTA, "the control plane's quota is used up", False),
    "insufficient_capacity": (
        FailureReason.CAPACITY,
        "no machine is free at present",
        True,
    ),
    "image_not_found": (FailureReason.IMAGE_MISSING, "there is no image for this runtime", False),
}


def parsed(body: bytes) -> Mapping[str, Any] | None:
    """A body that is a JSON object; None for any other."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def failure(status: int, body: bytes) -> BackendFailure:
    """An answer that is no success. Nothing but a code of the answer goes to the log."""
    code = _code(body)
    reason, public, retryable = _BY_CODE.get(code) or _BY_STATUS.get(status) or _other(status)
    detail = f"HTTP {status}" + (f", {code}" if code else "")
    refused = 400 <= status < 500 and status not in (408, 409)
    undone = refused or reason is FailureReason.CAPACITY
    return BackendFailure(reason, public, detail=detail, retryable=retryable, undone=undone)


def says_gone(status: int, body: bytes) -> bool:
    """Whether an answer says that the control plane has no machine of that id."""
    return status in (404, 410) and _code(body) in _GONE


def started(body: bytes) -> Started:
    """A machine that the control plane has started.

    Raises:
        BackendFailure: the answer names none. Whether one was started is not known.
    """
    found = parsed(body) or {}
    instance_id = found.get("instance_id")
    if not isinstance(instance_id, str) or not _ID.fullmatch(instance_id):
        raise BackendFailure(
            FailureReason.ENGINE,
            "the control plane's answer cannot be understood",
            detail="no instance_id",
        )
    return Started(resource_id=instance_id)


def status_of(body: bytes, resource: Resource) -> Status:
    """What an answer of status 200 says of a machine."""
    found = parsed(body)
    if found is None:
        return Unknown("no JSON object")
    state, named = found.get("state"), found.get("instance_id")
    instance_id = resource.resource_id or (named if _is_id(named) else "")
    if state in _ABSENT:
        return Absent()
    if not instance_id:
        return Unknown("no instance_id") if state else Absent()
    if state in _RUNNING:
        return Running(resource_id=instance_id, operation_id=resource.operation_id)
    if state in _STOPPED:
        return Stopped(resource_id=instance_id, operation_id=resource.operation_id)
    return Unknown("no state that is known")


def _other(status: int) -> tuple[FailureReason, str, bool]:
    if status in (400, 404, 409, 413, 422):
        public = f"the control plane refuses the request ({status})"
        return FailureReason.CONFIGURATION, public, False
    public = f"the control plane answered {status}"
    return FailureReason.ENGINE, public, status >= 500


def _code(body: bytes) -> str:
    code = (parsed(body) or {}).get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _is_id(text: object) -> bool:
    return isinstance(text, str) and _ID.fullmatch(text) is not None
