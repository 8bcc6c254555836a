"""Doing several things at once without losing their order, and taking in at one pace what is used at another."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import CLIENT_SPOOL_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

_T = TypeVar("_T")
_R = TypeVar("_R")


async def in_order(
    items: AsyncIterable[_T] | Iterable[_T], call: Callable[[_T], Awaitable[_R]], *, width: int
) -> AsyncGenerator[_R, None]:
    """Yields `call(item)` for each item in order, with up to `width` calls under way.

    A call that raises ends the iteration where its result would have been; the calls after it are cancelled.
    """
    under_way: deque[asyncio.Future[_R]] = deque()
    try:
        async for item in _each(items):
            under_way.append(asyncio.ensure_future(call(item)))
            if len(under_way) == width:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def taken_in(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yields the bytes of `pieces` at the caller's pace while they are taken in as fast as they come.

    What has not been yielded yet waits in memory while it is little, then in an unnamed temporary file.
    """
    import tempfile  # noqa: PLC0415 - slow to import, and few take anything in

    written, read = 0, 0
    more = asyncio.Event()
    with tempfile.SpooledTemporaryFile(CLIENT_SPOOL_BYTES, prefix="holdall-intake-") as file:

        async def take_in() -> None:
            nonlocal written
            try:
                async for piece in pieces:
                    file.seek(written)
                    file.write(piece)
                    written += len(piece)
                    more.set()
            finally:
                more.set()

        task = asyncio.create_task(take_in())
        try:
            while True:
                while read < written:
                    file.seek(read)
                    piece = file.read(min(CHUNK_BYTES, written - read))
                    read += len(piece)
                    yield piece
                if task.done():
                    task.result()
                    return
                more.clear()
                await more.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _each(items: AsyncIterable[_T] | Iterable[_T]) -> AsyncIterator[_T]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
