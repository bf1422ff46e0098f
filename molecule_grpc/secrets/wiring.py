"""Opens the slice for one worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from molecule_grpc.core import Core, Slice
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.secrets import changes
from molecule_grpc.secrets.changes import Changes
from molecule_grpc.secrets.key_file import key_of
from molecule_grpc.secrets.model_choice import ModelChoice
from molecule_grpc.secrets.ports import Restarts
from molecule_grpc.secrets.sealing import Sealer
from molecule_grpc.secrets.secrets import Secrets
from molecule_grpc.secrets.service import SecretsService, handlers
from molecule_grpc.server.tasks import BackgroundTask

log = structlog.get_logger(__name__)

# How soon another worker goes on with the rollout of one that has died.
_ROLLOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsSlice:
    """What the worker and other slices need of this one.

    Args:
        slice: handlers and background tasks.
        secrets: the use cases.
        models: the secret by which somebody chooses a model.
        restarts_by: names whoever starts agents again when their secrets change.
    """

    slice: Slice
    secrets: Secrets
    models: ModelChoice
    restarts_by: Callable[[Restarts], None]


def open_secrets(core: Core) -> SecretsSlice:
    """The slice.

    Raises:
        SettingsError: the file with the key does not hold one.
    """
    process, settings = core.settings.process, core.settings.secrets
    key = key_of(process.data_dir, settings, embedded=not process.database_url)
    if key is None:
        log.warning("no encryption key: no secret can be stored", set="SECRETS_ENCRYPTION_KEY")
    sealer = None if key is None else Sealer(key, settings.previous_keys)
    changed = Changes(core.pool)
    secrets = Secrets(core.pool, sealer, changed)
    rollouts = BackgroundTask(
        changes.NAME, _ROLLOUT_SECONDS, changed.roll_out, timeout=SWEEP_TIMEOUT_SECONDS
    )
    changed.rolls_out_by(rollouts.nudge)
    return SecretsSlice(
        slice=Slice(handlers=[handlers(SecretsService(secrets))], tasks=[rollouts]),
        secrets=secrets,
        models=ModelChoice(secrets),
        restarts_by=changed.restarts_by,
    )
