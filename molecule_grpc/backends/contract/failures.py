"""How a backend refuses or fails."""

from __future__ import annotations

import enum

from molecule_grpc.backends.contract.names import BackendName


class FailureReason(enum.StrEnum):
    """Why a backend failed. Stable names: stored with operations, and labels of metrics."""

    UNREACHABLE = "unreachable"  # The engine does not answer.
    TIMEOUT = "timeout"
    ENGINE = "engine"  # The engine answers with an error of its own.
    IMAGE_MISSING = "image_missing"
    IMAGE_REFUSED = "image_refused"
    EXITED = "exited"  # The agent's process ended.
    OUT_OF_MEMORY = "out_of_memory"
    NO_SPACE = "no_space"
    PORT_TAKEN = "port_taken"
    QUOTA = "quota"
    CAPACITY = "capacity"
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"  # The engine refuses the platform's credentials.
    CONFIGURATION = "configuration"  # What was asked for can never start.
    EGRESS_UNENFORCED = "egress_unenforced"
    NOT_CONFIGURED = "not_configured"  # The row's backend is none that this installation opens.
    NO_BACKEND = "no_backend"


class BackendFailure(Exception):
    """The engine did not carry out a call.

    Args:
        public: a sentence for people, without internals of the engine or the network.
        detail: for the log.
        retryable: whether the same call may succeed soon.
        undone: whether it is certain that the engine did nothing, so that a start may be repeated.
        output: the last that the agent printed, where its end is the failure.
        missing: variables that the agent needs and that are not set.
    """

    def __init__(
        self,
        reason: FailureReason,
        public: str,
        *,
        detail: str = "",
        retryable: bool = False,
        undone: bool = False,
        output: str = "",
        missing: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{reason}: {public}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.public = public
        self.detail = detail
        self.retryable = retryable
        self.undone = undone
        self.output = output
        self.missing = missing


class Refused(Exception):
    """A backend lacks a capability in every state: UNIMPLEMENTED, HTTP 501."""

    def __init__(self, backend: BackendName, what: str) -> None:
        super().__init__(f"the backend {backend} does not offer {what}")
        self.backend = backend
        self.what = what


class WorkloadMissing(Exception):
    """Nothing of the workspace is there to be read, written or entered."""


class FileMissing(Exception):
    """There is no such file."""


class OutsideRoot(Exception):
    """A link leads out of the top directory of a path, such as `/workspace`."""


class DirectoryThere(Exception):
    """A directory lies where a file is to be written."""


class TooManyFiles(Exception):
    """More lies below a directory than was asked for at most."""


class RootReadOnly(Exception):
    """The path lies outside of the volumes of a workload whose root may not be written."""
