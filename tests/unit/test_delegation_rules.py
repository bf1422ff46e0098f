"""Pure decisions about delegations and inboxes."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moleculeai.delegation.v1 import delegation_pb2

from molecule_grpc.delegation.inbox.rules import nack_delay
from molecule_grpc.delegation.ledger.rules import FINAL, LIVE, PERMITTED, Status, request_hash
from molecule_grpc.delegation.record.rules import activity_limit, since, timestamp
from molecule_grpc.kernel.errors import Invalid

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIGRATION = Path(__file__).parents[2] / "migrations" / "0002_delegations.up.sql"


def test_vocabulary_is_one_in_code_contract_and_schema() -> None:
    """D1, D11: six words, everywhere the same."""
    code = {status.value for status in Status}
    contract = set(delegation_pb2.Delegation.Status.keys()) - {"status_unspecified"}
    check = re.search(r"status IN \(([^)]*)\)", MIGRATION.read_text())
    assert check is not None
    assert code == contract == set(re.findall(r"'(\w+)'", check[1]))
    assert {*LIVE, *FINAL} == set(Status)
    assert not LIVE & FINAL


def test_moves_lead_forward_and_out_of_no_end() -> None:
    """D12: every status has its row, and no move leaves a final status."""
    order = list(Status)
    assert set(PERMITTED) == set(Status)
    assert all(sources <= LIVE for sources in PERMITTED.values())
    for target, sources in PERMITTED.items():
        assert all(order.index(source) <= order.index(target) for source in sources)


def test_hash_tells_requests_apart() -> None:
    one, two = UUID(int=1), UUID(int=2)
    hashes = {
        request_hash(one, "a"),
        request_hash(two, "a"),
        request_hash(one, "b"),
    }
    assert len(hashes) == 3
    assert request_hash(one, "a") in hashes


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1", 1), ("500", 500), ("501", 500), ("", 100), ("0", 100), ("-3", 100), ("x", 100)],
)
def test_limit_of_a_poller(text: str, limit: int) -> None:
    """D45: junk means the default."""
    assert activity_limit(text) == limit


@given(st.text(max_size=8))
def test_limit_is_always_one(text: str) -> None:
    assert 1 <= activity_limit(text) <= 500


def test_window_of_seconds() -> None:
    """D45: at most 30 days."""
    assert since("", NOW) is None
    assert since("60", NOW) == NOW - timedelta(seconds=60)
    assert since("0" * 20 + "60", NOW) == NOW - timedelta(seconds=60)
    assert since("9" * 32, NOW) == NOW - timedelta(days=30)


@given(st.text(min_size=1, max_size=32))
def test_window_is_a_positive_integer_or_refused(text: str) -> None:
    """D45."""
    if re.fullmatch(r"[0-9]*[1-9][0-9]*", text, re.ASCII):
        assert NOW - timedelta(days=30) <= since(text, NOW) < NOW  # type: ignore[operator]
    else:
        with pytest.raises(Invalid):
            since(text, NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", NOW),
        ("2026-01-31T14:00:00+02:00", NOW),
        ("2026-01-31T14:00:00 02:00", NOW),
        ("2026-01-31T12:00:00.000000999Z", NOW),
        ("", None),
    ],
)
def test_timestamp(text: str, moment: datetime | None) -> None:
    """D45: RFC 3339, also when a plus became a blank."""
    assert timestamp(text, "before_ts") == moment


@pytest.mark.parametrize(
    "text", ["x", "2026-01-31", "2026-01-31T12:00:00", "1", "0001-01-01T00:00:00+23:00"]
)
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    """D45."""
    with pytest.raises(Invalid) as refused:
        timestamp(text, "before_ts")
    assert refused.value.violations[0][0] == "before_ts"


@given(st.text(max_size=30))
def test_timestamp_is_one_with_an_offset_or_refused(text: str) -> None:
    try:
        moment = timestamp(text, "before_ts")
    except Invalid:
        return
    assert moment is None or moment.tzinfo is UTC


@given(st.floats())
def test_delay_is_safe_to_add_to_a_clock(seconds: float) -> None:
    delay = nack_delay(seconds)
    assert 0 <= delay <= 86_400
    assert delay == seconds or math.isnan(seconds) or not 0 <= seconds <= 86_400
