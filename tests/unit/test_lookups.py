"""Looking up names: literals, and budgets of organisations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from molecule_grpc import lookups
from molecule_grpc.kernel.budget import WORKER, Budget
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import ORGANIZATION, Payer, payer
from molecule_grpc.lookups import Lookups, literal_address
from tests.name_server import NameServer, name_server
from tests.waiting import until

FAST, ADDRESS = "fast.test", "127.0.0.9"
SLOW = [f"slow{number}.test" for number in range(6)]


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server({FAST: [(ADDRESS,)]}) as running:
        yield running


@pytest.fixture
async def found(server: NameServer) -> AsyncIterator[Lookups]:
    """Lookups of which an organisation may have six under way, and all together eight."""
    budget = Budget("name lookups", {ORGANIZATION: 6, WORKER: 8})
    opened = Lookups(budget, [f"127.0.0.1:{server.port}"])
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"), ("0177.0.0.1", "127.0.0.1"), ("10.0.0.1.", "10.0.0.1"),
        ("::1", "::1"), ("a.example", None), ("1.example", None), ("", None), ("1.2.3.4.5", None),
        ("ümlaut.example", None), ("1e3", None),
    ],
)  # fmt: skip
def test_an_address_is_read_as_a_socket_would(host: str, address: str | None) -> None:
    read = literal_address(host)
    assert (None if read is None else str(read)) == address


async def test_slow_names_of_one_organization_delay_no_other(
    server: NameServer, found: Lookups
) -> None:
    """The name server never answers six of them; an answer and an address come beside them."""
    waiting = [asyncio.create_task(found.addresses(name, "a")) for name in SLOW]

    async def asked() -> set[str]:
        return set(server.asked)

    await until(asked, set(SLOW).issubset)
    assert [str(each) for each in await found.addresses(FAST, "b")] == [ADDRESS]
    assert [str(each) for each in await found.addresses("10.1.1.1", "a")] == ["10.1.1.1"]
    with pytest.raises(Exhausted) as refused:
        await found.addresses(FAST, "a")
    assert refused.value.quota is not None
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await found.addresses(FAST, "a")


async def test_the_payer_of_a_call_pays_for_its_lookups(found: Lookups) -> None:
    payer.set(Payer("a"))
    waiting = [asyncio.create_task(found.addresses(name)) for name in SLOW]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted):
        await found.addresses(FAST)
    payer.set(Payer("b"))
    assert await found.addresses(FAST)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_name_without_an_answer_has_no_address(
    found: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 0.2)
    assert await found.addresses(SLOW[0]) == ()
    for wrong in ("a..b", "x" * 70 + ".test", "ü" * 70, "%00"):
        assert await found.addresses(wrong) == ()


async def test_a_resolver_that_is_replaced_ends_what_it_has_begun(
    server: NameServer, found: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_LOOKUPS_OF_A_RESOLVER", 1)
    for _ in range(20):
        assert all(await asyncio.gather(found.addresses(FAST), found.addresses("localhost")))
