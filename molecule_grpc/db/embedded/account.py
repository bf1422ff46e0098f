"""Chooses the system account that the embedded Postgres runs as.

Postgres refuses to run as root: its superuser can run programs and read files on the machine, so
a stolen SQL connection must not be worth more than an ordinary account. Started by root, it
therefore runs as the owner of its data, or as `nobody` when there is no data yet.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

_log = structlog.get_logger(__name__)

# PG* variables of the caller's shell must not steer the server.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that own the cluster's files and run its processes."""

    uid: int
    gid: int

    @classmethod
    def for_cluster(cls, cluster: Path) -> Account:
        """Choose the account. Raises PermissionError when the data belongs to another user."""
        owner = cluster.stat() if cluster.exists() else None
        me = os.geteuid()
        if me:
            if owner and owner.st_uid != me:
                raise PermissionError(
                    f"{cluster} belongs to user id {owner.st_uid}; start as that user or as root"
                )
            return cls(me, os.getegid())
        if owner and owner.st_uid:
            return cls(owner.st_uid, owner.st_gid)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def popen_arguments(self) -> dict[str, Any]:
        """What `subprocess` needs to run a program as this account."""
        common: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT, "umask": 0o077}
        if not _is_root():
            return common
        return common | {"user": self.uid, "group": self.gid, "extra_groups": []}

    def take(self, tree: Path) -> None:
        """Make this account the owner of a directory and of everything in it."""
        if not _is_root() or tree.stat().st_uid == self.uid:
            return
        for folder, _, files in os.walk(tree, topdown=False):
            for name in files:
                os.chown(Path(folder) / name, self.uid, self.gid, follow_symlinks=False)
            os.chown(folder, self.uid, self.gid)

    def own(self, file: Path) -> None:
        """Make this account the owner of one file."""
        if _is_root():
            os.chown(file, self.uid, self.gid, follow_symlinks=False)

    def open_way_to(self, directory: Path) -> None:
        """Let the account pass through the directories above; /root is closed to others.

        Passing is not listing: only the search bit is set, and each change is logged.
        """
        if not _is_root():
            return
        for step in (directory, *directory.parents):
            status = step.stat()
            if not status.st_mode & 0o001 and status.st_uid != self.uid:
                step.chmod(status.st_mode | 0o001)
                _log.warning("opened a directory to passers-by", directory=str(step))

    def open_tree(self, tree: Path) -> None:
        """Make a tree of programs readable, where a strict umask at installation closed it."""
        if not _is_root() or tree.stat().st_mode & 0o005 == 0o005:
            return
        for folder, _, files in os.walk(tree):
            Path(folder).chmod(0o755)
            for name in files:
                file = Path(folder) / name
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _is_root() -> bool:
    return os.geteuid() == 0
