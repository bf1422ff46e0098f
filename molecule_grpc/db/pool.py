"""How we reach Postgres: connections, the pool, the writer, and the names of driver errors."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeAlias

import asyncpg

from molecule_grpc.db.admission import AdmittingPool
from molecule_grpc.db.disk import disk_low
from molecule_grpc.db.postgres_version import (
    UnsupportedPostgresError,
    require_supported_postgres,
)
from molecule_grpc.kernel.budget import Turns
from molecule_grpc.kernel.errors import Unavailable

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CONNECT_TIMEOUT_SECONDS: Final = 10.0
STATEMENT_TIMEOUT_SECONDS: Final = 30.0
# A Postgres that restarts, or whose connections are all taken, serves again within seconds.
_RETRY_AFTER_SECONDS: Final = 1.0
IDLE_IN_TRANSACTION_TIMEOUT_SECONDS: Final = 60.0
_IDLE_CONNECTION_SECONDS: Final = 300.0
# Above the server's own limit of 30 s: the driver gives up only when the server is silent.
_SILENCE_TIMEOUT_SECONDS: Final = STATEMENT_TIMEOUT_SECONDS + 5.0

# A backend confirms a cancel within milliseconds; one that does not is frozen.
_CANCEL_SECONDS: Final = 5.0

# A writer's statements name their rows by key, and are planned once, whatever the values. A plan
# made while tables were small must serve when they are large: no plan may read a whole table.
_KEYED_STATEMENTS: Final = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}


class Fault(enum.Enum):
    """Who is to blame when a statement fails."""

    OUTAGE = enum.auto()
    """The database: unreachable, shutting down, overloaded or too slow. Ask again later."""
    RACE = enum.auto()
    """A concurrent transaction. The same statement may well succeed now."""
    STATEMENT = enum.auto()
    """The statement or its data. The same statement fails again."""


_OUTAGE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, not yet up, statement timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk or memory full
    asyncpg.PostgresSystemError,  # input or output failed under the server
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a failover left us on a standby
    asyncpg.InterfaceError,  # connection or pool closed under us
    asyncpg.InternalClientError,
)
_RACE: Final = (
    asyncpg.TransactionRollbackError,  # serialization failure, deadlock
    asyncpg.UniqueViolationError,
    asyncpg.InvalidCachedStatementError,  # a migration ran beside us
    asyncpg.OutdatedSchemaCacheError,
)


def fault(exc: BaseException) -> Fault:
    """Classify what a database call raised."""
    if isinstance(exc, _RACE):
        return Fault.RACE
    if isinstance(exc, (*_OUTAGE, OSError, Unavailable)):  # OSError includes TimeoutError
        return Fault.OUTAGE
    return Fault.STATEMENT


def translate(exc: BaseException) -> Unavailable | None:
    """Name a driver's outage or lost race for the caller; None for anything else.

    A unique violation gives None: the store that expects it knows its meaning. So does a bare
    `OSError`, which need not come from the database; `database_errors` translates those too.
    """
    if isinstance(exc, asyncpg.UniqueViolationError):
        return None
    if isinstance(exc, asyncpg.DiskFullError):
        return disk_low()
    return database_unavailable() if isinstance(exc, (*_OUTAGE, *_RACE)) else None


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn outages and lost races of the database calls inside into `Unavailable`."""
    try:
        yield
    except OSError as exc:
        raise database_unavailable() from exc
    except Exception as exc:
        named = translate(exc)
        if named is None:
            raise
        raise named from exc


def database_unavailable() -> Unavailable:
    """What a caller reads whose call the database did not serve."""
    return Unavailable(
        "the database is not available, try again",
        reason="DATABASE_UNAVAILABLE",
        retry_after=_RETRY_AFTER_SECONDS,
    )


class _Connection(asyncpg.Connection):
    """A connection that is given up when Postgres does not confirm a cancel.

    The driver itself waits for the confirmation as long as for a statement, and so does whoever
    rolls back a transaction or gives the connection back.
    """

    async def _cancel(self, waiter: Any, cancel_waiter: Any = None) -> None:
        async with asyncio.timeout(_CANCEL_SECONDS) as limit:
            await super()._cancel(waiter, cancel_waiter)  # type: ignore[misc]
        if limit.expired():
            self.terminate()


