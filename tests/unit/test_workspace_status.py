"""The table of a workspace's moves, and the page that is made of it."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.workspace.status import EVENTS, MOVES, PERMITTED, REMOVED, Move, Status
from molecule_grpc.workspace.store.moves import may
from molecule_grpc.workspace.store.rows import WorkspaceDraft
from tools import states_doc

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "molecule_grpc"
STATES_PAGE = ROOT / "docs" / "states.md"


def draft(status: Status, reason: str | None = None) -> WorkspaceDraft:
    return WorkspaceDraft(
        id=UUID(int=7),
        organization_id=DEFAULT_ORGANIZATION,
        name="a",
        tier=1,
        status=status,
        runtime="external",
        last_sample_error=reason,
    )


def test_the_enum_is_the_contract_s() -> None:
    contract = workspace_pb2.Workspace.Status.DESCRIPTOR.values
    assert {status.value for status in Status} == {one.name for one in contract if one.number}


def test_every_state_has_an_event_of_its_own() -> None:
    assert set(EVENTS) == set(Status)
    assert len(set(EVENTS.values())) == len(Status)
    assert all(event.kept for event in EVENTS.values())


def test_nothing_leads_out_of_removed_and_everything_into_it() -> None:
    assert all(Status.REMOVED not in sources for sources in PERMITTED.values())
    assert PERMITTED[Status.REMOVED] == set(Status) - {Status.REMOVED}


def test_every_state_can_be_reached() -> None:
    assert all(PERMITTED.values())


@pytest.mark.parametrize("move", MOVES, ids=lambda move: f"{move.target}: {move.cause}")
def test_a_guard_names_the_sources_of_its_move_and_no_other(move: Move) -> None:
    guard = may(move)
    assert {state for state in Status if f"'{state}'" in guard} == move.sources


def test_a_move_does_not_begin_where_it_ends() -> None:
    assert all(move.target not in move.sources for move in MOVES)


def test_a_new_workspace_that_failed_says_why() -> None:
    assert draft(Status.FAILED, "no backend").last_sample_error == "no backend"
    for reason in (None, ""):
        with pytest.raises(ValueError, match="reason"):
            draft(Status.FAILED, reason)


@pytest.mark.parametrize("status", [Status.DEGRADED, Status.PAUSED, Status.REMOVED])
def test_a_workspace_does_not_begin_in_the_middle(status: Status) -> None:
    with pytest.raises(ValueError, match="begins"):
        draft(status)


def test_no_statement_writes_a_status_that_is_not_a_move_s() -> None:
    """In SQL a status to write is `'{MOVE.target}'`, never a literal."""
    written = [
        (path.name, found.group())
        for path in PACKAGE.rglob("*.py")
        for update in re.findall(r"UPDATE workspaces(.*?)WHERE", path.read_text(), re.DOTALL)
        for found in re.finditer(r"status = '\w+'|(THEN|ELSE) '\w+'", update)
    ]
    assert written == []


def test_the_page_of_states_is_current() -> None:
    """Otherwise: python -m tools.states_doc > docs/states.md."""
    assert STATES_PAGE.read_text() == states_doc.render()


def test_the_page_names_every_state_and_move() -> None:
    page = states_doc.render()
    assert all(f"| `{state}` | `{EVENTS[state]}` |" in page for state in Status)
    assert all(move.cause in page for move in MOVES)
    assert REMOVED.cause in page
