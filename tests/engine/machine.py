"""A machine for the tests of EC2: this system's programs under a root of their own, with sshd.

An overlay over this system's files is the machine's root, and its changes lie in memory: accounts,
keys and files of the machine are seen nowhere else. Its processes have a namespace of their own and
end with it. sshd lets in the keys that were pushed within the last 60 s, as EC2 Instance Connect's
does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Final, Self

import psutil

from tests.ports import free_port
from tests.waiting import PATIENCE

USER: Final = "ubuntu"
_START: Final = r"""
set -e
mount -t tmpfs machine "$1"
cd "$1"
mkdir up work root
mount -t overlay machine -o lowerdir=/,upperdir="$1/up",workdir="$1/work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mkdir -p root/keys root/run/sshd
mount --bind "$2" root/keys
exec chroot root /bin/sh -e -c '
umask 022
useradd --create-home --shell /bin/sh "$2"
usermod --password "*" "$2"
echo "$2 ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/machine
ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/machine_key
cat >/usr/local/bin/pushed-keys <<END
#!/bin/sh
exec find "/keys/\$1" -type f -newermt "60 seconds ago" -exec cat {} +
END
chmod 755 /usr/local/bin/pushed-keys
cat >/etc/ssh/machine_config <<END
ListenAddress 127.0.0.1:$1
HostKey /etc/ssh/machine_key
AuthorizedKeysFile none
AuthorizedKeysCommand /usr/local/bin/pushed-keys %u
AuthorizedKeysCommandUser root
PasswordAuthentication no
UsePAM no
PidFile none
LogLevel ERROR
END
exec /usr/sbin/sshd -D -e -f /etc/ssh/machine_config
' sh "$3" "$4"
"""


def missing() -> str:
    """A missing prerequisite of this machine; empty if there is none."""
    for program in ("/usr/sbin/sshd", "sudo", "unshare", "nsenter", "useradd"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return "" if os.geteuid() == 0 else "only root may make one"


class Machine:
    """A machine that runs until `close`.

    Args:
        directory: an empty one, for pushed keys and the machine's root.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.keys = directory / "keys"
        self._root = directory / "machine"
        self._log = directory / "machine.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Boot, until sshd answers."""
        (self.keys / USER).mkdir(parents=True)
        self._root.mkdir()
        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")
        given = (str(self._root), str(self.keys), str(self.port), USER)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*namespaces, "sh", "-c", _START, "sh", *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.02)
        return self

    def close(self) -> None:
        """End every process of the machine, and with them its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def first(self) -> psutil.Process:
        """The machine's first process, as this system sees it."""
        assert self._process is not None
        [child] = psutil.Process(self._process.pid).children()
        return child

    def path(self, path: str) -> Path:
        """A file of the machine as this system reaches it."""
        return Path(f"/proc/{self.first.pid}/root") / path.lstrip("/")

    def run(self, *argv: str, given: IO[Any] | None = None) -> str:
        """What a command of root prints on the machine."""
        into = ("nsenter", f"--target={self.first.pid}", "--mount", "--pid", "--root", "--wd=/")
        done = subprocess.run(
            [*into, *argv],
            check=False,
            stdin=given or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as to:
            to.settimeout(PATIENCE)
            return to.recv(4) == b"SSH-"
        return False
