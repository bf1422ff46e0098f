"""`doctor backend`: what the engine can do for workspaces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import calling
from molecule_grpc.backends.docker.images import Images
from molecule_grpc.backends.engines import starts_on
from molecule_grpc.cli import doctor_egress
from molecule_grpc.cli.doctor import Finding
from molecule_grpc.cli.doctor_kubernetes import doctor_kubernetes
from molecule_grpc.settings.backends import EC2
from molecule_grpc.settings.settings import Settings

_SECONDS: Final = 10.0
_EGRESS_SECONDS: Final = 60.0
# What the engine must be able to bound, by its own names.
_LIMITS: Final = {"MemoryLimit": "memory", "CpuCfsQuota": "processors", "PidsLimit": "processes"}
_COPYING: Final = "vfs"


def doctor_backend(settings: Settings) -> list[Finding]:
    """Ask whatever workspaces are started on.

    A Docker engine is also tried, with two containers, gone again, on whether it holds a list of
    hosts. Nothing else is changed.
    """
    if settings.backends.backend == EC2:
        from molecule_grpc.cli.doctor_ec2 import ask_ec2  # noqa: PLC0415  (an extra)

        return asyncio.run(ask_ec2(settings))
    if starts_on(settings) is BackendName.KUBERNETES:
        return doctor_kubernetes(settings)
    return asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> list[Finding]:
    engine = Engine(settings.docker.host)
    try:
        async with calling(_SECONDS):
            version, info = await engine.get("version"), await engine.get("info")
        missing = await _missing_images(settings, engine)
        async with calling(_EGRESS_SECONDS):
            egress = await doctor_egress.findings(
                engine, settings.docker, await _present_images(settings, engine)
            )
    except BackendFailure as failure:
        fix = (
            "start it, let this account use its socket, or name another in MOLECULE_DOCKER_HOST;"
            " without Docker set MOLECULE_BACKEND to another backend"
        )
        return [Finding("engine", well=False, detail=failure.detail or failure.public, fix=fix)]
    finally:
        await engine.close()
    detail = f"{version['Version']}, API {version['ApiVersion']}, {info.get('NCPU')} processors"
    return [Finding("engine", well=True, detail=detail), *_judge(info), *missing, *egress]


def _judge(info: dict[str, Any]) -> Iterator[Finding]:
    absent = [name for key, name in _LIMITS.items() if not info.get(key)]
    yield Finding(
        "limits",
        well=not absent,
        detail=f"not enforced: {', '.join(absent)}" if absent else ", ".join(_LIMITS.values()),
        fix="give the engine these control groups: until then a workspace may use all there is",
    )
    secured = any("name=seccomp" in option for option in info.get("SecurityOptions") or [])
    yield Finding(
        "seccomp",
        well=secured,
        detail="the engine's profile" if secured else "off",
        fix="start the engine with its default profile: agents may call everything of the kernel",
    )
    driver = str(info.get("Driver"))
    yield Finding(
        "storage",
        well=driver != _COPYING,
        detail=driver,
        fix="use overlay2: this driver copies the whole image for each workspace",
    )
    runtimes = ", ".join(sorted(info.get("Runtimes") or {}))
    yield Finding("OCI runtimes", well=True, detail=runtimes)


async def _missing_images(settings: Settings, engine: Engine) -> list[Finding]:
    """Named images that the engine lacks. They are pulled at the first start."""
    images = Images(engine, settings.docker)
    found = []
    for runtime, reference in settings.docker.images:
        async with calling(_SECONDS):
            here = await images.find(reference) is not None
        found.append(
            Finding(
                f"image of {runtime}",
                well=here or not settings.docker.local_images,
                detail=reference if here else f"{reference}: to be pulled",
                fix="load it: WORKSPACE_IMAGE_LOCAL_OVERRIDE forbids to pull it",
            )
        )
    return found


async def _present_images(settings: Settings, engine: Engine) -> list[str]:
    """Of the named images those that the engine has."""
    images = Images(engine, settings.docker)
    async with calling(_SECONDS):
        return [
            reference
            for _, reference in settings.docker.images
            if await images.find(reference) is not None
        ]
