"""What a pod's record says of a workload. No I/O."""

from __future__ import annotations

from typing import Final

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import Running, Status, Stopped, Unknown
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.manifests import AGENT_PORT
from molecule_grpc.backends.kubernetes.names import Json

_SIGNALLED: Final = 128
_IMAGE: Final = {
    "InvalidImageName": (FailureReason.CONFIGURATION, "the image's name is malformed"),
    "ErrImageNeverPull": (FailureReason.IMAGE_MISSING, "the image is not there"),
    "ErrImagePull": (FailureReason.IMAGE_MISSING, "the image cannot be pulled"),
    "ImagePullBackOff": (FailureReason.IMAGE_MISSING, "the image cannot be pulled"),
}
_READ_METADATA: Final = ("name", "namespace", "labels", "deletionTimestamp")
_READ_STATUS: Final = (
    "phase",
    "reason",
    "message",
    "podIP",
    "conditions",
    "initContainerStatuses",
    "containerStatuses",
)
_CONFIGURATION: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


def as_read(pod: Json) -> Json:
    """A pod's record without what nobody here reads: its specification above all."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    return {
        "metadata": {name: metadata[name] for name in _READ_METADATA if name in metadata},
        "status": {name: status[name] for name in _READ_STATUS if name in status},
    }


def status_of(pod: Json, resource_id: str) -> Status:
    """Running, ended, or not known yet: a pod that the cluster is still making is no answer."""
    operation = names.label_id(pod, names.OPERATION)
    status = pod.get("status") or {}
    if _is_running(pod):
        agent = _container(pod)
        digest = str(agent.get("imageID") or "").rpartition("@")[2]
        return Running(resource_id, operation, url_of(pod), digest)
    if (ended := _ended(pod)) is not None:
        code = int(ended.get("exitCode") or 0)
        killed = ended.get("reason") == "OOMKilled"
        return Stopped(resource_id, operation, code, killed, _signal_of(code))
    if status.get("phase") == "Failed":
        return Stopped(resource_id, operation)
    return Unknown(f"the pod is {status.get('phase', 'not there yet')}")


def url_of(pod: Json) -> str:
    """Where the platform calls the agent; empty while the pod has no address."""
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        return ""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{AGENT_PORT}"


def failure_of(pod: Json) -> BackendFailure | None:
    """Why the pod will not come by itself; None while it may.

    A pod that waits for room on a node is not among these: nodes come and go.
    """
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return _evicted(status)
    if (ended := _ended(pod)) is not None:
        return _exit(ended)
    for each in [*(status.get("initContainerStatuses") or []), *_statuses(pod)]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        reason, detail = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _IMAGE:
            kind, public = _IMAGE[reason]
            if "unauthorized" in detail.lower() or "denied" in detail.lower():
                kind, public = FailureReason.IMAGE_REFUSED, "the registry refuses the image"
            return BackendFailure(kind, public, detail=f"{reason}: {detail}")
        if reason in _CONFIGURATION:
            public = "the container cannot be made as the workspace wants it"
            return BackendFailure(FailureReason.CONFIGURATION, public, detail=detail)
    return _seeding_failed(status)


def waits_for(pod: Json | None, event: str) -> BackendFailure:
    """Why a pod has not come in time.

    Args:
        event: the last warning about the workload, for the log.
    """
    conditions = ((pod or {}).get("status") or {}).get("conditions") or []
    for each in conditions:
        if each["type"] == "PodScheduled" and each["status"] != "True":
            public = "no node of the cluster has room for the workspace"
            detail = str(each.get("message", ""))
            return BackendFailure(FailureReason.CAPACITY, public, detail=detail)
    if "exceeded quota" in event:
        public = "the cluster's quota has no room for the workspace"
        return BackendFailure(FailureReason.QUOTA, public, detail=event)
    public = "the pod did not come in time"
    return BackendFailure(FailureReason.TIMEOUT, public, detail=event)


def _is_running(pod: Json) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return "running" in (_container(pod).get("state") or {})


def _ended(pod: Json) -> Json | None:
    """How the agent's process ended: the last one's, while it waits to be started again."""
    agent = _container(pod)
    state: Json = agent.get("state") or {}
    if "terminated" in state:
        return dict(state["terminated"])
    if "waiting" in state and (last := (agent.get("lastState") or {}).get("terminated")):
        return dict(last)
    return None


def _exit(ended: Json) -> BackendFailure:
    if ended.get("reason") == "OOMKilled":
        public = "the agent was ended: it used more memory than the workspace may have"
        return BackendFailure(FailureReason.OUT_OF_MEMORY, public)
    code = int(ended.get("exitCode") or 0)
    number = _signal_of(code)
    how = f"with exit code {code}" if number is None else f"by signal {number}"
    detail = str(ended.get("message", ""))
    return BackendFailure(FailureReason.EXITED, f"the agent ended {how}", detail=detail)


def _evicted(status: Json) -> BackendFailure:
    detail = f"{status.get('reason')}: {status.get('message')}"
    if status.get("reason") == "Evicted":
        public = "the node has taken its room back"
        return BackendFailure(FailureReason.CAPACITY, public, detail=detail, retryable=True)
    return BackendFailure(FailureReason.EXITED, "the pod has failed", detail=detail)


def _seeding_failed(status: Json) -> BackendFailure | None:
    for each in status.get("initContainerStatuses") or []:
        for state in (each.get("state") or {}, each.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if ended.get("exitCode"):
                public = "the first files could not be written: the image needs a shell"
                detail = str(ended.get("message", ""))
                return BackendFailure(FailureReason.CONFIGURATION, public, detail=detail)
    return None


def _statuses(pod: Json) -> list[Json]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def _container(pod: Json) -> Json:
    return next((each for each in _statuses(pod) if each["name"] == names.CONTAINER), {})


def _signal_of(code: int) -> int | None:
    return code - _SIGNALLED if _SIGNALLED < code < _SIGNALLED + 65 else None
