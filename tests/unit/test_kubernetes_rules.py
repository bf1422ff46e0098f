"""What the Kubernetes backend decides without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import Running, StartRequest, Stopped, Unknown
from molecule_grpc.backends.kubernetes.manifests import secret, stateful_set
from molecule_grpc.backends.kubernetes.rights import Right, rights
from molecule_grpc.backends.kubernetes.states import failure_of, status_of, waits_for
from molecule_grpc.backends.kubernetes.stats import usage_from
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.kubernetes import KubernetesSettings
from tests.integration.backends import a_start

RBAC = Path(__file__).parents[2] / "deploy" / "kubernetes-rbac.yaml"


def pod(**status: Any) -> dict[str, Any]:
    """A pod with one container."""
    return {"metadata": {"name": "ws-0", "labels": {}}, "status": status}


def agent(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A pod whose agent is in a state."""
    container = {"name": "agent", "state": state, "imageID": "registry/x@sha256:00", **more}
    return pod(phase="Running", podIP="172.31.64.9", containerStatuses=[container])


def test_the_manifest_gives_the_rights_that_are_asked_for_and_no_others() -> None:
    documents = yaml.safe_load_all(RBAC.read_text())
    role = next(each for each in documents if each["kind"] == "Role")
    given = {
        Right(group, resource.partition("/")[0], resource.partition("/")[2], verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == set(rights())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (agent({"running": {}}), Running("r", None, "http://172.31.64.9:8000", "sha256:00")),
        (agent({"terminated": {"exitCode": 3}}), Stopped("r", None, 3)),
        (agent({"terminated": {"exitCode": 143}}), Stopped("r", None, 143, signal=15)),
        (
            agent({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Stopped("r", None, 137, oom_killed=True, signal=9),
        ),
        (
            agent({"waiting": {}}, lastState={"terminated": {"exitCode": 1}}),
            Stopped("r", None, 1),
        ),
        (pod(phase="Failed", reason="Evicted"), Stopped("r")),
        (pod(phase="Pending"), Unknown("the pod is Pending")),
    ],
)
def test_what_a_pod_is(found: dict[str, Any], expected: object) -> None:
    assert status_of(found, "r") == expected


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (agent({"waiting": {"reason": "ContainerCreating"}}), None),
        (agent({"waiting": {"reason": "ImagePullBackOff"}}), FailureReason.IMAGE_MISSING),
        (
            agent({"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}}),
            FailureReason.IMAGE_REFUSED,
        ),
        (agent({"waiting": {"reason": "InvalidImageName"}}), FailureReason.CONFIGURATION),
        (agent({"waiting": {"reason": "RunContainerError"}}), FailureReason.CONFIGURATION),
        (agent({"terminated": {"exitCode": 0}}), FailureReason.EXITED),
        (pod(phase="Failed", reason="Evicted"), FailureReason.CAPACITY),
        (
            pod(initContainerStatuses=[{"state": {"terminated": {"exitCode": 127}}}]),
            FailureReason.CONFIGURATION,
        ),
    ],
)
def test_why_a_pod_will_not_come(found: dict[str, Any], reason: FailureReason | None) -> None:
    failure = failure_of(found)
    assert (failure.reason if failure else None) == reason


def test_why_a_pod_has_not_come() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}
    assert waits_for(pod(conditions=[waiting]), "").reason is FailureReason.CAPACITY
    assert waits_for(None, "pods is forbidden: exceeded quota: q").reason is FailureReason.QUOTA
    assert waits_for(None, "").reason is FailureReason.TIMEOUT


def test_a_pod_without_first_files_mounts_no_secret() -> None:
    """A Secret mounted without items would show all its keys."""
    body = defined(a_start(config_files={}, secret_files={}))
    assert [each for each in body["volumes"] if "secret" in each] == []
    assert "initContainers" not in body


def test_more_than_a_secret_holds_is_refused() -> None:
    owner = {"metadata": {"name": "ws", "uid": "1"}}
    with pytest.raises(BackendFailure, match="1 MiB"):
        secret(a_start(config_files={"big": b"x" * (1 << 20)}), str(new_id()), owner)


def defined(request: StartRequest) -> dict[str, Any]:
    """The definition of a request's pod."""
    settings = KubernetesSettings()
    body = stateful_set(request, settings, str(new_id()), image="i", replicas=1)
    found: dict[str, Any] = body["spec"]["template"]["spec"]
    return found


def test_usage_is_read_from_control_groups_of_both_versions() -> None:
    two = (
        "uptime 10.0\ncpu_usec 1000000\nuptime 10.5\ncpu_usec 1250000\nmemory 5\nlimit max\npids 3"
    )
    assert usage_from(two) == (0.5, 5, 0, 3)
    one = (
        "uptime 1\ncpu_nsec 1000000000\nuptime 2\ncpu_nsec 3000000000\n"
        f"memory 5\nlimit {(1 << 63) - 4096}\npids 3"
    )
    assert usage_from(one) == (2.0, 5, 0, 3)
    assert usage_from("") == (0.0, 0, 0, 0)
