"""Machines of Amazon EC2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from molecule_grpc.settings.pairs import Pairs, pairs
from molecule_grpc.settings.values import COUNT, PORT, SECONDS, TEXT, Kind, choice, setting, whole

PRIVATE: Final = "private"
PUBLIC: Final = "public"


def _tier(text: str) -> Pairs:
    found = pairs("").read(text)
    if not {name for name, _ in found} <= {"1", "2", "3", "4"}:
        raise ValueError
    return found


_TIERS: Final = Kind(_tier, "pairs tier=instance type with commas between them", pairs("").show)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Settings:
    """Machines of workspaces. Credentials are found where AWS tools find theirs.

    Args:
        region: of the machines.
        launch_templates: the launch template of each runtime, by id or name, with `:version` behind
            it for another than its default version; `*` stands for all other runtimes.
        instance_types: instance type of each tier; what is left out has the launch template's.
        os_user: account of the machine that files, logs and terminals use; needs sudo without a
            password.
        ssh_address: which address of a machine the platform reaches: `private` or `public`.
        ssh_port: of the machines' SSH servers.
        start_command: what starts the agent on its machine, once its environment is written.
        log_file: on the machine: where the agent's output goes.
        endpoint: URL in the place of Amazon's EC2, for tests; empty for Amazon's own.
        connect_endpoint: the same for EC2 Instance Connect.
        call_timeout: seconds for one attempt of one call of Amazon, at most 10.
        poll: seconds between two looks whether a machine has started or stopped.
        threads: calls of Amazon at once.
    """

    region: str = setting("AWS_REGION", TEXT, "us-east-2")
    launch_templates: Pairs = setting(
        "MOLECULE_EC2_LAUNCH_TEMPLATES", pairs("runtime=launch template"), ()
    )
    instance_types: Pairs = setting("MOLECULE_EC2_INSTANCE_TYPES", _TIERS, ())
    os_user: str = setting("WORKSPACE_EC2_OS_USER", TEXT, "ubuntu")
    ssh_address: str = setting("MOLECULE_EC2_SSH_ADDRESS", choice(PRIVATE, PUBLIC), PRIVATE)
    ssh_port: int = setting("MOLECULE_EC2_SSH_PORT", PORT, 22)
    start_command: str = setting(
        "MOLECULE_EC2_START_COMMAND", TEXT, "systemctl restart molecule-agent"
    )
    log_file: str = setting("MOLECULE_EC2_LOG_FILE", TEXT, "/var/log/molecule/agent.log")
    endpoint: str = setting("MOLECULE_EC2_ENDPOINT", TEXT, "")
    connect_endpoint: str = setting("MOLECULE_EC2_CONNECT_ENDPOINT", TEXT, "")
    call_timeout: int = setting("MOLECULE_EC2_CALL_TIMEOUT_SECONDS", whole(1, 10), 10)
    poll: float = setting("MOLECULE_EC2_POLL_SECONDS", SECONDS, 2.0)
    threads: int = setting("MOLECULE_EC2_THREADS", COUNT, 8)
