"""Who may call what, over the wire: every RPC by every kind of caller."""

from __future__ import annotations

import pytest

from molecule_grpc.auth.policy import POLICIES
from molecule_grpc.auth.principal import Role
from molecule_grpc.server.status import KINDS
from tests.e2e.families import ROLES, Family, NewFamily, reborn
from tests.e2e.lasting import under_way
from tests.e2e.outcomes import call, call_rest
from tests.e2e.parties import Party
from tests.e2e.rows import Rows
from tests.e2e.valid_requests import known_rpcs, valid_frames
from tests.running import RunningServer
from tools.descriptors import Contract, Rpc

OK, NO_TOKEN, MISSING = "OK", "UNAUTHENTICATED", "NOT_FOUND"
ADMINS = frozenset({Role.ORGANIZATION, Role.OPERATOR})

# Kind of RPC → the codes that callers meet, in the order of ROLES. What is not visible to an
# organisation is missing to it; a workspace's token that does not fit is no token.
EXPECTED: dict[str, tuple[str, ...]] = {
    "open to all": (OK,) * 13,
    # Its request holds another token than the callers' own, and none was given out.
    "a machine's": (NO_TOKEN,) * 13,
    "the operator's": (NO_TOKEN,) * 12 + (OK,),
    "an administrator's": (NO_TOKEN,) * 9 + (OK, NO_TOKEN, OK, OK),
    "an administrator's, on something": (NO_TOKEN,) * 9 + (MISSING, NO_TOKEN, OK, OK),
    "a workspace's": (NO_TOKEN,) * 9 + (MISSING, OK, OK, OK),
    "a participant's": (NO_TOKEN,) * 6 + (MISSING,) * 4 + (OK, OK, OK),
    "anybody's with a token": (NO_TOKEN,) * 6 + (OK,) * 7,
    "a glance": (NO_TOKEN,) * 6 + (OK, MISSING, MISSING, MISSING, OK, OK, OK),
}
# Their requests name something that belongs to the organisation of the family.
ON_SOMETHING = {
    "CreateWorkspace", "DeleteWorkspace", "CreateOrgToken", "RevokeOrgToken", "RetryDelegation",
    "ReplayDeadLetter", "DropDeadLetter", "ExportMemories", "ImportMemories", "SetMemoryGrant",
    "MoveMemoryNamespace", "DeleteMemoryNamespace", "GetMemoryStats", "SetAuthorQuarantine",
    "GetWorkspaceConsole",
    "SetBudget", "MoveAgent", "ExportBundle", "ImportBundle", "DecideApproval",
    "ImportOrg",
}  # fmt: skip
# Where the handler, and not the policy alone, decides who may see what.
BY_HANDLER = {
    "GetWorkspace": "a glance",
    "GetQueuedMessage": "a participant's",
    "GetUploadLimits": "anybody's with a token",
    "CheckAccess": "anybody's with a token",
    "GetQuota": "anybody's with a token",
    "GetViewport": "anybody's with a token",
    "ExchangeBootstrapToken": "a machine's",
}
# What reaches into a workload. Tests with an engine end those that last.
INTO_WORKLOADS = {
    "ListWorkspaceFiles", "ReadWorkspaceFile", "WriteWorkspaceFile", "DeleteWorkspaceFile",
    "WatchWorkspaceLogs", "ExecWorkspace", "GetWorkspaceConsole", "GetWorkspaceStats",
}  # fmt: skip
# Success is not to be had without an agent that can be called, or a backend.
AT_BEST = dict.fromkeys(INTO_WORKLOADS, ("FAILED_PRECONDITION", 400)) | {
    "DownloadFile": ("FAILED_PRECONDITION", 422),
    # The platform runs no agent of the family.
    "RestartWorkspace": ("FAILED_PRECONDITION", 400),
    "HibernateWorkspace": ("FAILED_PRECONDITION", 400),
    "WakeWorkspace": ("FAILED_PRECONDITION", 400),
    # No backend of the family's server has images.
    "PromoteImage": ("UNAVAILABLE", 503),
    "RefreshImages": ("UNAVAILABLE", 503),
}
HTTP = {code.name: status for code, status in KINDS.values()}

# One of each kind of answer.
REST_ROLES = ("no token", "unrelated workspace", "foreign organization", "own token", "operator")

RPCS = list(Contract.load().rpcs())
REST_RPCS = [rpc for rpc in RPCS if rpc.bindings]
# Of a workspace; tests of memories end those of administrators.
LASTING = [
    rpc
    for rpc in RPCS
    if (policy := POLICIES[f"/{rpc.service}/{rpc.name}"]).lasts and policy.roles != ADMINS
    if rpc.name not in INTO_WORKLOADS
]