async def connect_pool(
    dsn: str,
    *,
    min_size: int,
    max_size: int,
    application_name: str = "molecule-grpc",
    turns: Turns | None = None,
) -> Pool:
    """Open a pool whose connections keep their session from one use to the next.

    On release an open transaction is rolled back and listeners are dropped; nothing else is reset.
    Code that takes a connection must not change session state (`SET`, session advisory locks);
    `SET LOCAL` and `pg_advisory_xact_lock` are fine. json and jsonb travel as `str`, unparsed.
    A statement may take 30 s, an idle transaction 60 s.

    Args:
        turns: counts the connections that each payer's calls hold; None lets everybody in.

    Raises:
        UnsupportedPostgresError: the server is too old.
        asyncpg.ClientCannotConnectError: nothing answers there.
    """
    pool: Pool = await AdmittingPool(
        dsn,
        turns=turns,
        min_size=min_size,
        max_size=max_size,
        connect=_connect,
        setup=None,
        init=None,
        reset=_keep_session,
        loop=None,
        record_class=asyncpg.Record,
        max_inactive_connection_lifetime=_IDLE_CONNECTION_SECONDS,
        max_queries=2**62,  # replacing a healthy connection only costs its prepared statements
        **_options(application_name),
    )
    try:
        async with pool.acquire() as connection:
            require_supported_postgres(connection.get_server_version())
    except UnsupportedPostgresError:
        await pool.close()
        raise
    return pool


async def connect(
    dsn: str, *, application_name: str = "molecule-grpc"
) -> asyncpg.Connection[asyncpg.Record]:
    """Open one connection with the pool's settings.

    Raises an outage (`fault`), whatever the reason why Postgres lets nobody in.
    """
    return await _connect(dsn, **_options(application_name))


class Writer:
    """One connection of its own, for the flushes of one `GroupCommit`.

    A writer connects on first use at the latest, and again after it lost the connection. The call
    that meets the loss raises; whether that call took effect is unknown. One call at a time.

    Args:
        statements: those of most calls. Each runs once when the connection opens, with NULL for
            every parameter, and must then change nothing: planning takes up to 15 ms, which the
            first call would wait for.
        settings: session settings of Postgres.
    """

    def __init__(
        self,
        dsn: str,
        *statements: str,
        application_name: str = "molecule-grpc-writer",
        **settings: str,
    ) -> None:
        self._dsn = dsn
        self._statements = statements
        self._options = _options(application_name, **_KEYED_STATEMENTS, **settings)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect now, so that the first call need not. Raises what `connect` raises."""
        if self._connection is None or self._connection.is_closed():
            connection = await _connect(self._dsn, **self._options)
            for statement in self._statements:
                # Not by `prepare`: `fetch` would prepare the statement once more for itself.
                await connection.fetch(statement, *[None] * _parameters(statement))
            self._connection = connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """The open connection, for several statements in a row."""
        await self.open()
        connection = self._connection
        assert connection is not None
        try:
            yield connection
        except asyncio.CancelledError:
            # The cancelled statement may still run: the next statement would wait for its end.
            connection.terminate()
            raise
        except Exception as exc:
            if fault(exc) is Fault.OUTAGE:
                connection.terminate()
            raise

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run one statement as one transaction."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *args)

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=CONNECT_TIMEOUT_SECONDS)


def _parameters(statement: str) -> int:
    """How many parameters a statement has."""
    return max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)


async def _connect(*args: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(*args, **options)
    except OSError as exc:
        raise asyncpg.ClientCannotConnectError("cannot connect to the database") from exc
    except asyncpg.PostgresError as exc:
        if fault(exc) is Fault.OUTAGE:
            raise
        # No statement is to blame: the database is closed to connections, or to this role.
        raise asyncpg.ConnectionRejectionError(str(exc)) from exc


async def _keep_session(connection: object) -> None:
    """Replaces the driver's reset on release, which costs a round trip per use."""


def _options(application_name: str, **more: str) -> dict[str, Any]:
    return {
        "connection_class": _Connection,
        "timeout": CONNECT_TIMEOUT_SECONDS,
        "command_timeout": _SILENCE_TIMEOUT_SECONDS,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 0,  # no limit: a longer statement is prepared at each call
        "server_settings": {
            "application_name": application_name,
            "statement_timeout": _milliseconds(STATEMENT_TIMEOUT_SECONDS),
            "idle_in_transaction_session_timeout": _milliseconds(
                IDLE_IN_TRANSACTION_TIMEOUT_SECONDS
            ),
            "timezone": "UTC",
            "jit": "off",  # compiling costs more than any of our statements
            **more,
        },
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
