"""What the engine says, as a typed failure with a sentence that names none of its internals."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.docker.rules import signal_of
from molecule_grpc.backends.pacing import bounded

# Status of a DockerError where aiodocker reached no engine.
_NO_ENGINE: Final = 900
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
# In order: the first pattern that is found in the engine's text decides.
_TEXTS: Final = (
    (r"invalid reference format", FailureReason.CONFIGURATION, "the image's name is malformed"),
    (r"no space left on device", FailureReason.NO_SPACE, "the engine's disk is full"),
    (
        r"port is already allocated|address already in use",
        FailureReason.PORT_TAKEN,
        "the port that the workspace needs is taken",
    ),
    (
        r"no such image|manifest unknown|not found: manifest|repository does not exist",
        FailureReason.IMAGE_MISSING,
        "the image is not there",
    ),
    (
        r"pull access denied|unauthorized|denied: ",
        FailureReason.IMAGE_REFUSED,
        "the registry refuses the image",
    ),
    (
        r"unknown or invalid runtime|unknown runtime",
        FailureReason.CONFIGURATION,
        "the engine does not know the OCI runtime that the template names",
    ),
    (
        r"bind source path does not exist|invalid mount config",
        FailureReason.CONFIGURATION,
        "the workspace's directory is not there",
    ),
    (
        r"executable file not found|no such file or directory: unknown|no command specified",
        FailureReason.CONFIGURATION,
        "the image cannot be started: the program that it names is not there",
    ),
    (
        r"is already in use by container",
        FailureReason.CONFIGURATION,
        "something else on the engine has the container's name",
    ),
    (
        r"minimum memory limit",
        FailureReason.CONFIGURATION,
        "the memory limit is below what the engine permits",
    ),
)


def failure_of(error: DockerError) -> BackendFailure:
    """The failure that an error of the engine is."""
    if error.status == _NO_ENGINE:
        return unreachable(str(error))
    for pattern, reason, public in _TEXTS:
        if re.search(pattern, error.message, re.IGNORECASE):
            return BackendFailure(reason, public, detail=str(error))
    again = error.status >= 500
    return BackendFailure(
        FailureReason.ENGINE, "the engine refuses the workspace", detail=str(error), retryable=again
    )


def unreachable(detail: str) -> BackendFailure:
    """The engine does not answer."""
    return BackendFailure(
        FailureReason.UNREACHABLE, "the engine does not answer", detail=detail, retryable=True
    )


def ended(state: dict[str, Any], output: str) -> BackendFailure:
    """The agent's process ended, as the engine's record of a container tells."""
    code = int(state.get("ExitCode", 0))
    if state.get("OOMKilled"):
        public = "the agent was ended: it used more memory than the workspace may have"
        return BackendFailure(FailureReason.OUT_OF_MEMORY, public, output=output)
    number = signal_of(code)
    how = f"with exit code {code}" if number is None else f"by signal {number}"
    return BackendFailure(FailureReason.EXITED, f"the agent ended {how}", output=output)


def is_missing(error: DockerError) -> bool:
    """Whether the engine does not have what was named."""
    return error.status == _NOT_FOUND


def is_conflict(error: DockerError) -> bool:
    """Whether somebody else is doing the same, or the state forbids it."""
    return error.status == _CONFLICT


@contextlib.asynccontextmanager
async def calling(deadline: float | None) -> AsyncIterator[None]:
    """Bound a call of the engine, and translate how it fails.

    Raises:
        BackendFailure: `timeout` after `deadline` seconds; whatever else the engine's error means.
    """
    try:
        async with bounded(deadline, "the engine did not answer in time"):
            yield
    except DockerError as error:
        raise failure_of(error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(repr(error)) from error
