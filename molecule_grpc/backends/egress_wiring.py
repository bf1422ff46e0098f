"""Opens what concerns egress: the decisions of the proxy, what was refused, and its RPC."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from molecule_grpc.backends.egress.decisions import Decisions
from molecule_grpc.backends.egress.door import Door
from molecule_grpc.backends.egress.reading import EgressViews
from molecule_grpc.backends.egress.refused import RefusedHosts
from molecule_grpc.backends.egress.service import EgressService, handlers
from molecule_grpc.core import Core, Slice
from molecule_grpc.egress import EgressRules, check_address, networks
from molecule_grpc.lookups import Address
from molecule_grpc.server.tasks import BackgroundTask

_WRITE_SECONDS: Final = 1.0


def open_egress(core: Core, key: bytes) -> Slice:
    """The part of the slice; without a gateway process nothing is decided here.

    Args:
        key: of the passwords of starts.
    """
    service = handlers(EgressService(EgressViews(core.pool)))
    directory = core.settings.docker.gateway_directory
    if directory is None:
        return Slice(handlers=[service])
    # Development opens nothing: agents are not the developer.
    rules = EgressRules(networks=networks(core.settings.docker.proxy_networks))

    def allows(address: Address) -> bool:
        return check_address(address, rules)

    refused = RefusedHosts(core.pool)
    decisions = Decisions(
        core.pool,
        core.egress.lookups,
        refused,
        key=key,
        allows=allows,
        own_hosts=_own_hosts(core),
    )
    return Slice(
        handlers=[service],
        tasks=[BackgroundTask("refused-hosts", _WRITE_SECONDS, refused.write)],
        loops={"egress-decisions": Door(directory, decisions).serve},
    )


def _own_hosts(core: Core) -> set[str]:
    """Names by which the platform is reached from outside."""
    edge = core.settings.edge
    named = urlsplit(edge.external_platform_url).hostname if edge.external_platform_url else None
    return {name.lower().removesuffix(".") for name in (named, edge.host) if name}
