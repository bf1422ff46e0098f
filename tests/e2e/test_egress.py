"""Egress by allow-list: the real server, a real engine with its firewall, and a world behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.conftest import as_server, execute, with_database
from tests.e2e.parties import Organization, Party, found, wire_to
from tests.e2e.test_docs import shell_blocks
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.engine.world import ADDRESS, World
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.e2e

_PAGE = """
import sys, urllib.request, urllib.error
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
except OSError as error: print("none", error)
"""
_TUNNEL = """
import base64, http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["https_proxy"])
pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
host, port = sys.argv[1].split(":")
client = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=60)
client.set_tunnel(host, int(port), {"Proxy-Authorization": "Basic " + pair})
try:
    client.request("GET", "/tunnel", headers={"Host": host})
    print(client.getresponse().read().decode())
except OSError as error: print(error)
"""
# A connection past the proxy, also bound to the interface, which needs no route.
_DIRECT = """
import socket, sys
for bound in (False, True):
    with socket.socket() as client:
        client.settimeout(2)
        if bound: client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        try: client.connect((sys.argv[1], int(sys.argv[2]))); print("open", end=" ")
        except ConnectionRefusedError: print("refused", end=" ")
        except OSError: print("none", end=" ")
"""
_NAME = """
import socket, sys
try: print(socket.gethostbyname(sys.argv[1]))
except OSError as error: print("none", error)
"""
_RAW = """
import socket
for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
    try: socket.socket(family, kind, 1); print("raw")
    except PermissionError: print("denied")
"""


@pytest.fixture(scope="module")
def world(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    opened = World(docker_engine.namespace, tmp_path_factory.mktemp("world"))
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


def _server(engine: DockerEngine, database_url: str, directory: Path, **more: str) -> RunningServer:
    return RunningServer(
        database_url,
        directory,
        entry=engine.namespace.entry,
        DATABASE_URL=as_server(database_url),
        MOLECULE_HOST=engine.namespace.inside,
        MOLECULE_BACKEND="docker",
        MOLECULE_DOCKER_HOST=engine.url,
        MOLECULE_DOCKER_IMAGES=f"*={IMAGE}",
        MOLECULE_NAME_SERVERS=f"{ADDRESS}:53",
        MOLECULE_RECONCILE_SECONDS="1",
        **more,
    )


@pytest.fixture(scope="module")
def platform(
    postgres: str,
    template: str,
    docker_engine: DockerEngine,
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    name = f"egress_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = _server(docker_engine, with_database(postgres, name), tmp_path_factory.mktemp("e"))
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))
    with contextlib.closing(docker_engine.witness()) as client:
        _remove_all(client)


def _remove_all(client: docker.DockerClient) -> None:
    """What a killed server has left: later tests count what is on the engine."""
    mine: dict[str, Any] = {"label": "molecule.platform.managed=true"}
    for container in client.containers.list(all=True, filters=mine, ignore_removed=True):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove()
    for network in client.networks.list(filters=mine):
        network.remove()


@pytest.fixture
async def operator(platform: RunningServer) -> AsyncIterator[Party]:
    async with wire_to(platform) as wire:
        yield wire.party(platform.admin_token)


class Contained:
    """A workspace in a container."""

    def __init__(self, org: Organization, client: docker.DockerClient, workspace: str) -> None:
        self.org = org
        self.id = workspace
        self._client = client

    @property
    def container(self) -> Any:
        return self._client.containers.get(f"ws-{self.id}")

    @property
    def network(self) -> dict[str, Any]:
        [network] = self.container.attrs["NetworkSettings"]["Networks"].values()
        return dict(network)

    async def run(self, program: str, *arguments: str) -> str:
        """What a program inside prints."""
        command = ["python3", "-c", program, *arguments]
        done = await asyncio.to_thread(self.container.exec_run, command)
        return str(done.output.decode()).strip()

    async def row(self) -> dict[str, Any]:
        answer = await self.org.rest("GET", f"/workspaces/{self.id}")
        return dict(answer.json())

    async def set(self, egress: object) -> dict[str, Any]:
        answer = await self.org.rest("PATCH", f"/workspaces/{self.id}", {"egress": egress})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def shown(self) -> dict[str, Any]:
        answer = await self.org.rest("GET", f"/workspaces/{self.id}/egress")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def asked(self, text: str) -> str:
        """The agent's answer to a message, by the platform's call."""
        part = {"kind": "text", "text": text}
        message = {"messageId": uuid.uuid4().hex, "role": "user", "parts": [part]}
        params = {"message": message}
        body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": params}
        return (await self.org.rest("POST", f"/workspaces/{self.id}/a2a", body)).text


async def start(org: Organization, client: docker.DockerClient, **fields: Any) -> Contained:
    """A workspace whose agent is online."""
    body = {"name": f"w {uuid.uuid4().hex[:8]}", "runtime": "langgraph", **fields}
    answer = await org.rest("POST", "/workspaces", body)
    assert answer.status_code == 201, answer.text
    made = Contained(org, client, answer.json()["id"])
    row = await until(made.row, lambda row: row.get("status") in ("online", "failed"))
    assert row["status"] == "online", row
    return made


async def shell(platform: RunningServer, *words: str) -> str:
    """What the command line prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "molecule_grpc.cli.main", *words),
        env={**os.environ, "MOLECULE_URL": platform.url, "MOLECULE_TOKEN": platform.admin_token},
        stdout=asyncio.subprocess.PIPE,
    )
    shown, _ = await process.communicate()
    assert process.returncode == 0, shown
    return shown.decode()


