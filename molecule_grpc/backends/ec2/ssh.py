"""SSH to machines, with a key for each session that EC2 Instance Connect lets in for 60 s.

Nothing that this side prints is ever read as the machine's: there is no `ssh` program with notices
of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import asyncssh
from botocore.exceptions import ClientError

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, WorkloadMissing
from molecule_grpc.backends.ec2.calls import Calls
from molecule_grpc.backends.ec2.failures import code_of
from molecule_grpc.backends.ec2.machines import Machine
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.settings.ec2 import PRIVATE, Ec2Settings

_CONNECT_SECONDS: Final = 10
_KEEPALIVE_SECONDS: Final = 15
_NOT_THERE: Final = frozenset({"EC2InstanceNotFoundException", "EC2InstanceStateInvalidException"})


class Sessions:
    """Opens SSH connections to machines."""

    def __init__(self, calls: Calls, settings: Ec2Settings) -> None:
        self._calls = calls
        self._settings = settings

    @contextlib.asynccontextmanager
    async def to(self, machine: Machine) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection, while inside.

        Raises:
            WorkloadMissing: the machine does not run.
            BackendFailure: `unreachable`: nobody answers there, or the connection broke;
                `forbidden`: the machine refuses the session's key.
        """
        require_no_connection("a machine")
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._connect(machine)
            stack.push_async_callback(connection.wait_closed)
            stack.callback(connection.abort)
            try:
                yield connection
            except (asyncssh.Error, OSError) as error:
                raise _broken(error) from error

    async def _connect(self, machine: Machine) -> asyncssh.SSHClientConnection:
        host = self._address(machine)
        key = asyncssh.generate_private_key("ssh-ed25519")
        await self._admit(machine, key.export_public_key().decode().strip())
        try:
            return await asyncssh.connect(
                host,
                self._settings.ssh_port,
                username=self._settings.os_user,
                client_keys=[key],
                preferred_auth="publickey",
                # Machines are minutes old: nobody has noted their keys.
                known_hosts=None,
                config=None,
                agent_path=None,
                connect_timeout=_CONNECT_SECONDS,
                login_timeout=_CONNECT_SECONDS,
                keepalive_interval=_KEEPALIVE_SECONDS,
            )
        except asyncssh.PermissionDenied as error:
            raise BackendFailure(
                FailureReason.FORBIDDEN, "the machine refuses the platform's key", detail=str(error)
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise BackendFailure(
                FailureReason.UNREACHABLE,
                "the machine cannot be reached by SSH",
                detail=repr(error),
                retryable=True,
            ) from error

    async def _admit(self, machine: Machine, public_key: str) -> None:
        try:
            await self._calls.instance_connect(
                "send_ssh_public_key",
                InstanceId=machine.id,
                InstanceOSUser=self._settings.os_user,
                AvailabilityZone=machine.zone,
                SSHPublicKey=public_key,
            )
        except ClientError as error:
            if code_of(error) in _NOT_THERE:
                raise WorkloadMissing(str(machine.workspace_id)) from error
            raise

    def _address(self, machine: Machine) -> str:
        private = self._settings.ssh_address == PRIVATE
        found = machine.private_address if private else machine.public_address
        if not found:
            raise BackendFailure(
                FailureReason.UNREACHABLE,
                f"the machine has no {self._settings.ssh_address} address",
                retryable=True,
            )
        return found


def _broken(error: Exception) -> BackendFailure:
    return BackendFailure(
        FailureReason.UNREACHABLE,
        "the connection to the machine broke",
        detail=repr(error),
        retryable=True,
    )
