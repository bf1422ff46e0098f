"""The ways to connect, in the order in which to offer them, each with its help."""

from __future__ import annotations

from typing import Final, NamedTuple


class Problem(NamedTuple):
    """A symptom, and the step that helps."""

    symptom: str
    step: str


class Tab(NamedTuple):
    """One way to connect.

    Args:
        runtime: as `molecule-grpc connect` names it.
        field: of the payload with the text; empty for the values alone.
        text: name of the text's file; empty for the values alone.
        install_url: empty where nothing is to be installed.
    """

    runtime: str
    title: str
    field: str
    text: str
    install_url: str
    docs_url: str
    problems: tuple[Problem, ...]


_REFUSED: Final = Problem(
    "401 from the platform",
    "the token was revoked or rotated: POST /workspaces/{id}/external/rotate gives a new one",
)
_UNREACHABLE: Final = Problem(
    "no connection to the platform",
    "the URL must lead to the platform from the agent's machine; EXTERNAL_PLATFORM_URL sets it",
)
_ASLEEP: Final = Problem(
    "messages arrive and nothing happens",
    "the model sees its inbox only when it asks: have it call wait_for_message",
)
_SLOW_TOOL: Final = Problem(
    "wait_for_message ends with a timeout of the client",
    "ask for less than the client waits: timeout_secs 50 suits most",
)
_UNTRUSTED: Final = Problem(
    "pip finds no such package, or one that nobody you know has published",
    "take the package from whoever runs the platform: the names are not ours on public indexes",
)
_SECOND_KEY: Final = Problem(
    "the configuration is not read any more",
    "a key stands in it twice: merge the two, never append",
)
_PROTOCOL: Final = "https://modelcontextprotocol.io/docs/getting-started/intro"

TABS: Final = (
    Tab(
        "mcp",
        "Universal MCP",
        "universal_mcp_snippet",
        "universal_mcp",
        "",
        _PROTOCOL,
        (_REFUSED, _UNREACHABLE, _SLOW_TOOL, _ASLEEP, _UNTRUSTED),
    ),
    Tab(
        "python",
        "Python SDK",
        "python_snippet",
        "python",
        "https://www.python.org/downloads/",
        "https://docs.python.org/3/library/asyncio.html",
        (
            Problem("No module named molecule_grpc", "install the platform's wheel with pip"),
            Problem("INBOX_BUSY", "another program holds the inbox: stop that program"),
            _REFUSED,
            _UNREACHABLE,
        ),
    ),
    Tab(
        "claude-code",
        "Claude Code",
        "claude_code_channel_snippet",
        "claude_code",
        "https://bun.sh/docs/installation",
        "https://code.claude.com/docs/en/channels",
        (
            Problem("plugin not found", "add the marketplace first, then /reload-plugins"),
            Problem("not on the approved channels allowlist", "start with the development flag"),
            Problem("Bun is missing", "install Bun, then start the session again"),
            Problem("channels are off for a Team or Enterprise plan", "set channelsEnabled"),
            _REFUSED,
        ),
    ),
    Tab(
        "hermes",
        "Hermes",
        "hermes_channel_snippet",
        "hermes",
        "https://hermes-agent.nousresearch.com/docs",
        "https://hermes-agent.nousresearch.com/docs/user-guide/features/mcp",
        (_SECOND_KEY, _UNTRUSTED, _SLOW_TOOL, _REFUSED),
    ),
    Tab(
        "codex",
        "Codex",
        "codex_snippet",
        "codex",
        "https://github.com/openai/codex",
        "https://developers.openai.com/codex/mcp",
        (
            Problem("the tools are there and every call reads 401", "export the token, then start"),
            _SECOND_KEY,
            _ASLEEP,
            _UNTRUSTED,
        ),
    ),
    Tab(
        "openclaw",
        "OpenClaw",
        "openclaw_snippet",
        "openclaw",
        "https://www.npmjs.com/package/openclaw",
        "https://docs.openclaw.ai/cli/mcp",
        (
            Problem("port 18789 is taken", "a gateway runs already: it reads the change by itself"),
            Problem("no model answers", "onboard with a provider and a model named explicitly"),
            _ASLEEP,
            _REFUSED,
        ),
    ),
    Tab(
        "curl",
        "curl",
        "curl_register_template",
        "curl",
        "",
        "https://curl.se/docs/",
        (
            Problem("400 URL_NOT_ALLOWED", "the address must be public, or leave AGENT_URL empty"),
            Problem("back to awaiting_agent after 90 s", "nothing beats: use the Python text"),
            _REFUSED,
        ),
    ),
    Tab("fields", "Fields", "", "", "", "", ()),
)
