"""The machine's ports that lead to agents: chosen here, so that they outlive an agent's restart.

A port of the engine's choice would be another one each time that the engine starts the agent again,
and the row's URL would lead nowhere, or to a neighbour.
"""

from __future__ import annotations

from uuid import UUID

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.engine import Engine


async def free_port(engine: Engine, workspace_id: UUID, ports: range, attempt: int) -> int:
    """A port for a workspace that no container has, running or not, of any installation.

    Args:
        attempt: another number begins at another place: a program beside the engine may have the
            port that was chosen first.
    """
    filters = {"label": [names.PORT]}
    found = await engine.get("containers/json", all=True, filters=filters)
    taken = {(each.get("Labels") or {}).get(names.PORT) for each in found}
    # Two starts at once begin at different places, and rarely choose the same.
    first = workspace_id.int + attempt * len(ports) // 3
    for offset in range(len(ports)):
        port = ports[(first + offset) % len(ports)]
        if str(port) not in taken:
            return port
    raise DockerError(409, "port is already allocated: every port for agents is taken")
