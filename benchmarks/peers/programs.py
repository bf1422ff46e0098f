"""What peers run on: Go programs, built where Go is present, and packages of the group `peers`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GO_MODULE = Path(__file__).parent / "go"
_OUTPUT = Path(__file__).parent.parent.parent / "build" / "peers"
_GO = "/usr/local/go/bin/go"
_PACKAGES = ".venv/bin/pip install --require-hashes -r requirements/peers.lock"


class Missing(Exception):
    """A peer cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class GoPrograms:
    """The server that is a peer, and the client for streams and messages."""

    server: Path
    client: Path


def go_command() -> str:
    """Where Go is. Raises Missing."""
    found = shutil.which("go") or (_GO if os.access(_GO, os.X_OK) else None)
    if found is None:
        raise Missing("Go is not here")
    return found


def build_go() -> GoPrograms:
    """Build the Go programs. Raises Missing without Go, or where its modules cannot be had."""
    _OUTPUT.mkdir(parents=True, exist_ok=True)
    command = [go_command(), "build", "-o", str(_OUTPUT), "./cmd/..."]
    built = subprocess.run(command, cwd=GO_MODULE, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Missing(f"go build failed: {built.stderr.strip().splitlines()[-1]}")
    return GoPrograms(_OUTPUT / "server", _OUTPUT / "client")


def require_fastapi() -> None:
    """Raises Missing without FastAPI, uvicorn and httptools."""
    if not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "httptools")):
        raise Missing(f"its packages are missing: {_PACKAGES}")


def nats_server() -> Path:
    """The program of NATS. Raises Missing."""
    beside = Path(sys.executable).with_name("nats-server")
    found = beside if beside.exists() else shutil.which("nats-server")
    if not found:
        raise Missing(f"its package is missing: {_PACKAGES}")
    return Path(found)
