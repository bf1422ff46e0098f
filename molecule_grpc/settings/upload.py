"""Files for agents, and where their bytes are kept."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import (
    LIMIT,
    SECONDS,
    SWITCH,
    TEXT,
    choice,
    number,
    setting,
    whole,
)

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """Uploads. Times are in seconds, sizes in bytes.

    Args:
        store: `postgres`, `s3`, or `off` to take none.
        max_bytes: largest file.
        quota_bytes: bytes that may wait for one workspace; 0 for no limit.
        quota_files: files that may wait for one workspace; 0 for no limit.
        read_after_ack: whether a file stays readable until it is swept.
        ttl: how long a file waits to be acknowledged.
        ack_retention: how long an acknowledged file stays; below 0 counts as 0.
        sweep_interval: pause between two sweeps.
        s3_bucket: bucket of the `s3` store, which must exist.
        s3_prefix: in front of the name of every object.
        s3_endpoint: URL of an S3 server; empty for AWS.
        s3_region: region of the bucket.
        s3_access_key: key id; empty for the credentials of the environment.
        s3_secret_key: secret of the key id.
    """

    store: str = setting("MOLECULE_UPLOAD_STORE", choice("postgres", "s3", "off"), "postgres")
    max_bytes: int = setting("MOLECULE_UPLOAD_MAX_BYTES", whole(1, 100 * _MIB), 25 * _MIB)
    quota_bytes: int = setting("MOLECULE_UPLOAD_QUOTA_BYTES", LIMIT, 500 * _MIB)
    quota_files: int = setting("MOLECULE_UPLOAD_QUOTA_FILES", LIMIT, 200)
    read_after_ack: bool = setting("MOLECULE_UPLOAD_READ_AFTER_ACK", SWITCH, False)
    ttl: float = setting("MOLECULE_UPLOAD_TTL_SECONDS", SECONDS, 86_400.0)
    ack_retention: float = setting("MOLECULE_UPLOAD_ACK_RETENTION_SECONDS", number(), 3600.0)
    sweep_interval: float = setting("MOLECULE_UPLOAD_SWEEP_SECONDS", SECONDS, 300.0)
    s3_bucket: str = setting("MOLECULE_S3_BUCKET", TEXT, "")
    s3_prefix: str = setting("MOLECULE_S3_PREFIX", TEXT, "molecule-uploads/")
    s3_endpoint: str = setting("MOLECULE_S3_ENDPOINT", TEXT, "")
    s3_region: str = setting("MOLECULE_S3_REGION", TEXT, "us-east-1")
    s3_access_key: str = setting("MOLECULE_S3_ACCESS_KEY", TEXT, "", secret=True)
    s3_secret_key: str = setting("MOLECULE_S3_SECRET_KEY", TEXT, "", secret=True)
