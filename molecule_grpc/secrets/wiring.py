"""Opens the slice for one worker."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from molecule_grpc.core import Core, Slice
from molecule_grpc.secrets.key_file import key_of
from molecule_grpc.secrets.sealing import Sealer
from molecule_grpc.secrets.secrets import Secrets
from molecule_grpc.secrets.service import SecretsService, handlers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsSlice:
    """What the worker and other slices need of this one."""

    slice: Slice
    secrets: Secrets


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
    secrets = Secrets(core.pool, sealer)
    return SecretsSlice(slice=Slice(handlers=[handlers(SecretsService(secrets))]), secrets=secrets)
