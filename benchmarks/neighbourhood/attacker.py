"""One attacker: `python -m benchmarks.neighbourhood.attacker NAME`, started by `neighbours`.

The process becomes as nice as can be when its preparations end. Where the kernel weighs whole
sessions (autogroup), a nice value counts within a session alone: the session is made nice, too.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys

import uvloop

from benchmarks.neighbourhood import members, strangers
from benchmarks.neighbourhood.site import Site, line, say

ATTACKS = {
    attack.name: attack for attack in (strangers.FLOOR, *members.ATTACKS, *strangers.ATTACKS)
}


async def _attack(name: str) -> None:
    """Attack until standard input ends, then print how the server answered."""
    site = await Site.read()
    attacking = asyncio.create_task(ATTACKS[name].run(site))
    ended = asyncio.create_task(_stopped(site))
    done, _ = await asyncio.wait({attacking, ended}, return_when=asyncio.FIRST_COMPLETED)
    if attacking in done:
        await attacking
    say(site.outcomes)
    os._exit(0)  # Thousands of connections are the kernel's to close.


async def _stopped(site: Site) -> None:
    await site.begun.wait()
    await line()


def main() -> None:
    """Entry of the process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_attack(sys.argv[1]))


if __name__ == "__main__":
    main()
