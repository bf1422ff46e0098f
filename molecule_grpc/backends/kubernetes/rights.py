"""The backend's rights in its namespace, as deploy/kubernetes-rbac.yaml grants them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from molecule_grpc.backends.kubernetes.cluster import Cluster


class Right(NamedTuple):
    """A verb on a kind of object. `subresource` is empty for the object itself."""

    group: str
    resource: str
    subresource: str
    verb: str


_TABLE: Final = (
    ("apps", "statefulsets", "get list create patch delete"),
    ("", "secrets", "create patch delete"),
    ("", "pods", "get list watch"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
    ("", "pods/exec", "get create"),
    ("", "persistentvolumeclaims", "get list delete"),
    ("networking.k8s.io", "networkpolicies", "create patch delete"),
)


def rights() -> Iterator[Right]:
    """All of them."""
    for group, kind, verbs in _TABLE:
        resource, _, subresource = kind.partition("/")
        for verb in verbs.split():
            yield Right(group, resource, subresource, verb)


async def has_right(cluster: Cluster, right: Right) -> bool:
    """Whether the platform's account has a right, as the cluster itself says."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": cluster.namespace, **right._asdict()}},
    }
    answer = await cluster.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    return bool(answer["status"]["allowed"])
