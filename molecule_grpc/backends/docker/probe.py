"""Whether the engine keeps an internal network apart: tried by containers, not asked.

A container on an open network stands for the world. Another one, on the internal network, tries to
connect to it. If the kernel of the first answers, even by a refusal, packets pass, and no list
would bind anybody. That the proxy answers at the same time shows that silence is no accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.logs import last_output
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.networks import Network

HELPER: Final = "probe"
# Seconds of one try to connect: on one machine answers take less than a millisecond.
_TRY_SECONDS: Final = 1.5
# The longest that either container lives, also when nobody is left to remove it.
_LIFE_SECONDS: Final = 30
# No service has it: the kernel of whoever gets the packet refuses.
_DISCARD_PORT: Final = 9
_PYTHON: Final = """
import json, socket, sys, time
def tried(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except TimeoutError: return "silent"
    except ConnectionRefusedError: return "refused"
    except OSError: return "unreachable"
    return "open"
if len(sys.argv) < 2: time.sleep(LIFE)
print(json.dumps({place: tried(place) for place in sys.argv[1:]}))
"""
_NODE: Final = """
const net = require("net"), places = process.argv.slice(1), found = {};
const tried = place => new Promise(done => {
  const cut = place.lastIndexOf(":"), host = place.slice(0, cut), port = +place.slice(cut + 1);
  const socket = net.connect({host, port, timeout: SECONDS * 1000});
  const end = word => { socket.destroy(); found[place] = word; done(); };
  socket.on("connect", () => end("open")).on("timeout", () => end("silent"));
  socket.on("error", e => end(e.code === "ECONNREFUSED" ? "refused"
    : e.code === "ETIMEDOUT" ? "silent" : "unreachable"));
});
if (!places.length) setTimeout(() => {}, LIFE * 1000);
else Promise.all(places.map(tried)).then(() => console.log(JSON.stringify(found)));
"""
_PROGRAMS: Final = (("python3", "-c", _PYTHON), ("node", "-e", _NODE))
_PASSED: Final = ("open", "refused")


class Reached(NamedTuple):
    """What a container on an internal network found.

    Args:
        world: whether a container of another network answered.
        others: by place, `open`, `refused`, `silent` or `unreachable`.
    """

    world: bool
    others: dict[str, str]


class CannotProbe(Exception):
    """Nothing can be said. The text says why, for people."""


class Probe:
    """Tries what a network keeps apart. Leaves nothing behind.

    Args:
        installation: id of the installation, borne by both containers.
    """

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._installation = installation

    async def reach(
        self, internal: Network, world: Network, image: str, others: Sequence[str] = ()
    ) -> Reached:
        """Try to reach a container of `world`, and other places, from a network.

        Args:
            others: `host:port` each.

        Raises:
            CannotProbe: the image has no program for it, or the containers do not work.
        """
        await self._remove_leftovers()
        for program in _PROGRAMS:
            with contextlib.suppress(_NoProgram):
                return await self._reach(internal, world, image, program, others)
        raise CannotProbe("the image has neither python3 nor node to try it with")

    async def _reach(
        self,
        internal: Network,
        world: Network,
        image: str,
        program: tuple[str, ...],
        others: Sequence[str],
    ) -> Reached:
        async with self._container(image, program, world.name, ()) as outside:
            address = _address(await self._engine.get(f"containers/{outside}/json"))
            if not await _answers(address):
                raise CannotProbe("a container of another network does not answer this machine")
            target = f"{address}:{_DISCARD_PORT}"
            places = (target, *others)
            async with self._container(image, program, internal.name, places) as inside:
                await self._engine.post(f"containers/{inside}/wait")
                printed = await last_output(self._engine, inside)
        try:
            found: dict[str, str] = json.loads(printed)
            return Reached(found.pop(target) in _PASSED, found)
        except (ValueError, KeyError, AttributeError) as error:
            raise CannotProbe("the program that tries it failed") from error

    @contextlib.asynccontextmanager
    async def _container(
        self, image: str, program: tuple[str, ...], network: str, places: tuple[str, ...]
    ) -> AsyncIterator[str]:
        name, flag, text = program
        text = text.replace("SECONDS", str(_TRY_SECONDS)).replace("LIFE", str(_LIFE_SECONDS))
        body: Json = {
            "Image": image,
            "Entrypoint": [name],
            "Cmd": [flag, text, *places],
            "Env": [],
            "Labels": names.labels(self._installation) | {names.HELPER: HELPER},
            "HostConfig": {
                "NetworkMode": network,
                "Init": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": True,
                "PidsLimit": 64,
                "Memory": 256 * 1024 * 1024,
            },
        }
        made = await self._engine.post(
            "containers/create", body, name=f"molecule-probe-{secrets.token_hex(8)}"
        )
        try:
            await self._start(made["Id"])
            yield made["Id"]
        finally:
            # Also when the start of the workspace is cancelled.
            await asyncio.shield(self._remove(made["Id"]))

    async def _start(self, container_id: str) -> None:
        try:
            await self._engine.post(f"containers/{container_id}/start")
        except DockerError as error:
            if "executable file not found" in error.message or "no such file" in error.message:
                raise _NoProgram from error
            raise

    async def _remove(self, container_id: str) -> None:
        await self._engine.delete(f"containers/{container_id}", force=True, v=True)

    async def _remove_leftovers(self) -> None:
        """Containers of a worker that was killed in the middle: they have ended by themselves."""
        filters = names.label_filter(self._installation)
        filters["label"].append(f"{names.HELPER}={HELPER}")
        filters["status"] = ["exited", "created", "dead"]
        old = time.time() - 2 * _LIFE_SECONDS
        for each in await self._engine.get("containers/json", all=True, filters=filters):
            if each["Created"] < old:
                await self._remove(each["Id"])


class _NoProgram(Exception):
    """The image does not have the program."""


def _address(found: Json) -> str:
    networks = (found["NetworkSettings"].get("Networks") or {}).values()
    return next((each["IPAddress"] for each in networks if each.get("IPAddress")), "")


async def _answers(address: str) -> bool:
    """Whether a container's kernel refuses a connection from this machine: so it is there."""
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            _, writer = await asyncio.open_connection(address, _DISCARD_PORT)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
