"""The agent inside the image of tests, on the standard library alone.

It registers over REST, beats, and answers every POST at port 8000 with what it was told.
AGENT_MODE has it misbehave: `exit:CODE`, `memory` (takes more than it may), `quiet` (does nothing).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8000
BEAT_SECONDS = 1.0


class Answer(BaseHTTPRequestHandler):
    """Echoes the text of an A2A message."""

    def do_GET(self) -> None:
        self._send({"status": "ok"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        message = request.get("params", {}).get("message", {})
        text = " ".join(part.get("text", "") for part in message.get("parts", []))
        print("asked:", text, flush=True)
        self._send(
            {
                "jsonrpc": "2.0",
                "id": request.get("id"),
                "result": {
                    "kind": "message",
                    "role": "agent",
                    "messageId": f"answer-{message.get('messageId')}",
                    "parts": [{"kind": "text", "text": f"echo: {text}"}],
                },
            }
        )

    def _send(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing: the agent's output holds only the lines that tests ask for."""


def call(path: str, body: dict[str, Any], token: str) -> dict[str, Any]:
    """One call of the platform."""
    headers = {"content-type": "application/json", "x-workspace-id": os.environ["WORKSPACE_ID"]}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        os.environ["PLATFORM_URL"] + path, json.dumps(body).encode(), headers
    )
    # The platform is never behind the proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return dict(json.load(answer))


def live() -> None:
    """Register until the platform accepts the agent, then send heartbeats."""
    workspace, token = os.environ["WORKSPACE_ID"], os.environ.get("MOLECULE_TOKEN", "")
    card = {"name": os.environ.get("AGENT_NAME", "agent"), "skills": []}
    # Of no use to anybody outside: the platform must know better.
    address = f"http://{os.environ.get('HOSTNAME', 'localhost')}:{PORT}"
    registered = False
    while True:
        try:
            if not registered:
                body = {"id": workspace, "agent_card": card, "url": address}
                token = call("/registry/register", body, token).get("auth_token") or token
                registered = True
                print("registered", flush=True)
            call("/registry/heartbeat", {"workspace_id": workspace}, token)
        except urllib.error.HTTPError as error:
            print("refused:", error.code, error.read()[:500].decode(), flush=True)
        except OSError as error:
            print("not reached:", error, flush=True)
        time.sleep(BEAT_SECONDS if registered else 0.1)


def main() -> None:
    """Do what AGENT_MODE says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    mode = os.environ.get("AGENT_MODE", "")
    print("agent starts", mode, flush=True)
    if mode.startswith("exit:"):
        print("cannot go on", file=sys.stderr, flush=True)
        sys.exit(int(mode.removeprefix("exit:")))
    if mode == "memory":
        kept = []
        while True:
            kept.append(bytearray(b"x" * (1 << 24)))
    if mode != "quiet":
        if os.environ.get("PLATFORM_URL"):
            threading.Thread(target=live, daemon=True).start()
        ThreadingHTTPServer(("", PORT), Answer).serve_forever()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
