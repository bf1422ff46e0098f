"""Opens the slice for one worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from molecule_grpc.configuration.agents import Agents
from molecule_grpc.configuration.configuration import Configuration
from molecule_grpc.configuration.ports import ModelSecret
from molecule_grpc.configuration.service import ConfigurationService, handlers
from molecule_grpc.configuration.store import usage
from molecule_grpc.configuration.usage import TokenCounts
from molecule_grpc.core import Core, Slice
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS, in_batches
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.server.tasks import BackgroundTask

_WRITE_SECONDS: Final = 2.0
_RETENTION_SECONDS: Final = 3600.0
_RETENTION_BATCH: Final = 1000
# Days for which the use of tokens is kept.
_KEPT_DAYS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSlice:
    """What the worker and other slices need of this one.

    Args:
        slice: handlers and background tasks.
        configuration: settings, models, budgets.
    """

    slice: Slice
    configuration: Configuration


def make_token_counts(core: Core) -> TokenCounts:
    """Counts tokens of answers; who sends messages needs it before the rest of the slice."""
    return TokenCounts(core.pool)


@contextlib.asynccontextmanager
async def open_configuration(
    core: Core, secret: ModelSecret, tokens: TokenCounts
) -> AsyncIterator[ConfigurationSlice]:
    """The slice, until the block ends: then what was counted is written.

    Args:
        secret: the model that somebody has chosen by a secret.
        tokens: what answers tell of.
    """
    configuration = Configuration(core.pool, secret)
    agents = Agents(core.pool, functools.partial(core.wakeups.announce, [CHANNEL_ALL]))

    async def prune() -> None:
        await in_batches(
            "use of tokens",
            lambda batch: usage.drop_old(core.pool, _KEPT_DAYS, batch),
            batch=_RETENTION_BATCH,
        )

    yield ConfigurationSlice(
        slice=Slice(
            handlers=[handlers(ConfigurationService(configuration, agents))],
            tasks=[
                BackgroundTask("token-usage", _WRITE_SECONDS, tokens.write),
                BackgroundTask(
                    "token-usage-retention",
                    _RETENTION_SECONDS,
                    prune,
                    timeout=SWEEP_TIMEOUT_SECONDS,
                ),
            ],
        ),
        configuration=configuration,
    )
    # A database that is away now costs a worker's last seconds of an estimate, and no stop.
    with contextlib.suppress(Exception):
        await tokens.write()
