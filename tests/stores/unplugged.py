"""What tests of composites share: a real store whose cable can be pulled, and tests that await."""

from __future__ import annotations

import asyncio
import functools
from contextlib import aclosing
from typing import TYPE_CHECKING, ParamSpec

from holdall.errors import UnreachableError
from holdall.stores.base import ALWAYS, WHOLE, pieces
from holdall.stores.closing_reading import ClosingReading
from holdall.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from holdall.core.address import Address
    from holdall.stores.base import Condition, Info, Kind, Reading, Source, Span, Store

_P = ParamSpec("_P")
_DEADLINE_SECONDS = 240.0


def awaited(test: Callable[_P, Coroutine[None, None, None]]) -> Callable[_P, None]:
    """Makes an async test into one that pytest can run."""

    async def attempt(*args: _P.args, **kwargs: _P.kwargs) -> None:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        asyncio.run(attempt(*args, **kwargs))

    return run


class Unplugged:
    """A store that answers as `store` does while its cable is in.

    Attributes:
        store: The store behind the cable.
        plugged: Whether it can be reached.
        breaks_after_bytes: When set, a body either way breaks off after so many bytes.
        calls: The names of the calls that reached it.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.plugged = True
        self.breaks_after_bytes: int | None = None
        self.calls: list[str] = []

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        self._reached("put")
        body = source if self.breaks_after_bytes is None else self._cut(pieces(source))
        return await self.store.put(body, expected=expected)

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
        self._reached("get")
        reading = await self.store.get(address, span, use=use)
        return reading if self.breaks_after_bytes is None else _Cut(self, reading)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        self._reached("stat")
        return await self.store.stat(address, use=use)

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        self._reached("delete")
        await self.store.delete(address, kind=kind)

    async def entries(self) -> AsyncIterator[Info]:
        self._reached("entries")
        async for info in self.store.entries():
            yield info

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        self._reached("write")
        return await self.store.write(address, source, when=when)

    async def append(self, address: Address, source: Source) -> Info:
        self._reached("append")
        return await self.store.append(address, source)

    async def take(self, address: Address) -> Reading:
        self._reached("take")
        reading = await self.store.take(address)
        return reading if self.breaks_after_bytes is None else _Cut(self, reading)

    async def aclose(self) -> None:
        """The store behind it stays, so that it can be looked at and plugged in again."""

    def _reached(self, call: str) -> None:
        if not self.plugged:
            raise UnreachableError("The cable is out.")
        self.calls.append(call)

    async def _cut(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = self.breaks_after_bytes or 0
        async for piece in body:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                self.plugged = False
                raise UnreachableError("The cable was pulled.")


class _Cut(ClosingReading):
    def __init__(self, unplugged: Unplugged, reading: Reading) -> None:
        self.info, self.start, self.stop = reading.info, reading.start, reading.stop
        self._unplugged = unplugged
        self._reading = reading

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._unplugged._cut(aiter(self._reading))) as body:  # type: ignore[type-var]
            async for piece in body:
                yield piece

    async def aclose(self) -> None:
        await self._reading.aclose()
