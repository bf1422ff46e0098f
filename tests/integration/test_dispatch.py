"""What becomes of a message, agent by agent: each misbehaviour has its class."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil
import pytest

from molecule_grpc import egress
from molecule_grpc.delegation.outbound.dispatch import Dispatcher
from molecule_grpc.delegation.outbound.outcome import Delivered, Failed, NotSent, SendFailure
from molecule_grpc.directory import WorkspaceInfo
from tests import fake_agent as agents
from tests.fake_agent import Behaviour, fake_agent
from tests.flooding_agent import flooding_agent
from tests.name_server import name_server
from tests.settings import egress_of, settings_of

BODY = b'{"method":"message/send","params":{"message":{"messageId":"m1","parts":[]}}}'
MIB = 1_048_576
ID = UUID(int=1)
OK = b"HTTP/1.1 200 OK\r\n"


def target_at(url: str, **changes: Any) -> WorkspaceInfo:
    """What dispatch knows of a workspace."""
    known = {
        "id": ID,
        "organization_id": ID,
        "name": "agent",
        "role": "",
        "status": "online",
        "url": url,
        "delivery_mode": "push",
        "runtime": "langgraph",
    }
    return WorkspaceInfo(**{**known, **changes})


@dataclass(slots=True)
class Containers:
    """Says of every container the same, and remembers what it was asked."""

    dead: bool = True
    broken: bool = False
    asked: int = 0
    woken: int = 0

    async def is_dead(self, workspace_id: UUID) -> bool:
        self.asked += 1
        if self.broken:
            raise ConnectionError("no answer")
        return self.dead

    async def wake(self, workspace_id: UUID) -> None:
        self.woken += 1


async def silent(workspace_id: UUID) -> float | None:
    """A workspace that never shows a sign of life."""
    return None


def dispatcher(
    containers: Containers | None = None, sign: Any = silent, **changes: Any
) -> Dispatcher:
    settings = settings_of(**{"deployment_environment": "development", **changes})
    rules = egress.EgressRules.of(settings.deployment, settings.egress)
    return Dispatcher(settings.outbound, egress_of(rules), sign=sign, containers=containers)


async def outcome_of(behave: Behaviour, **changes: Any) -> Any:
    async with fake_agent(behave) as agent:
        outcome = await dispatcher(**changes).dispatch(target_at(agent.url), BODY, ceiling=5.0)
        assert len(agent.received) == 1
        return outcome


# SendFailure classes.

BUSY = {
    "hangs up": agents.hangs_up,
    "resets": agents.resets,
    "stops within its headers": agents.raw(OK + b"Content-Le"),
}
UNREACHABLE = {
    "does not speak HTTP": agents.raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "wants another protocol": agents.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
}
UNREADABLE = {
    "garbage": agents.answers(200, b"<html>hello</html>"),
    "packed": agents.answers(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "less than announced": agents.raw(OK + b"Content-Length: 100\r\n\r\n{}"),
    "broken chunks": agents.raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "stops within a chunk": agents.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "half a document": agents.raw(OK + b"Connection: close\r\n\r\n" + b'{"result":'),
    "announces too much": agents.floods(10**10, declared=True),
    "sends too much": agents.floods(10**10, declared=False),
}


@pytest.mark.parametrize("behave", BUSY.values(), ids=BUSY.keys())
async def test_whatever_may_have_arrived_is_busy(behave: Behaviour) -> None:
    """I-PX-2: a slow or stumbling agent is not dead."""
    outcome = await outcome_of(behave)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.BUSY


@pytest.mark.parametrize("behave", UNREACHABLE.values(), ids=UNREACHABLE.keys())
async def test_whatever_is_no_agent_is_unreachable(behave: Behaviour) -> None:
    outcome = await outcome_of(behave)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.UNREACHABLE


@pytest.mark.parametrize("behave", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_success_that_cannot_be_read_is_delivered(behave: Behaviour) -> None:
    """I-PX-3: the status was read, so the agent has the message."""
    outcome = await outcome_of(behave)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.UNREADABLE


async def test_no_answer_within_the_ceiling_is_busy() -> None:
    async with fake_agent(agents.hangs) as agent:
        outcome = await dispatcher().dispatch(target_at(agent.url), BODY, ceiling=0.2)
    assert outcome == Failed(SendFailure.BUSY, "no answer within 0 s")


async def test_no_headers_in_time_is_busy() -> None:
    outcome = await outcome_of(agents.hangs, outbound_header_timeout=0.2)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.BUSY


async def test_silence_is_busy() -> None:
    outcome = await outcome_of(agents.hangs, outbound_idle_timeout=0.2)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.BUSY


async def test_an_agent_says_how_long_it_may_be_silent() -> None:
    async with fake_agent(agents.hangs) as agent:
        target = target_at(agent.url, idle_timeout=0.2)
        outcome = await dispatcher(outbound_idle_timeout=60).dispatch(target, BODY, ceiling=5.0)
    assert outcome == Failed(SendFailure.BUSY, "no sign of life for 0 s")


async def test_a_drip_of_bytes_is_no_silence() -> None:
    async def drips(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 12\r\n\r\n")
        for byte in b'{"result":1}':
            await asyncio.sleep(0.1)
            writer.write(bytes([byte]))

    outcome = await outcome_of(drips, outbound_idle_timeout=1)
    assert isinstance(outcome, Delivered)
    assert outcome.body == b'{"result":1}'


async def test_a_sign_of_life_elsewhere_resets_the_idle_timeout() -> None:
    """Heartbeats, messages, the record: an agent that works says so."""
    answer = asyncio.Event()
    signs: list[float] = []

    async def lives(_: UUID) -> float:
        signs.append(time.monotonic())
        if len(signs) == 3:
            answer.set()
        return 0.0

    outcome = await outcome_of(
        agents.waits_for(answer, agents.says("done")), sign=lives, outbound_idle_timeout=0.1
    )
    assert isinstance(outcome, Delivered)
    assert len(signs) >= 3


async def test_a_database_that_is_away_is_no_silence() -> None:
    """I-PX-2: not knowing is no reason to give up on an agent."""
    asked = asyncio.Event()

    async def away(_: UUID) -> float:
        asked.set()
        raise ConnectionError("no database")

    outcome = await outcome_of(
        agents.waits_for(asked, agents.says("done")), sign=away, outbound_idle_timeout=0.1
    )
    assert isinstance(outcome, Delivered)


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        outcome = await dispatcher().dispatch(target_at(url), BODY, ceiling=5.0)
    assert outcome == Failed(SendFailure.UNREACHABLE, "the connection was refused")


async def test_a_name_without_address_is_unreachable_not_refused() -> None:
    """It may have one tomorrow."""
    outcome = await dispatcher().dispatch(target_at("http://no.such.invalid/"), BODY, ceiling=5.0)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.UNREACHABLE


async def test_no_tls_where_tls_is_wanted_is_unreachable() -> None:
    async def refuses(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 this is no TLS\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuses, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outcome = await dispatcher().dispatch(target_at(url), BODY, ceiling=5.0)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.UNREACHABLE


async def test_details_name_no_address() -> None:
    """The caller must not learn the platform's inner network from an error."""
    for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/"):
        outcome = await dispatcher().dispatch(target_at(url), BODY, ceiling=5.0)
        assert isinstance(outcome, Failed)
        assert "127.0.0.1" not in outcome.detail


