"""Where tests keep their files: a directory of this session's own, with a way in for Postgres.

By itself pytest puts the directories of all sessions into /tmp/pytest-of-USER, and each session
that starts closes that one to other accounts. Started by root, the embedded Postgres runs as
`nobody`: a second session would shut it out of the directories of the first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

_PREFIX = "molecule-session-"
# Directories of ended sessions that a new session leaves: with its own, three can be looked at.
_KEPT = 2
_LOCK_FILE = "lock"


@pytest.hookimpl(tryfirst=True)  # before pytest's own, which makes the factory of `tmp_path`
def pytest_configure(config: pytest.Config) -> None:
    """Set pytest's base directory, unless --basetemp or an xdist controller has set it."""
    if config.option.basetemp is None:
        _remove_old()
        config.option.basetemp = str(_new_place() / "files")


def _new_place() -> Path:
    """A directory that other accounts may pass through, and not list."""
    place = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Locked until this process ends: nobody removes the directory before.
    lock = os.open(place / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    place.chmod(0o711)
    return place


def _remove_old() -> None:
    """Remove what ended sessions of this user left behind, but for the newest two."""
    found = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
    mine = [place for place in found if place.lstat().st_uid == os.geteuid()]
    ended = [place for place in mine if not place.is_symlink() and _has_ended(place)]
    ended.sort(key=lambda place: place.lstat().st_mtime, reverse=True)
    for place in ended[_KEPT:]:
        shutil.rmtree(place, ignore_errors=True)


def _has_ended(place: Path) -> bool:
    """Whether no living session has locked the directory."""
    try:
        lock = os.open(place / _LOCK_FILE, os.O_RDWR)
    except OSError:  # made this moment, or removed
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
