"""How the embedded Postgres is configured."""

from __future__ import annotations

from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "max_connections": "300",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    # One log file per day of the week, overwritten a week later: at most seven.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_timezone": "UTC",
    # Only the owner of the data reaches the socket, and there is no other way in.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
}

WAL_SEGMENT_MIB = "4"  # 16 MB, Postgres' own choice, stop every commit for 15 ms
