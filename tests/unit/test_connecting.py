"""Connection details, and the texts that people paste; W45, W47 to W53."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError
from molecule_grpc.workspace.connecting import convert
from molecule_grpc.workspace.connecting.details import connection_details, platform_url
from molecule_grpc.workspace.connecting.tabs import TABS
from molecule_grpc.workspace.connecting.texts import CHANNEL_TOKEN_MARK, TOKEN_MARK
from tests.settings import settings_of

ID = "0192f0c1-2f4e-7b1a-8c3d-1e2f3a4b5c6d"
INFO = convert.connection(connection_details("https://x.example/", UUID(ID)))
TEXTS = {tab.field: getattr(INFO, tab.field) for tab in TABS if tab.field}


@pytest.mark.parametrize(
    "given_", ["https://x.example", "https://x.example/", "https://x.example//"]
)
def test_connection_has_no_trailing_slash(given_: str) -> None:
    info = convert.connection(connection_details(given_, UUID(ID), "secret"))
    assert info.platform_url == "https://x.example"
    assert info.registry_endpoint == "https://x.example/registry/register"
    assert info.heartbeat_endpoint == "https://x.example/registry/heartbeat"
    assert (info.workspace_id, info.auth_token) == (ID, "secret")


@pytest.mark.parametrize("url", ["", "/", "http://a b", 'http://a"', "http://a'", "http://a`id`"])
def test_connection_refuses_what_a_shell_would_read(url: str) -> None:
    with pytest.raises(Invalid):
        connection_details(url, UUID(ID))


@pytest.mark.parametrize(
    ("metadata", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "a.example:81"}, "http://a.example:81"),
        ({"x-forwarded-host": "b.example", "host": "a", "x-forwarded-proto": "https"},
         "https://b.example"),
        ({"x-forwarded-host": "evil$(id)"}, "http://127.0.0.1:8080"),
        ({"host": "[::1]:8080"}, "http://[::1]:8080"),
    ],
)  # fmt: skip
def test_platform_url_is_where_the_caller_came_in(metadata: dict[str, str], url: str) -> None:
    assert platform_url(Settings().edge, metadata) == url
    configured = settings_of(edge_external_platform_url="https://c.example")
    assert platform_url(configured.edge, metadata) == "https://c.example"


def test_a_url_that_a_shell_would_read_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="EXTERNAL_PLATFORM_URL"):
        Settings.from_env({"EXTERNAL_PLATFORM_URL": "https://x.example/$(id)"})


def test_tabs_come_in_their_order_with_mcp_first() -> None:
    """W48."""
    assert [tab.title for tab in INFO.tabs] == [
        "Universal MCP", "Python SDK", "Claude Code", "Hermes", "Codex", "OpenClaw", "curl",
        "Fields",
    ]  # fmt: skip
    assert INFO.tabs[0].field == "universal_mcp_snippet"


@pytest.mark.parametrize("field", TEXTS)
def test_every_text_is_filled_in_and_safe(field: str) -> None:
    """W45, W47: URL and id without a rest, one mark for the token, no double slash."""
    text = TEXTS[field]
    assert "{{" not in text.replace("{{}}", "")
    assert "https://x.example" in text
    assert ID in text
    assert "x.example//" not in text
    assert "MOLECULE_ORG_ID" not in text
    assert TOKEN_MARK in text or CHANNEL_TOKEN_MARK in text
    assert len(text) < 4096
    # Nothing is appended to a configuration; logs may be.
    assert all("log" in line for line in text.splitlines() if ">>" in line)


@pytest.mark.parametrize("field", [name for name in TEXTS if name != "python_snippet"])
def test_no_text_leaves_a_program_behind_that_dies_with_the_shell(field: str) -> None:
    lines = TEXTS[field].splitlines()
    started = [at for at, line in enumerate(lines) if re.search(r"[^&>]&( disown)?$", line)]
    for at in started:
        assert "nohup" in lines[at]
        assert "disown" in lines[at] + lines[at + 1]


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("curl_register_template", (
            "/registry/register", "Authorization: Bearer", "Origin: https://x.example",
            f'"id": "{ID}"', '"url":', '"agent_card":', 'WORKSPACE_AUTH_TOKEN="' + TOKEN_MARK + '"',
        )),
        ("python_snippet", (
            "RemoteAgentClient", "A2AServer", "register", "beats",
            'AUTH_TOKEN    = "' + TOKEN_MARK + '"',
        )),
        ("universal_mcp_snippet", (
            "pip install molecule-ai-workspace-runtime", "claude mcp add", "molecule-mcp",
            "WORKSPACE_ID=", "PLATFORM_URL=", "Python >= 3.11",
            'MOLECULE_WORKSPACE_TOKEN="' + TOKEN_MARK + '"',
        )),
        ("claude_code_channel_snippet", (  # W49
            "command -v bun", "/plugin marketplace add Molecule-AI/molecule-mcp-claude-channel",
            "/plugin install molecule@molecule-mcp-claude-channel", "MOLECULE_PLATFORM_URL=",
            f"MOLECULE_WORKSPACE_IDS={ID}", "MOLECULE_WORKSPACE_TOKENS=" + CHANNEL_TOKEN_MARK,
            "--dangerously-load-development-channels", "What you see", "channelsEnabled",
            "allowedChannelPlugins",
        )),
        ("hermes_channel_snippet", (  # W50
            "molecule-ai-workspace-runtime hermes-channel-molecule", "Edit in place",
            "export MOLECULE_WORKSPACE_ID=", "export MOLECULE_PLATFORM_URL=",
            'export MOLECULE_WORKSPACE_TOKEN="' + TOKEN_MARK + '"', "plugin_platforms:",
            "below the block gateway that",
        )),
        ("codex_snippet", (  # W51
            "npm install -g @openai/codex@latest", "pip install molecule-ai-workspace-runtime",
            "pip install codex-channel-molecule", "[mcp_servers.molecule]", "nohup", "disown",
            "An idle session hears nothing", 'MOLECULE_WORKSPACE_TOKEN = "' + TOKEN_MARK + '"',
        )),
        ("openclaw_snippet", (  # W52
            "npm install -g openclaw", "--auth-choice", "--custom-model-id", "nohup", "disown",
            "openclaw mcp set molecule", "18789", "--bind loopback", "Outbound only",
            'WORKSPACE_TOKEN="' + TOKEN_MARK + '"',
        )),
    ],
)  # fmt: skip
def test_a_text_says_what_its_readers_and_older_consoles_look_for(
    field: str, facts: tuple[str, ...]
) -> None:
    """The spelling of each mark is what consoles replace by the token."""
    missing = [fact for fact in facts if fact not in TEXTS[field]]
    assert missing == []


def test_every_tab_helps() -> None:
    """W53: where to install, where to read, what goes wrong."""
    for tab in INFO.tabs[:-1]:
        assert tab.docs_url.startswith("https://")
        assert tab.problems
        assert all(problem.symptom and problem.step for problem in tab.problems)
        assert tab.install_url.startswith("https://") or tab.runtime in ("mcp", "curl")
