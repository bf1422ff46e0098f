"""A real Docker engine for tests: containerd and dockerd, in a network namespace of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import docker
import psutil

from molecule_grpc.server.children import die_with_parent
from tests.engine.namespace import Namespace
from tests.waiting import PATIENCE

PROGRAMS = ("containerd", "dockerd", "ip", "iptables", "nsenter")
_CONTAINERD = """version = 2
root = "{directory}/c"
state = "{directory}/cs"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{directory}/c.sock"
[ttrpc]
address = "{directory}/c.ttrpc"
"""
_CGROUPS = Path("/sys/fs/cgroup")


def missing() -> str:
    """Why this machine can have no engine; empty if it can."""
    if os.geteuid() != 0:
        return "an engine needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: docker.io, iproute2, iptables)"
    return ""


class DockerEngine:
    """Starts, freezes, kills and restarts an engine. Nothing of it is left after `close`.

    Args:
        filtering: whether the engine may use iptables. Without, no network is kept apart.
    """

    def __init__(self, *, filtering: bool = True) -> None:
        # Short: the path of a Unix socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="mge-"))
        self.namespace = Namespace("docker")
        self._filtering = filtering
        self._cgroup = self.directory.name
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As DOCKER_HOST names it."""
        return f"unix://{self.directory}/s"

    @property
    def log(self) -> str:
        """The end of what dockerd has printed."""
        return (self.directory / "dockerd.log").read_text()[-4000:]

    def witness(self) -> docker.DockerClient:
        """Another client than the platform's. The caller closes it."""
        return docker.DockerClient(base_url=self.url, timeout=int(PATIENCE))

    def start(self) -> None:
        """Start the engine for the first time, and wait until it answers."""
        self.namespace.open()
        configuration = self.directory / "containerd.toml"
        configuration.write_text(_CONTAINERD.format(directory=self.directory))
        (self.directory / "daemon.json").write_text("{}")
        self._containerd = self._spawn("containerd", "--config", str(configuration))
        self._wait_for("containerd", self.directory / "c.sock")
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start dockerd, for instance after it was killed, and wait until it answers."""
        filters = () if self._filtering else ("--iptables=false", "--ip6tables=false")
        self._dockerd = self._spawn(
            "dockerd",
            f"--containerd={self.directory}/c.sock",
            f"--data-root={self.directory}/d",
            f"--exec-root={self.directory}/x",
            f"--pidfile={self.directory}/pid",
            f"--config-file={self.directory}/daemon.json",
            f"--host={self.url}",
            f"--cgroup-parent=/{self._cgroup}",
            "--storage-driver=overlay2",
            *filters,
        )
        self._wait_for("dockerd", self.directory / "s")

    def freeze(self) -> None:
        """Stop dockerd in its tracks: it accepts connections and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let dockerd go on."""
        self._signal(signal.SIGCONT)

    def kill_daemon(self) -> None:
        """SIGKILL for dockerd alone; containerd and containers' shims live on."""
        self._end(self._dockerd, signal.SIGKILL)

    def stop_daemon(self) -> None:
        """Stop dockerd in good order, which ends its containers."""
        self._end(self._dockerd, signal.SIGTERM)

    def close(self) -> None:
        """End everything, and remove every trace."""
        self._end(self._dockerd, signal.SIGTERM)
        self._end(self._containerd, signal.SIGTERM)
        for process in self._left():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(PATIENCE)
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        self.namespace.close()
        for group in [*sorted(_CGROUPS.glob(f"*/{self._cgroup}")), _CGROUPS / self._cgroup]:
            _remove_cgroup(group)
        shutil.rmtree(self.directory, ignore_errors=True)

    def traces(self) -> list[str]:
        """Processes, mounts, directories and namespaces on the machine: none after `close`."""
        found = [f"process {process.pid}" for process in self._left()]
        found += [f"mount {mount}" for mount in self._mounts()]
        found += [f"directory {self.directory}"] * self.directory.exists()
        found += [f"namespace {self.namespace.name}"] * self.namespace.exists
        return found + [str(group) for group in _CGROUPS.glob(f"*/{self._cgroup}")]

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [*self.namespace.entry, program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl alone
            )

    def _wait_for(self, program: str, path: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (path.exists() and (program != "dockerd" or self._answers())):
            if time.monotonic() > deadline:
                log = (self.directory / f"{program}.log").read_text()[-4000:]
                raise RuntimeError(f"{program} did not start:\n{log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.directory / "s"))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(1024)
        return False

    def _signal(self, number: int) -> None:
        assert self._dockerd is not None
        self._dockerd.send_signal(number)

    def _end(self, process: subprocess.Popen[bytes] | None, number: int) -> None:
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _left(self) -> list[psutil.Process]:
        """Shims and proxies outlive a killed engine; their arguments or directory name it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self.directory) in word for word in process.cmdline()):
                    found.append(process)
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mounts = [line.split()[4] for line in lines]
        return [mount for mount in mounts if mount.startswith(f"{self.directory}/")]


def _remove_cgroup(group: Path) -> None:
    """A directory of control groups, whose files cannot be deleted and vanish with it."""
    if not group.is_dir():
        return
    for inner in group.iterdir():
        if inner.is_dir():
            _remove_cgroup(inner)
    with contextlib.suppress(OSError):
        group.rmdir()
