"""HTTP as plain clients speak it: bytes on a socket, and the standard library's client."""

from __future__ import annotations

import http.client
import json
import socket
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.running import RunningServer
from tests.waiting import PATIENCE

BOUNDARY = b"B0undary"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Client:
    """Calls one server with one token, a connection a call."""

    port: int
    token: str = ""
    id: str = ""

    def call(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One call; `if_match` is the header `If-Match`. `{id}` in the path is the workspace."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named["authorization"] = f"Bearer {self.token}"
        try:
            connection.request(verb, path.format(id=self.id), body, named)
            answer = connection.getresponse()
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, lower, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Answer:
        """POST of JSON."""
        return self.call("POST", path, json.dumps(body).encode(), content_type="application/json")

    def upload(self, body: bytes) -> Answer:
        """POST of a form."""
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        return self.call("POST", "/workspaces/{id}/chat/uploads", body, content_type=kind)

    def file(self, data: bytes) -> str:
        """The path of a file that waits for this workspace."""
        staged = self.upload(form(b'name="files"; filename="a.txt"', data))
        file_id = staged.json()["files"][0]["uri"].rpartition("/")[2]
        return f"/workspaces/{self.id}/pending-uploads/{file_id}/content"

    def raw(self, request: bytes) -> bytes:
        """Send bytes; everything that comes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as stream:
            stream.sendall(request)
            answer = b""
            while piece := stream.recv(65536):
                answer += piece
        return answer


def form(disposition: bytes, data: bytes) -> bytes:
    """A form of one part."""
    head = b"Content-Disposition: form-data; " + disposition
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (BOUNDARY, head, data, BOUNDARY)


def hire(server: RunningServer, name: str = "") -> Client:
    """An external workspace of the server's own organisation."""
    port = urlsplit(server.url).port
    assert port is not None
    operator = Client(port, server.admin_token)
    name = name or f"plain {uuid.uuid4().hex[:8]}"
    made = operator.post("/workspaces", {"name": name, "external": True}).json()
    agent = Client(port, made["connection"]["auth_token"], made["id"])
    agent.post("/registry/register", {"id": agent.id, "agent_card": {"name": name}})
    return agent
