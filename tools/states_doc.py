"""Prints docs/states.md: the states of workspaces and delegations, from the tables of moves.

python -m tools.states_doc > docs/states.md
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from molecule_grpc.delegation.ledger.rules import PERMITTED as DELEGATION_MOVES
from molecule_grpc.workspace.status import EVENTS, INITIAL, MOVES, Move, Status

_HEAD = """\
# States

<!-- Generated from molecule_grpc/workspace/status.py and molecule_grpc/delegation/ledger/rules.py
     by tools/states_doc.py. -->

Every move below is one statement: its guard names the states that it may leave, so of two writers
that race one changes the row and the other changes nothing. An event is stored with the change or
not at all.
"""
_FROM_ALMOST_ALL = len(Status) - 2


def render() -> str:
    """The page."""
    return "\n".join((_HEAD, *_workspaces(), "", *_delegations(), ""))


def _workspaces() -> Iterator[str]:
    drawn = [move for move in MOVES if len(move.sources) < _FROM_ALMOST_ALL]
    yield "## Workspaces\n"
    yield from _picture(_in_order(INITIAL), _arrows(drawn))
    yield ""
    for move in MOVES:
        if move not in drawn:
            others = [state for state in Status if state not in (move.target, *move.sources)]
            but = f" but {', '.join(f'`{state}`' for state in others)}" if others else ""
            where = f"from every other state{but}"
            yield f"*{move.cause}*, not drawn, leads to `{move.target}` {where}.\n"
    yield "A workspace becomes `failed` only with a reason, which `last_sample_error` holds.\n"
    yield "| State | Event | May be entered from |"
    yield "|---|---|---|"
    for state in Status:
        sources = "; ".join(
            f"{move.cause}: {_listed(move)}" for move in MOVES if move.target is state
        )
        yield f"| `{state}` | `{EVENTS[state]}` | {sources} |"


def _listed(move: Move) -> str:
    if len(move.sources) >= _FROM_ALMOST_ALL:
        return "see above"
    return ", ".join(f"`{state}`" for state in _in_order(move.sources))


def _arrows(moves: Iterable[Move]) -> Iterator[tuple[str, str, str]]:
    causes: dict[tuple[Status, Status], list[str]] = {}
    for move in moves:
        for source in _in_order(move.sources):
            causes.setdefault((source, move.target), []).append(move.cause)
    for (source, target), named in causes.items():
        yield source, target, ", ".join(named)


def _in_order(states: Collection[Status]) -> list[Status]:
    return [state for state in Status if state in states]


def _delegations() -> Iterator[str]:
    """The ledger's picture: its table has no causes."""
    table: Mapping[str, Collection[str]] = {
        str(target): sources for target, sources in DELEGATION_MOVES.items()
    }
    arrows = (
        (source, target, "")
        for target in table
        for source in table
        if source in table[target] and source != target
    )
    yield "## Delegations\n"
    yield from _picture(("queued", "dispatched"), arrows)
    yield ""
    yield "A failure with attempts left keeps the state: the delegation is handed over again."


def _picture(initial: Iterable[str], arrows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    for state in initial:
        yield f"    [*] --> {state}"
    for source, target, label in arrows:
        yield f"    {source} --> {target}" + (f": {label}" if label else "")
    yield "```"


def main() -> None:
    """Entry of `python -m tools.states_doc`."""
    print(render(), end="")


if __name__ == "__main__":
    main()
