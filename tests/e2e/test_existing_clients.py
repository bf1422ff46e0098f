"""docs/existing-clients.md, row by row: each switch opens its door, which is shut without it."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.parties import Agent, Party, Wire, found, wire_to
from tests.e2e.plain_http import form
from tests.running import RunningServer

SWITCHES = {
    "MOLECULE_OPEN_REGISTRATION": "1",
    "MOLECULE_ENABLE_TEST_TOKENS": "1",
    "MOLECULE_PUBLIC_WORKSPACE_VIEW": "1",
    "MOLECULE_UPLOAD_READ_AFTER_ACK": "1",
}


async def statuses(wire: Wire, operator: Party) -> dict[str, int]:
    """What the programs of the page get to hear, by the switch that they need."""
    org = await found(wire, operator)
    agent, stranger = await org.hire(), wire.party()
    view = await stranger.rest("GET", f"/workspaces/{agent.id}")
    token = await operator.rest("GET", f"/admin/workspaces/{agent.id}/test-token")
    again = await _read_after_ack(agent)
    for each in (await org.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]:
        await org.rest("DELETE", f"/workspaces/{agent.id}/tokens/{each['id']}")
    # As the SDK registers: no token, no mode, and a URL that is none.
    body = {"id": agent.id, "agent_card": {"name": "sdk"}, "url": "remote://no-inbound"}
    registered = await stranger.rest("POST", "/registry/register", body)
    if registered.status_code == 200:
        assert registered.json()["auth_token"]
        assert registered.json()["delivery_mode"] == "poll"
        assert (await stranger.rest("POST", "/registry/register", body)).status_code == 401
    return {
        "MOLECULE_PUBLIC_WORKSPACE_VIEW": view.status_code,
        "MOLECULE_ENABLE_TEST_TOKENS": token.status_code,
        "MOLECULE_UPLOAD_READ_AFTER_ACK": again,
        "MOLECULE_OPEN_REGISTRATION": registered.status_code,
    }


async def _read_after_ack(agent: Agent) -> int:
    path = f"/workspaces/{agent.id}"
    body = form(b'name="files"; filename="a.txt"', b"hi")
    kind = {"content-type": "multipart/form-data; boundary=B0undary"}
    staged = await agent.wire.http.post(
        f"{path}/chat/uploads", content=body, headers={**agent.headers, **kind}
    )
    assert staged.status_code == 200, staged.text
    file = f"{path}/pending-uploads/{staged.json()['files'][0]['uri'].rpartition('/')[2]}"
    assert (await agent.rest("POST", f"{file}/ack")).status_code == 200
    return (await agent.rest("GET", f"{file}/content")).status_code


async def test_each_switch_opens_its_door(own_server: Callable[..., RunningServer]) -> None:
    running = own_server(**SWITCHES)
    async with wire_to(running) as wire:
        assert await statuses(wire, wire.party(running.admin_token)) == dict.fromkeys(SWITCHES, 200)


async def test_without_switches_the_doors_are_shut(wire: Wire, operator: Party) -> None:
    """The session's server has test tokens alone."""
    assert await statuses(wire, operator) == {
        "MOLECULE_PUBLIC_WORKSPACE_VIEW": 401,
        "MOLECULE_ENABLE_TEST_TOKENS": 200,
        "MOLECULE_UPLOAD_READ_AFTER_ACK": 404,
        "MOLECULE_OPEN_REGISTRATION": 401,
    }


async def test_development_lets_a_client_without_a_token_work(
    own_server: Callable[..., RunningServer],
) -> None:
    running = own_server(MOLECULE_ENV="development", ADMIN_TOKEN="")
    async with wire_to(running) as wire:
        stranger = wire.party()
        made = await stranger.rest("POST", "/workspaces", {"name": "a", "external": True})
        assert made.status_code == 201, made.text
        ids = {"caller_id": made.json()["id"], "target_id": made.json()["id"]}
        asked = await stranger.rest("POST", "/registry/check-access", ids)
        assert (asked.status_code, asked.json()) == (200, {"allowed": True})
        assert (await wire.party("wrong").rest("GET", "/workspaces")).status_code == 401
        own = wire.party(made.json()["connection"]["auth_token"])
        assert (await own.rest("GET", "/workspaces")).status_code == 200
