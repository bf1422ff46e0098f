"""Bundles to values and back."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import bundle_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.bundles import rules
from molecule_grpc.bundles.values import Bundle, Outcome, Skill, Tool
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.json_values import put_value, read_value
from molecule_grpc.kernel.numbers import MARKED, unmarked
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call


async def bundle(message: pb.Bundle, call: Call, slices: Slices | None = None) -> Bundle:
    """A bundle that somebody sends.

    Raises:
        Invalid: its schema is another, or a JSON in it cannot be stored.
    """
    slices = slices or Slices()
    if message.schema not in ("", rules.SCHEMA):
        raise Invalid(f"schema must be {rules.SCHEMA}", field="bundle.schema")
    below = []
    for each in message.sub_workspaces:
        below.append(await bundle(each, call, slices))
        if slices.due:
            await slices.rest()
    return Bundle(
        id=clean(message.id),
        name=message.name,
        description=message.description,
        tier=message.tier,
        model=message.model,
        system_prompt=clean(message.system_prompt),
        skills=tuple(
            Skill(each.id, clean(each.name), clean(each.description), _texts(each.files))
            for each in message.skills
        ),
        tools=tuple(
            [
                Tool(each.id, await _json(each.config, "bundle.tools", call, slices))
                for each in message.tools
            ]
        ),
        prompts=_texts(message.prompts),
        below=tuple(below),
        card=await _card(message.agent_card, call, slices),
        author=message.author,
        version=message.version,
    )


async def bundle_message(found: Bundle, call: Call, slices: Slices | None = None) -> pb.Bundle:
    """A bundle as an answer."""
    slices = slices or Slices()
    message = pb.Bundle(
        schema=rules.SCHEMA,
        id=found.id,
        name=found.name,
        description=found.description,
        tier=found.tier,
        model=found.model,
        system_prompt=found.system_prompt,
        skills=[
            pb.Bundle.Skill(
                id=each.id, name=each.name, description=each.description, files=each.files
            )
            for each in found.skills
        ],
        prompts=found.prompts,
        author=found.author,
        version=found.version,
        omitted=[pb.Bundle.Omission(path=each.path, reason=each.reason) for each in found.omitted],
    )
    await _put(message.agent_card, found.card or "null", call, slices)
    for tool in found.tools:
        await _put(message.tools.add(id=tool.id).config, tool.config, call, slices)
    for each in found.below:
        message.sub_workspaces.append(await bundle_message(each, call, slices))
    return message


def outcome(done: Outcome) -> pb.ImportBundleResponse:
    """What became of a bundle."""
    return pb.ImportBundleResponse(
        workspace_id=str(done.workspace_id or ""),
        name=done.name,
        status=workspace_pb2.Workspace.Status.Value(done.status),
        error=done.error or None,
        children=[outcome(each) for each in done.below],
    )


def _texts(given: Any) -> dict[str, str]:
    return {path: clean(text) for path, text in given.items()}


async def _card(given: struct_pb2.Value, call: Call, slices: Slices) -> str | None:
    text = await _json(given, "bundle.agent_card", call, slices)
    return None if text == "null" else text


async def _json(given: struct_pb2.Value, field: str, call: Call, slices: Slices) -> str:
    try:
        body = await read_value(given, slices)
    except ValueError:  # NaN or an infinity
        raise Invalid(f"{field} holds a number out of range", field=field) from None
    return to_text(_whole(unmarked(body) if call.rest else body), field)


def _whole(body: Any) -> Any:
    """Whole numbers without a fraction, as people write them."""
    if isinstance(body, dict):
        return {key: _whole(each) for key, each in body.items()}
    if isinstance(body, list):
        return [_whole(each) for each in body]
    if isinstance(body, float) and body.is_integer() and abs(body) < 2**53:
        return int(body)
    return body


async def _put(target: struct_pb2.Value, text: str, call: Call, slices: Slices) -> None:
    try:
        json.loads(text)
    except ValueError:
        text = "null"
    if await put_value(target, text, slices, mark=call.rest) and call.rest:
        call.headers[MARKED] = "1"
