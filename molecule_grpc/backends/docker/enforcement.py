"""Refuses to start a workspace behind the proxy where nothing would keep it there."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.networks import Network, Networks
from molecule_grpc.backends.docker.probe import CannotProbe, Probe
from molecule_grpc.settings.docker import DockerSettings

log = structlog.get_logger(__name__)

# A good answer about a network holds for so long; a bad one is not remembered.
_FRESH_SECONDS: Final = 60.0
# From the writing of its file until the gateway's Envoy listens.
_LISTEN_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


class Enforcement:
    """Tries networks before containers are started on them."""

    def __init__(
        self, engine: Engine, networks: Networks, settings: DockerSettings, installation: str
    ) -> None:
        self._networks = networks
        self._settings = settings
        self._probe = Probe(engine, installation)
        self._good: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def require(self, network: Network, image: str) -> None:
        """Return if the engine lets nothing out of a network but what the proxy lets out.

        Args:
            image: of the workspace, which tries it unless the settings name another.

        Raises:
            BackendFailure: `egress_unenforced`.
        """
        # One try at a time: starts of an import that come together wait for one answer.
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._good.get(network.name, -_FRESH_SECONDS) < _FRESH_SECONDS:
                return
            await self._try(network, self._settings.probe_image or image)
            self._good = {name: at for name, at in self._good.items() if now - at < _FRESH_SECONDS}
            self._good[network.name] = now

    async def _try(self, network: Network, image: str) -> None:
        proxy = f"{network.gateway}:{self._settings.proxy_port}"
        # After a restart of the platform nobody may have told the gateway's Envoy yet.
        await self._networks.announce()
        await _listening(network.gateway, self._settings.proxy_port)
        world = await self._networks.open()
        try:
            reached = await self._probe.reach(network, world, image, (proxy,))
        except CannotProbe as error:
            raise _unenforced(f"whether the engine filters could not be tried: {error}") from error
        if reached.world:
            log.error("the engine does not filter an internal network", network=network.name)
            raise _unenforced(
                "the engine does not keep its internal networks apart: start it with its firewall"
            )
        if reached.others.get(proxy) != "open":
            raise _unenforced("the proxy cannot be reached from the network of the workspace")


async def _listening(host: str, port: int) -> None:
    try:
        async with asyncio.timeout(_LISTEN_SECONDS):
            while not await _accepts(host, port):  # noqa: ASYNC110 - another process's socket
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise _unenforced("the proxy does not listen", retryable=True) from error


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def _unenforced(public: str, *, retryable: bool = False) -> BackendFailure:
    return BackendFailure(FailureReason.EGRESS_UNENFORCED, public, undone=True, retryable=retryable)
