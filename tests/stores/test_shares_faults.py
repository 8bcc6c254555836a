"""Shares over three real servers, any one of which dies, lies or loses everything."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from providers import Providers, content, opened, overwrite, providers

from holdall.core.address import Address
from holdall.errors import AccessError, DamageError, UnreachableError
from holdall.limits import MIB
from holdall.stores import shares_repair
from holdall.stores.base import Kind, missing
from holdall.stores.http import HTTPStore
from holdall.stores.shares import SharesStore
from holdall.testing.contract import fresh_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from holdall.stores.base import Store

SLOT = Address.of(b"a slot of many lines")
LINES = b"first\nsecond\n"

any_one = pytest.mark.parametrize("number", [0, 1, 2])


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    with providers(tmp_path_factory.mktemp("shares"), 3) as running:
        yield running


@pytest.fixture
def three(servers: Providers) -> Iterator[Providers]:
    yield servers
    servers.renew()


def shares(three: Providers, least: int = 3) -> AbstractAsyncContextManager[SharesStore]:
    def make(members: list[Store]) -> SharesStore:
        return SharesStore(members, 2, three.secret, least=least)

    return opened(make, three.members())


async def fill(three: Providers) -> dict[Address, bytes]:
    values = {Address.of(data): data for data in (b"", b"short", fresh_bytes(3 * MIB + 5))}
    async with shares(three) as store:
        for data in values.values():
            await store.put(data)
        await store.write(SLOT, b"first\n")
        await store.append(SLOT, b"second\n")
    return values | {SLOT: LINES}


async def read_all(store: Store, values: dict[Address, bytes]) -> None:
    for address, data in values.items():
        assert await content(store, address) == data
        assert (await store.stat(address)).size_bytes == len(data)
    listed = {info.address: (info.kind, info.size_bytes) async for info in store.entries()}
    assert listed == {
        address: (Kind.SLOT if address == SLOT else Kind.BLOB, len(data)) for address, data in values.items()
    }


@any_one
def test_with_any_one_dead_all_is_read_and_the_dead_one_is_named(three: Providers, number: int) -> None:
    async def scenario() -> list[tuple[str, str]]:
        values = await fill(three)
        three.kill(number)
        async with shares(three) as store:
            await read_all(store, values)
            return sorted({(fault.member, fault.reason) for fault in store.faults})

    faults = asyncio.run(scenario())

    assert faults == [(three.urls[number], "unreachable")]


@any_one
def test_with_any_one_lying_all_is_read_the_liar_is_named_and_repaired(three: Providers, number: int) -> None:
    async def scenario() -> None:
        values = await fill(three)
        three.make_lie(number)
        liar = three.urls[number]
        async with shares(three) as store:
            await read_all(store, values)
            for address in values:
                found = await store.check(address)
                assert found == {liar: "damaged"}
                assert {(fault.member, fault.address) for fault in store.faults} >= {(liar, address)}
                assert await store.repair(address) == [liar]
                assert await store.check(address) == {}
            assert {fault.member for fault in store.faults} == {liar}

        three.kill((number + 1) % 3)
        async with shares(three) as store:
            await read_all(store, values)

    asyncio.run(scenario())


@any_one
def test_what_any_one_has_lost_is_read_named_and_given_back(three: Providers, number: int) -> None:
    async def scenario() -> None:
        values = await fill(three)
        three.wipe(number)
        loser = three.urls[number]
        async with shares(three) as store:
            await read_all(store, values)
            assert {fault.member for fault in store.faults} == {loser}
            assert {fault.reason for fault in store.faults} == {"missing"}
            repairs = [repair async for repair in store.repair_all()]
            assert {repair.address: (repair.members, repair.error) for repair in repairs if repair.members} == {
                address: ([loser], None) for address in values
            }

        three.kill((number + 1) % 3)
        async with shares(three) as store:
            await read_all(store, values)
            assert {fault.reason for fault in store.faults} == {"unreachable"}

    asyncio.run(scenario())


@any_one
def test_a_blob_that_one_has_lost_counts_as_missing_and_is_made_whole_by_storing_it(
    three: Providers, number: int
) -> None:
    async def scenario() -> dict[str, str]:
        values = await fill(three)
        blobs = [address for address in values if address != SLOT]
        three.wipe(number)
        async with shares(three) as store:
            assert set(await missing(store, values)) >= set(blobs)
            for address in blobs:
                await store.put(values[address])
            assert not set(await missing(store, values)) & set(blobs)
            return {name: reason for address in blobs for name, reason in (await store.check(address)).items()}

    assert asyncio.run(scenario()) == {}


@any_one
def test_a_slot_goes_on_where_it_was_although_one_lost_it(three: Providers, number: int) -> None:
    async def scenario() -> bytes:
        await fill(three)
        three.wipe(number)
        async with shares(three) as store:
            info = await store.append(SLOT, b"third\n")
            assert info.size_bytes == len(LINES) + 6
            return await content(store, SLOT)

    assert asyncio.run(scenario()) == LINES + b"third\n"


def test_a_slot_that_alone_is_gone_at_the_first_goes_on_where_it_was(
    three: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares_repair, "SHARES_LEASE_SECONDS", 0.5)

    async def scenario() -> bytes:
        async with shares(three) as store:
            await store.put(b"blob")
            before = set(three.files(0))
            await store.write(SLOT, LINES)
        [lost] = set(three.files(0)) - before
        lost.unlink()
        async with shares(three) as store:
            await store.append(SLOT, b"third\n")
            return await content(store, SLOT)

    assert asyncio.run(scenario()) == LINES + b"third\n"


@pytest.mark.parametrize("first", [0, 1, 2])
def test_with_two_dead_nothing_is_read_and_it_is_said_why(three: Providers, first: int) -> None:
    async def scenario() -> None:
        await fill(three)
        three.kill(first)
        three.kill((first + 1) % 3)
        async with shares(three) as store:
            for address in (SLOT, Address.of(b"never stored")):
                with pytest.raises(UnreachableError):
                    await content(store, address)

    asyncio.run(scenario())


def test_with_two_lying_nothing_is_read_and_both_are_named(three: Providers) -> None:
    async def scenario() -> set[str]:
        values = await fill(three)
        three.make_lie(1)
        three.make_lie(2)
        async with shares(three) as store:
            for address in filter(values.get, values):  # all of an empty one is in its head
                with pytest.raises(DamageError):
                    await content(store, address)
                with pytest.raises(DamageError):
                    await store.repair(address)
            return {fault.member for fault in store.faults}

    assert asyncio.run(scenario()) == set(three.urls[1:])


@any_one
def test_a_read_goes_on_with_another_from_where_one_begins_to_lie(three: Providers, number: int) -> None:
    data = fresh_bytes(4 * MIB)

    async def scenario() -> list[str]:
        async with shares(three) as store:
            before = set(three.files(number))
            address = await store.put(data)
        [large] = [path for path in set(three.files(number)) - before if path.stat().st_size > MIB]
        changed = bytearray(large.read_bytes())
        changed[-1000] ^= 1
        overwrite(large, bytes(changed))
        async with shares(three) as store:
            for _ in range(2):
                assert await content(store, address) == data
            await store.check(address)
            return [fault.member for fault in store.faults]

    assert asyncio.run(scenario()) == [three.urls[number]]


def test_a_read_goes_on_with_another_when_one_dies_in_the_middle(three: Providers) -> None:
    data = fresh_bytes(48 * MIB)

    async def scenario() -> tuple[bool, set[str]]:
        async with shares(three) as store:
            address = await store.put(data)
            async with await store.get(address) as reading:
                pieces = aiter(reading)
                read = await anext(pieces)
                three.kill(1)
                read += b"".join([piece async for piece in pieces])
            return read == data, {fault.member for fault in store.faults}

    assert asyncio.run(scenario()) == (True, {three.urls[1]})


@any_one
def test_every_server_is_needed_to_write_unless_fewer_are_asked_for(three: Providers, number: int) -> None:
    async def scenario() -> None:
        values = await fill(three)
        three.kill(number)
        async with shares(three) as store:
            for write in writes(store):
                with pytest.raises(UnreachableError):
                    await write()
            await read_all(store, values)
        if number == 0:
            return
        async with shares(three, least=2) as store:
            blob = await store.put(b"stored by two")
            await store.append(SLOT, b"third\n")
            await store.delete(next(iter(values)))
            assert await content(store, SLOT) == LINES + b"third\n"
            assert {fault.member for fault in store.faults} == {three.urls[number]}
        three.revive(number)
        async with shares(three) as store:
            assert {three.urls[number]} == set(await store.check(blob)) == set(await store.check(SLOT))
            repaired = {repair.address async for repair in store.repair_all() if repair.members}
            assert repaired == {blob, SLOT}
            assert await store.check(blob) == await store.check(SLOT) == {}

    asyncio.run(scenario())


def writes(store: SharesStore) -> list[Callable[[], Awaitable[object]]]:
    return [
        partial(store.put, fresh_bytes(2 * MIB)),
        partial(store.append, SLOT, b"line\n"),
        partial(store.take, SLOT),
        partial(store.delete, Address.of(b"short")),
    ]


def test_a_store_that_lists_nothing_without_its_key_says_so(three: Providers) -> None:
    async def scenario() -> None:
        await fill(three)
        store = SharesStore([HTTPStore(url) for url in three.urls], 2, three.secret)
        try:
            with pytest.raises(AccessError):
                [info async for info in store.entries()]
            assert await content(store, SLOT) == LINES
        finally:
            await store.aclose()

    asyncio.run(scenario())
