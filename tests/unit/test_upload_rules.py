"""Which way files go, which part is meant, which path may be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.kernel.errors import Invalid, OutOfRange
from molecule_grpc.upload import rules
from molecule_grpc.upload.rules import Route, UploadLimits, route

URL = "https://agent.example"


@pytest.mark.parametrize(
    ("mode", "url", "staging", "way"),
    [
        ("poll", "", True, Route.STAGE),
        ("poll", URL, True, Route.STAGE),
        ("poll", "", False, Route.NEVER),
        ("poll", URL, False, Route.FORWARD),
        ("push", URL, True, Route.FORWARD),
        ("push", URL, False, Route.FORWARD),
        ("push", "", True, Route.NOT_YET),
        ("push", "", False, Route.NOT_YET),
        (None, URL, True, Route.FORWARD),
        (None, "", True, Route.NEVER),
        ("", URL, True, Route.FORWARD),
        ("", "", True, Route.NEVER),
        ("other", URL, True, Route.FORWARD),
        ("other", "", True, Route.NEVER),
        ("Poll", "", True, Route.NEVER),
        ("PUSH", "", True, Route.NEVER),
    ],
)
def test_the_way_follows_from_mode_and_url(
    mode: str | None, url: str, staging: bool, way: Route
) -> None:
    """D41, D42, D38: only exactly `push` without a URL may still come."""
    assert route(mode, url, staging=staging) is way


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=2-4", (2, 5)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=5-100", (5, 10)),
        (" bytes=1-1 ", (1, 2)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("", None),
        ("bytes=٣-٤", None),
    ],
)
def test_a_range_header_names_a_part(header: str, part: tuple[int, int] | None) -> None:
    assert rules.parse_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", f"bytes={9**40}-"])
def test_a_range_outside_of_the_file_is_refused(header: str) -> None:
    with pytest.raises(OutOfRange) as caught:
        rules.parse_range(header, 10)
    assert caught.value.reason == "RANGE_NOT_SATISFIABLE"
    assert caught.value.metadata == {"size": "10"}


@given(st.text("bytes=-0123456789,", max_size=40), st.integers(1, 2**31))
def test_no_range_header_reaches_outside(header: str, size: int) -> None:
    try:
        found = rules.parse_range(header, size)
    except OutOfRange:
        return
    if found is not None:
        start, stop = found
        assert 0 <= start < stop <= size


@pytest.mark.parametrize("path", ["/workspace/a.txt", "/home/x/.y", "/configs/a b", "/plugins/é"])
def test_files_in_the_folders_of_an_agent_may_be_asked_for(path: str) -> None:
    rules.check_download_path(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "path query required"),
        ("workspace/a", "path must be absolute"),
        ("/workspace/../etc/passwd", "invalid path"),
        ("/workspace/a..b", "invalid path"),
        ("/workspace//a", "invalid path"),
        ("//workspace/a", "invalid path"),
        ("/workspace/./a", "invalid path"),
        ("/workspace/a/", "invalid path"),
        ("/workspace/a\x00", "invalid path"),
        ("/workspace", "path must be under"),
        ("/workspaces/a", "path must be under"),
        ("/etc/passwd", "path must be under"),
    ],
)
def test_other_paths_are_refused(path: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        rules.check_download_path(path)


@pytest.mark.parametrize(
    ("given_", "kept"), [(None, 3600.0), (0, 0.0), (-5, 0.0), (-0.1, 0.0), (60, 60.0)]
)
def test_retention_has_one_meaning_each(given_: float | None, kept: float) -> None:
    """D34: None is the default, a negative number is zero."""
    assert rules.retention_seconds(given_) == kept


def test_a_request_may_hold_at_least_one_largest_file() -> None:
    assert UploadLimits(25 * rules.MIB).per_request == 50 * rules.MIB
    assert UploadLimits(100 * rules.MIB).per_request == 100 * rules.MIB
