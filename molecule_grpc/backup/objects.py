"""Copies uploads between the S3 bucket of an installation and a backup.

Only those that the bucket holds: bytes that are kept in Postgres are part of its dump.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from molecule_grpc.backup.manifest import BackupError, StoredFile
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.upload.blobs.s3 import MISSING, s3_client

_FAILURES = (BotoCoreError, ClientError, Boto3Error, OSError)


class StoredObject(NamedTuple):
    """An upload whose bytes are in the bucket."""

    file_id: str
    sha256: str


def copy_out(settings: UploadSettings, wanted: Iterable[StoredObject], folder: Path) -> list[str]:
    """Copy objects into a new folder; the ids of those that the bucket no longer has.

    An agent that acknowledges its file during the backup lets the bucket delete the object.

    Raises:
        BackupError: the store failed, or gave other bytes than were uploaded.
    """
    folder.mkdir(mode=0o700)
    client = s3_client(settings)
    absent = []
    for file_id, sha256 in wanted:
        path = folder / file_id
        try:
            client.download_file(settings.s3_bucket, settings.s3_prefix + file_id, str(path))
        except ClientError as error:
            if error.response["Error"]["Code"] not in MISSING:
                raise _failed(error) from error
            absent.append(file_id)
            continue
        except _FAILURES as error:
            raise _failed(error) from error
        path.chmod(0o600)
        if StoredFile.of(path).sha256 != sha256:
            raise BackupError(f"the object store gives other bytes for the upload {file_id}")
    return absent


def put_back(settings: UploadSettings, files: Iterable[Path]) -> None:
    """Copy the files of a backup into the bucket, under the names that they had.

    Raises:
        BackupError: the store failed.
    """
    client = s3_client(settings)
    for path in files:
        try:
            client.upload_file(str(path), settings.s3_bucket, settings.s3_prefix + path.name)
        except _FAILURES as error:
            raise _failed(error) from error


def _failed(error: Exception) -> BackupError:
    return BackupError(f"the object store failed ({type(error).__name__}): see MOLECULE_S3_*")