# Answers.


async def test_an_answer_arrives_as_it_was_sent() -> None:
    body = (
        b'{"jsonrpc":"2.0", "id":"custom-id-123","error":{"code":-32601,"message":"no"},"z":null}'
    )
    outcome = await outcome_of(agents.answers(200, body))
    assert isinstance(outcome, Delivered)
    assert (outcome.status, outcome.body) == (200, body)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 404, 429, 500, 503])
async def test_errors_keep_their_status(status: int) -> None:
    outcome = await outcome_of(agents.answers(status, {"error": "x"}))
    assert isinstance(outcome, Delivered)
    assert (outcome.status, outcome.ok) == (status, False)


async def test_an_error_without_json_becomes_json() -> None:
    """A page of HTML from an agent must not be a page of ours."""
    outcome = await outcome_of(agents.answers(502, b"<html><script>alert(1)</script>"))
    assert isinstance(outcome, Delivered)
    assert outcome.status == 502
    assert outcome.body.startswith(b'{"error":"the workspace agent answered 502"')


async def test_an_error_whose_body_breaks_off_keeps_its_status() -> None:
    outcome = await outcome_of(agents.raw(b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nabc"))
    assert isinstance(outcome, Delivered)
    assert outcome.status == 500


async def test_no_redirect_is_followed() -> None:
    """A redirect to the metadata service ends at us."""
    async with fake_agent() as secret:
        outcome = await outcome_of(agents.answers(307, {}, Location=secret.url))
        assert secret.connections == 0
    assert isinstance(outcome, Delivered)
    assert outcome.status == 307


async def test_the_largest_answer_passes() -> None:
    body = b'"' + b"x" * (10 * MIB - 2) + b'"'
    outcome = await outcome_of(agents.answers(200, body))
    assert isinstance(outcome, Delivered)
    assert len(outcome.body) == 10 * MIB


async def test_what_the_agent_gets() -> None:
    async with fake_agent() as agent:
        url = agent.url.replace("127.0.0.1", "localhost")
        await dispatcher().dispatch(
            target_at(url + "a2a"), BODY, ceiling=5.0, headers={"traceparent": "00-1-2-03"}
        )
        [request] = agent.received
    assert request.headers["host"] == f"localhost:{agent.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["traceparent"] == "00-1-2-03"
    assert request.message_id == "m1"


async def test_a_crowd_of_flooding_agents_does_not_fill_the_memory() -> None:
    """Ten gigabytes each, from sixty at once."""
    process = psutil.Process()
    sender = dispatcher()
    async with flooding_agent(10**10) as url:
        before = peak = process.memory_info().rss
        calls = [
            asyncio.create_task(sender.dispatch(target_at(url), BODY, ceiling=50.0))
            for _ in range(60)
        ]
        while not all(call.done() for call in calls):
            await asyncio.wait(calls, timeout=0.05)
            peak = max(peak, process.memory_info().rss)
    for call in calls:
        outcome = call.result()
        assert isinstance(outcome, Failed)
        assert outcome.failure is SendFailure.UNREADABLE
    # Held whole, the answers up to their cap alone would take 600.
    assert peak - before < 400 * MIB


# Addresses.


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"deployment_environment": ""}, "http://127.0.0.1:{port}/"),
        ({"deployment_environment": ""}, "http://localhost:{port}/"),
        (
            {"deployment_environment": "", "egress_networks": ("10.0.0.0/8",)},
            "http://127.0.0.1:{port}/",
        ),
        ({}, "http://169.254.169.254/"),
        ({}, "http://[::ffff:a9fe:a9fe]/"),
        ({}, "http://0.0.0.0:{port}/"),
        ({}, "ftp://127.0.0.1/"),
        ({}, "http://user:secret@127.0.0.1:{port}/"),
    ],
)
async def test_a_url_that_may_not_be_called_is_refused_at_dispatch(
    changes: dict[str, Any], url: str
) -> None:
    """I-PX-4: also when registration let it through, as it does with `localhost`."""
    async with fake_agent() as agent:
        outcome = await dispatcher(**changes).dispatch(
            target_at(url.format(port=agent.port)), BODY, ceiling=5.0
        )
        assert agent.connections == 0
    assert outcome == NotSent("URL_NOT_ROUTABLE", "workspace URL is not publicly routable")


