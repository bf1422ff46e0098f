"""A refusal takes the same time whether something is another organisation's or does not exist.

`make timing` runs the long form: 2,000 pairs of each kind, Welch's t below 3. The short form bounds
the differences that a cache, a second statement or a walk of the tree would make.
"""

from __future__ import annotations

import math
import random
import statistics
import time
import uuid
from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.conftest import LONG
from tests.e2e.families import Family
from tests.e2e.parties import Party, Refused
from tests.e2e.valid_requests import a_delegation

PAIRS, BOUND = (2_000, 3.0) if LONG else (150, 4.0)
# Above this share of the pooled times stand pauses of the machine, which say nothing.
KEPT = 0.9

# Who asks → for what, by the id that differs.
QUESTIONS: dict[str, tuple[str, Callable[[Family, str], Message]]] = {
    "a workspace's peers": (
        "own organization", lambda f, id_: workspace.ListPeersRequest(workspace_id=id_)),
    "a workspace, as its organisation": (
        "own organization", lambda f, id_: workspace.GetWorkspaceRequest(workspace_id=id_)),
    "a workspace, as a workspace": (
        "own token", lambda f, id_: workspace.GetWorkspaceRequest(workspace_id=id_)),
    "where a workspace listens": (
        "own token", lambda f, id_: workspace.DiscoverRequest(caller_id=f.own.id, target_id=id_)),
    "whether two may talk": (
        "own token",
        lambda f, id_: workspace.CheckAccessRequest(caller_id=f.foreign_friend.id, target_id=id_)),
    "a delegation to a workspace": (
        "own token",
        lambda f, id_: delegation.DelegateRequest(
            workspace_id=f.own.id, target_id=id_, task="x")),
    "events of a workspace": (
        "own organization", lambda f, id_: admin.ListEventsRequest(workspace_id=id_)),
}  # fmt: skip


@pytest.mark.clock
@pytest.mark.timeout(900 if LONG else 300)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_time_of_a_refusal_tells_nothing(question: str, bystanders: Family) -> None:
    role, request = QUESTIONS[question]
    party = bystanders.parties[role]

    def make(id_: str) -> Message:
        return request(bystanders, id_)

    assert abs(await welch(party, make, bystanders.foreign.id)) < BOUND


@pytest.mark.clock
@pytest.mark.timeout(900 if LONG else 300)
async def test_the_time_of_a_look_at_a_delegation_tells_nothing(bystanders: Family) -> None:
    known = await a_delegation(bystanders.foreign, bystanders.foreign_friend)

    def make(id_: str) -> Message:
        return delegation.GetDelegationRequest(workspace_id=bystanders.own.id, delegation_id=id_)

    assert abs(await welch(bystanders.own, make, known)) < BOUND


async def welch(party: Party, make: Callable[[str], Message], foreign: str) -> float:
    """Welch's t of the times for something foreign and for something missing."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(10):  # Plans of statements are made at first use.
        await ask(party, make(foreign))
        await ask(party, make(str(uuid.uuid4())))
    for _ in range(PAIRS):
        for known in random.sample([True, False], 2):
            sought = make(foreign if known else str(uuid.uuid4()))
            began = time.perf_counter()
            await ask(party, sought)
            times[known].append(time.perf_counter() - began)
    bound = sorted(times[True] + times[False])[int(2 * PAIRS * KEPT)]
    one, other = ([each for each in times[known] if each < bound] for known in (True, False))
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    found: float = (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(spread)
    mean = statistics.fmean(one) * 1e3, statistics.fmean(other) * 1e3
    print(f"foreign {mean[0]:.3f} ms, missing {mean[1]:.3f} ms, t = {found:+.2f}")
    return found


async def ask(party: Party, request: Message) -> None:
    """Call, and take no for an answer."""
    try:
        await party.rpc(request)
    except Refused:
        return
