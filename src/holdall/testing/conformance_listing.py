"""Conformance of `entries`: complete, in order, each once, whatever else goes on."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdall.stores.base import Kind
from holdall.testing.contract import StoreContract, content, fresh_address, fresh_bytes, scenario

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Info, Store


async def listed(store: Store, of: set[Address]) -> list[Info]:
    """What `entries` yields of these addresses, in its order."""
    return [info async for info in store.entries() if info.address in of]


class ListingContract(StoreContract):
    """`Blobs.entries`."""

    @scenario
    async def test_entries_are_what_stat_says_of_each(self, store: Store) -> None:
        addresses = {await store.put(fresh_bytes(size_bytes)) for size_bytes in (20, 70_000)}
        addresses |= {(await store.write(fresh_address(), data)).address for data in (b"", b"slot", bytes(70_000))}
        addresses.add((await store.append(fresh_address(), b"line\n")).address)

        infos = await listed(store, addresses)

        assert {info.address: info for info in infos} == {
            address: await store.stat(address, use=False) for address in addresses
        }
        assert len(infos) == len(addresses)

    @scenario
    async def test_entries_come_newest_use_first_and_ties_by_address(self, store: Store) -> None:
        for number in range(40):
            await store.put(fresh_bytes()) if number % 2 else await store.write(fresh_address(), b"slot")

        infos = [info async for info in store.entries()]

        assert infos == sorted(infos, key=lambda info: (-info.used_ns, info.address))

    @scenario
    async def test_a_later_write_never_has_an_earlier_use(self, store: Store) -> None:
        infos = [await store.write(fresh_address(), b"slot") for _ in range(20)]

        uses = [info.used_ns for info in infos]

        assert uses == sorted(uses)

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_a_removed_entry_is_not_listed(self, store: Store, kind: Kind) -> None:
        if kind is Kind.BLOB:
            address = await store.put(fresh_bytes())
        else:
            address = (await store.write(fresh_address(), b"slot")).address
        assert len(await listed(store, {address})) == 1

        await store.delete(address)

        assert await listed(store, {address}) == []

    @scenario
    async def test_an_entry_that_changes_is_listed_once_and_as_it_is(self, store: Store) -> None:
        blob = fresh_bytes()
        address = await store.put(blob)
        await store.delete(address)
        await store.write(address, b"a slot")
        await store.append(address, b" of 17 bytes")
        as_slot = await listed(store, {address})

        await store.put(blob)
        as_blob = await listed(store, {address})

        assert [(info.kind, info.size_bytes) for info in as_slot] == [(Kind.SLOT, 18)]
        assert [(info.kind, info.size_bytes) for info in as_blob] == [(Kind.BLOB, 40)]

    @scenario
    async def test_a_listing_can_be_left_before_its_end(self, store: Store) -> None:
        data = fresh_bytes()
        address = await store.put(data)
        await store.put(fresh_bytes())

        async for _ in store.entries():
            break

        assert await content(store, address) == data
        assert len(await listed(store, {address})) == 1

    @scenario
    async def test_what_exists_throughout_is_listed_whatever_else_comes_and_goes(self, store: Store) -> None:
        lasting = {await store.put(fresh_bytes()) for _ in range(30)}
        lasting |= {(await store.write(fresh_address(), b"slot")).address for _ in range(30)}
        busy = (await store.write(fresh_address(), b"0")).address

        async def come_and_go(turns: int) -> None:
            for turn in range(turns):
                address = await store.put(fresh_bytes())
                await store.write(busy, b"%d" % turn)
                await store.delete(address)

        changing = asyncio.gather(*(come_and_go(8 * self.repeats) for _ in range(4)))
        listings: list[list[Address]] = []
        while not changing.done() or not listings:
            await asyncio.sleep(0)
            listings.append([info.address async for info in store.entries()])
        await changing

        for listing in listings:
            assert lasting | {busy} <= set(listing)
            assert len(listing) == len(set(listing))
