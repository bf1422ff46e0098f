"""`doctor backend`: whether the engine holds a workspace to a list of hosts, and what it leaves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import psutil

from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.networks import Network, Networks
from molecule_grpc.backends.docker.probe import CannotProbe, Probe, Reached
from molecule_grpc.cli.doctor import Finding
from molecule_grpc.settings.docker import DockerSettings

# Nobody listens there: the kernel of whoever gets the packet refuses.
_PORT: Final = 9
_ANSWERS: Final = ("open", "refused")
_FIREWALL: Final = (
    "start the engine with its firewall (without --iptables=false): until then workspaces with a"
    " list of hosts do not start"
)
_INPUT: Final = (
    "let services listen on 127.0.0.1, or drop what comes in from bridges for these addresses"
)
_IMAGE: Final = "name an image that is here and has python3 or node in MOLECULE_DOCKER_PROBE_IMAGE"


async def findings(engine: Engine, settings: DockerSettings, images: list[str]) -> list[Finding]:
    """Try it with two containers on two networks, which are removed again.

    Args:
        images: that the engine has; the first has a program to try it with.

    Raises:
        DockerError: the engine refuses.
    """
    image = settings.probe_image or next(iter(images), "")
    if not image:
        detail = "not tried: no image is here to try it with"
        return [Finding("egress", well=True, detail=detail, fix=_IMAGE)]
    try:
        reached = await _tried(engine, image)
    except CannotProbe as error:
        return [Finding("egress", well=False, detail=f"not known: {error}", fix=_IMAGE)]
    return list(_judge(reached))


async def _tried(engine: Engine, image: str) -> Reached:
    # An installation of its own: nothing of a running one is touched.
    doctor = f"doctor-{uuid4()}"
    networks = Networks(engine, doctor, "", _untold)
    try:
        world, internal = await networks.open(), await networks.internal(uuid4())
        made = (world.gateway, internal.gateway)
        others = [f"{each}:{_PORT}" for each in _own_addresses() if each not in made]
        return await Probe(engine, doctor).reach(internal, world, image, others)
    finally:
        await networks.remove_unused()


async def _untold(_: list[Network]) -> None:
    """Nobody listens on these networks."""


def _own_addresses() -> list[str]:
    """This machine's IPv4 addresses, but for those that only the machine itself reaches."""
    found = (each.address for group in psutil.net_if_addrs().values() for each in group)
    texts = {text for text in found if ":" not in text and text.count(".") == 3}
    return sorted(text for text in texts if not ipaddress.ip_address(text).is_loopback)


def _judge(reached: Reached) -> Iterator[Finding]:
    detail = "packets leave an internal network" if reached.world else "internal networks bind"
    yield Finding("egress", well=not reached.world, detail=detail, fix=_FIREWALL)
    open_to = sorted(
        place.rpartition(":")[0] for place, word in reached.others.items() if word in _ANSWERS
    )
    if open_to:
        # As the engine is made, so no fault: but whoever relies on a list must know.
        shown = f"reached from internal networks, at every port: {', '.join(open_to)}; {_INPUT}"
        yield Finding("this machine", well=True, detail=shown)
