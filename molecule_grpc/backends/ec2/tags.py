"""Tags of the machines: whose they are, and which operation made or last started them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from molecule_grpc.backends.contract.workloads import StartRequest

Json: TypeAlias = dict[str, Any]

INSTALLATION: Final = "molecule.installation"
WORKSPACE: Final = "molecule.workspace"
ORGANIZATION: Final = "molecule.organization"
RUNTIME: Final = "molecule.runtime"
# The operation that made the machine, and the operation that last started the machine.
MADE_BY: Final = "molecule.made-by"
OPERATION: Final = "molecule.operation"
NAME: Final = "Name"


def of_machine(installation: str, request: StartRequest) -> dict[str, str]:
    """The tags of a new machine and of its disk."""
    return {
        NAME: f"ws-{request.workspace_id}",
        INSTALLATION: installation,
        WORKSPACE: str(request.workspace_id),
        ORGANIZATION: str(request.organization_id),
        MADE_BY: str(request.operation_id),
        **of_start(request),
    }


def of_start(request: StartRequest) -> dict[str, str]:
    """The tags that each start writes."""
    return {OPERATION: str(request.operation_id), RUNTIME: request.runtime}


def as_list(tags: Mapping[str, str]) -> list[Json]:
    """Tags as Amazon's API takes them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def as_filters(tags: Mapping[str, str]) -> list[Json]:
    """Filters of a list of machines: those that have all these tags."""
    return [{"Name": f"tag:{name}", "Values": [value]} for name, value in tags.items()]


def read(listed: Sequence[Json]) -> dict[str, str]:
    """Tags from Amazon's form."""
    return {each["Key"]: each["Value"] for each in listed}


def id_of(tags: Mapping[str, str], name: str) -> UUID | None:
    """The UUID in a tag; None where the tag is missing or holds no UUID."""
    try:
        return UUID(tags.get(name, ""))
    except ValueError:
        return None
