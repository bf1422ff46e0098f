"""`doctor backend` where workspaces run on Kubernetes: the cluster, and the account's rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.failures import calling
from molecule_grpc.backends.kubernetes.rights import Right, has_right, rights
from molecule_grpc.cli.doctor import Finding
from molecule_grpc.settings.settings import Settings

_SECONDS: Final = 10.0


def doctor_kubernetes(settings: Settings) -> list[Finding]:
    """Ask the cluster. Changes nothing."""
    return asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> list[Finding]:
    cluster = Cluster(settings.kubernetes)
    try:
        async with calling(_SECONDS):
            version = await cluster.get("/version")
            lacking = [right async for right in _lacking(cluster)]
    except BackendFailure as failure:
        fix = "name a kubeconfig file in MOLECULE_KUBERNETES_CONFIG whose cluster answers from here"
        return [Finding("cluster", well=False, detail=failure.detail or failure.public, fix=fix)]
    finally:
        await cluster.close()
    return [
        Finding("cluster", well=True, detail=str(version["gitVersion"])),
        _rights(lacking, settings.kubernetes.namespace),
        _images(settings),
        _platform(settings),
    ]


async def _lacking(cluster: Cluster) -> AsyncIterator[Right]:
    for right in rights():
        if not await has_right(cluster, right):
            yield right


def _rights(lacking: list[Right], namespace: str) -> Finding:
    shown = ", ".join(
        f"{right.verb} {right.resource}{'/' * bool(right.subresource)}{right.subresource}"
        for right in lacking
    )
    return Finding(
        "rights",
        well=not lacking,
        detail=f"missing in {namespace}: {shown}" if lacking else f"all, in {namespace}",
        fix="apply deploy/kubernetes-rbac.yaml, and use its account",
    )


def _images(settings: Settings) -> Finding:
    shown = ", ".join(f"{runtime}={image}" for runtime, image in settings.kubernetes.images)
    return Finding(
        "images",
        well=bool(shown),
        detail=shown or "none",
        fix="name them in MOLECULE_KUBERNETES_IMAGES; `*` stands for all runtimes",
    )


def _platform(settings: Settings) -> Finding:
    url = settings.edge.external_platform_url
    return Finding(
        "platform",
        well=bool(url),
        detail=url or f"{settings.edge.host}:{settings.edge.port}",
        fix="say in EXTERNAL_PLATFORM_URL where pods find this platform",
    )
