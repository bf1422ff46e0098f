"""Codex's `config.toml`."""

from __future__ import annotations

import tomllib

import tomlkit
from tomlkit.exceptions import TOMLKitError

from molecule_grpc.cli.connecting.entry import SERVER, TOOL_SECONDS, CannotEdit, Entry

_SERVERS = "mcp_servers"
# Keys of servers that are programs or read tokens elsewhere: Codex refuses a mixture.
_OTHERS = ("command", "args", "env", "env_vars", "cwd", "bearer_token_env_var")


def with_codex_server(text: str, entry: Entry) -> str:
    """The text with the platform among its servers; comments and all other settings stay.

    Raises:
        CannotEdit: the text is not TOML, or could not be changed without changing more.
    """
    try:
        expected = tomllib.loads(text)
        whole = tomlkit.parse(text)
        servers = whole.setdefault(_SERVERS, tomlkit.table(is_super_table=True))
        server = servers.setdefault(SERVER, tomlkit.table())
        wanted = expected.setdefault(_SERVERS, {}).setdefault(SERVER, {})
        for key in _OTHERS:
            server.pop(key, None)
            wanted.pop(key, None)
        for key, value in _values(entry).items():
            if wanted.get(key) != value:
                server[key] = tomlkit.inline_table() if isinstance(value, dict) else value
                if isinstance(value, dict):
                    server[key].update(value)
                wanted[key] = value
        changed = tomlkit.dumps(whole)
    except (tomllib.TOMLDecodeError, TOMLKitError) as error:
        raise CannotEdit("it is not TOML") from error
    except (TypeError, AttributeError) as error:
        raise CannotEdit(f"{_SERVERS} is not a table of tables") from error
    if tomllib.loads(changed) != expected:
        raise CannotEdit("the edit would change more than this server")
    return changed


def _values(entry: Entry) -> dict[str, str | int | dict[str, str]]:
    return {
        "url": entry.mcp_endpoint,
        "http_headers": entry.headers,
        "tool_timeout_sec": TOOL_SECONDS,
    }
