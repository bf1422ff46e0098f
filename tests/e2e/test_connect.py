"""Agents connect by the texts and files that the platform hands out, against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.command_line import CommandLine, command_line
from tests.e2e.parties import Agent, Organization, Party
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.e2e

TOKEN_MARK = "<paste from create response>"
CHANNEL_MARK = "<paste auth_token from create response>"
# Programs of others that the texts call. Each notes its words; `hermes` and the like do no more.
PROGRAMS = ("bun", "claude", "codex", "hermes", "npm", "openclaw", "nohup")
SHELLS = (
    "universal_mcp_snippet",
    "claude_code_channel_snippet",
    "hermes_channel_snippet",
    "codex_snippet",
    "openclaw_snippet",
    "curl_register_template",
)


@pytest.fixture(scope="module")
def cli(server: RunningServer) -> Iterator[CommandLine]:
    with command_line(server.url, server.admin_token) as line:
        yield line


async def details_of(agent: Agent, party: Party) -> dict[str, Any]:
    answer = await party.rest("GET", f"/workspaces/{agent.id}/external/connection")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["connection"])


def with_token(text: str, agent: Agent) -> str:
    return text.replace(TOKEN_MARK, agent.token).replace(CHANNEL_MARK, agent.token)


def home_with_programs(folder: Path) -> dict[str, str]:
    """The environment of somebody whose machine has all those programs."""
    programs = folder / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n')
        program.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    return {"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin"}


def run_shell(text: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def tools_of(url: str, headers: dict[str, str]) -> set[str]:
    """What a real client of the protocol finds there, after it has used a tool."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        tools = {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("inbox_peek", {})
    assert not result.is_error
    return tools


async def state_of(agent: Agent) -> str:
    return str((await agent.rest("GET", f"/workspaces/{agent.id}/state")).json()["status"])


@pytest.mark.parametrize("field", SHELLS)
async def test_a_text_may_be_run_twice(org: Organization, tmp_path: Path, field: str) -> None:
    """R-12.10: the second run leaves files and settings of the first unchanged."""
    agent = await org.hire()
    text = with_token((await details_of(agent, org))[field], agent)
    environment = home_with_programs(tmp_path)
    await asyncio.to_thread(run_shell, text, environment)
    once = contents(tmp_path / "home")
    await asyncio.to_thread(run_shell, text, environment)
    assert contents(tmp_path / "home") == once


async def test_the_channels_text_leaves_other_lines_and_other_workspaces(
    org: Organization, tmp_path: Path
) -> None:
    """W49: a file that watches another workspace is named and left."""
    agent = await org.hire()
    text = with_token((await details_of(agent, org))["claude_code_channel_snippet"], agent)
    environment = home_with_programs(tmp_path)
    path = tmp_path / "home" / ".claude" / "channels" / "molecule" / ".env"
    path.parent.mkdir(parents=True)
    path.write_text("MOLECULE_POLL_INTERVAL_MS=9\n")
    await asyncio.to_thread(run_shell, text, environment)
    assert path.read_text().splitlines() == [
        "MOLECULE_POLL_INTERVAL_MS=9",
        f"MOLECULE_PLATFORM_URL={(await details_of(agent, org))['platform_url']}",
        f"MOLECULE_WORKSPACE_IDS={agent.id}",
        f"MOLECULE_WORKSPACE_TOKENS={agent.token}",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("MOLECULE_WORKSPACE_IDS=7\nMOLECULE_WORKSPACE_TOKENS=a\n")
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", text], env=environment, capture_output=True, text=True
    )
    assert "watches another workspace" in done.stderr
    assert path.read_text() == "MOLECULE_WORKSPACE_IDS=7\nMOLECULE_WORKSPACE_TOKENS=a\n"


async def test_the_text_for_curl_registers_the_agent(org: Organization) -> None:
    agent = await org.hire()
    text = with_token((await details_of(agent, agent))["curl_register_template"], agent)
    answered = await asyncio.to_thread(run_shell, text, {"PATH": os.environ["PATH"]})
    answer = json.loads(answered)
    assert (answer["status"], answer["delivery_mode"]) == ("registered", "poll")
    assert await state_of(agent) == "online"


async def test_the_program_in_python_does_a_task(org: Organization, tmp_path: Path) -> None:
    """W45: the unchanged snippet registers, holds the inbox and answers."""
    boss, agent = await org.hire(), await org.hire()
    program = tmp_path / "agent.py"
    program.write_text(with_token((await details_of(agent, org))["python_snippet"], agent))
    process = await asyncio.create_subprocess_exec(sys.executable, str(program))
    try:
        given = await boss.rest(
            "POST", f"/workspaces/{boss.id}/delegate", {"target_id": agent.id, "task": "count"}
        )
        task = given.json()["delegation_id"]

        async def look() -> dict[str, Any]:
            found = await boss.rest("GET", f"/workspaces/{boss.id}/delegations/{task}")
            return dict(found.json())

        done = await until(look, lambda found: found.get("status") == "completed")
        assert "received: count" in json.dumps(done)
        assert await state_of(agent) == "online"
    finally:
        process.kill()
        await process.wait()


