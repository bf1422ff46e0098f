"""What every slice is built from, and what a slice hands back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor import ServiceDescriptor

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One worker's share of everything that slices have in common.

    Args:
        dsn: for connections outside the pool.
        streams: everything here that lasts; a drain wakes it.
        guards: watch over what lasts: its token, its age, a drain.
        readers: whether anybody reads events now.
        page_tokens: makes and reads the tokens of all lists.
    """

    settings: Settings
    dsn: str
    pool: Pool
    wakeups: Wakeups
    authenticator: Authenticator
    streams: OpenStreams
    guards: StreamGuards
    readers: EventReaders
    page_tokens: PageTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a slice adds to the worker.

    Args:
        handlers: by service, the object with a method for each RPC.
        tasks: steps that run on a period.
        loops: what runs without an end of its own, by name.
    """

    handlers: Sequence[tuple[ServiceDescriptor, object]] = ()
    tasks: Sequence[BackgroundTask] = ()
    loops: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