async def test_a_listed_workspace_reaches_its_list_and_the_platform_alone(
    operator: Party, platform: RunningServer, witness: docker.DockerClient, world: World
) -> None:
    org = await found(operator.wire, operator)
    agent = await start(org, witness, egress=["good.world", "*.wild.world:8080", "inside.world"])
    # Registered through its gateway, and called at its own address: no port is published.
    address = agent.network["IPAddress"]
    assert (await agent.row())["url"] == f"http://{address}:8000"
    assert witness.api.port(f"ws-{agent.id}", 8000) is None
    assert "echo: hi" in await agent.asked("hi")
    assert "the world: good.world/x" in await agent.run(_PAGE, "http://good.world/x")
    assert "the world: good.world/tunnel" in await agent.run(_TUNNEL, "good.world:443")
    assert "the world: sub.wild.world" in await agent.run(_TUNNEL, "sub.wild.world:8080")
    for url in ("http://bad.world/", "http://good.world:8080/", "http://wild.world:8080/"):
        assert (await agent.run(_PAGE, url)).startswith("403"), url
    assert "403" in await agent.run(_TUNNEL, "bad.world:443")
    assert (await agent.run(_PAGE, "http://inside.world/")).startswith("403")
    # Nothing leads past the proxy, and no name server hears of a name.
    before = world.seen
    assert await agent.run(_DIRECT, ADDRESS, "80") == "none none"
    assert (await agent.run(_NAME, "leak.good.world")).startswith("none")
    # An engine hands questions on to a resolver of the machine's loopback, where this one has none.
    assert agent.container.attrs["HostConfig"]["Dns"] == ["127.0.0.1"]
    assert world.seen == before
    assert "name bad.world" not in world.seen
    assert await agent.run(_RAW) == "denied\ndenied"

    # Another list holds at once, in the same container.
    container = agent.container.id
    assert (await agent.set(["late.world"]))["needs_restart"] is False
    assert "the world: late.world" in await agent.run(_PAGE, "http://late.world/")
    assert (await agent.run(_PAGE, "http://good.world/")).startswith("403")
    shown = await shell(platform, "--json", "workspace", "egress", agent.id, "--set", "none")
    assert json.loads(shown)["egress"] == "none"
    assert (await agent.run(_PAGE, "http://late.world/")).startswith("403")
    assert agent.container.id == container
    assert "echo: still" in await agent.asked("still")

    async def refused() -> set[tuple[str, int, str]]:
        rows = (await agent.shown()).get("refused", [])
        return {(each["host"], each["port"], each["reason"]) for each in rows}

    wanted = {("bad.world", 443, "not_listed"), ("inside.world", 80, "not_public")}
    await until(refused, lambda rows: wanted <= rows)
    assert (await agent.shown())["enforced"] is True
    assert "bad.world" in await shell(platform, "workspace", "egress", agent.id)
    metrics = (await operator.rest("GET", "/metrics")).text
    assert 'molecule_egress_attempts_total{outcome="not_listed"}' in metrics
    lines = [line for line in platform.log.read_text().splitlines() if '"event": "egress"' in line]
    told = json.loads(lines[0])
    assert (told["workspace_id"], told["host"]) == (agent.id, "good.world"), told
    password = (
        dict(pair.partition("=")[::2] for pair in agent.container.attrs["Config"]["Env"])[
            "HTTPS_PROXY"
        ]
        .split("@")[0]
        .rpartition(":")[2]
    )
    assert password not in platform.log.read_text()

    # The engine starts an agent that has died again, at the same address.
    await asyncio.to_thread(agent.container.exec_run, ["sh", "-c", "kill -9 -1"])

    async def here() -> str:
        return str(agent.network["IPAddress"])

    assert await until(here, bool) == address
    assert "echo: again" in await until(lambda: agent.asked("again"), lambda text: "echo" in text)


