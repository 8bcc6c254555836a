"""What only the memory store promises: a bound on its size, a clock of the caller's, and retention's reckoning."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import NotFoundError, OutOfSpaceError, TooLargeError
from holdall.stores.memory import MemoryStore
from holdall.testing.contract import SourceBrokeError, Stalled, broken, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from holdall.stores.base import Source

SLOT = Address(bytes(32))
OTHER = Address(b"\xff" * 32)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_ns = 1000

    def __call__(self) -> int:
        return self.now_ns


def test_an_entry_larger_than_the_whole_store_is_too_large() -> None:
    async def check() -> None:
        store = MemoryStore(size_bytes_max=100)
        await store.write(SLOT, b"x" * 10)

        for source in (b"y" * 101, streamed(b"y" * 50, b"y" * 51)):
            with pytest.raises(TooLargeError):
                await store.put(source)
        with pytest.raises(TooLargeError):
            await store.append(SLOT, b"y" * 101)

        assert (await store.stat(SLOT)).size_bytes == 10

    asyncio.run(check())


def test_a_full_store_takes_no_more_until_something_is_removed() -> None:
    async def check() -> None:
        store = MemoryStore(size_bytes_max=100)
        blob = await store.put(b"x" * 60)

        with pytest.raises(OutOfSpaceError):
            await store.write(SLOT, b"y" * 41)
        with pytest.raises(NotFoundError):
            await store.stat(SLOT)
        await store.write(SLOT, b"y" * 40)
        with pytest.raises(OutOfSpaceError):
            await store.append(SLOT, b"z")
        await store.delete(blob)
        await store.append(SLOT, b"z" * 59)
        await store.append(SLOT, b"!")

        async with await store.get(SLOT) as reading:
            assert await reading.read() == b"y" * 40 + b"z" * 59 + b"!"

    asyncio.run(check())


@pytest.mark.parametrize(
    ("leave", "free_bytes"),
    [
        ("delete", 100),
        ("take", 100),
        ("shorter value", 99),
        ("broken source", 40),
        ("refused source", 40),
        ("aclose", 100),
    ],
)
def test_room_is_given_back(leave: str, free_bytes: int) -> None:
    async def check() -> None:
        store = MemoryStore(size_bytes_max=100)
        await store.write(SLOT, b"x" * 60)
        match leave:
            case "delete":
                await store.delete(SLOT)
            case "take":
                await (await store.take(SLOT)).aclose()
            case "shorter value":
                await store.write(SLOT, b"x")
            case "broken source":
                with pytest.raises(SourceBrokeError):
                    await store.put(broken(b"y" * 40))
            case "refused source":
                with pytest.raises(OutOfSpaceError):
                    await store.put(streamed(b"y" * 40, b"z"))
            case _:
                await store.aclose()

        with pytest.raises((OutOfSpaceError, TooLargeError)):
            await store.put(b"z" * (free_bytes + 1))
        await store.put(b"z" * free_bytes)

    asyncio.run(check())


def test_what_is_arriving_counts() -> None:
    async def check() -> None:
        store = MemoryStore(size_bytes_max=100)
        source = Stalled(b"x" * 70)
        sending = asyncio.ensure_future(store.write(SLOT, source))
        await source.reached.wait()

        with pytest.raises(OutOfSpaceError):
            await store.write(OTHER, b"y" * 31)
        await store.write(OTHER, b"y" * 30)
        source.go.set()

        assert (await sending).size_bytes == 70

    asyncio.run(check())


@pytest.mark.parametrize(
    ("call", "is_use"),
    [
        pytest.param(lambda store, address: store.stat(address), True, id="stat"),
        pytest.param(lambda store, address: store.get(address), True, id="get"),
        pytest.param(lambda store, address: store.missing([address]), True, id="missing"),
        pytest.param(lambda store, address: store.put(b"data", expected=address), True, id="put"),
        pytest.param(lambda store, address: store.write(address, b"data"), True, id="write"),
        pytest.param(lambda store, address: store.stat(address, use=False), False, id="stat without use"),
        pytest.param(lambda store, address: store.get(address, use=False), False, id="get without use"),
        pytest.param(lambda store, _: anext(aiter(store.entries())), False, id="entries"),
    ],
)
def test_a_use_is_recorded_to_the_nanosecond(
    call: Callable[[MemoryStore, Address], Awaitable[object]], is_use: bool
) -> None:
    async def check() -> None:
        clock = Clock()
        store = MemoryStore(retention=Retention(length_ns=6400), clock_ns=clock)
        address = await store.put(b"data")
        assert (await store.stat(address, use=False)).used_ns == 1000

        clock.now_ns = 1001
        await call(store, address)
        info = await store.stat(address, use=False)

        assert info.used_ns == (1001 if is_use else 1000)
        assert info.expires_ns == info.used_ns + 6400 + 100

    asyncio.run(check())


def test_without_retention_nothing_expires() -> None:
    async def check() -> None:
        store = MemoryStore()

        info = await store.write(SLOT, b"data")

        assert info.expires_ns is None

    asyncio.run(check())


def test_entries_with_the_same_use_come_by_address() -> None:
    async def check() -> None:
        clock = Clock()
        store = MemoryStore(clock_ns=clock)
        same = [Address(bytes([number]) * 32) for number in (9, 3, 7)]
        for address in same:
            await store.write(address, b"x")
        clock.now_ns = 2000
        await store.write(OTHER, b"x")

        order = [info.address async for info in store.entries()]

        assert order == [OTHER, *sorted(same)]

    asyncio.run(check())


def test_a_source_is_asked_for_its_next_piece_only_when_the_last_is_kept() -> None:
    async def check() -> None:
        store = MemoryStore(size_bytes_max=10)
        asked = 0

        async def counting() -> AsyncIterator[bytes]:
            nonlocal asked
            for _ in range(100):
                asked += 1
                yield b"four"

        source: Source = counting()
        with pytest.raises(TooLargeError):
            await store.put(source)

        assert asked == 3

    asyncio.run(check())
