"""Operations, and how a new request merges with a pending operation."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Final, NamedTuple


class Kind(enum.StrEnum):
    """As stored. A restart stops first; a removal also deletes volumes."""

    START = "start"
    RESTART = "restart"
    STOP = "stop"
    REMOVE = "remove"

    @property
    def starts(self) -> bool:
        """Whether a workload runs when the operation has succeeded."""
        return self in (Kind.START, Kind.RESTART)


class State(enum.StrEnum):
    """As stored."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a start differs from the plain one.

    Args:
        reset_session: forget the agent's sessions.
        apply_template: write the template's configuration over the volume's.
        rebuild_config: take the configuration from the organisation's template again.
        template: another template than the row's; empty for that.
    """

    reset_session: bool = False
    apply_template: bool = False
    rebuild_config: bool = False
    template: str = ""

    def merged(self, newer: Options) -> Options:
        """Both: what either asks for, and the newer template."""
        return Options(
            **{
                each.name: getattr(newer, each.name) or getattr(self, each.name)
                for each in dataclasses.fields(self)
            }
        )


class Merge(NamedTuple):
    """What becomes of a pending operation when another is asked for.

    Args:
        kind: of the operation that is pending afterwards.
        replaced: whether the waiting one is cancelled and the new one takes its place. Otherwise it
            goes on waiting under its id, as `kind` and with both options.
    """

    kind: Kind
    replaced: bool


# By the kind that waits and the kind that is asked for.
_MERGES: Final = {
    (Kind.START, Kind.START): Merge(Kind.START, replaced=False),
    (Kind.START, Kind.RESTART): Merge(Kind.RESTART, replaced=False),
    (Kind.RESTART, Kind.START): Merge(Kind.RESTART, replaced=False),
    (Kind.RESTART, Kind.RESTART): Merge(Kind.RESTART, replaced=False),
    (Kind.STOP, Kind.STOP): Merge(Kind.STOP, replaced=False),
    # What was to be stopped first still is: the start begins with a stop.
    (Kind.STOP, Kind.START): Merge(Kind.RESTART, replaced=True),
    (Kind.STOP, Kind.RESTART): Merge(Kind.RESTART, replaced=True),
    (Kind.START, Kind.STOP): Merge(Kind.STOP, replaced=True),
    (Kind.RESTART, Kind.STOP): Merge(Kind.STOP, replaced=True),
    (Kind.START, Kind.REMOVE): Merge(Kind.REMOVE, replaced=True),
    (Kind.RESTART, Kind.REMOVE): Merge(Kind.REMOVE, replaced=True),
    (Kind.STOP, Kind.REMOVE): Merge(Kind.REMOVE, replaced=True),
}


def merge(waiting: Kind, asked: Kind) -> Merge:
    """What becomes of `waiting` when `asked` comes. Nothing replaces a removal."""
    if waiting is Kind.REMOVE:
        return Merge(Kind.REMOVE, replaced=False)
    return _MERGES[waiting, asked]
