"""Configurations in JSON: `.mcp.json` of clients of the Model Context Protocol, and OpenClaw's."""

from __future__ import annotations

import json
from typing import Any

from molecule_grpc.cli.connecting.entry import SERVER, CannotEdit, Entry


def with_mcp_server(text: str, entry: Entry) -> str:
    """The text of an `.mcp.json` with the platform among its servers.

    Raises:
        CannotEdit: the text is not an object of JSON.
    """
    wanted = {"type": "http", "url": entry.mcp_endpoint, "headers": entry.headers}
    return _with(text, ("mcpServers", SERVER), wanted)


def with_openclaw_server(text: str, entry: Entry) -> str:
    """The text of an `openclaw.json` with the platform among its servers.

    Raises:
        CannotEdit: the text is not an object of JSON; with comments it is none.
    """
    wanted = {
        "transport": "streamable-http",
        "url": entry.mcp_endpoint,
        "headers": entry.headers,
    }
    return _with(text, ("mcp", "servers", SERVER), wanted)


def _with(text: str, path: tuple[str, ...], wanted: dict[str, Any]) -> str:
    try:
        whole = json.loads(text or "{}")
    except ValueError as error:
        raise CannotEdit("it is not plain JSON") from error
    inner = whole
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise CannotEdit(f"{'.'.join(path[:-1])} is not an object")
    if inner.get(path[-1]) == wanted:
        return text
    inner[path[-1]] = wanted
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
