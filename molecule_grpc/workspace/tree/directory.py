"""Who is there, and who may talk to whom: the directory that every slice asks."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import Peer, WorkspaceInfo
from molecule_grpc.kernel.errors import Denied
from molecule_grpc.kernel.page import Page
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.tree import store
from molecule_grpc.workspace.tree.pairs import Pairs

_LISTING = "peers"


class Directory:
    """Answers from the rows as they are now; nothing is remembered.

    Every method raises `Unavailable` when the database cannot say: not knowing is never a no.

    Args:
        pairs: looks up who may message whom for many calls at once.
    """

    def __init__(self, pool: Pool, page_tokens: PageTokens, pairs: Pairs) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._pairs = pairs

    async def lookup(self, workspace_id: UUID) -> WorkspaceInfo | None:
        """A workspace that is not removed; None when there is none."""
        with database_errors():
            node = await store.one(self._pool, workspace_id)
        return None if node is None or node.status == Status.REMOVED else _info(node)

    async def can_communicate(self, a: UUID, b: UUID, within: UUID | None = None) -> bool:
        """Whether two workspaces may message one another. Symmetric.

        They are the same, siblings, or one is above the other at any depth, in one organisation,
        and neither is removed.

        Args:
            within: the only organisation whose workspaces count; None for all.
        """
        with database_errors():
            pair = await store.pair(self._pool, a, b, within)
        return pair is not None and _both_live(pair) and pair.related

    async def is_related(self, a: UUID, b: UUID) -> bool:
        """Like `can_communicate`, for looking only: tombstones count as what they were."""
        with database_errors():
            pair = await store.pair(self._pool, a, b)
        return pair is not None and pair.related

    async def require_reachable(self, source: UUID, target: UUID) -> WorkspaceInfo:
        """The target, if the source may message it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: either is unknown or removed, or the target is of
                another organisation.
            Denied: NOT_RELATED.
        """
        with database_errors():
            pair = await self._pairs.get(source, target)
        if pair is None or not pair.visible or not _both_live(pair):
            raise missing()
        if not pair.related:
            raise Denied(
                "access denied: workspaces cannot communicate per hierarchy rules",
                reason="NOT_RELATED",
            )
        return _info(pair.target)

    async def peers(
        self, workspace_id: UUID, wanted: str = "", *, limit: int, page_token: str = ""
    ) -> Page[Peer]:
        """Live siblings, children and parent, by name, in a page of about 3 MiB.

        Args:
            wanted: only those whose name or role contains this, in any case.
            limit: most peers of the page.
            page_token: from the page before; empty for the first page.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown or removed.
            Invalid: the page token is not one of ours.
        """
        place = self._page_tokens.read(_LISTING, page_token, str, UUID)
        if await workspaces.status_of(self._pool, workspace_id) in (None, Status.REMOVED):
            raise missing()
        return await store.peers(
            self._pool,
            workspace_id,
            wanted.replace("\x00", ""),
            after=None if place is None else cast("tuple[str, UUID]", tuple(place)),
            limit=limit,
        )

    async def first_peers(self, workspace_id: UUID, wanted: str, limit: int) -> list[Peer]:
        """The first peers by name, without their cards, however many pages those fill.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown or removed.
        """
        found: list[Peer] = []
        token = ""
        while True:
            left = limit - len(found)
            page = await self.peers(workspace_id, wanted, limit=left, page_token=token)
            found += [peer._replace(agent_card=None) for peer in page.rows]
            if page.last is None or len(found) == limit:
                return found
            token = self.token_after(page.last)

    def token_after(self, peer: Peer) -> str:
        """The token of the page of `peers` that begins behind a peer."""
        return self._page_tokens.make(_LISTING, peer.name, peer.id)


def _both_live(pair: store.Pair) -> bool:
    return pair.target.status != Status.REMOVED and pair.source_status not in (None, Status.REMOVED)


def _info(node: store.Node) -> WorkspaceInfo:
    return WorkspaceInfo(
        id=node.id,
        organization_id=node.organization_id,
        name=node.name,
        role=node.role,
        status=node.status,
        url=node.url,
        delivery_mode=node.mode_in_force,
        runtime=node.runtime,
        idle_timeout=node.idle_timeout_seconds or None,
        engine_url=node.engine_url,
    )
