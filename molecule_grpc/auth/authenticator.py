"""Authentication: bearer token to principal. Access: principal and workspace to yes or no."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from uuid import UUID

from google.protobuf.message import Message

from molecule_grpc.auth import store
from molecule_grpc.auth.local_calls import LocalCalls
from molecule_grpc.auth.owners import Owners
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role, seconds_left
from molecule_grpc.auth.strangers import StrangerLimit, client_address
from molecule_grpc.auth.token_cache import TokenCache
from molecule_grpc.auth.tokens import bearer_digest, digest, plain_digest
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Denied, NotFound, Unauthenticated
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.settings.auth import AuthSettings
from molecule_grpc.settings.edge import EdgeSettings

_NEGATIVE_CACHE_SECONDS = 2.0
# Older streams are asked to come back, so that none needs a timer for longer.
_LONGEST_WATCH_SECONDS = 7 * 24 * 3600.0
_NO_METADATA: Mapping[str, str] = MappingProxyType({})
_FROM_ELSEWHERE = (
    "a call without a token must come from this machine or an allowed origin, with a JSON body"
)


class Authenticator:
    """Finds who holds a token. Answers are cached for seconds, and forgotten at a revocation.

    Args:
        development: calls without a token pass as the operator's.
        local_calls: which calls without a token may pass at all.
        strangers: counts tokens that nobody knows; None lets any number be looked up. Tokens that
            were good before are not counted, whoever else calls from their address.
    """

    def __init__(
        self,
        pool: Pool,
        settings: AuthSettings,
        *,
        development: bool = False,
        local_calls: LocalCalls | None = None,
        strangers: StrangerLimit | None = None,
    ) -> None:
        self._pool = pool
        self._ttl = settings.token_cache_seconds
        self._development = development
        self._local_calls = local_calls or LocalCalls(EdgeSettings())
        self._strangers = strangers or StrangerLimit(0)
        self._open_bootstrap = settings.open_bootstrap
        self._operator = digest(settings.admin_token) if settings.admin_token else None
        self._cache = TokenCache()
        self._owners = Owners(pool)
        self._used: set[UUID] = set()
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    async def identify(
        self, policy: Policy, authorization: str | None, metadata: Mapping[str, str] = _NO_METADATA
    ) -> Principal:
        """Who calls. A caller without a token may be ANONYMOUS; an unknown token is refused.

        Args:
            metadata: headers of the call, by which a web page is told from a program where calls
                without a token pass.

        Raises:
            Unauthenticated: this kind of party may not call, or the token is not valid.
            Denied: READ_ONLY_TOKEN.
            Exhausted: RESOURCE_EXHAUSTED: too many unknown tokens came from the caller's address.
            Unavailable: the database does not answer.
        """
        holder = await self.holder(policy, authorization, metadata)
        return await self.admit(policy, holder, authorization, metadata)

    def recall(self, policy: Policy, authorization: str | None) -> Principal | None:
        """Who calls, where memory alone says that this party may; None: ask `holder` and `admit`.

        Most calls pass here: their token was looked up within the last seconds.
        """
        if not authorization or not policy.asks:
            return None
        token_digest = plain_digest(authorization)
        principal = self._cache.fresh(token_digest) if token_digest else None
        if principal is None or principal.ended or principal.role not in policy.roles:
            return None
        return None if principal.read_only and not policy.reads else principal

    async def holder(
        self, policy: Policy, authorization: str | None, metadata: Mapping[str, str]
    ) -> Principal | None:
        """Whose token a call shows, whatever the token is good for; None for an unknown one.

        Raises:
            Unauthenticated: the header is malformed.
            Exhausted: RESOURCE_EXHAUSTED: too many unknown tokens came from the caller's address.
            Unavailable: the database does not answer.
        """
        if not policy.asks or not authorization:
            return None
        return await self._holder(authorization, client_address(metadata))

    async def admit(
        self,
        policy: Policy,
        holder: Principal | None,
        authorization: str | None,
        metadata: Mapping[str, str],
    ) -> Principal:
        """As whom the holder of a call's token makes the call; see `identify`."""
        if not policy.asks:
            return ANONYMOUS
        if authorization:
            if holder is None or holder.ended:
                raise Unauthenticated(policy.wrong)
            if holder.role in policy.roles:
                if holder.read_only and not policy.reads:
                    raise Denied("the token may only read", reason="READ_ONLY_TOKEN")
                return holder
            if self._passes_as_operator(holder):
                return OPERATOR
            raise Unauthenticated(policy.wrong)
        missing = policy.missing
        if self._development or await self._bootstrapping():
            if self._local_calls.admits(metadata, files=policy.files):
                return OPERATOR
            missing = _FROM_ELSEWHERE
        if Role.ANONYMOUS not in policy.roles:
            raise Unauthenticated(missing)
        return ANONYMOUS

    async def _holder(self, authorization: str, address: str) -> Principal | None:
        """Whose token a header holds; None for nobody's.

        Raises:
            Exhausted: the token is not known to be good, and its address has sent too many others.
        """
        try:
            token_digest = bearer_digest(authorization)
        except Unauthenticated:
            self._strangers.charge(address)
            raise
        if token_digest is not None and self._cache.was_good(token_digest):
            return await self._lookup(token_digest)
        self._strangers.charge(address)
        if token_digest is None:
            return None
        try:
            principal = await self._lookup(token_digest)
        except BaseException:
            self._strangers.refund(address)
            raise
        if principal is not None and not principal.ended:
            self._strangers.refund(address)
        return principal

    def _passes_as_operator(self, principal: Principal) -> bool:
        """Whether a workspace's token does what no token at all may do: scripts rely on it."""
        return (
            self._development
            and self._operator is None
            and principal.role is Role.WORKSPACE
            and not principal.read_only
        )

    def is_own(self, policy: Policy, principal: Principal, request: Message) -> bool:
        """Whether a workspace's token acts as its workspace, named as the platform writes ids.

        Most calls pass here; for all others ask `require_access`.
        """
        name = principal.workspace_name
        return bool(name) and bool(policy.workspace) and _reader(policy.workspace)(request) == name

    async def require_access(
        self, policy: Policy, principal: Principal, request: Message
    ) -> UUID | None:
        """The workspace that a known principal acts as; None when the request names none.

        Raises:
            Invalid: the request names none, as a stream that begins with the wrong frame.
            Unauthenticated: it is another workspace's token.
            NotFound: the workspace is of another organisation, or of none.
        """
        if not policy.workspace:
            return None
        workspace_id = parse_id(_reader(policy.workspace)(request), policy.workspace)
        if principal.role is Role.ANONYMOUS:
            return None
        if principal.role is Role.OPERATOR:
            return workspace_id
        if principal.role is Role.WORKSPACE:
            if principal.workspace_id != workspace_id:
                raise Unauthenticated(policy.wrong)
            return workspace_id
        if await self._owners.owns(principal.organization_id, workspace_id):
            return workspace_id
        # An administrator may bring a workspace into being, where strangers may.
        if Role.ANONYMOUS in policy.roles and await self.organization_of(workspace_id) is None:
            return workspace_id
        raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")

    async def organization_of(self, workspace_id: UUID) -> UUID | None:
        """The organisation of a workspace; None for an unknown workspace."""
        return await self._owners.organization_of(workspace_id)

    def forget(self, token_digest_hex: str) -> None:
        """Forget the holder of a revoked token and end the calls opened with the token."""
        self._cache.forget(bytes.fromhex(token_digest_hex))
        for end in tuple(self._watchers.get(token_digest_hex, ())):
            end()

    def forget_workspace(self, workspace_id: str) -> None:
        """A workspace was purged: its id may become another organisation's."""
        self._owners.forget(UUID(workspace_id))

    def forget_all(self) -> None:
        """Revocations and purges may have been missed: empty the caches."""
        self._cache.forget_all()
        self._owners.forget_all()

    async def recheck(self) -> None:
        """End the open calls of tokens whose revocation was missed."""
        watched = {bytes.fromhex(name) for name in self._watchers if name}
        if not watched:
            return
        live = await store.live(self._pool, list(watched))
        if self._operator is not None:
            live.add(self._operator)
        for token_digest in watched - live:
            self.forget(token_digest.hex())

    @contextlib.contextmanager
    def watch(self, authorization: str | None, end: Callable[[], None]) -> Iterator[None]:
        """While inside, call `end` when the token behind this header is revoked or expires."""
        token_digest = bearer_digest(authorization) if authorization else None
        key = token_digest.hex() if token_digest else ""
        watchers = self._watchers.setdefault(key, set())
        watchers.add(end)
        left = seconds_left(self._cache.last(bytes.fromhex(key)))
        timer = None
        if left < _LONGEST_WATCH_SECONDS:
            timer = asyncio.get_running_loop().call_later(left, end)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            watchers.discard(end)
            if not watchers:
                self._watchers.pop(key, None)

    def take_used(self) -> list[UUID]:
        """Tokens that were used since the previous call of this method."""
        used, self._used = list(self._used), set()
        return used

    async def _bootstrapping(self) -> bool:
        """Whether every call is the operator's, because no token has been issued yet."""
        if not self._open_bootstrap:
            return False
        with database_errors():
            return not await store.any_token_live(self._pool)

    async def _lookup(self, token_digest: bytes) -> Principal | None:
        if self._cache.knows(token_digest):
            return self._cache.last(token_digest)
        began = self._cache.now()
        principal = await self._find(token_digest)
        ttl = self._ttl if principal else min(self._ttl, _NEGATIVE_CACHE_SECONDS)
        self._cache.remember(token_digest, principal, min(ttl, seconds_left(principal)), began)
        if principal is not None and principal.token_id is not None:
            self._used.add(principal.token_id)
        return principal

    async def _find(self, token_digest: bytes) -> Principal | None:
        if self._operator is not None and hmac.compare_digest(token_digest, self._operator):
            return OPERATOR
        with database_errors():
            found = await store.find(self._pool, token_digest)
        if found is OPERATOR and self._operator is not None:
            return None  # ADMIN_TOKEN in the environment wins over the minted one
        return found


_reader: Callable[[str], Callable[[Message], str]] = lru_cache(maxsize=None)(attrgetter)
