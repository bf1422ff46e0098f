"""Requests to values, and values to responses."""

from __future__ import annotations

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import configuration_pb2 as pb

from molecule_grpc.configuration import rules
from molecule_grpc.configuration.store.agents import Assignment
from molecule_grpc.configuration.store.settings import Settings
from molecule_grpc.configuration.store.usage import UsageRow
from molecule_grpc.configuration.store.workspaces import BudgetRow
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.json_values import put_value, read_value
from molecule_grpc.kernel.numbers import MARKED, unmarked
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.server.call import Call


async def settings(found: Settings, call: Call) -> pb.GetConfigResponse:
    """The answer to GetConfig."""
    whole = struct_pb2.Value()
    if await put_value(whole, found.text, Slices(), mark=call.rest) and call.rest:
        call.headers[MARKED] = "1"
    return pb.GetConfigResponse(data=whole.struct_value, updated_at=timestamp(found.updated_at))


async def patch(data: struct_pb2.Value, call: Call) -> str:
    """A change of a configuration as JSON text.

    Raises:
        Invalid: it is no object, or a part of it cannot be stored.
    """
    if data.WhichOneof("kind") != "struct_value":
        raise Invalid("data must be a JSON object", field="data")
    try:
        body = await read_value(data, Slices())
    except ValueError:  # NaN or an infinity
        raise Invalid("data holds a number out of range", field="data") from None
    return to_text(unmarked(body) if call.rest else body, "data")


def cents(given: struct_pb2.Value) -> float | None:
    """A limit in US cents; None for null.

    Raises:
        Invalid: it is neither a number nor null.
    """
    kind = given.WhichOneof("kind")
    if kind == "null_value":
        return None
    if kind != "number_value":
        raise Invalid("budget_limit must be a number or null", field="budget_limit")
    return given.number_value


def budget(row: BudgetRow) -> pb.Budget:
    """A budget with its remaining cents."""
    if row.limit is None:
        return pb.Budget(monthly_spend=row.spend)
    return pb.Budget(
        budget_limit=row.limit,
        monthly_spend=row.spend,
        budget_remaining=row.limit - row.spend,
    )


def usage(row: UsageRow) -> pb.GetUsageResponse:
    """The tokens of a day."""
    return pb.GetUsageResponse(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        total_calls=row.calls,
        estimated_cost_usd=rules.estimated_cost(row.input_tokens, row.output_tokens),
        period_start=timestamp(row.since),
        period_end=timestamp(row.until),
    )


def agent(row: Assignment) -> pb.AssignedAgent:
    """An assigned agent."""
    return pb.AssignedAgent(
        agent_id=str(row.id),
        workspace_id=str(row.workspace_id),
        model=row.model,
        created_at=timestamp(row.created_at),
    )
