"""Conformance of what spares a caller calls: `AddressListing`, `BatchStat`, `BurstReading`.

A store without an ability skips its tests.
"""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from holdall.errors import BurstError, NotFoundError, RangeError
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.stores.abilities import AddressListing, BatchStat, BurstReading
from holdall.stores.base import Span
from holdall.testing.contract import (
    StoreContract,
    assert_same_bytes,
    fresh_address,
    fresh_bytes,
    gathered,
    identity,
    scenario,
)

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Store

BURSTS_BYTES: Final[tuple[tuple[int, ...], ...]] = (
    *((), (0,), (10,), (10, 0, 20), (SMALL_BYTES_MAX + 1, 7, CHUNK_BYTES + 1), tuple(range(100, 160))),
)
SPANS: Final = (Span(0, 1), Span(5, 15), Span(9, 11), Span(10), Span(-1), Span(-25, 21), Span(0, 1 << 40))


def as_burst_reading(store: Store) -> BurstReading:
    """The store as one that reads bursts, or the end of the test."""
    return store if isinstance(store, BurstReading) else pytest.skip("the store does not read bursts")


async def burst_of(store: Store, *members: Address) -> Address:
    """Stores the burst of these members, with all that a burst may hold besides."""
    lines = [f"http://host{address}" if number % 2 else str(address) for number, address in enumerate(members)]
    return await store.put("\n".join(["# a burst", "", *lines]).encode())


class AbilitiesContract(StoreContract):
    """The optional protocols of a caller's own use."""

    @scenario
    async def test_addresses_are_those_of_the_entries_in_their_order(self, store: Store) -> None:
        if not isinstance(store, AddressListing):
            pytest.skip("the store does not list its addresses alone")
        for _ in range(20):
            await store.put(fresh_bytes())
            await store.write(fresh_address(), b"slot")

        addresses = [address async for address in store.addresses()]

        assert addresses == [info.address async for info in store.entries()]

    @scenario
    async def test_many_are_looked_at_in_their_order(self, store: Store) -> None:
        if not isinstance(store, BatchStat):
            pytest.skip("the store cannot look at many entries in one go")
        slot, blob = (await store.write(fresh_address(), b"slot")).address, await store.put(fresh_bytes())
        asked = [fresh_address(), slot, blob, fresh_address(), slot]

        for use in (True, False):
            infos = await store.stat_many(asked, use=use)

            here = [None if info is None else identity(info) for info in infos]
            of_slot, of_blob = identity(await store.stat(slot)), identity(await store.stat(blob))
            assert here == [None, of_slot, of_blob, None, of_slot]
        assert await store.stat_many([]) == []

    @scenario
    async def test_a_burst_is_read_as_its_members_one_after_the_other(self, store: Store) -> None:
        reader = as_burst_reading(store)
        for sizes_bytes in BURSTS_BYTES:
            values = [fresh_bytes(size_bytes) for size_bytes in sizes_bytes]
            burst = await burst_of(store, *[await store.put(value) for value in values])

            async with await reader.get_burst(burst) as reading:
                data = await reading.read()
            pieces = await gathered(await reader.get_burst(burst))

            assert_same_bytes(data, b"".join(values))
            assert_same_bytes(b"".join(pieces), data)
            assert max(map(len, pieces), default=0) <= CHUNK_BYTES

    @scenario
    async def test_a_span_of_a_burst_counts_over_all_its_members(self, store: Store) -> None:
        reader = as_burst_reading(store)
        values = [fresh_bytes(10) for _ in range(3)]
        burst = await burst_of(store, *[await store.put(value) for value in values])

        for span in SPANS:
            start, stop = span.resolve(30)
            async with await reader.get_burst(burst, span) as reading:
                assert (reading.start, reading.stop) == (start, stop), span
                assert await reading.read() == b"".join(values)[start:stop], span

    @scenario
    async def test_a_span_past_the_end_of_a_burst_is_refused(self, store: Store) -> None:
        reader = as_burst_reading(store)
        burst = await burst_of(store, await store.put(fresh_bytes(10)), await store.put(fresh_bytes(10)))

        with pytest.raises(RangeError) as refused:
            await reader.get_burst(burst, Span(20))

        assert refused.value.size_bytes == 20

    @scenario
    async def test_bursts_within_bursts_are_read_to_the_depth_asked_for(self, store: Store) -> None:
        reader = as_burst_reading(store)
        one, two, three = (fresh_bytes() for _ in range(3))
        inner = await burst_of(store, await store.put(one), await store.put(two))
        plain = await burst_of(store, await store.put(three))
        outer = await burst_of(store, inner, plain)

        async def read(depth: int) -> bytes:
            return b"".join(await gathered(await reader.get_burst(outer, depth=depth)))

        async with await store.get(inner) as first, await store.get(plain) as second:
            assert await read(1) == await first.read() + await second.read()
        assert await read(2) == one + two + three

    @scenario
    async def test_a_slot_can_be_a_burst_and_a_member(self, store: Store) -> None:
        reader = as_burst_reading(store)
        member, burst = fresh_address(), fresh_address()
        await store.write(member, b"of a slot")
        for text in (b"first ", b"second "):
            await store.append(burst, str(await store.put(text)).encode() + b"\n")
        await store.append(burst, str(member).encode())

        pieces = await gathered(await reader.get_burst(burst))

        assert b"".join(pieces) == b"first second of a slot"

    @scenario
    async def test_what_cannot_be_read_as_a_burst_is_refused(self, store: Store) -> None:
        reader = as_burst_reading(store)
        here, absent = await store.put(fresh_bytes()), fresh_address()
        plain = await store.put(b"no addresses here " + fresh_bytes())

        with pytest.raises(NotFoundError):
            await reader.get_burst(absent)
        with pytest.raises(NotFoundError, match=absent.hex()):
            await reader.get_burst(await burst_of(store, here, absent, here))
        with pytest.raises(BurstError):
            await reader.get_burst(plain)
        with pytest.raises(BurstError):
            await reader.get_burst(await burst_of(store, plain), depth=2)
