"""Checks any server of the contract: `molecule-grpc memory conformance URL`.

A check is required of every server, or only of one that claims a capability, or is recommended:
the platform works without it, at the cost that the check's text names.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import aiohttp

from molecule_grpc.memory.contract.checks import CHECKS, Check, golden
from molecule_grpc.memory.contract.probe import Broken, Server

_SECONDS: Final = 10.0
_FIRST: Final = Check("answers the five basic requests", golden)


class Outcome(enum.StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CLAIMED = "not claimed"
    """The server does not claim the capability."""
    ADVICE = "advice"
    """A recommended check that did not pass."""


class Result(NamedTuple):
    """A check and how it ended."""

    name: str
    outcome: Outcome
    detail: str = ""


async def conformance(url: str) -> AsyncIterator[Result]:
    """Run all checks against a server, in order. They use two namespaces and delete them."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        server = Server(url, session)
        first = await _result(_FIRST, server)
        yield first
        if first.outcome is Outcome.FAILED:
            return
        for check in CHECKS:
            yield await _result(check, server)
        for name in (server.a, server.b):
            await server.ask("DELETE", f"/v1/namespaces/{name}")


async def _result(check: Check, server: Server) -> Result:
    if check.needs is not None and check.needs not in server.capabilities:
        return Result(check.name, Outcome.NOT_CLAIMED, check.needs)
    try:
        await check.run(server)
    except Broken as broken:
        detail = str(broken)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        detail = f"no answer: {str(error) or type(error).__name__}"
    except (KeyError, TypeError, AttributeError) as error:
        detail = f"an answer has another form: {type(error).__name__} {error}"
    else:
        return Result(check.name, Outcome.PASSED)
    return Result(check.name, Outcome.FAILED if check.required else Outcome.ADVICE, detail)