def kind_of(rpc: Rpc) -> str:
    """The row of EXPECTED for an RPC, by its policy."""
    policy = POLICIES[f"/{rpc.service}/{rpc.name}"]
    if not policy.asks:
        return BY_HANDLER.get(rpc.name, "open to all")
    if policy.roles == {Role.OPERATOR}:
        return "the operator's"
    if policy.roles == ADMINS:
        return "an administrator's" + (", on something" if rpc.name in ON_SOMETHING else "")
    return BY_HANDLER.get(rpc.name, "a workspace's")


def expected(rpc: Rpc) -> dict[str, str]:
    return dict(zip(ROLES, EXPECTED[kind_of(rpc)], strict=True))


def name_of(rpc: Rpc) -> str:
    return f"{rpc.service.rpartition('.')[2]}.{rpc.name}"


def test_every_rpc_is_in_the_matrix() -> None:
    """A new RPC comes with a request that can be tried on everybody."""
    assert known_rpcs() == {name_of(rpc) for rpc in RPCS}


async def called(rpc: Rpc, party: Party, frames: list[bytes], rows: Rows) -> tuple[str, list[str]]:
    """The code of a call, and the tables that the call has changed although it was refused.

    What earlier calls have left to background tasks may be written beside a call: what a refused
    call writes itself, it writes each time.
    """
    code, tables = "", [""]
    for _ in range(3):
        if not tables:
            break
        before = await rows.look()
        code = (await call(party, rpc, *frames)).code
        tables = [] if code == OK else await rows.changed_since(before)
    return code, tables


@pytest.mark.parametrize("rpc", RPCS, ids=name_of)
async def test_each_caller_gets_what_the_policy_says(rpc: Rpc, family: Family, rows: Rows) -> None:
    """And a call that is refused changes nothing."""
    codes: dict[str, str] = {}
    changed: list[str] = []
    for role, party in family.parties.items():
        frames = [frame.SerializeToString() for frame in await valid_frames(rpc, family)]
        codes[role], tables = await called(rpc, party, frames, rows)
        if tables:
            changed.append(f"{role}: {tables}")
    best, _ = AT_BEST.get(rpc.name, (OK, 0))
    assert codes == {role: best if code == OK else code for role, code in expected(rpc).items()}
    assert changed == []


@pytest.fixture(scope="module")
async def reborn_family(new_family: NewFamily) -> Family:
    """A family whose workspace was another organisation's before it was purged."""
    return await reborn(await new_family())


@pytest.mark.parametrize("rpc", RPCS, ids=name_of)
async def test_a_purged_id_that_another_organisation_took_is_foreign_to_its_first_one(
    rpc: Rpc, reborn_family: Family, rows: Rows
) -> None:
    """To the old organisation, and to the holder of an old token."""
    for role in ("revoked token", "foreign organization"):
        frames = [frame.SerializeToString() for frame in await valid_frames(rpc, reborn_family)]
        code, tables = await called(rpc, reborn_family.parties[role], frames, rows)
        assert (role, code, tables) == (role, expected(rpc)[role], [])


@pytest.mark.parametrize("rpc", REST_RPCS, ids=name_of)
async def test_each_caller_gets_the_status_that_goes_with_it(rpc: Rpc, family: Family) -> None:
    """A sample of each RPC's row through REST, with an error's body wherever there is one."""
    statuses: dict[str, int] = {}
    wrong_bodies: list[str] = []
    for role in REST_ROLES:
        [request] = await valid_frames(rpc, family)
        answer = await call_rest(family.parties[role], rpc, request)
        statuses[role] = answer.status_code
        if answer.status_code >= 400 and not isinstance(answer.json()["error"], str):
            wrong_bodies.append(role)
    _, success = AT_BEST.get(rpc.name, (OK, rpc.face.success_status))
    assert statuses == {
        role: success if code == OK else HTTP[code]
        for role, code in expected(rpc).items()
        if role in REST_ROLES
    }
    assert wrong_bodies == []


async def test_revoked_token_ends_everything_that_lasts(
    family: Family, still_server: RunningServer
) -> None:
    """In the middle of each call that may last; all of them are counted by the one guard."""
    async with under_way(LASTING, family, still_server) as calls:
        for call in calls.values():
            path = f"/workspaces/{call.agent.id}/tokens"
            [token] = (await family.org.rest("GET", path)).json()["tokens"]
            await family.org.rest("DELETE", f"{path}/{token['id']}")
        codes = {name: await call.code() for name, call in calls.items()}
    assert codes == dict.fromkeys(calls, NO_TOKEN)