async def test_the_commands_of_the_page_work(platform: RunningServer, world: World) -> None:
    """In the order in which docs/egress.md has them."""
    [block] = shell_blocks("docs/egress.md", "Lists")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -e\n{block}"),
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MOLECULE_URL": platform.url,
            "MOLECULE_TOKEN": platform.admin_token,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    shown, _ = await process.communicate()
    assert process.returncode == 0
    first, second = [line for line in shown.decode().splitlines() if "api.anthropic.com" in line]
    assert first.endswith("api.anthropic.com, *.githubusercontent.com")
    assert second.endswith("api.anthropic.com, db.example:5432")


async def test_no_password_leads_out_of_another_network(
    operator: Party, witness: docker.DockerClient, world: World
) -> None:
    """A container of another organisation, and an open one, with a password that they found."""
    mine, theirs = [await found(operator.wire, operator) for _ in range(2)]
    agent = await start(mine, witness, egress=["good.world"])
    stranger = await start(theirs, witness, egress="none")
    neighbour = await start(mine, witness, egress="none")
    opened = await start(mine, witness)
    variables = dict(pair.split("=", 1) for pair in agent.container.attrs["Config"]["Env"])
    proxy, gateway = variables["HTTPS_PROXY"], agent.network["Gateway"]
    at_mine = proxy.replace("host.docker.internal", gateway)
    url = "http://good.world/found"
    for other in (stranger, opened):
        said = await other.run(_PAGE.replace("import sys", f"{_PROXIED}import sys"), url, at_mine)
        assert said.startswith("none"), said
    at_theirs = proxy.replace("host.docker.internal", stranger.network["Gateway"])
    said = await stranger.run(_PAGE.replace("import sys", f"{_PROXIED}import sys"), url, at_theirs)
    assert said.startswith("407"), said
    assert "page good.world/found" not in world.seen
    # No container reaches another one, of its own organisation or of another.
    for other in (stranger, neighbour, opened):
        address = agent.network["IPAddress"]
        assert "open" not in await other.run(_DIRECT, address, "8000"), other.id
    assert (await neighbour.run(_PAGE, url)).startswith("403")
    assert "the world" in await opened.run(_PAGE, f"http://{ADDRESS}/open")
    # From open to a list needs a start, and until then says so.
    assert (await opened.set(["good.world"]))["needs_restart"] is True
    assert (await opened.shown())["enforced"] is False
    assert "good.world" in (await opened.shown())["egress"]


# In front of a program: its proxy is the second argument.
_PROXIED = "import os, sys; os.environ['http_proxy'] = sys.argv[2]; os.environ['no_proxy'] = ''; "


async def test_only_administrators_change_what_a_workspace_may_reach(operator: Party) -> None:
    org = await found(operator.wire, operator)
    for wrong in ("open ", "*", ["a b"], ["a.example"] * 101, ["x.example", 7], {"a": 1}, 7):
        body = {"name": "w", "runtime": "langgraph", "egress": wrong}
        answer = await org.rest("POST", "/workspaces", body)
        assert answer.status_code == 400, (wrong, answer.text)
        assert "egress" in answer.text
    external = {"name": "x", "runtime": "external", "egress": ["a.example"]}
    assert (await org.rest("POST", "/workspaces", external)).status_code == 400
    answer = await org.rest("POST", "/workspaces", external | {"egress": "open"})
    agent, token = answer.json()["id"], answer.json()["connection"]["auth_token"]
    own = operator.wire.party(token)
    assert (await own.rest("GET", f"/workspaces/{agent}/egress")).json()["egress"] == "open"
    refused = await own.rest("PATCH", f"/workspaces/{agent}", {"egress": "open"})
    assert refused.status_code == 403, refused.text
    assert (await org.rest("PATCH", f"/workspaces/{agent}", {"egress": None})).status_code == 400


async def test_an_engine_that_does_not_filter_starts_no_workspace_with_a_list(
    new_docker: Callable[..., DockerEngine],
    postgres: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Found by trying. Open workspaces start; nothing of the try is left."""
    engine = new_docker(filtering=False)
    name = f"unfiltered_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    directory = tmp_path_factory.mktemp("u")
    platform = _server(engine, with_database(postgres, name), directory)
    await asyncio.to_thread(platform.start)
    try:
        async with wire_to(platform) as wire:
            org = await found(wire, wire.party(platform.admin_token))
            with contextlib.closing(engine.witness()) as client:
                await start(org, client)
                body = {"name": "held", "runtime": "langgraph", "egress": ["good.world"]}
                answer = await org.rest("POST", "/workspaces", body)
                held = Contained(org, client, answer.json()["id"])
                row = await until(held.row, lambda row: row.get("status") == "failed")
                assert "does not keep its internal networks apart" in row["last_sample_error"]
                operations = await org.rest("GET", f"/workspaces/{held.id}/operations")
                reasons = {each["reason"] for each in operations.json()["operations"]}
                assert reasons == {"egress_unenforced"}
                names = [str(each.name) for each in client.containers.list(all=True)]
                assert not [each for each in names if held.id in each or "probe" in each]
    finally:
        platform.kill()
        await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")