async def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    """The name is resolved once, and the connection goes to what was checked."""
    with name_server({"rebind.test": [("127.0.0.1",), ("169.254.169.254",)]}) as names:
        async with fake_agent(agents.says("hello")) as agent:
            calling = dispatcher(egress_name_servers=(f"127.0.0.1:{names.port}",))
            target = target_at(f"http://rebind.test:{agent.port}/")
            outcome = await calling.dispatch(target, BODY, ceiling=5.0)
            [request] = agent.received
            again = await calling.dispatch(target, BODY, ceiling=5.0)
    assert isinstance(outcome, Delivered)
    assert isinstance(again, NotSent)
    assert names.asked == ["rebind.test"] * 2
    assert request.headers["host"] == f"rebind.test:{agent.port}"


async def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    """Every answer is checked, not the first one."""
    with name_server({"mixed.test": [("127.0.0.1", "169.254.169.254")]}) as names:
        async with fake_agent() as agent:
            calling = dispatcher(egress_name_servers=(f"127.0.0.1:{names.port}",))
            outcome = await calling.dispatch(
                target_at(f"http://mixed.test:{agent.port}/"), BODY, ceiling=5.0
            )
            assert agent.connections == 0
    assert isinstance(outcome, NotSent)


async def test_the_connector_goes_nowhere_else() -> None:
    """Even when it is handed another address, as a redirect would."""
    import aiohttp

    async with fake_agent() as other:
        checked = await egress_of(egress.EgressRules(local=True)).check("http://[::1]:1/")
        async with aiohttp.ClientSession(connector=egress.connector(checked)) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post(other.url, data=b"{}")
        assert other.connections == 0


