"""Names of backends, and of what some of them can do."""

from __future__ import annotations

import enum


class BackendName(enum.StrEnum):
    """As stored in rows, in the order in which a start looks for a configured one."""

    CONTROL_PLANE = "control-plane"
    EC2 = "ec2"
    KUBERNETES = "kubernetes"
    DOCKER = "docker"
    NONE = "none"


class Capability(enum.StrEnum):
    """What some backends can do and others cannot. Start, stop and status are everybody's."""

    FILES = "files"
    LOGS = "logs"
    EXEC = "exec"
    STATS = "stats"
    CONSOLE = "console"
    VOLUMES = "volumes"
    LIST = "list"
    EGRESS = "egress"
