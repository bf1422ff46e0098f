"""What a registry is shown: the credentials that `docker login` has kept."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

# How the configuration names the registry of images whose name begins with none.
_DEFAULT: Final = "https://index.docker.io/v1/"
_HELPER_SECONDS: Final = 10.0
_BY_TOKEN: Final = "<token>"
_NOBODY: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({})


def registry_of(reference: str) -> str:
    """The registry that an image's name begins with."""
    first, slash, _ = reference.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if is_host else _DEFAULT


async def registry_header(
    reference: str, given: Mapping[str, tuple[str, str]] = _NOBODY
) -> dict[str, str]:
    """The header that goes with a pull; empty where nobody has logged in.

    Args:
        given: by registry, a user and a password that come before what `docker login` has kept.
    """
    registry = registry_of(reference)
    if registry in given:
        user, password = given[registry]
        return _header({"username": user, "password": password}, registry)
    config = await asyncio.to_thread(_config)
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    shown = await _ask(helper, registry) if helper else _stored(config, registry)
    if not shown:
        return {}
    return _header(shown, registry)


def _header(shown: Mapping[str, str], registry: str) -> dict[str, str]:
    text = json.dumps({**shown, "serveraddress": registry})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def _config() -> dict[str, Any]:
    directory = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        found = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stored(config: dict[str, Any], registry: str) -> dict[str, str]:
    entry = (config.get("auths") or {}).get(registry) or {}
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    try:
        name, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except ValueError:
        return {}
    return {"username": name, "password": password} if name else {}


async def _ask(helper: str, registry: str) -> dict[str, str]:
    """Ask a program that keeps credentials, as `docker` does."""
    try:
        found = json.loads(await _output(f"docker-credential-{Path(helper).name}", registry))
        name, secret = str(found["Username"]), str(found["Secret"])
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        log.warning("no credentials", registry=registry, helper=helper, error=type(error).__name__)
        return {}
    if name == _BY_TOKEN:
        return {"identitytoken": secret}
    return {"username": name, "password": secret}


async def _output(program: str, sent: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        program,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            text, _ = await process.communicate(sent.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return text
