"""Who calls the session's server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.parties import Organization, Party, Wire, found, wire_to
from tests.running import RunningServer


@pytest.fixture(scope="session")
async def wire(server: RunningServer) -> AsyncIterator[Wire]:
    """Both ways into the session's server."""
    async with wire_to(server) as opened:
        yield opened


@pytest.fixture
def stranger(wire: Wire) -> Party:
    """Somebody without a token."""
    return wire.party()


@pytest.fixture
def operator(wire: Wire, server: RunningServer) -> Party:
    """Whoever runs the installation."""
    return wire.party(server.admin_token)


@pytest.fixture
async def org(wire: Wire, operator: Party) -> Organization:
    """An organisation of this test's own."""
    return await found(wire, operator)


@pytest.fixture
async def other_org(wire: Wire, operator: Party) -> Organization:
    """Another one."""
    return await found(wire, operator)
