"""One cluster for all tests of a session, and backends with the account that they need."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from molecule_grpc.backends.kubernetes.backend import KubernetesBackend
from molecule_grpc.settings.kubernetes import KubernetesSettings
from tests.kubernetes.cluster import NAMESPACE, KubernetesCluster, missing
from tests.kubernetes.images import AGENT
from tests.waiting import PATIENCE


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesCluster]:
    """A cluster. Nothing of it is left after the session."""
    if reason := missing():
        pytest.fail(f"no cluster: {reason}")
    made = KubernetesCluster()
    try:
        made.start()
        yield made
    finally:
        made.close()
    assert made.traces() == []


def settings_for(cluster: KubernetesCluster, **given: Any) -> KubernetesSettings:
    """The account of the manifest, which has no other rights, and small disks."""
    plain: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig(cluster.platform_token())),
        "namespace": NAMESPACE,
        "images": (("*", AGENT),),
        "storage_class": "manual",
        "config_storage": "10Mi",
        "data_storage": "10Mi",
    }
    return KubernetesSettings(**plain | given)


def variables_for(cluster: KubernetesCluster, token: str = "") -> dict[str, str]:
    """The same as variables of a server."""
    account = cluster.kubeconfig(token or cluster.platform_token(), "server")
    return {
        "MOLECULE_KUBERNETES_CONFIG": str(account),
        "MOLECULE_KUBERNETES_IMAGES": f"*={AGENT}",
        "MOLECULE_KUBERNETES_STORAGE_CLASS": "manual",
        "MOLECULE_KUBERNETES_CONFIG_STORAGE": "10Mi",
        "MOLECULE_KUBERNETES_DATA_STORAGE": "10Mi",
    }


@contextlib.asynccontextmanager
async def backend_on(cluster: KubernetesCluster, **given: Any) -> AsyncIterator[KubernetesBackend]:
    """A backend of an installation of its own. What it has made is removed."""
    url = f"http://{cluster.namespace.outside}:8080"
    made = KubernetesBackend(settings_for(cluster, **given), uuid.uuid4().hex, platform_url=url)
    try:
        yield made
        for owned in await made.list_owned(deadline=PATIENCE):
            await made.remove_volumes(owned.workspace_id, deadline=PATIENCE)
        assert await made.list_owned(deadline=PATIENCE) == []
    finally:
        await made.close()
