"""Who may connect to the embedded Postgres: root and the account that runs the server.

The kernel says who is behind a Unix socket. Without that, every process of the account that owns
the data, often `nobody`, would be Postgres' superuser.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import structlog

from molecule_grpc.db.embedded.account import Account
from molecule_grpc.db.roles import OWNER_ROLE, SERVER_ROLE

_log = structlog.get_logger(__name__)

_MAP = "molecule"
_ROOT = 0


def write_access(cluster: Path, account: Account) -> None:
    """Write pg_hba.conf and pg_ident.conf anew, for connections through the socket.

    The server's role and the superuser may connect, both as the same accounts of the machine.

    A user id without a name, as some containers have one, cannot be compared: then whoever reaches
    the socket may connect, and only its mode 0700 stands between.
    """
    names = [name for uid in sorted({os.geteuid(), _ROOT}) if (name := _name(uid))]
    method = f"peer map={_MAP}"
    if not _name(os.geteuid()):
        _log.warning("this user id has no name: Postgres trusts whoever reaches its socket")
        method = "trust"
    allowed = [
        f"local all {OWNER_ROLE} {method}",
        f"local replication {OWNER_ROLE} {method}",
        f"local all {SERVER_ROLE} {method}",
    ]
    _write(cluster / "pg_hba.conf", "".join(f"{line}\n" for line in allowed), account)
    roles = (OWNER_ROLE, SERVER_ROLE)
    lines = (f'{_MAP} "{name}" {role}\n' for name in names for role in roles)
    _write(cluster / "pg_ident.conf", "".join(lines), account)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _write(file: Path, text: str, account: Account) -> None:
    """Replace a file whole: a crash leaves the old one or the new one."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    account.own(new)
    new.rename(file)
