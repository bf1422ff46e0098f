"""A real S3 server for tests: SeaweedFS, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.ports import free_port
from tests.running import READY_SECONDS

# Buckets are dear: each claims volumes of its own. Tests keep apart by prefixes.
BUCKET = "molecule-tests"
KEY = "tests"
SECRET = "secret-of-tests"


class Seaweed:
    """Starts and kills the server. It stops slowly by itself, and has nothing to save."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {
            name: free_port()
            for name in ("master", "volume", "filer", "s3", "master.", "volume.", "filer.", "s3.")
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._ports['s3']}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Start and wait until it stores."""
        self._directory.mkdir(parents=True, exist_ok=True)
        ports = [
            f"-{name.rstrip('.')}.port{'.grpc' * name.endswith('.')}={port}"
            for name, port in self._ports.items()
        ]
        with (self._directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "weed",
                    "server",
                    f"-dir={self._directory}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-filer",
                    "-s3",
                    "-volume.max=50",
                    "-master.volumeSizeLimitMB=64",
                    "-master.telemetry=false",
                    # Services that nobody asked for.
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    *ports,
                ],
                env={**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._stores():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self._directory / "weed.log").read_text()[-4000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP: then it hangs."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def keys(self, prefix: str) -> list[str]:
        """Keys stored under a prefix; the prefix is cut off."""
        page = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"].removeprefix(prefix) for one in page.get("Contents", ())]

    def environment(self, prefix: str) -> dict[str, str]:
        """Settings of a server that stores its files in this bucket, under a prefix."""
        return {
            "MOLECULE_UPLOAD_STORE": "s3",
            "MOLECULE_S3_BUCKET": BUCKET,
            "MOLECULE_S3_PREFIX": prefix,
            "MOLECULE_S3_ENDPOINT": self.url,
            "MOLECULE_S3_ACCESS_KEY": KEY,
            "MOLECULE_S3_SECRET_KEY": SECRET,
        }

    def _stores(self) -> bool:
        try:
            # The first object of a bucket needs disk space of its own, which takes a moment.
            self.client.create_bucket(Bucket=BUCKET)
            self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
        except (BotoCoreError, ClientError) as error:
            return "BucketAlreadyOwnedByYou" in str(error)
        return True


def new_prefix() -> str:
    """For the objects of one test."""
    return f"{uuid.uuid4()}/"
