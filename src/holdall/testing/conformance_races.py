"""Conformance under concurrency: each call takes effect at one moment, so of any racers exactly one wins."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.errors import AlreadySetError, BlobInTheWayError, NotFoundError, VersionMismatchError
from holdall.stores.base import ABSENT, IfVersion, Info, Kind, missing
from holdall.testing.contract import (
    StoreContract,
    assert_same_bytes,
    content,
    cut,
    fresh_address,
    fresh_bytes,
    identity,
    scenario,
    streamed,
)
from holdall.testing.racing import RACERS, VALUE_BYTES, mixed_sizes, outcomes, won

if TYPE_CHECKING:
    from holdall.stores.base import Store


class RacesContract(StoreContract):
    """Many calls at once."""

    @mixed_sizes
    @scenario
    async def test_one_of_many_exclusive_creates_wins(self, store: Store, sizes_bytes: tuple[int, ...]) -> None:
        for _ in range(3 * self.repeats):
            address = fresh_address()
            values = [fresh_bytes(sizes_bytes[racer % len(sizes_bytes)]) for racer in range(RACERS)]

            answers = await outcomes(
                (store.write(address, streamed(*cut(value, 50_000)), when=ABSENT) for value in values),
                AlreadySetError,
            )

            [(winner, info)] = won(answers)
            assert isinstance(info, Info)
            assert_same_bytes(await content(store, address), values[winner])
            assert identity(await store.stat(address)) == identity(info)

    @mixed_sizes
    @scenario
    async def test_one_of_many_writes_over_the_same_version_wins(
        self, store: Store, sizes_bytes: tuple[int, ...]
    ) -> None:
        address = fresh_address()
        info = await store.write(address, b"first")
        for _ in range(3 * self.repeats):
            values = [fresh_bytes(sizes_bytes[racer % len(sizes_bytes)]) for racer in range(RACERS)]

            answers = await outcomes(
                (store.write(address, value, when=IfVersion(info.version)) for value in values),
                VersionMismatchError,
            )

            [(winner, answer)] = won(answers)
            assert isinstance(answer, Info)
            info = await store.stat(address)
            assert identity(info) == identity(answer)
            assert_same_bytes(await content(store, address), values[winner])

    @pytest.mark.parametrize("over", [None, b"a slot"], ids=["absent", "over a version"])
    @scenario
    async def test_one_write_wins_where_the_blob_of_the_address_races_too(
        self, store: Store, over: bytes | None
    ) -> None:
        for size_bytes in VALUE_BYTES * 2 * self.repeats:
            blob = fresh_bytes(size_bytes)
            address = Address.of(blob)
            when = ABSENT if over is None else IfVersion((await store.write(address, over)).version)
            values = [blob if racer % 3 == 1 else fresh_bytes(size_bytes) for racer in range(9)]

            answers = await outcomes(
                (store.write(address, value, when=when) for value in values),
                AlreadySetError,
                VersionMismatchError,
                BlobInTheWayError,
            )

            [(winner, _)] = won(answers)
            assert_same_bytes(await content(store, address), values[winner])

    @scenario
    async def test_counting_by_compare_and_swap_loses_no_step(self, store: Store) -> None:
        address = fresh_address()
        await store.write(address, b"0")

        steps_each = 6 * self.repeats

        async def count(steps: int) -> None:
            while steps:
                async with await store.get(address) as reading:
                    following = b"%d" % (int(await reading.read()) + 1)
                try:
                    await store.write(address, following, when=IfVersion(reading.info.version))
                except VersionMismatchError:
                    continue
                steps -= 1

        await asyncio.gather(*(count(steps_each) for _ in range(6)))

        assert await content(store, address) == b"%d" % (6 * steps_each)

    @mixed_sizes
    @scenario
    async def test_one_of_many_takers_gets_the_value(self, store: Store, sizes_bytes: tuple[int, ...]) -> None:
        for turn in range(4 * self.repeats):
            address, data = fresh_address(), fresh_bytes(sizes_bytes[turn % len(sizes_bytes)])
            await store.write(address, data)

            async def take_one(address: Address = address) -> bytes:
                async with await store.take(address) as reading:
                    return await reading.read()

            answers = await outcomes((take_one() for _ in range(RACERS)), NotFoundError)

            [(_, taken)] = won(answers)
            assert isinstance(taken, bytes)
            assert_same_bytes(taken, data)
            assert await missing(store, [address]) == [address]

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_one_of_many_deletes_removes_the_entry(self, store: Store, kind: Kind) -> None:
        data = fresh_bytes()
        address = Address.of(data) if kind is Kind.BLOB else fresh_address()
        await store.write(address, data)

        answers = await outcomes((store.delete(address) for _ in range(RACERS)), NotFoundError)

        assert len(won(answers)) == 1

    @scenario
    async def test_a_slot_serves_as_a_lock(self, store: Store) -> None:
        address = fresh_address()
        inside = most = held = 0

        async def work() -> None:
            nonlocal inside, most, held
            while True:
                try:
                    await store.write(address, b"mine", when=ABSENT)
                    break
                except AlreadySetError:
                    await asyncio.sleep(0)
            inside += 1
            most, held = max(most, inside), held + 1
            await asyncio.sleep(0)
            inside -= 1
            await store.delete(address)

        await asyncio.gather(*(work() for _ in range(8)))

        assert (most, held) == (1, 8)