# Agents in containers.


async def test_a_dead_container_is_told_from_a_busy_agent() -> None:
    """D50: the backend of the workspace is asked."""
    containers = Containers()
    outcome = await outcome_of(agents.hangs_up, containers=containers)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, containers.asked) == (SendFailure.DEAD, 1)


@pytest.mark.parametrize("answer", [Containers(dead=False), Containers(broken=True)])
async def test_only_a_definite_no_makes_an_agent_dead(answer: Containers) -> None:
    """D50, I-PX-2: doubt counts as alive."""
    outcome = await outcome_of(agents.hangs_up, containers=answer)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, answer.asked) == (SendFailure.BUSY, 1)


async def test_nobody_is_asked_about_an_external_agent() -> None:
    """D50: it has no container."""
    containers = Containers()
    async with fake_agent(agents.hangs_up) as agent:
        target = target_at(agent.url, runtime="external")
        outcome = await dispatcher(containers).dispatch(target, BODY, ceiling=5.0)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, containers.asked) == (SendFailure.BUSY, 0)


async def test_without_backends_nothing_is_called_dead() -> None:
    """D50: with neither of them."""
    outcome = await outcome_of(agents.hangs_up)
    assert isinstance(outcome, Failed)
    assert outcome.failure is SendFailure.BUSY


async def test_an_answer_asks_nobody() -> None:
    """D50: only transport failures raise the question."""
    containers = Containers()
    await outcome_of(agents.answers(500, {}), containers=containers)
    await outcome_of(agents.answers(200, b"garbage"), containers=containers)
    assert containers.asked == 0


@pytest.mark.parametrize("status", ["hibernating", "hibernated"])
async def test_a_sleeping_workspace_is_woken_and_not_called(status: str) -> None:
    containers = Containers()
    async with fake_agent() as agent:
        target = target_at(agent.url, status=status)
        outcome = await dispatcher(containers).dispatch(target, BODY, ceiling=5.0)
        assert agent.connections == 0
    assert outcome == NotSent("WORKSPACE_WAKING", "the workspace is waking up", passing=True)
    assert containers.woken == 1


async def test_a_workspace_without_url_is_not_called() -> None:
    outcome = await dispatcher().dispatch(target_at(""), BODY, ceiling=5.0)
    assert outcome == NotSent("URL_NOT_REGISTERED", "workspace has no URL", passing=True)
