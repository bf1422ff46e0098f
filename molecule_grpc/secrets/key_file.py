"""The encryption key of an installation that names none: a file in its data directory."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from molecule_grpc.settings.secrets import KEY_BYTES, SecretsSettings
from molecule_grpc.settings.values import SettingsError

NAME: Final = "secrets.key"


def key_of(directory: Path, settings: SecretsSettings, *, embedded: bool) -> bytes | None:
    """The key that seals, made if need be; None if there is none.

    A worker of an external database makes no key: workers on other machines would not have it.

    Raises:
        SettingsError: the file does not hold a key.
    """
    if settings.key is not None or not embedded:
        return settings.key
    path = directory / NAME
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{path} must hold the {KEY_BYTES} bytes that the first start wrote: restore it, "
            "or set SECRETS_ENCRYPTION_KEY"
        )
    return key


def _make(path: Path) -> None:
    """Write a new key, unless another worker has been quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(0o600)
    with draft.open("wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
