"""Every setting of the server: its variable, its default, its rule.

Nothing else reads the environment.
Unset or garbage means the default, with one warning. A setting that would weaken security refuses
to start instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PRODUCTION = "production"
DEVELOPMENT = "development"

# A message of gRPC holds 16 MiB.
_LARGEST_ANSWER = 15 * 1024 * 1024


class SettingsError(Exception):
    """A setting would weaken security where that is not allowed."""


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError("must be positive")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be positive")
    return value


def _natural_float(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must not be negative")
    return value


def _answer_bytes(text: str) -> int:
    value = _positive_int(text)
    if value > _LARGEST_ANSWER:
        raise ValueError(f"must be at most {_LARGEST_ANSWER}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise ValueError("must be 1 to 65535")
    return value


def _optional_port(text: str) -> int:
    return 0 if text == "0" else _port(text)


def _switch(text: str) -> bool:
    if text == "1":
        return True
    if text in ("", "0"):
        return False
    raise ValueError("must be 1 or 0")


def _true_or_false(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _text(text: str) -> str:
    return text.strip()


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such home directory") from error


def _level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error", "critical"):
        raise ValueError("must be debug, info, warning, error or critical")
    return text.lower()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _environment(text: str) -> str:
    name = {"dev": DEVELOPMENT, "prod": PRODUCTION}.get(text.lower(), text.lower())
    if name not in ("", DEVELOPMENT, PRODUCTION):
        raise ValueError(f"must be {DEVELOPMENT} or {PRODUCTION}")
    return name


def _deploy_mode(text: str) -> str:
    name = text.lower()
    if name in ("selfhosted", "standalone"):
        name = "self-hosted"
    if name not in ("", "saas", "self-hosted"):
        raise ValueError("must be saas or self-hosted")
    return name


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError("must be a number")
    return value


def _upload_store(text: str) -> str:
    if text not in ("postgres", "s3", "off"):
        raise ValueError("must be postgres, s3 or off")
    return text


def _file_bytes(text: str) -> int:
    value = _positive_int(text)
    if value > 100 * 1024 * 1024:
        raise ValueError("must be at most 104857600")
    return value


def setting(variable: str, parse: Callable[[str], T], default: T, *, secret: bool = False) -> T:
    """Declare a setting: read from `variable` with `parse`, else `default`."""
    return field(
        default=default,
        repr=not secret,
        metadata={"variable": variable, "parse": parse, "secret": secret},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is in force. Times are in seconds, sizes in bytes unless the name says otherwise."""

    # Where and how it runs.
    host: str = setting("MOLECULE_HOST", _text, "127.0.0.1")
    port: int = setting("PORT", _port, 8080)
    operator_port: int = setting("MOLECULE_OPERATOR_PORT", _optional_port, 0)
    workers: int = setting("WORKERS", _positive_int, max(1, (os.cpu_count() or 1) // 2))
    data_dir: Path = setting("MOLECULE_DATA_DIR", _path, Path("data"))
    database_url: str = setting("DATABASE_URL", _text, "", secret=True)
    database_pool_size: int = setting("MOLECULE_DATABASE_POOL_SIZE", _positive_int, 16)
    log_level: str = setting("LOG_LEVEL", _level, "info")
    drain_seconds: float = setting("MOLECULE_DRAIN_SECONDS", _positive_float, 10.0)
    stream_write_seconds: float = setting("MOLECULE_STREAM_WRITE_SECONDS", _positive_float, 60.0)
    group_commit_linger_ms: float = setting("MOLECULE_GROUP_COMMIT_LINGER_MS", _natural_float, 10.0)

    # The edge.
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS", _words, ("http://localhost:3000", "http://localhost:3001")
    )
    rate_limit_per_minute: int = setting("RATE_LIMIT", _natural, 0)
    external_platform_url: str = setting("EXTERNAL_PLATFORM_URL", _text, "")

    # Who gets in.
    admin_token: str = setting("ADMIN_TOKEN", _text, "", secret=True)
    environment: str = setting("MOLECULE_ENV", _environment, "")
    open_bootstrap: bool = setting("MOLECULE_OPEN_BOOTSTRAP", _switch, False)
    open_registration: bool = setting("MOLECULE_OPEN_REGISTRATION", _switch, False)
    test_tokens: bool = setting("MOLECULE_ENABLE_TEST_TOKENS", _switch, False)
    public_workspace_view: bool = setting("MOLECULE_PUBLIC_WORKSPACE_VIEW", _switch, False)
    token_cache_seconds: float = setting("MOLECULE_TOKEN_CACHE_SECONDS", _positive_float, 30.0)

    # Which agent URLs may be called.
    deploy_mode: str = setting("MOLECULE_DEPLOY_MODE", _deploy_mode, "")
    saas_org_id: str = setting("MOLECULE_ORG_ID", _text, "")

    # Workspaces.
    liveness_stale_after: int = setting("REMOTE_LIVENESS_STALE_AFTER", _positive_int, 90)
    liveness_ttl: int = setting("MOLECULE_LIVENESS_TTL_SECONDS", _positive_int, 180)
    liveness_interval: float = setting("MOLECULE_LIVENESS_INTERVAL_S", _positive_float, 15.0)

    # Delegations and messages.
    delegation_sweep_interval: float = setting(
        "DELEGATION_SWEEPER_INTERVAL_S", _positive_float, 300.0
    )
    delegation_stuck_after: float = setting("DELEGATION_STUCK_THRESHOLD_S", _positive_float, 600.0)
    a2a_max_body_bytes: int = setting("MOLECULE_A2A_MAX_BODY_BYTES", _positive_int, 1_048_576)
    activity_retention_days: int = setting("ACTIVITY_RETENTION_DAYS", _positive_int, 7)
    activity_cleanup_hours: float = setting("ACTIVITY_CLEANUP_INTERVAL_HOURS", _positive_float, 6.0)

    # Calls to agents' URLs, and the queue of what could not be delivered.
    a2a_idle_timeout: float = setting("A2A_IDLE_TIMEOUT_SECONDS", _positive_float, 300.0)
    a2a_header_timeout: float = setting(
        "A2A_PROXY_RESPONSE_HEADER_TIMEOUT", _positive_float, 1800.0
    )
    a2a_ceiling: float = setting("MOLECULE_A2A_CEILING_SECONDS", _positive_float, 1800.0)
    a2a_canvas_wait: float = setting("MOLECULE_A2A_CANVAS_WAIT_SECONDS", _positive_float, 90.0)
    a2a_max_response_bytes: int = setting(
        "MOLECULE_A2A_MAX_RESPONSE_BYTES", _answer_bytes, 10_485_760
    )
    a2a_drain_interval: float = setting("MOLECULE_A2A_DRAIN_INTERVAL_S", _positive_float, 10.0)
    a2a_lease: float = setting("MOLECULE_A2A_LEASE_SECONDS", _positive_float, 60.0)
    a2a_settle: float = setting("MOLECULE_A2A_SETTLE_SECONDS", _positive_float, 180.0)
    a2a_retry: float = setting("MOLECULE_A2A_RETRY_SECONDS", _positive_float, 8.0)
    a2a_backoff: float = setting("MOLECULE_A2A_BACKOFF_SECONDS", _positive_float, 5.0)

    # Files for agents.
    upload_store: str = setting("MOLECULE_UPLOAD_STORE", _upload_store, "postgres")
    upload_max_bytes: int = setting("MOLECULE_UPLOAD_MAX_BYTES", _file_bytes, 25 * 1024 * 1024)
    upload_quota_bytes: int = setting(
        "MOLECULE_UPLOAD_QUOTA_BYTES", _positive_int, 500 * 1024 * 1024
    )
    upload_quota_files: int = setting("MOLECULE_UPLOAD_QUOTA_FILES", _positive_int, 200)
    upload_read_after_ack: bool = setting("MOLECULE_UPLOAD_READ_AFTER_ACK", _switch, False)
    upload_ttl: float = setting("MOLECULE_UPLOAD_TTL_SECONDS", _positive_float, 86_400.0)
    upload_ack_retention: float = setting("MOLECULE_UPLOAD_ACK_RETENTION_SECONDS", _finite, 3600.0)
    upload_sweep_interval: float = setting("MOLECULE_UPLOAD_SWEEP_SECONDS", _positive_float, 300.0)
    s3_bucket: str = setting("MOLECULE_S3_BUCKET", _text, "")
    s3_prefix: str = setting("MOLECULE_S3_PREFIX", _text, "molecule-uploads/")
    s3_endpoint: str = setting("MOLECULE_S3_ENDPOINT", _text, "")
    s3_region: str = setting("MOLECULE_S3_REGION", _text, "us-east-1")
    s3_access_key: str = setting("MOLECULE_S3_ACCESS_KEY", _text, "", secret=True)
    s3_secret_key: str = setting("MOLECULE_S3_SECRET_KEY", _text, "", secret=True)

    # The inbox.
    inbox_beat: float = setting("MOLECULE_INBOX_BEAT_SECONDS", _positive_float, 15.0)
    inbox_safety_check: float = setting("MOLECULE_INBOX_SAFETY_SECONDS", _positive_float, 5.0)
    inbox_lease: float = setting("MOLECULE_INBOX_LEASE_SECONDS", _positive_float, 30.0)
    inbox_max_age: float = setting("MOLECULE_INBOX_MAX_AGE_SECONDS", _positive_float, 3600.0)
    inbox_max_items: int = setting("MOLECULE_INBOX_MAX_ITEMS", _positive_int, 10_000)
    inbox_max_bytes: int = setting("MOLECULE_INBOX_MAX_BYTES", _positive_int, 256 * 1024 * 1024)
    notify: bool = setting("MOLECULE_INBOX_NOTIFY", _switch, True)
    mcp_send_message: bool = setting("MOLECULE_MCP_ALLOW_SEND_MESSAGE", _true_or_false, False)

    warnings: tuple[str, ...] = ()

    @property
    def development(self) -> bool:
        """Whether calls without a token pass and loopback agent URLs are allowed."""
        return self.environment == DEVELOPMENT

    @property
    def saas(self) -> bool:
        """Whether private address ranges may be called."""
        return self.deploy_mode == "saas" or (not self.deploy_mode and bool(self.saas_org_id))

    @property
    def default_tier(self) -> int:
        """Size class of a workspace that states none."""
        return 4 if self.saas else 3

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a convenience of development is on in production.
        """
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        warnings: list[str] = []
        for item in fields(cls):
            variable = item.metadata.get("variable")
            text = env.get(variable) if variable else None
            if text is None or text == "":
                continue
            try:
                values[item.name] = item.metadata["parse"](text)
            except ValueError as error:
                shown = "***" if item.metadata["secret"] else repr(text)
                warnings.append(f"{variable}={shown} is ignored: {error}; using {item.default!r}")
        warnings += _legacy_flags(env)
        settings = cls(**values, warnings=tuple(warnings))
        return settings._checked()

    def _checked(self) -> Settings:
        open_doors = {
            "MOLECULE_OPEN_BOOTSTRAP": self.open_bootstrap,
            "MOLECULE_OPEN_REGISTRATION": self.open_registration,
            "MOLECULE_ENABLE_TEST_TOKENS": self.test_tokens,
        }
        opened = [name for name, on in open_doors.items() if on]
        if self.environment == PRODUCTION and opened:
            raise SettingsError(f"{', '.join(opened)} is refused when MOLECULE_ENV=production")
        if self.upload_store == "s3" and not self.s3_bucket:
            raise SettingsError("MOLECULE_UPLOAD_STORE=s3 needs MOLECULE_S3_BUCKET")
        doors = [f"{name} is on: this installation lets strangers in" for name in opened]
        if self.development:
            doors.append("MOLECULE_ENV=development: calls without a token pass as the operator")
        return self._with_warnings(doors)

    def _with_warnings(self, more: list[str]) -> Settings:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return type(self)(**{**values, "warnings": (*self.warnings, *more)})

    def describe(self) -> dict[str, str]:
        """Every variable with the value in force, secrets masked."""
        shown: dict[str, str] = {}
        for item in fields(self):
            if variable := item.metadata.get("variable"):
                value = getattr(self, item.name)
                shown[variable] = "***" if item.metadata["secret"] and value else str(value)
        return shown


def _legacy_flags(env: Mapping[str, str]) -> list[str]:
    flags = (
        "DELEGATION_LEDGER_WRITE",
        "DELEGATION_RESULT_INBOX_PUSH",
        "DELEGATION_SYNC_VIA_INBOX",
    )
    return [
        f"{name}={env[name]!r} has no effect: the feature is always on"
        for name in flags
        if env.get(name, "1") != "1"
    ]
