"""Authentication: bearer token to principal. Access: principal and workspace to yes or no."""

from __future__ import annotations

import contextlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import attrgetter
from uuid import UUID

from google.protobuf.message import Message

from molecule_grpc.auth import store
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role
from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import NotFound, Unauthenticated
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.settings.auth import AuthSettings

_NEGATIVE_CACHE_SECONDS = 2.0
_CACHE_SIZE = 50_000


class Authenticator:
    """Finds who holds a token. Answers are cached for seconds, and forgotten at a revocation."""

    def __init__(self, pool: Pool, settings: AuthSettings, *, development: bool = False) -> None:
        self._pool = pool
        self._ttl = settings.token_cache_seconds
        self._development = development
        self._open_bootstrap = settings.open_bootstrap
        self._operator = digest(settings.admin_token) if settings.admin_token else None
        self._revocations = 0
        self._cache: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._organizations: OrderedDict[UUID, UUID] = OrderedDict()
        self._used: set[UUID] = set()
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    async def identify(self, policy: Policy, authorization: str | None) -> Principal:
        """Who calls. A caller without a token may be ANONYMOUS; an unknown token is refused.

        Raises:
            Unauthenticated: this kind of party may not call, or the token is not valid.
            Unavailable: the database does not answer.
        """
        if not policy.asks:
            return ANONYMOUS
        if authorization:
            principal = await self._lookup(_token_digest(authorization))
            if principal is None or principal.role not in policy.roles:
                raise Unauthenticated(policy.wrong)
            return principal
        if self._development or await self._bootstrapping():
            return OPERATOR
        if Role.ANONYMOUS not in policy.roles:
            raise Unauthenticated(policy.missing)
        return ANONYMOUS

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
        owner = await self.organization_of(workspace_id)
        newcomer = owner is None and Role.ANONYMOUS in policy.roles
        if owner != principal.organization_id and not newcomer:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return workspace_id

    async def organization_of(self, workspace_id: UUID) -> UUID | None:
        """The organisation of a workspace, which never changes."""
        found = self._organizations.get(workspace_id)
        if found is None:
            with database_errors():
                found = await store.organization_of(self._pool, workspace_id)
            if found is not None:
                self._organizations[workspace_id] = found
                if len(self._organizations) > _CACHE_SIZE:
                    self._organizations.popitem(last=False)
        return found

    def forget(self, token_digest_hex: str) -> None:
        """A token was revoked: forget its holder, and end the calls that it opened."""
        self._revocations += 1
        self._cache.pop(bytes.fromhex(token_digest_hex), None)
        for end in tuple(self._watchers.get(token_digest_hex, ())):
            end()

    def forget_all(self) -> None:
        """Revocations may have been missed: empty the cache."""
        self._revocations += 1
        self._cache.clear()

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
        """While inside, call `end` when the token behind this header is revoked."""
        key = _token_digest(authorization).hex() if authorization else ""
        watchers = self._watchers.setdefault(key, set())
        watchers.add(end)
        try:
            yield
        finally:
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
        now = time.monotonic()
        cached = self._cache.get(token_digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        revocations = self._revocations
        principal = await self._find(token_digest)
        # A lookup that began before a revocation may have read the token as live, and no second
        # notification would correct the cache.
        if revocations == self._revocations:
            ttl = self._ttl if principal else min(self._ttl, _NEGATIVE_CACHE_SECONDS)
            self._remember(token_digest, now + ttl, principal)
        if principal is not None and principal.token_id is not None:
            self._used.add(principal.token_id)
        return principal

    def _remember(self, token_digest: bytes, until: float, principal: Principal | None) -> None:
        self._cache[token_digest] = (until, principal)
        self._cache.move_to_end(token_digest)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)

    async def _find(self, token_digest: bytes) -> Principal | None:
        if self._operator is not None and hmac.compare_digest(token_digest, self._operator):
            return OPERATOR
        with database_errors():
            found = await store.find(self._pool, token_digest)
        if found is OPERATOR and self._operator is not None:
            return None  # ADMIN_TOKEN in the environment wins over the minted one
        return found


_reader: Callable[[str], Callable[[Message], str]] = lru_cache(maxsize=None)(attrgetter)


# Cached because an agent sends the same header with every call.
@lru_cache(maxsize=_CACHE_SIZE)
def _token_digest(authorization: str) -> bytes:
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated("the authorization header must be: Bearer TOKEN")
    return digest(text)
