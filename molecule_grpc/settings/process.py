"""Worker processes, their database and their end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from molecule_grpc.settings.values import (
    COUNT,
    PATH,
    SECONDS,
    SWITCH,
    TEXT,
    choice,
    number,
    setting,
    whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How the processes run.

    Args:
        workers: worker processes.
        host_mode: `envoy` runs handlers inside Envoy's process, `grpc` in workers behind it, `auto`
            the former where this Python and the installed Envoy permit it.
        spare_worker: whether `up` keeps one more process, of about 100 MB, that has loaded the
            program and replaces a worker that died without the second that loading takes.
        data_dir: embedded Postgres and the operator's token.
        disk_low_bytes: with less free than this on the disk of the embedded Postgres, calls that
            store something are refused with `DISK_LOW`; 0 refuses none.
        database_url: an own Postgres; empty for the embedded one.
        database_pool_size: connections of one worker for calls.
        log_level: least level of log lines that are written.
        drain_seconds: what calls in flight get at a stop.
        call_seconds: a call with one answer ends after so many seconds, with `UNAVAILABLE` or 504,
            unless its method may wait: uploads, long polls, messages to agents.
        stream_write_seconds: a stream ends whose client has taken nothing for so many seconds.
        group_commit_linger_ms: the longest that a batch of writes waits for more, under load.
        notify: whether workers wake one another through the database.
    """

    workers: int = setting("WORKERS", COUNT, max(1, (os.cpu_count() or 1) // 2))
    host_mode: str = setting("MOLECULE_HOST_MODE", choice("auto", "envoy", "grpc"), "auto")
    spare_worker: bool = setting("MOLECULE_SPARE_WORKER", SWITCH, True)
    data_dir: Path = setting("MOLECULE_DATA_DIR", PATH, Path("data"))
    disk_low_bytes: int = setting("MOLECULE_DISK_LOW_BYTES", whole(0), 256 * 1024 * 1024)
    database_url: str = setting("DATABASE_URL", TEXT, "", secret=True)
    database_pool_size: int = setting("MOLECULE_DATABASE_POOL_SIZE", COUNT, 16)
    log_level: str = setting(
        "LOG_LEVEL", choice("debug", "info", "warning", "error", "critical"), "info"
    )
    drain_seconds: float = setting("MOLECULE_DRAIN_SECONDS", SECONDS, 10.0)
    call_seconds: float = setting("MOLECULE_CALL_SECONDS", SECONDS, 60.0)
    stream_write_seconds: float = setting("MOLECULE_STREAM_WRITE_SECONDS", SECONDS, 60.0)
    group_commit_linger_ms: float = setting(
        "MOLECULE_GROUP_COMMIT_LINGER_MS", number(least=0), 10.0
    )
    notify: bool = setting("MOLECULE_INBOX_NOTIFY", SWITCH, True)
