"""Several things at once, their order kept."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import pytest

from holdall.limits.stores import CLIENT_SPOOL_BYTES
from holdall.stores.ordered import in_order, taken_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")


async def gathered(items: AsyncIterator[T]) -> tuple[list[T], Exception | None]:
    """What an iterator yields, and the error it ends with."""
    seen = []
    try:
        async for item in items:
            seen.append(item)  # noqa: PERF401 - what came before an error is wanted too
    except Exception as error:  # noqa: BLE001 - whichever it is
        return seen, error
    return seen, None


def test_results_come_in_order_whichever_is_ready_first() -> None:
    async def scenario() -> list[int]:
        gates = [asyncio.Event() for _ in range(6)]
        gates[5].set()

        async def call(number: int) -> int:
            await gates[number].wait()
            gates[number - 1].set()
            return number

        return [number async for number in in_order(range(6), call, width=6)]

    assert asyncio.run(scenario()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("width", [1, 3])
def test_no_more_than_the_width_are_under_way(width: int) -> None:
    async def scenario() -> int:
        now, most = 0, 0

        async def call(_: int) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

        async for _ in in_order(range(20), call, width=width):
            pass
        return most

    assert asyncio.run(scenario()) == width


def test_a_failure_ends_it_where_its_result_would_have_been() -> None:
    async def scenario() -> tuple[list[int], list[int]]:
        cancelled: list[int] = []

        async def call(number: int) -> int:
            if number == 2:
                raise ValueError
            if number > 2:
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(number)
            return number

        seen, error = await gathered(in_order(range(5), call, width=5))
        assert isinstance(error, ValueError)
        return seen, cancelled

    assert asyncio.run(scenario()) == ([0, 1], [3, 4])


async def produced(pieces: list[bytes], *, error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece
    if error is not None:
        raise error


@pytest.mark.parametrize(
    "pieces", [[], [b"one"], [b"one", b"two"], [bytes(100_000)] * 50, [bytes(CLIENT_SPOOL_BYTES * 2), b"end"]]
)
def test_what_is_taken_in_comes_out_as_it_was(pieces: list[bytes]) -> None:
    async def scenario() -> bytes:
        return b"".join([piece async for piece in taken_in(produced(pieces))])

    assert asyncio.run(scenario()) == b"".join(pieces)


def test_all_is_taken_in_while_the_caller_is_still_busy_with_the_first() -> None:
    async def scenario() -> bool:
        done = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(10_000)
            done.set()

        async with aclosing(taken_in(source())) as pieces:
            await anext(pieces)
            async with asyncio.timeout(60):
                await done.wait()
        return done.is_set()

    assert asyncio.run(scenario())


def test_an_error_comes_after_what_came_before_it() -> None:
    async def scenario() -> tuple[bytes, str]:
        pieces, error = await gathered(taken_in(produced([b"one", b"two"], error=ValueError("broken"))))
        return b"".join(pieces), str(error)

    assert asyncio.run(scenario()) == (b"onetwo", "broken")


def test_stopping_early_stops_the_source() -> None:
    async def scenario() -> bool:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"piece"
                    await asyncio.sleep(0)
            finally:
                closed.set()

        async with aclosing(taken_in(endless())) as pieces:
            await anext(pieces)
        async with asyncio.timeout(60):
            await closed.wait()
        return True

    assert asyncio.run(scenario())
