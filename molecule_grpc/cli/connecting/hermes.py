"""Hermes' `config.yaml`, edited line by line: people's settings and comments stay."""

from __future__ import annotations

import textwrap
from typing import Any, Final

import yaml

from molecule_grpc.cli.connecting.entry import SERVER, TOOL_SECONDS, CannotEdit, Entry

_SERVERS: Final = "mcp_servers"
_INDENT: Final = 2


def with_hermes_server(text: str, entry: Entry) -> str:
    """The text with the platform among its servers.

    Raises:
        CannotEdit: the text is not YAML, or could not be changed without changing more.
    """
    try:
        before, root = yaml.safe_load(text) or {}, yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CannotEdit("it is not YAML") from error
    if not isinstance(before, dict):
        raise CannotEdit("it is not a mapping")
    servers = before.get(_SERVERS) or {}
    if not isinstance(servers, dict):
        raise CannotEdit(f"{_SERVERS} is not a mapping")
    old = servers.get(SERVER)
    wanted = {**(old if isinstance(old, dict) else {}), **_values(entry)}
    if old == wanted:
        return text
    changed = _edited(text, root, wanted)
    expected = {**before, _SERVERS: {**servers, SERVER: wanted}}
    if _loaded(changed) != expected:
        raise CannotEdit("its layout is one that cannot be edited by lines")
    return changed


def _values(entry: Entry) -> dict[str, Any]:
    return {"url": entry.mcp_endpoint, "headers": entry.headers, "timeout": TOOL_SECONDS}


def _edited(text: str, root: yaml.Node | None, wanted: dict[str, Any]) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    found = _pair(root, _SERVERS)
    if found is None:
        return "".join(lines) + f"{_SERVERS}:\n" + _block(wanted, _INDENT)
    key, servers = found
    old = _pair(servers, SERVER)
    if old is not None:
        first, last = old[0].start_mark.line, _last_line(old[1])
        lines[first : last + 1] = [_block(wanted, old[0].start_mark.column)]
    elif isinstance(servers, yaml.MappingNode) and servers.value:
        first_key = servers.value[0][0].start_mark
        lines.insert(first_key.line, _block(wanted, first_key.column))
    else:
        # An empty value: `mcp_servers:` or `mcp_servers: {}`.
        line = key.start_mark.line
        lines[line] = f"{_SERVERS}:\n" + _block(wanted, key.start_mark.column + _INDENT)
    return "".join(lines)


def _pair(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value of a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _last_line(node: yaml.Node) -> int:
    """Where a value ends; the end of a mapping lies behind the comments that follow."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    end = node.end_mark
    return int(end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line)


def _block(wanted: dict[str, Any], indent: int) -> str:
    text = yaml.safe_dump({SERVER: wanted}, sort_keys=False, width=4096)
    return textwrap.indent(text, " " * indent)


def _loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
