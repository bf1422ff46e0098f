"""What the workspace slice decides without a database."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.workspace import convert, drafts, rules
from molecule_grpc.workspace.cards import card_text

ID = "0190a7b2-0000-7000-8000-00000000000a"


@pytest.mark.parametrize("text", [*"{}[]|>*&!", "\n", "\r", "\x00"])
def test_name_and_role_keep_out_what_breaks_yaml(text: str) -> None:
    with pytest.raises(Invalid):
        rules.check_name(f"a{text}b")
    with pytest.raises(Invalid):
        rules.check_role(f"a{text}b")


def test_runtime_stays_on_one_line_and_is_kept_as_given() -> None:
    assert rules.check_runtime("my-own {runtime}") == "my-own {runtime}"
    with pytest.raises(Invalid):
        rules.check_runtime("a\nb")


@pytest.mark.parametrize(
    "path",
    [
        "relative",
        "/a/../b",
        "/etc",
        "/etc/",
        "//etc/x",
        "/./var/lib",
        "/usr/local",
        "/",
        "",
        "/a\n",
    ],
)
def test_directory_that_may_not_be_mounted(path: str) -> None:
    with pytest.raises(Invalid):
        rules.check_directory(path)


@pytest.mark.parametrize("path", ["/srv/agents", "/etcetera", "/home/me/..hidden", "/data/var"])
def test_directory_that_may_be_mounted(path: str) -> None:
    assert rules.check_directory(path) == path


@pytest.mark.parametrize(
    ("stated", "stored", "url", "runtime", "kept", "mode"),
    [
        ("push", "poll", "", "external", "push", "push"),
        ("poll", "push", "http://a", "langgraph", "poll", "poll"),
        ("", "poll", "http://a", "langgraph", "poll", "poll"),
        ("", "push", "", "external", "push", "push"),
        ("", None, "", "external", None, "poll"),
        ("", None, " ", "external", None, "poll"),
        ("", None, "", "langgraph", None, "push"),
        ("", None, "http://a", "external", None, "push"),
        ("", "push", "remote://no-inbound", "langgraph", None, "poll"),
        ("push", None, "remote://no-inbound", "external", "push", "push"),
    ],
)
def test_mode_is_what_is_stated_else_stated_earlier_else_by_the_url(
    stated: str, stored: str | None, url: str, runtime: str, kept: str | None, mode: str
) -> None:
    """W61: NULL, push and poll are all readable, and register resolves them in this order."""
    assert rules.registered_mode(stated, stored, url, runtime) == (kept, mode)


@given(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
def test_reported_spend_is_clamped_and_zero_is_no_news(cents: float | None) -> None:
    stored = rules.reported_spend(cents)
    assert stored is None or 0 < stored <= rules.MAX_SPEND_CENTS
    if cents is not None and 1 <= cents <= rules.MAX_SPEND_CENTS:
        assert stored == round(cents)


@pytest.mark.parametrize(
    ("status", "mode", "url", "reachable"),
    [
        ("online", "push", "http://a", True),
        ("degraded", "push", "http://a", True),
        ("online", "push", "", False),
        ("awaiting_agent", "push", "http://a", False),
        ("awaiting_agent", "poll", "", True),
        ("offline", "poll", "", True),
        ("paused", "poll", "", False),
        ("failed", "poll", "", False),
    ],
)
def test_an_inbox_takes_messages_while_its_reader_is_away(
    status: str, mode: str, url: str, reachable: bool
) -> None:
    assert rules.reachable(status, mode, url) is reachable


def drafted(**fields: Any) -> Any:
    can_start = fields.pop("can_start", False)
    wanted = convert.new_workspace(pb.CreateWorkspaceRequest(name="a", **fields))
    return drafts.draft(wanted, DEFAULT_ORGANIZATION, 3, can_start=can_start)


def test_external_without_url_waits_for_its_agent_and_polls() -> None:
    draft = drafted(runtime="external")
    assert (draft.status, draft.delivery_mode, draft.url) == ("awaiting_agent", None, "")


def test_external_flag_means_runtime_external() -> None:
    assert drafted(external=True, runtime="claude-code").runtime == "external"


def test_external_with_url_is_online_and_pushed_to() -> None:
    draft = drafted(external=True, url=" http://a.example/x ")
    assert (draft.status, draft.delivery_mode, draft.url) == (
        "online",
        None,
        "http://a.example/x",
    )


def test_external_that_polls_has_no_url() -> None:
    for fields, mode in (
        ({"delivery_mode": workspace_pb2.Workspace.poll, "url": "http://a.example"}, "poll"),
        ({"url": "remote://no-inbound"}, None),
    ):
        draft = drafted(external=True, **fields)
        assert (draft.status, draft.delivery_mode, draft.url) == ("awaiting_agent", mode, "")


def test_without_a_backend_the_row_says_why_it_failed() -> None:
    draft = drafted()
    assert (draft.runtime, draft.status) == ("langgraph", "failed")
    assert draft.last_sample_error == "no compute backend is configured on this server"


def test_with_a_backend_the_row_is_being_provisioned() -> None:
    draft = drafted(can_start=True)
    assert (draft.status, draft.last_sample_error) == ("provisioning", None)
    assert drafted(can_start=True, external=True).status == "awaiting_agent"


def test_update_tells_absent_from_null() -> None:
    null = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    change = convert.change(pb.UpdateWorkspaceRequest(parent_id=null))
    assert (change.parent_id, change.given) == (None, frozenset({"parent_id"}))
    assert convert.change(pb.UpdateWorkspaceRequest()).given == frozenset()


@pytest.mark.parametrize("field", ["parent_id", "workspace_dir"])
def test_update_refuses_a_parent_or_directory_that_is_not_text(field: str) -> None:
    request = pb.UpdateWorkspaceRequest()
    getattr(request, field).number_value = 1
    with pytest.raises(Invalid) as caught:
        convert.change(request)
    assert caught.value.violations[0][0] == field


@pytest.mark.parametrize("name", ["x", "y"])
def test_one_coordinate_alone_is_refused(name: str) -> None:
    request = pb.UpdateWorkspaceRequest()
    setattr(request, name, 1.0)
    with pytest.raises(Invalid):
        drafts.check_new_place(convert.place(request))


def test_heartbeat_leaves_out_what_was_not_reported() -> None:
    beat = convert.heartbeat(pb.HeartbeatRequest(workspace_id=ID))
    assert (beat.error_rate, beat.current_task, beat.monthly_spend) == (None, None, None)
    assert beat.well
    assert not beat.wedged


def test_heartbeat_reads_the_engine_and_who_judges_it() -> None:
    request = pb.HeartbeatRequest(workspace_id=ID, runtime_state="wedged", error_rate=0)
    request.runtime_metadata.capabilities["status_mgmt"] = True
    beat = convert.heartbeat(request)
    assert (beat.wedged, beat.well, beat.self_managed, beat.error_rate) == (True, False, True, 0)


# Postgres keeps numbers as decimals, which know no -0: adding 0.0 makes it 0.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
JSON = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def as_value(plain: Any) -> struct_pb2.Value:
    box = struct_pb2.ListValue()
    box.extend([plain])
    return box.values[0]


@given(JSON)
def test_a_card_survives_storage_but_for_nul(plain: Any) -> None:
    stored = card_text(convert.plain(as_value(plain)))
    # An escaped backslash before `u0000` is text.
    assert not re.search(r"(?<!\\)(\\\\)*\\u0000", stored)
    if "\x00" not in repr(plain) and "\\x00" not in repr(plain):
        assert convert.card(stored) == as_value(plain)


def test_a_negative_zero_on_a_card_is_stored_as_zero() -> None:
    """jsonb has no negative zero."""
    stored = card_text(convert.plain(as_value({"a": [-0.0, -1.5]})))
    assert json.loads(stored) == {"a": [0, -1.5]}
    assert "-0" not in stored


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(Invalid):
        card_text(convert.plain(as_value({"a": [number]})))


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


def test_a_card_that_its_readers_could_not_take_is_refused() -> None:
    card_text(convert.plain(as_value(nested(32))))
    for card in (nested(34), "x" * 262_145):
        with pytest.raises(Invalid):
            card_text(convert.plain(as_value(card)))
