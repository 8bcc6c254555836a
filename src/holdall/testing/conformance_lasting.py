"""Conformance of stores that outlive their closing: what was written is there again, all openers agree."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import AlreadySetError, BlobInTheWayError, NotFoundError, VersionMismatchError
from holdall.limits import MIB, SMALL_BYTES_MAX
from holdall.stores.base import ABSENT, IfVersion, missing
from holdall.testing.contract import (
    SourceBrokeError,
    StoreContract,
    assert_same_bytes,
    broken,
    content,
    fresh_address,
    fresh_bytes,
    identity,
)
from holdall.testing.racing import line, lines_of, outcomes, won

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.stores.base import Store

ENTRY_BYTES: Final = (0, 100, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 2 * MIB + 1)


def lasting(test: Callable[[LastingContract], Awaitable[None]]) -> Callable[[LastingContract], None]:
    """Makes an async test method that opens its stores itself into one that pytest can run."""

    async def attempt(contract: LastingContract) -> None:
        async with asyncio.timeout(contract.deadline_seconds):
            await test(contract)

    @functools.wraps(test)
    def run(contract: LastingContract) -> None:
        if not contract.lasting:
            pytest.skip("the store does not outlive its closing")
        asyncio.run(attempt(contract))

    return run


class LastingContract(StoreContract):
    """Several openings of the same entries."""

    @lasting
    async def test_entries_are_the_same_when_the_store_is_opened_again(self) -> None:
        values: dict[Address, bytes] = {}
        async with self.open_store() as store:
            for size_bytes in ENTRY_BYTES:
                data = fresh_bytes(size_bytes)
                values[await store.put(data)] = data
                values[(await store.write(fresh_address(), data)).address] = data
                values[(await store.append(fresh_address(), data)).address] = data
            before = {address: await store.stat(address, use=False) for address in values}

        async with self.open_store() as store:
            after = {address: await store.stat(address, use=False) for address in values}
            listed = {info.address async for info in store.entries()}
            for address, data in values.items():
                assert_same_bytes(await content(store, address), data)

        assert after == before
        assert values.keys() <= listed

    @lasting
    async def test_the_last_write_is_the_one_found_when_the_store_is_opened_again(self) -> None:
        address = fresh_address()
        async with self.open_store() as store:
            for size_bytes in (*ENTRY_BYTES, *reversed(ENTRY_BYTES)):
                await store.write(address, fresh_bytes(size_bytes))
            await store.write(address, b"last")
            info = await store.append(address, b" line")

        async with self.open_store() as store:
            assert await content(store, address) == b"last line"
            await store.write(address, b"next", when=IfVersion(info.version))

    @lasting
    async def test_what_was_removed_stays_away_when_the_store_is_opened_again(self) -> None:
        async with self.open_store() as store:
            addresses = []
            for size_bytes in ENTRY_BYTES[1:]:
                deleted = await store.put(fresh_bytes(size_bytes))
                await store.delete(deleted)
                taken = (await store.write(fresh_address(), fresh_bytes(size_bytes))).address
                await (await store.take(taken)).aclose()
                half = fresh_address()
                with pytest.raises(SourceBrokeError):
                    await store.write(half, broken(fresh_bytes(size_bytes)))
                addresses += [deleted, taken, half]

        async with self.open_store() as store:
            assert await missing(store, addresses) == addresses
            assert not {info.address async for info in store.entries()} & set(addresses)

    @lasting
    async def test_a_version_is_never_given_again_when_the_store_is_opened_again(self) -> None:
        address = fresh_address()
        versions = []

        for _ in range(4):
            async with self.open_store() as store:
                versions += [(await store.write(address, b"same")).version for _ in range(5)]
                await store.delete(address)

        assert len(set(versions)) == 20

    @lasting
    async def test_two_openings_see_each_others_changes_at_once(self) -> None:
        async with self.open_store() as one, self.open_store() as other:
            for here, there in ((one, other), (other, one)):
                for size_bytes in ENTRY_BYTES[1:]:
                    blob, value = fresh_bytes(size_bytes), fresh_bytes(size_bytes)
                    address, slot = Address.of(blob), fresh_address()
                    assert await missing(there, [address, slot]) == [address, slot]

                    await here.put(blob)
                    info = await here.write(slot, value)

                    assert_same_bytes(await content(there, address), blob)
                    assert_same_bytes(await content(there, slot), value)
                    assert identity(await there.stat(slot)) == identity(info)
                    await here.write(slot, b"short")
                    assert await content(there, slot) == b"short"
                    await here.append(slot, b", longer")
                    assert await content(there, slot) == b"short, longer"
                    await there.delete(address)
                    await there.delete(slot)
                    assert await missing(here, [address, slot]) == [address, slot]

    @lasting
    async def test_a_version_means_the_same_to_two_openings(self) -> None:
        address = fresh_address()
        versions = []

        async with self.open_store() as one, self.open_store() as other:
            info = await one.write(address, b"first")
            for store in (other, one) * 10:
                versions.append(info.version)
                info = await store.write(address, b"same", when=IfVersion(info.version))
            for store in (one, other):
                with pytest.raises(VersionMismatchError):
                    await store.write(address, b"late", when=IfVersion(versions[-1]))

        assert len({*versions, info.version}) == 21

    @lasting
    async def test_of_racers_over_two_openings_one_wins(self) -> None:
        async def take(store: Store, address: Address) -> bytes:
            async with await store.take(address) as reading:
                return await reading.read()

        async with self.open_store() as one, self.open_store() as other:
            for turn in range(5 * self.repeats):
                address = fresh_address()
                size_bytes = ENTRY_BYTES[turn % len(ENTRY_BYTES)]
                stores = [one, other] * 6

                created = await outcomes(
                    (store.write(address, fresh_bytes(size_bytes), when=ABSENT) for store in stores),
                    AlreadySetError,
                )
                seen = (await one.stat(address)).version
                swapped = await outcomes(
                    (store.write(address, fresh_bytes(size_bytes), when=IfVersion(seen)) for store in stores),
                    VersionMismatchError,
                )
                taken = await outcomes((take(store, address) for store in stores), NotFoundError)

                assert [len(won(answers)) for answers in (created, swapped, taken)] == [1, 1, 1]

    @lasting
    async def test_of_racers_over_two_openings_one_wins_where_the_blob_of_the_address_races_too(self) -> None:
        async with self.open_store() as one, self.open_store() as other:
            for turn in range(8 * self.repeats):
                blob = fresh_bytes(ENTRY_BYTES[1:][turn % 4])
                address = Address.of(blob)
                seen = IfVersion((await one.write(address, b"a slot")).version)
                values = [blob if racer % 4 < 2 else fresh_bytes(50) for racer in range(8)]

                answers = await outcomes(
                    (
                        store.write(address, value, when=seen)
                        for store, value in zip([one, other] * 4, values, strict=True)
                    ),
                    VersionMismatchError,
                    BlobInTheWayError,
                )

                [(winner, _)] = won(answers)
                assert_same_bytes(await content(one, address), values[winner])

    @lasting
    async def test_appends_over_two_openings_leave_whole_lines(self) -> None:
        address, lines = fresh_address(), range(10 * self.repeats)

        async def send(store: Store, sender: int) -> None:
            for number in lines:
                await store.append(address, line(sender, number, SMALL_BYTES_MAX if number % 9 == 4 else 0))

        async with self.open_store() as one, self.open_store() as other:
            await asyncio.gather(*(send((one, other)[sender % 2], sender) for sender in range(8)))
            found = lines_of(await content(one, address))
            assert lines_of(await content(other, address)) == found

        assert sorted(found) == [(sender, number) for sender in range(8) for number in lines]
