"""What a person at a terminal sees of texts that tenants wrote."""

from __future__ import annotations

import io

import pytest
from moleculeai.workspace.v1 import workspace_pb2
from rich.console import Console

from molecule_grpc.cli.output import Output, visible

HOSTILE = "\x1b[2Jroot\x07\x9b1m\u202e[/red] [link=x]"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_tenants_text_gives_no_orders_to_a_terminal(
    terminal: bool, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither as control characters nor as markup, which would end the command with an error."""
    output = Output(as_json=as_json)
    shown = io.StringIO()
    output.console = Console(
        file=shown if terminal else None, force_terminal=terminal, color_system=None, width=200
    )
    workspace = workspace_pb2.Workspace(id="1", role=HOSTILE)
    output.table([workspace], ("id", "role"))
    output.one(workspace, ("id", "role"))
    output.line(workspace, HOSTILE)
    output.note(HOSTILE)
    output.warning(HOSTILE)
    printed = "".join((shown.getvalue(), *capsys.readouterr()))
    # Rich makes the labels of `one` dim.
    printed = printed.replace("\x1b[2m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert not set("\x1b\x07\x9b\u202e") & set(printed)
    assert printed.count("\\u001b[2Jroot\\u0007\\u009b1m\\u202e[/red] [link=x]") == 5


def test_lines_and_letters_stay() -> None:
    assert visible("a\tb\nc é 漢 😀") == "a\tb\nc é 漢 😀"
