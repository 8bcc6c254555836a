"""Conformance under concurrency: whatever is mixed, nothing tears, interleaves or is lost."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import AlreadySetError, BlobInTheWayError, NotFoundError, VersionMismatchError
from holdall.limits import SMALL_BYTES_MAX
from holdall.stores.base import ABSENT, IfVersion, Kind, missing
from holdall.testing.contract import (
    StoreContract,
    assert_same_bytes,
    content,
    cut,
    fresh_address,
    fresh_bytes,
    scenario,
    streamed,
)
from holdall.testing.racing import RACERS, VALUE_BYTES, line, lines_of, mixed_sizes, outcomes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.stores.base import Store


class MixesContract(StoreContract):
    """Calls that must not disturb each other."""

    @pytest.mark.parametrize("long_line_bytes", [0, SMALL_BYTES_MAX + 1], ids=["short", "some long"])
    @scenario
    async def test_concurrent_appends_leave_whole_lines_in_each_senders_order(
        self, store: Store, long_line_bytes: int
    ) -> None:
        address, lines = fresh_address(), range(12 * self.repeats)

        async def send(sender: int) -> None:
            for number in lines:
                text = line(sender, number, long_line_bytes if number % 7 == sender % 7 else 0)
                await store.append(address, streamed(*cut(text, 30_000)))

        await asyncio.gather(*(send(sender) for sender in range(8)))

        found = lines_of(await content(store, address))
        assert sorted(found) == [(sender, number) for sender in range(8) for number in lines]
        for sender in range(8):
            assert [number for who, number in found if who == sender] == list(lines)

    @scenario
    async def test_what_is_appended_while_others_take_is_taken_once(self, store: Store) -> None:
        address = fresh_address()
        taken: list[tuple[int, int]] = []
        lines = range(10 * self.repeats)

        async def take_one() -> None:
            try:
                reading = await store.take(address)
            except NotFoundError:
                await asyncio.sleep(0)
                return
            async with reading:
                taken.extend(lines_of(await reading.read()))

        async def send(sender: int) -> None:
            for number in lines:
                await store.append(address, line(sender, number))

        sending = asyncio.gather(*(send(sender) for sender in range(6)))
        while not sending.done():
            await asyncio.sleep(0)
            await asyncio.gather(*(take_one() for _ in range(3)))
        await sending
        await take_one()

        assert sorted(taken) == [(sender, number) for sender in range(6) for number in lines]

    @scenario
    async def test_a_reader_never_sees_a_mix_of_two_values(self, store: Store) -> None:
        address = fresh_address()
        values = [bytes([97 + number]) * (VALUE_BYTES[number % 4] - number % 3) for number in range(12)]
        await store.write(address, values[0])
        seen: dict[str, bytes] = {}

        async def overwrite(turns: int) -> None:
            for turn in range(turns):
                await store.write(address, streamed(*cut(values[turn % len(values)], 50_000)))

        async def look() -> None:
            async with await store.get(address) as reading:
                data = b"".join([piece async for piece in reading])
            assert len(data) == reading.info.size_bytes
            assert data in values
            assert seen.setdefault(reading.info.version, data) == data

        await look()
        writing = asyncio.gather(*(overwrite(12 * self.repeats) for _ in range(2)))
        while not writing.done():
            await asyncio.sleep(0)
            await asyncio.gather(*(look() for _ in range(4)))
        await writing
        await look()

        assert len(seen) > 1

    @scenario
    async def test_a_blob_wins_any_race_with_slot_calls(self, store: Store) -> None:
        for size_bytes in VALUE_BYTES * 2:
            data = fresh_bytes(size_bytes)
            address = Address.of(data)

            await outcomes(
                [
                    store.write(address, b"a slot"),
                    store.append(address, b"a line\n"),
                    store.put(data),
                    store.write(address, fresh_bytes(SMALL_BYTES_MAX + 1)),
                    store.append(address, b"a line\n"),
                    store.put(streamed(*cut(data, 50_000))),
                    store.write(address, b"a slot", when=ABSENT),
                ],
                BlobInTheWayError,
                AlreadySetError,
            )

            assert (await store.stat(address)).kind is Kind.BLOB
            assert_same_bytes(await content(store, address), data)

    @mixed_sizes
    @scenario
    async def test_concurrent_puts_of_the_same_bytes_all_succeed(
        self, store: Store, sizes_bytes: tuple[int, ...]
    ) -> None:
        for size_bytes in sizes_bytes:
            data = fresh_bytes(size_bytes)

            addresses = await asyncio.gather(*(store.put(streamed(*cut(data, 50_000))) for _ in range(RACERS)))

            assert set(addresses) == {Address.of(data)}
            assert_same_bytes(await content(store, addresses[0]), data)

    @scenario
    async def test_concurrent_puts_of_different_bytes_all_succeed(self, store: Store) -> None:
        values = [fresh_bytes(VALUE_BYTES[number % 4] if number % 8 == 0 else 30 + number) for number in range(100)]

        addresses = await asyncio.gather(*map(store.put, values))

        assert addresses == [Address.of(value) for value in values]
        for address, value in zip(addresses, values, strict=True):
            assert_same_bytes(await content(store, address), value)

    @scenario
    async def test_any_mix_of_calls_raises_only_what_is_documented_and_tears_nothing(self, store: Store) -> None:
        addresses = [fresh_address() for _ in range(3)]

        async def work(worker: int) -> None:
            for number in range(18 * self.repeats):
                text = line(worker, number, (0, 0, SMALL_BYTES_MAX)[number % 3])
                address = addresses[(worker + number) % len(addresses)]
                call = CALLS[(worker * 5 + number * 7) % len(CALLS)]
                await outcomes([call(store, address, text)], NotFoundError, AlreadySetError, VersionMismatchError)

        await asyncio.gather(*(work(worker) for worker in range(8)))

        here = set(addresses) - set(await missing(store, addresses))
        for address in here:
            data = await content(store, address)
            lines_of(data)
            assert (await store.stat(address)).size_bytes == len(data)
        assert {info.address async for info in store.entries()} & set(addresses) == here


async def _take_whole_lines(store: Store, address: Address, text: bytes) -> None:
    del text
    async with await store.take(address) as reading:
        lines_of(await reading.read())


async def _read_whole_lines(store: Store, address: Address, text: bytes) -> None:
    del text
    lines_of(await content(store, address))


async def _swap(store: Store, address: Address, text: bytes) -> None:
    info = await store.stat(address)
    await store.write(address, text, when=IfVersion(info.version))


async def _put_and_list(store: Store, address: Address, text: bytes) -> None:
    del address
    blob = await store.put(text)
    assert [info.kind async for info in store.entries() if info.address == blob] == [Kind.BLOB]


CALLS: Final[tuple[Callable[[Store, Address, bytes], Awaitable[object]], ...]] = (
    lambda store, address, text: store.append(address, text),
    lambda store, address, text: store.append(address, streamed(*cut(text, 30_000))),
    lambda store, address, text: store.write(address, streamed(text, text)),
    lambda store, address, text: store.write(address, text, when=ABSENT),
    lambda store, address, _: store.delete(address, kind=Kind.SLOT),
    _take_whole_lines,
    _read_whole_lines,
    _swap,
    _put_and_list,
)
