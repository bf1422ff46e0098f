"""Edits of runtimes' configurations: what else is there stays; a second edit changes nothing."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from molecule_grpc.cli.connecting import channel, codex, hermes, json_files, program
from molecule_grpc.cli.connecting.entry import CannotEdit, Entry
from molecule_grpc.cli.connecting.private_file import edit

ENTRY = Entry("0192", "https://x.example", "https://x.example/workspaces/0192/mcp", "tok-1")
NEXT = Entry("0192", "https://x.example", "https://x.example/workspaces/0192/mcp", "tok-2")
BEARER = {"Authorization": "Bearer tok-1"}

_with_identity = partial(program.with_identity, made='PLATFORM_URL = ""\n')
PROGRAM = 'PLATFORM_URL  = "http://old"\nWORKSPACE_ID = "1"\nAUTH_TOKEN    = "<paste>"\nprint(1)\n'
HERMES = """\
# mine
model: "x"   # not to be lost
mcp_servers:
    # tools of the house
    files:
        command: npx
gateway:
    platforms: {a: 1}
"""
CODEX = """\
# mine
model = "x"

[mcp_servers.molecule]
command = "molecule-mcp"   # the old way
[mcp_servers.molecule.env]
A = "b"

[mcp_servers.files]
command = "npx"
"""


@pytest.mark.parametrize(
    ("change", "before"),
    [
        (json_files.with_mcp_server, ""),
        (json_files.with_mcp_server, '{"mcpServers": {"files": {"command": "npx"}}, "a": [1]}'),
        (json_files.with_openclaw_server, ""),
        (json_files.with_openclaw_server, '{"mcp": {"a": 1}, "gateway": {"port": 18789}}'),
        (codex.with_codex_server, ""),
        (codex.with_codex_server, "model = 'x'\n"),
        (codex.with_codex_server, CODEX),
        (hermes.with_hermes_server, ""),
        (hermes.with_hermes_server, "model: x"),
        (hermes.with_hermes_server, "mcp_servers:\nmodel: x\n"),
        (hermes.with_hermes_server, "mcp_servers: {}\n"),
        (hermes.with_hermes_server, HERMES),
        (channel.with_watched_workspace, ""),
        (channel.with_watched_workspace, "MOLECULE_POLL_INTERVAL_MS=9\nMOLECULE_WORKSPACE_IDS="),
        (_with_identity, PROGRAM),
    ],
)
def test_a_second_edit_changes_nothing_and_another_token_only_the_token(
    change: Callable[[str, Entry], str], before: str
) -> None:
    once = change(before, entry=ENTRY)  # type: ignore[call-arg]
    assert once != before
    assert change(once, entry=ENTRY) == once  # type: ignore[call-arg]
    assert change(once, entry=NEXT) == once.replace("tok-1", "tok-2")  # type: ignore[call-arg]


def test_json_keeps_what_else_is_there() -> None:
    before = {"mcpServers": {"files": {"command": "npx"}}, "a": [1]}
    after = json.loads(json_files.with_mcp_server(json.dumps(before), ENTRY))
    molecule = after["mcpServers"].pop("molecule")
    assert molecule == {"type": "http", "url": ENTRY.mcp_endpoint, "headers": BEARER}
    assert after == before


def test_codex_keeps_comments_and_other_servers_and_becomes_http() -> None:
    after = codex.with_codex_server(CODEX, ENTRY)
    assert "# mine" in after
    read = tomllib.loads(after)
    assert read["mcp_servers"]["files"] == {"command": "npx"}
    molecule = read["mcp_servers"]["molecule"]
    assert molecule == {
        "url": ENTRY.mcp_endpoint, "http_headers": BEARER, "tool_timeout_sec": 330,
    }  # fmt: skip


def test_hermes_keeps_every_line_that_is_there() -> None:
    after = hermes.with_hermes_server(HERMES, ENTRY)
    added = [line for line in after.splitlines() if line not in HERMES.splitlines()]
    kept = [line for line in after.splitlines() if line not in added]
    assert kept == HERMES.splitlines()
    servers = yaml.safe_load(after)["mcp_servers"]
    assert servers["molecule"]["headers"] == BEARER
    assert servers["files"] == {"command": "npx"}


def test_hermes_keeps_what_people_added_to_the_entry_and_what_follows_it() -> None:
    text = (
        "mcp_servers:\n  molecule:\n    url: x\n    tools: {include: [a]}\n  # next\n  b: {c: 1}\n"
    )
    after = hermes.with_hermes_server(text, ENTRY)
    read = yaml.safe_load(after)["mcp_servers"]
    assert read["molecule"]["tools"] == {"include": ["a"]}
    assert read["molecule"]["url"] == ENTRY.mcp_endpoint
    assert "  # next\n  b: {c: 1}\n" in after


def test_the_channel_watches_one_workspace_more() -> None:
    before = (
        "MOLECULE_PLATFORM_URL=https://x.example\nMOLECULE_WORKSPACE_IDS=7,8\n"
        "MOLECULE_WORKSPACE_TOKENS=a,b\n"
    )
    after = channel.with_watched_workspace(before, ENTRY)
    assert after.splitlines()[1:] == [
        "MOLECULE_WORKSPACE_IDS=7,8,0192", "MOLECULE_WORKSPACE_TOKENS=a,b,tok-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (json_files.with_openclaw_server, "{mcp: {}, // mine\n}"),
        (json_files.with_mcp_server, "[]"),
        (json_files.with_mcp_server, '{"mcpServers": 1}'),
        (codex.with_codex_server, "a = "),
        (codex.with_codex_server, "mcp_servers = 1"),
        (hermes.with_hermes_server, "a: ["),
        (hermes.with_hermes_server, "- a"),
        (hermes.with_hermes_server, "mcp_servers: [a]"),
        (hermes.with_hermes_server, "{mcp_servers: {a: {b: 1}}}"),
        (channel.with_watched_workspace, "MOLECULE_WORKSPACE_IDS=7,8\nMOLECULE_WORKSPACE_TOKENS=a"),
        (channel.with_watched_workspace,
         "MOLECULE_PLATFORM_URL=http://y\nMOLECULE_WORKSPACE_IDS=7\nMOLECULE_WORKSPACE_TOKENS=a"),
        (_with_identity, "print(1)"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_changed_without_loss_is_left(
    change: Callable[..., str], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(CannotEdit):
        edit(path, partial(change, entry=ENTRY))
    assert path.read_text() == text
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_with_a_token_is_its_owners_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "dir" / "link.json"
    real.write_text("{}")
    real.chmod(0o644)
    link.parent.mkdir()
    link.symlink_to(real)
    change: Any = partial(json_files.with_mcp_server, entry=ENTRY)
    assert not edit(link, change, only_check=True)
    assert real.read_text() == "{}"
    assert edit(link, change)
    assert not edit(link, change)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