async def test_a_written_configuration_leads_a_real_client_to_the_tools(
    org: Organization, cli: CommandLine, tmp_path: Path
) -> None:
    """W48: what `connect mcp --write` leaves is all that a client of the protocol needs."""
    agent = await org.hire()
    path = tmp_path / ".mcp.json"
    words = (
        "connect", "mcp", agent.id, "--write", "--file", str(path), "--agent-token", agent.token,
    )  # fmt: skip
    first = await asyncio.to_thread(cli.json, *words)
    again = await asyncio.to_thread(cli.json, *words)
    assert (first["changed"], again["changed"]) == (True, False)
    entry = json.loads(path.read_text())["mcpServers"]["molecule"]
    found = await tools_of(entry["url"], entry["headers"])
    assert {"wait_for_message", "delegate_task"} <= found


async def test_the_commands_of_the_page_lead_codex_to_the_tools(
    own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """The commands of docs/connect.md; Codex' settings are then enough for a client."""
    running = own_server()
    page = (Path(__file__).parents[2] / "docs" / "connect.md").read_text()
    [block] = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MOLECULE_URL": running.url,
        "MOLECULE_TOKEN": running.admin_token,
    }
    await asyncio.to_thread(run_shell, f"set -e\n{block}", environment)
    written = tomllib.loads((tmp_path / ".codex" / "config.toml").read_text())
    entry = written["mcp_servers"]["molecule"]
    assert "wait_for_message" in await tools_of(entry["url"], entry["http_headers"])


async def test_connect_shows_writes_and_makes_tokens(
    org: Organization, cli: CommandLine, tmp_path: Path
) -> None:
    agent = await org.hire()
    shown = await asyncio.to_thread(cli.json, "connect", "codex", agent.id)
    assert TOKEN_MARK in shown["text"]
    code, out, _ = await asyncio.to_thread(
        cli.run, "connect", "codex", agent.id, "--agent-token", agent.token
    )
    assert code == 0
    assert TOKEN_MARK not in out
    assert agent.token in out

    path = tmp_path / "config.yaml"
    path.write_text("mcp_servers: [a]\n")
    refused = await asyncio.to_thread(
        cli.run, "connect", "hermes", agent.id, "--write", "--rotate", "--file", str(path)
    )
    assert (refused[0], "edit it by hand" in refused[2]) == (2, True)
    assert await state_of(agent) == "awaiting_agent"  # Its token is not rotated.

    path.write_text("# mine\n")
    await asyncio.to_thread(
        cli.json, "connect", "hermes", agent.id, "--write", "--mint", "--file", str(path)
    )
    assert path.read_text().startswith("# mine\nmcp_servers:\n")
    assert agent.token not in path.read_text()
    listed = (await org.rest("GET", f"/workspaces/{agent.id}/tokens")).json()
    assert listed["count"] == 2

    target = tmp_path / "agent.py"
    words = ("connect", "python", agent.id, "--write", "--file", str(target))
    await asyncio.to_thread(cli.json, *words, "--rotate")
    target.write_text(target.read_text() + "# mine\n")
    done = await asyncio.to_thread(cli.json, *words, "--agent-token", "another")
    assert done["changed"]
    assert 'AUTH_TOKEN    = "another"' in target.read_text()
    assert target.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("curl", "--write", "--mint"), "curl has no configuration"),
        (("codex", "--write"), "a configuration needs a token"),
        (("codex", "--mint", "--rotate"), "give one of"),
    ],
)
def test_connect_refuses_what_makes_no_sense(
    cli: CommandLine, words: tuple[str, ...], text: str
) -> None:
    code, _, error = cli.run("connect", words[0], "0", *words[1:])
    assert (code, text in error) == (2, True)


async def test_a_payload_has_the_texts_whenever_it_is_handed_out(org: Organization) -> None:
    """W44, W45: create, show and rotate hand out one shape; a token is in no text."""
    made = await org.rest("POST", "/workspaces", {"name": "outside", "external": True})
    created = made.json()["connection"]
    path = f"/workspaces/{made.json()['id']}/external"
    shown = (await org.rest("GET", f"{path}/connection")).json()["connection"]
    rotated = (await org.rest("POST", f"{path}/rotate")).json()["connection"]
    assert shown["auth_token"] == ""
    assert created["auth_token"] != rotated["auth_token"]
    for one in (created, rotated):
        token = one.pop("auth_token")
        assert token not in json.dumps(one)
        assert one == {key: value for key, value in shown.items() if key != "auth_token"}
    assert shown["tabs"][0]["field"] == "universal_mcp_snippet"
