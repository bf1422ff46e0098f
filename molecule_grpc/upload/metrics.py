"""Prometheus counters of uploads; every labelled series is exported from the start, at zero."""

from __future__ import annotations

from prometheus_client import Counter

STAGED_FILES = Counter("molecule_uploads_staged_files_total", "Files that were staged.")
STAGED_BYTES = Counter("molecule_uploads_staged_bytes_total", "Bytes of files that were staged.")

_SWEPT = Counter(
    "molecule_pending_uploads_swept_total",
    "Files that left, acknowledged or expired, and sweeps that failed.",
    ["outcome"],
)
SWEPT = {name: _SWEPT.labels(name) for name in ("acked", "expired", "error")}

_FETCHED = Counter("molecule_uploads_fetch_total", "Reads of staged files.", ["outcome"])
FETCHED = {name: _FETCHED.labels(name) for name in ("whole", "part", "missing", "broken")}
