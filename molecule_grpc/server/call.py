"""The call that a handler serves, the same for every host."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from molecule_grpc.auth.principal import ANONYMOUS, Principal
from molecule_grpc.kernel import deadlines

CALLER_HEADER = "x-workspace-id"
# Set by the edge: what the client itself sent as `x-request-id`, at most 128 printable characters.
CLIENT_ID = "x-client-trace-id"
ORIGINAL_PATH = "x-envoy-original-path"
# Set by the edge on a HEAD request, which it forwards as GET.
HEAD = "x-head"


@dataclass(slots=True)
class Call:
    """One call in flight. A client that leaves cancels the task that runs the handler.

    Args:
        metadata: request headers by lower-case name.
        remaining: tells the seconds until the client gives up; None when it waits for ever.
        principal: who calls; set by the pipeline before the handler runs.
        headers: response headers to send before the first message.
        organization_id: whose organisation the call concerned, where only the handler knows; for
            the audit log.
        admitted: whether the caller may make this call; set by the pipeline.
    """

    metadata: Mapping[str, str]
    remaining: Callable[[], float | None] = lambda: None
    principal: Principal = ANONYMOUS
    headers: dict[str, str] = field(default_factory=dict)
    organization_id: UUID | None = None
    admitted: bool = False
    _made_id: str = ""

    @property
    def request_id(self) -> str:
        """From `x-request-id`, or made when it is first asked for; on every log line."""
        given = self.metadata.get("x-request-id")
        if not given and not self._made_id:
            self._made_id = uuid.uuid4().hex
        return given or self._made_id

    @property
    def names(self) -> dict[str, str]:
        """For log lines: `request_id`, and `client_id` if the client gave the request an id."""
        names = {"request_id": self.request_id}
        if client_id := self.metadata.get(CLIENT_ID):
            names["client_id"] = client_id
        return names

    @property
    def authorization(self) -> str | None:
        """The `authorization` header; None when there is none."""
        return self.metadata.get("authorization")

    @property
    def caller(self) -> str:
        """The header that names the calling workspace, unchecked; empty without the header."""
        return self.metadata.get(CALLER_HEADER, "")

    @property
    def rest(self) -> bool:
        """Whether the edge made this call out of a REST request."""
        return ORIGINAL_PATH in self.metadata

    @property
    def head(self) -> bool:
        """Whether a REST client wants the headers of the answer alone."""
        return HEAD in self.metadata

    def wait_limit(self, asked: float) -> float:
        """Seconds to wait: those asked for, and no longer than until 0.5 s before the deadline."""
        return deadlines.wait_limit(asked, self.remaining())

    def set_http_status(self, status: int) -> None:
        """Answer a REST call with this status instead of the one that the contract declares."""
        self.headers["x-http-code"] = str(status)
