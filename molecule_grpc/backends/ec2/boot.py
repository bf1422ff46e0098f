"""Runs on a workspace's machine at every boot, as its user data; needs Python 3.7 and nothing else.

The first time with a bootstrap token the program exchanges the token for the agent's environment,
files and secrets, and keeps these on the machine's encrypted disk. Then, and at every later boot,
the program starts the agent. Nothing that is printed holds a secret: EC2 shows it as the console.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

# What the platform says while it starts, is full, or is being replaced.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_CALL_SECONDS = 30
_PAUSE_SECONDS = 2.0


def exchange(given: dict[str, Any]) -> dict[str, Any]:
    """What the workspace starts with. A platform that cannot be reached is asked again.

    Exits where the platform refuses the token: another machine has used it, or it is too old.
    """
    body = json.dumps({"bootstrap_token": given["token"]}).encode()
    url = f"{given['platform_url']}/workspaces/{given['workspace_id']}/bootstrap"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    end = time.monotonic() + given["seconds"]
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_CALL_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code not in _PASSING:
                sys.exit(f"molecule: the platform refuses the bootstrap token: {error.code}")
            why = str(error.code)
        except OSError as error:
            why = str(error)
        if time.monotonic() > end:
            sys.exit(f"molecule: the platform was not reached: {why}")
        print("molecule: the platform is asked again:", why, flush=True)
        time.sleep(_PAUSE_SECONDS)


def quoted(value: str) -> str:
    """A value as both systemd and a shell read it from a file of variables."""
    for sign in '\\"$`':
        value = value.replace(sign, f"\\{sign}")
    return f'"{value}"'


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    part.replace(path)


def keep(given: dict[str, Any], found: dict[str, Any]) -> None:
    """Write what the platform has told."""
    own = Path(given["directory"])
    secrets = own / "secrets"
    shutil.rmtree(secrets, ignore_errors=True)
    own.mkdir(parents=True, exist_ok=True)
    secrets.mkdir(mode=0o755)
    if given["reset_session"]:
        shutil.rmtree(given["sessions"], ignore_errors=True)
    for each in found.get("config_files", []):
        path = Path(given["config_directory"]) / each["path"]
        write(path, base64.b64decode(each["content"]), 0o644)
    for each in found.get("secret_files", []):
        write(secrets / each["path"], base64.b64decode(each["content"]), 0o444)
    lines = [f"{name}={quoted(value)}\n" for name, value in sorted(found["environment"].items())]
    write(own / "agent.env", "".join(lines).encode())
    write(own / "exchanged", _mark(given).encode())


def link_secrets(given: dict[str, Any]) -> None:
    """Show the secrets where agents look for them; that place is empty after each boot."""
    link = Path(given["secrets"])
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(Path(given["directory"]) / "secrets")


def _mark(given: dict[str, Any]) -> str:
    return hashlib.sha256(given["token"].encode()).hexdigest()


def main(given: dict[str, Any]) -> None:
    """Fetch what the agent needs, once for each token, and start the agent."""
    exchanged = Path(given["directory"]) / "exchanged"
    if not (exchanged.exists() and exchanged.read_text() == _mark(given)):
        keep(given, exchange(given))
        print("molecule: the workspace's files are in place", flush=True)
    link_secrets(given)
    Path(given["log_file"]).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["/bin/sh", "-c", given["start_command"]], check=True)
