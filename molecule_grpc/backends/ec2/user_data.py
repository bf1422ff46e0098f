"""User data of a machine, without secrets: accounts that may describe machines can read it.

The bootstrap token in it works once, for one workspace, until that must have registered.
"""

from __future__ import annotations

import json
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Final

from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.ec2 import boot
from molecule_grpc.backends.ec2.places import config_directory
from molecule_grpc.settings.ec2 import Ec2Settings

DIRECTORY: Final = "/etc/molecule"
_SECRETS: Final = "/run/secrets"
_SESSIONS: Final = "/root/.claude/sessions"
# Amazon's own way to have a script run at each boot, and not at the first alone.
_EVERY_BOOT: Final = "#cloud-config\ncloud_final_modules:\n- [scripts-user, always]\n"
_PROGRAM: Final = Path(boot.__file__).read_text(encoding="ascii")


def user_data(request: StartRequest, settings: Ec2Settings) -> str:
    """What cloud-init runs on the machine: below 16 KiB, as EC2 asks."""
    given = {
        "platform_url": request.platform_url.rstrip("/"),
        "workspace_id": str(request.workspace_id),
        "token": request.bootstrap_token,
        "seconds": request.bootstrap_seconds,
        "config_directory": config_directory(request.runtime),
        "directory": DIRECTORY,
        "secrets": _SECRETS,
        "sessions": _SESSIONS,
        "reset_session": request.reset_session,
        "log_file": settings.log_file,
        "start_command": settings.start_command,
    }
    script = f"#!/usr/bin/env python3\n{_PROGRAM}\n\nmain(json.loads({json.dumps(given)!r}))\n"
    # A fixed boundary: the same request makes the same bytes.
    parts = MIMEMultipart(boundary="molecule-user-data")
    parts.attach(MIMEText(_EVERY_BOOT, "cloud-config", "us-ascii"))
    parts.attach(MIMEText(script, "x-shellscript", "us-ascii"))
    return parts.as_string()
