"""The engines that an installation has, as its settings say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.backends.contract.backend import Backend
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.control_plane.backend import ControlPlane
from molecule_grpc.backends.control_plane.client import ControlPlaneClient
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.backends.docker.gate import ListenerFile
from molecule_grpc.backends.images.ports import ImageEngine
from molecule_grpc.backends.kubernetes.backend import KubernetesBackend
from molecule_grpc.backends.none import NoBackend
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.backends import AUTO
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

_NETWORKS_SECONDS: Final = 15.0


def starts_on(settings: Settings) -> BackendName:
    """Where workspaces are started: as named, or the control plane where it is fully given."""
    named = settings.backends.backend
    if named != AUTO:
        return BackendName(named)
    given = settings.deployment.saas_org_id and settings.control_plane.base_url
    return BackendName.CONTROL_PLANE if given else BackendName.NONE


def configured(settings: Settings, installation: UUID) -> list[Backend]:
    """The backends that start workspaces, or keep some that were started earlier, and none.

    Raises:
        SettingsError: an extra is not installed.
    """
    wanted = {starts_on(settings), *(BackendName(name) for name in settings.backends.kept)}
    opened: list[Backend] = [NoBackend()]
    if BackendName.CONTROL_PLANE in wanted:
        opened.append(_control_plane(settings, installation))
    if BackendName.EC2 in wanted:
        opened.append(_ec2(settings, installation))
    if BackendName.KUBERNETES in wanted:
        url = _platform_url(settings)
        opened.append(KubernetesBackend(settings.kubernetes, str(installation), platform_url=url))
    if BackendName.DOCKER in wanted:
        opened.append(_docker(settings, installation))
    return opened


def dispatch_over(settings: Settings, backends: Sequence[Backend]) -> Dispatch:
    """Chooses among these backends."""
    given = settings.backends
    return Dispatch(
        starts_on(settings),
        backends,
        start_timeout=given.start_timeout,
        stop_timeout=given.stop_timeout,
        first_pause=given.retry_pause,
    )


def _ec2(settings: Settings, installation: UUID) -> Backend:
    """Raises `SettingsError` where the extra `ec2` is not installed."""
    try:
        from molecule_grpc.backends.ec2.backend import Ec2Backend  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise SettingsError(
            f"the backend ec2 needs what `pip install 'molecule-grpc[ec2]'` brings: {error}"
        ) from error
    return Ec2Backend(settings.ec2, str(installation))


def _docker(settings: Settings, installation: UUID) -> DockerBackend:
    port = settings.edge.port
    gate = ListenerFile(
        settings.docker.gateway_directory,
        port,
        settings.docker,
        certificates=settings.edge.tls_client_ca_file is not None,
    )
    return DockerBackend(settings.docker, str(installation), platform_port=port, gate=gate)


def images_of(backends: Iterable[Backend]) -> ImageEngine | None:
    """The engine that has images; None where none has."""
    return next((each.images for each in backends if isinstance(each, DockerBackend)), None)


def docker_tasks(backends: Iterable[Backend]) -> list[BackgroundTask]:
    """After a start of the platform containers run whose gateways nobody listens at yet."""
    return [
        BackgroundTask("container-networks", _NETWORKS_SECONDS, each.announce_networks)
        for each in backends
        if isinstance(each, DockerBackend)
    ]


def _control_plane(settings: Settings, installation: UUID) -> ControlPlane:
    given = settings.control_plane
    client = ControlPlaneClient(
        given, admin_token=settings.auth.admin_token, installation=str(installation)
    )
    return ControlPlane(
        client,
        organization=settings.deployment.saas_org_id,
        platform_url=_platform_url(settings),
        console_token=given.console_token,
    )


def _platform_url(settings: Settings) -> str:
    edge = settings.edge
    return edge.external_platform_url or f"{edge.scheme}://{edge.host}:{edge.port}"
