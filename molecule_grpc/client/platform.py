"""The client of operators and organisations: workspaces, tokens, organisations, the ledger."""

from __future__ import annotations

from typing import Self

from moleculeai.admin.v1 import admin_service_pb2 as admin_pb

from molecule_grpc.client.administration import Administration
from molecule_grpc.client.agent import Agent
from molecule_grpc.client.approvals import Approvals
from molecule_grpc.client.bundles import Bundles
from molecule_grpc.client.configuration import Configuration
from molecule_grpc.client.connection import DEFAULT_TIMEOUT, ClientCertificate, Connection
from molecule_grpc.client.errors import CallError
from molecule_grpc.client.external import External
from molecule_grpc.client.images import Images
from molecule_grpc.client.schedules import Schedules
from molecule_grpc.client.secrets import Secrets
from molecule_grpc.client.templates import Templates
from molecule_grpc.client.tokens import Tokens
from molecule_grpc.client.verbs import Verbs
from molecule_grpc.client.workloads import Workloads
from molecule_grpc.client.workspaces import Workspaces


class Platform(Workspaces, Verbs, Tokens, Administration):
    """A connection with an operator's or an organisation's token. An async context manager.

    Every call may raise any kind of `CallError`; each method names the kinds that are its own.
    Reads, changes and removals are tried again until `timeout` seconds have passed. Calls that make
    something are not: a second call would make a second thing, or lose a secret that is shown once.

    Args:
        url: `http://host:port`, `https://host`, `host:port` or `unix:/path`.
        token: the operator's or an organisation's; empty for none.
        timeout: seconds for a call with all its attempts.
        root_certificates: PEM of the authority that signed the platform's certificate; None for the
            system's.
        client_certificate: shown to a platform that asks its clients for one.

    Raises:
        ValueError: the URL is none of these.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
        client_certificate: ClientCertificate | None = None,
    ) -> None:
        self.connection = Connection(
            url,
            token,
            timeout=timeout,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
        )
        self.secrets = Secrets(self.connection)
        self.external = External(self.connection)
        self.workloads = Workloads(self.connection)
        self.configuration = Configuration(self.connection)
        self.bundles = Bundles(self.connection)
        self.schedules = Schedules(self.connection)
        self.images = Images(self.connection)
        self.approvals = Approvals(self.connection)
        self.templates = Templates(self.connection)

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.__aexit__()

    def agent(self, workspace_id: str, token: str = "") -> Agent:
        """An agent on this platform.

        Args:
            workspace_id: UUID of the workspace.
            token: the workspace's; empty to act for the workspace with this connection's token.
        """
        return Agent(
            self.connection.url,
            workspace_id,
            token or self.connection.token,
            root_certificates=self.connection.root_certificates,
            client_certificate=self.connection.client_certificate,
        )

    async def is_healthy(self) -> bool:
        """Whether the platform answers within 5 s and reaches its database. Raises nothing."""
        try:
            await self.connection.call(
                self.connection.admin.GetHealth,
                admin_pb.GetHealthRequest(),
                retry=False,
                timeout=5.0,
            )
        except CallError:
            return False
        return True
