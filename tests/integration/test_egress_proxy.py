"""The proxy of workspaces: the gateway's Envoy with a worker's decisions, on loopback addresses.

127.0.0.2 and 127.0.0.3 stand for the world. 127.0.0.1 is this machine, whose own addresses no list
opens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from molecule_grpc.backends.docker.gate import ListenerFile
from molecule_grpc.backends.docker.networks import Network
from molecule_grpc.backends.egress import store
from molecule_grpc.backends.egress.credentials import password_of
from molecule_grpc.backends.egress.decisions import Decisions, is_own
from molecule_grpc.backends.egress.door import Door
from molecule_grpc.backends.egress.refused import RefusedHosts
from molecule_grpc.backends.egress.values import Outcome
from molecule_grpc.db.pool import Pool
from molecule_grpc.host_list import HostList, Target
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.lookups import Address, Lookups
from molecule_grpc.server.process.gateway import GatewayProcess
from molecule_grpc.settings.docker import DockerSettings
from molecule_grpc.settings.edge import EdgeSettings
from tests.integration.workspaces import ORGANIZATION, add, add_organization
from tests.name_server import NameServer, name_server
from tests.ports import free_port
from tests.waiting import PATIENCE, until

KEY = bytes(range(32))
WORLD = "127.0.0.2"
CONNECTIONS = 8
# Each name's answers in turn; the last one stays.
NAMES: dict[str, list[tuple[str, ...]]] = {
    "good.test": [(WORLD,)],
    "other.test": [(WORLD,)],
    "sub.wild.test": [(WORLD,)],
    "inside.test": [("127.0.0.1",)],
    "private.test": [("10.0.0.7",)],
    "metadata.test": [("169.254.169.254",)],
    "mixed.test": [(WORLD, "127.0.0.1")],
    "rebinding.test": [(WORLD,), ("127.0.0.1",)],
    "platform.test": [(WORLD,)],
}


@dataclass(slots=True)
class Answered:
    """What a client of the proxy read."""

    status: int
    body: str
    head: str = ""


@dataclass(slots=True)
class Proxy:
    """The proxy, with a world behind it and the workspaces of a test before it."""

    pool: Pool
    refused: RefusedHosts
    names: NameServer
    port: int
    world: int
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def workspace(self, hosts: object, organization: UUID = ORGANIZATION) -> Party:
        """A workspace that was started behind the proxy."""
        stored = HostList.read(hosts).as_stored
        [workspace_id] = await add(
            self.pool, status="online", organization_id=organization, egress=stored
        )
        party = Party(self, workspace_id, new_id())
        async with self.pool.acquire() as conn:
            await store.note_start(conn, workspace_id, party.operation_id)
        return party


@dataclass(slots=True)
class Party:
    """A workspace that speaks to the proxy."""

    proxy: Proxy
    id: UUID
    operation_id: UUID

    @property
    def credentials(self) -> str:
        pair = f"{self.id}:{password_of(KEY, self.operation_id)}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    async def ask(self, line: str, host: str = "", credentials: str | None = None) -> Answered:
        """One request with this first line, exactly as given; a tunnel is asked for a page."""
        shown = self.credentials if credentials is None else credentials
        lines = [f"{line} HTTP/1.1", f"Host: {host or 'x.test'}"]
        lines += [f"Proxy-Authorization: {shown}"] if shown else []
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
            with contextlib.closing(writer):
                writer.write(("\r\n".join([*lines, "", ""])).encode())
                answered = await _answer(reader)
                if not line.startswith("CONNECT") or answered.status != 200:
                    return answered
                writer.write(b"GET /through HTTP/1.1\r\nHost: inside-tunnel\r\n\r\n")
                return await _answer(reader)

    async def tunnel(self, host: str, port: int | None = None) -> Answered:
        """A page through CONNECT."""
        return await self.ask(f"CONNECT {host}:{port or self.proxy.world}")

    async def page(self, host: str, port: int | None = None) -> Answered:
        """A page by plain HTTP."""
        return await self.ask(f"GET http://{host}:{port or self.proxy.world}/page")

    async def allow(self, hosts: object) -> None:
        """Change the list, as UpdateWorkspace does."""
        await self.proxy.pool.execute(
            "UPDATE workspaces SET egress = $2 WHERE id = $1",
            self.id,
            HostList.read(hosts).as_stored,
        )

    async def listed(self) -> list[tuple[str, int, str, int]]:
        """The hosts that are shown as refused, newest first."""
        await self.proxy.refused.write()
        view = await store.view(self.proxy.pool, self.id, None)
        assert view is not None
        return [(each.host, each.port, each.reason, each.attempts) for each in view.refused]


async def _answer(reader: asyncio.StreamReader) -> Answered:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answered(0, "")  # Closed without an answer.
    status = int(head.split(" ", 2)[1])
    length = [
        int(line.partition(":")[2])
        for line in head.splitlines()
        if line.lower().startswith("content-length")
    ]
    body = await reader.readexactly(length[0]) if length else b""
    return Answered(status, body.decode(), head)


@contextlib.asynccontextmanager
async def _world(asked: list[dict[str, Any]]) -> AsyncIterator[int]:
    async def page(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        shown = {"path": request.path_qs, "host": request.headers.get("host")}
        return web.json_response(shown)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, WORLD, port).start()
    # The same port on this machine itself: what no workspace may reach.
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server(NAMES) as running:
        yield running


@pytest.fixture
async def proxy(pool: Pool, names: NameServer, tmp_path: Path) -> AsyncIterator[Proxy]:
    asked: list[dict[str, Any]] = []
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(_world(asked))
        gateway = GatewayProcess(tmp_path, EdgeSettings())
        await gateway.start()
        stack.push_async_callback(gateway.stop, 1.0)
        lookups = Lookups(Budget("name lookups", {}), [f"127.0.0.1:{names.port}"])
        stack.push_async_callback(lookups.close)
        refused = RefusedHosts(pool)
        decisions = Decisions(
            pool, lookups, refused, key=KEY, allows=_is_world, own_hosts=["platform.test"]
        )
        serving = asyncio.create_task(Door(gateway.directory, decisions).serve())
        stack.callback(serving.cancel)
        settings = DockerSettings(proxy_port=free_port(), proxy_connections=CONNECTIONS)
        gate = ListenerFile(gateway.directory, free_port(), settings, certificates=False)
        network = Network("closed", "127.0.0.1", True, "127.0.0.0/24", ORGANIZATION)
        await gate.networks_changed([network])
        await until(lambda: _accepts(settings.proxy_port), bool)
        await until(lambda: _exists(gateway.directory / "decider.sock"), bool)
        yield Proxy(pool, refused, names, settings.proxy_port, world, asked)


def _is_world(address: Address) -> bool:
    return str(address) in (WORLD, "127.0.0.3")


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _exists(path: Path) -> bool:
    return path.exists()


async def test_what_is_listed_passes_and_all_else_reads_403(proxy: Proxy) -> None:
    """Tunnels and plain pages. What is refused is shown with the reason, and how often."""
    here = f"{proxy.world}"
    agent = await proxy.workspace([f"good.test:{here}", f"*.wild.test:{here}"])
    for host in ("good.test", "GOOD.Test", "good.test.", "sub.wild.test"):
        page, tunnel = await agent.page(host), await agent.tunnel(host)
        assert (page.status, tunnel.status) == (200, 200), (host, page, tunnel)
        assert json.loads(page.body)["path"] == "/page"
        assert json.loads(tunnel.body) == {"path": "/through", "host": "inside-tunnel"}
    # The host learns nothing of the proxy, and not the password.
    known = {"host", "content-length"}
    assert {name.lower() for name in proxy.asked[0]} <= known, proxy.asked[0]
    for host in ("other.test", "wild.test", "evilgood.test", "good.test.evil.test"):
        page, tunnel = await agent.page(host), await agent.tunnel(host)
        assert (page.status, tunnel.status) == (403, 403), host
        assert json.loads(page.body)["error"] == f"{host}:{here} is not on the egress list"
    assert (await agent.tunnel("good.test", 22)).status == 403
    # No name server hears of what is not listed.
    assert not {"other.test", "evilgood.test"} & set(proxy.names.asked)
    shown = await agent.listed()
    assert shown[0] == ("good.test", 22, "not_listed", 1)
    assert ("other.test", proxy.world, "not_listed", 2) in shown


async def test_a_changed_list_holds_for_the_next_connection(proxy: Proxy) -> None:
    agent = await proxy.workspace("none")
    assert (await agent.tunnel("good.test")).status == 403
    await agent.allow([f"good.test:{proxy.world}"])
    assert (await agent.tunnel("good.test")).status == 200
    await agent.allow([f"other.test:{proxy.world}"])
    assert (await agent.tunnel("good.test")).status == 403
    # Until its restart an opened workspace gets out by the proxy, to what is public.
    await agent.allow("open")
    assert (await agent.tunnel("good.test")).status == 200
    assert (await agent.tunnel("inside.test")).status == 403


async def test_nobody_passes_for_another_workspace(proxy: Proxy) -> None:
    """A password is of one start, and of the network of its organisation."""
    listed = [f"good.test:{proxy.world}"]
    agent, neighbour = await proxy.workspace(listed), await proxy.workspace("none")
    stranger = await proxy.workspace(listed, await add_organization(proxy.pool))
    mixed = f"{agent.id}:{password_of(KEY, neighbour.operation_id)}"
    shown = {
        "": "none",
        "Basic": "nothing",
        "Basic !!!": "no base64",
        f"Bearer {password_of(KEY, agent.operation_id)}": "another scheme",
        "Basic " + base64.b64encode(str(agent.id).encode()).decode(): "no password",
        "Basic " + base64.b64encode(mixed.encode()).decode(): "a neighbour's password",
        stranger.credentials: "a password of another organisation",
    }
    for credentials, what in shown.items():
        answered = await agent.ask(f"CONNECT good.test:{proxy.world}", credentials=credentials)
        assert answered.status == 407, what
        assert "proxy-authenticate: Basic" in answered.head
    assert (await neighbour.tunnel("good.test")).status == 403
    assert (await agent.tunnel("good.test")).status == 200
    before = agent.credentials
    async with proxy.pool.acquire() as conn:
        await store.note_start(conn, agent.id, new_id())
    answered = await agent.ask(f"CONNECT good.test:{proxy.world}", credentials=before)
    assert answered.status == 407
    async with proxy.pool.acquire() as conn:
        await store.note_start(conn, agent.id, agent.operation_id)
    await proxy.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", agent.id)
    assert (await agent.tunnel("good.test")).status == 407


async def test_no_name_leads_to_this_machine_or_to_a_private_address(proxy: Proxy) -> None:
    """The address is looked up once and checked; what a name leads to a moment later is all one."""
    names = ["inside", "private", "metadata", "mixed", "rebinding", "platform", "nobody"]
    hosts = [f"{name}.test" for name in names]
    literals = ["127.0.0.1", "10.0.0.7", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]"]
    agent = await proxy.workspace([f"{each}:{proxy.world}" for each in [*hosts, *literals]])
    for host in ("inside.test", "private.test", "metadata.test", "mixed.test", *literals):
        page, tunnel = await agent.page(host), await agent.tunnel(host)
        assert (page.status, tunnel.status) == (403, 403), host
        assert "may not be reached" in page.body
    assert (await agent.tunnel("platform.test")).status == 403
    assert (await agent.tunnel("rebinding.test")).status == 200
    reasons = {host: reason for host, _, reason, _ in await agent.listed()}
    assert set(reasons.values()) == {"not_public"}
    assert reasons["::ffff:7f00:1"] == "not_public"
    assert proxy.asked[0]["Host"] == "inside-tunnel"
    assert len(proxy.asked) == 1
    assert (await agent.tunnel("nobody.test")).status == 502
    assert (await agent.listed())[0][2] == "unresolvable"


# Lines as a hostile client writes them, and what they read. `{p}` is a port that is listed.
LINES = [
    ("CONNECT good.test", (400,)), ("CONNECT good.test:0{p}", (400,)),
    ("CONNECT good.test:99999", (400,)), ("CONNECT a:b@good.test:{p}", (400,)),
    ("CONNECT 2130706433:{p}", (400,)), ("CONNECT 0x7f.1:{p}", (400,)),
    ("CONNECT 127.0.0.1:{p}", (403,)), ("CONNECT [::ffff:127.0.0.1]:{p}", (403,)),
    ("CONNECT [::1%lo]:{p}", (400,)), ("CONNECT good.test..:{p}", (400,)),
    ("CONNECT *.wild.test:{p}", (400,)), ("CONNECT http://good.test:{p}/", (0, 400)),
    ("GET ftp://good.test:{p}/", (0, 400, 403)),
    ("GET http:///etc/passwd", (0, 400, 403)), ("OPTIONS *", (0, 400, 403, 404)),
    ("GET https://good.test:{p}/", (0, 400, 403)),
]  # fmt: skip


async def test_hostile_first_lines_reach_nobody(proxy: Proxy) -> None:
    agent = await proxy.workspace([f"good.test:{proxy.world}", "good.test"])
    for line, statuses in LINES:
        answered = await agent.ask(line.format(p=proxy.world))
        assert answered.status in statuses, (line, answered)
    assert proxy.asked == []


async def test_the_absolute_uri_decides_and_the_host_header_is_rewritten(proxy: Proxy) -> None:
    """RFC 9112, 3.2.2: nothing is smuggled to a second host of the same address."""
    agent = await proxy.workspace([f"good.test:{proxy.world}"])
    listed = f"http://good.test:{proxy.world}/page"
    answered = await agent.ask(f"GET {listed}", host=f"other.test:{proxy.world}")
    assert json.loads(answered.body)["host"] == f"good.test:{proxy.world}"
    unlisted = f"http://other.test:{proxy.world}/page"
    answered = await agent.ask(f"GET {unlisted}", host=f"good.test:{proxy.world}")
    assert answered.status == 403
    answered = await agent.ask(f"CONNECT other.test:{proxy.world}", host="good.test")
    assert answered.status == 403
    forged = f"{listed} HTTP/1.1\r\nX-Address: 127.0.0.1:{proxy.world}"
    forged += f"\r\nx-envoy-original-dst-host: 127.0.0.1:{proxy.world}"
    answered = await agent.ask(f"GET {forged}\r\nX-Rest: ")
    assert answered.status == 200
    await agent.allow("none")
    assert (await agent.ask(f"GET {forged}\r\nX-Rest: ")).status == 403


def test_an_address_of_this_machine_is_known_in_every_spelling() -> None:
    """Through an IPv6 address that carries it, too."""
    own = "127.0.0.1"
    for spelling in (own, f"::ffff:{own}", f"64:ff9b::{own}"):
        assert is_own(ipaddress.ip_address(spelling)), spelling
    for other in ("9.9.9.9", "::ffff:9.9.9.9", "2606:4700::1"):
        assert not is_own(ipaddress.ip_address(other)), other


async def test_refused_hosts_are_bounded(proxy: Proxy) -> None:
    """Of 300 hosts the newest hundred stay; a host that is refused again counts up."""
    agent = await proxy.workspace("none")
    for turn in range(3):
        for number in range(150):
            host = Target(f"h{turn}-{number}.test", 443)
            proxy.refused.note(agent.id, host, Outcome.NOT_LISTED)
        assert len(await agent.listed()) == 100
    assert {host[:3] for host, *_ in await agent.listed()} == {"h2-"}
    await agent.tunnel("h2-7.test", 443)
    assert (await agent.listed())[0] == ("h2-7.test", 443, "not_listed", 2)
    # What is purged in the meantime is left out, and keeps no other from being noted.
    gone = await proxy.workspace("none")
    proxy.refused.note(gone.id, Target("a.test", 443), Outcome.NOT_LISTED)
    proxy.refused.note(agent.id, Target("a.test", 443), Outcome.NOT_LISTED)
    await proxy.pool.execute("DELETE FROM workspaces WHERE id = $1", gone.id)
    assert (await agent.listed())[0] == ("a.test", 443, "not_listed", 1)


async def test_connections_of_an_organization_are_bounded(proxy: Proxy) -> None:
    """Who holds them all open keeps out its own neighbours, and is let in again afterwards."""
    agent = await proxy.workspace([f"good.test:{proxy.world}"])
    held = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(CONNECTIONS)]
    for _, writer in held:
        writer.write(b"GET http://good.test/ HTTP/1.1\r\n")  # And never the rest of the head.
        await writer.drain()
    assert (await agent.tunnel("good.test")).status == 0
    for _, writer in held:
        writer.close()

    async def status() -> int:
        return (await agent.tunnel("good.test")).status

    await until(status, lambda found: found == 200)


async def test_only_the_network_of_the_organization_is_served(proxy: Proxy) -> None:
    """From 127.0.1.1, outside of the network, the connection is closed without an answer."""
    agent = await proxy.workspace([f"good.test:{proxy.world}"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", proxy.port, local_addr=("127.0.1.1", 0)
    )
    with contextlib.closing(writer):
        head = f"CONNECT good.test:{proxy.world} HTTP/1.1\r\nHost: x\r\n"
        writer.write(f"{head}Proxy-Authorization: {agent.credentials}\r\n\r\n".encode())
        assert (await _answer(reader)).status == 0


async def test_without_a_decision_nothing_passes(pool: Pool, tmp_path: Path) -> None:
    """The proxy fails closed: no worker serves the socket."""
    gateway = GatewayProcess(tmp_path, EdgeSettings())
    await gateway.start()
    try:
        settings = DockerSettings(proxy_port=free_port())
        gate = ListenerFile(gateway.directory, free_port(), settings, certificates=False)
        network = Network("closed", "127.0.0.1", True, "127.0.0.0/24", ORGANIZATION)
        await gate.networks_changed([network])
        await until(lambda: _accepts(settings.proxy_port), bool)
        with name_server(NAMES) as names:
            proxy = Proxy(pool, RefusedHosts(pool), names, settings.proxy_port, free_port())
            agent = await proxy.workspace("open")
            answered = await agent.tunnel("good.test")
            assert (answered.status, "try again" in answered.body) == (503, True)
    finally:
        await gateway.stop(1.0)
