"""What becomes of an operation that waits when another is asked for."""

from __future__ import annotations

import pytest

from molecule_grpc.backends.operations.rules import Kind, Merge, Options, merge
from molecule_grpc.backends.operations.store.rows import options_text, read_options

PAIRS = [(waiting, asked) for waiting in Kind for asked in Kind]


@pytest.mark.parametrize(("waiting", "asked"), PAIRS)
def test_what_is_asked_for_last_is_what_holds_at_the_end(waiting: Kind, asked: Kind) -> None:
    """R-8.4, 3.10: no request is lost, none undoes a removal, and a start after a stop stops."""
    merged = merge(waiting, asked)
    assert merged.kind.starts == (asked.starts and waiting is not Kind.REMOVE)
    assert (Kind.REMOVE in (waiting, asked)) == (merged.kind is Kind.REMOVE)
    other = merged.kind.starts != waiting.starts or asked is Kind.REMOVE
    assert merged.replaced == (other and waiting is not Kind.REMOVE)


def test_a_start_in_the_place_of_a_stop_begins_with_the_stop() -> None:
    assert merge(Kind.STOP, Kind.START) == Merge(Kind.RESTART, replaced=True)


def test_merged_options_keep_what_either_asked_for() -> None:
    first = Options(reset_session=True, template="old")
    assert first.merged(Options(apply_template=True, template="new")) == Options(
        reset_session=True, apply_template=True, template="new"
    )
    assert first.merged(Options()) == first


def test_options_are_stored_without_what_is_plain_and_read_without_what_is_unknown() -> None:
    assert options_text(Options()) == "{}"
    stored = Options(reset_session=True)
    assert read_options(options_text(stored)) == stored
    assert read_options('{"template": "t", "of_a_newer_version": 1}') == Options(template="t")
