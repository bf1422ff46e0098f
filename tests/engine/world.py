"""The world beyond a machine: a namespace with a name server and web servers, which leads nowhere.

Run as a program, inside the namespace, the module serves: every name of the given domain has the
address, every page says which one was asked for, and each question and page is a line of the log.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from molecule_grpc.server.children import die_with_parent
from tests.engine.namespace import Namespace
from tests.name_server import NameServer, serve_names
from tests.waiting import PATIENCE

# A public address that nobody here can reach but by the pair of interfaces.
ADDRESS = "99.99.99.1"
_ENGINE_SIDE = "99.99.99.2"
PORTS = (80, 443, 8080)
NAMES = ("good.world", "bad.world", "sub.wild.world", "late.world")


class World:
    """What containers of an engine reach, where they may.

    Args:
        engine: the namespace of the engine, which gets a route to the world.
    """

    def __init__(self, engine: Namespace, directory: Path) -> None:
        self._engine = engine
        self._namespace = Namespace("world")
        self._log = directory / "world.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def seen(self) -> list[str]:
        """Questions and pages, oldest first, such as `name good.world` and `page good.world/x`."""
        return self._log.read_text().splitlines()

    def open(self) -> None:
        """Make the namespace and the way there, and serve."""
        self._namespace.open_unconnected()
        link = f"{self._namespace.name.replace('-', '')[-10:]}w"
        self._engine.ip(
            *("link", "add", link, "type", "veth", "peer", "name", "w", "netns"),
            self._namespace.name,
        )
        self._engine.ip("addr", "add", f"{_ENGINE_SIDE}/24", "dev", link)
        self._engine.ip("link", "set", link, "up")
        self._namespace.ip("addr", "add", f"{ADDRESS}/24", "dev", "w")
        self._namespace.ip("link", "set", "w", "up")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._namespace.entry, sys.executable, "-m", "tests.engine.world"],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl alone
            )
        deadline = time.monotonic() + PATIENCE
        while "ready" not in self.seen:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the world does not serve: {self.seen}")
            time.sleep(0.02)

    def close(self) -> None:
        """End the server, and remove the route to its addresses."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._namespace.close()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = f"{self.headers.get('host')}{self.path}"
        print("page", text, flush=True)
        body = f"the world: {text}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """What was asked for is a line already."""


class _Told(NameServer):
    def answer(self, question: bytes) -> bytes | None:
        before = len(self.asked)
        packet = super().answer(question)
        for name in self.asked[before:]:
            print("name", name, flush=True)
        return packet


def main() -> None:
    """Serve until killed."""
    known = {name: [(ADDRESS,)] for name in NAMES} | {"inside.world": [("127.0.0.1",)]}
    with contextlib.ExitStack() as stack:
        stack.enter_context(serve_names(_Told(known, 0), ADDRESS, 53))
        for port in PORTS:
            server = ThreadingHTTPServer((ADDRESS, port), _Page)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
