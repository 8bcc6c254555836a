"""Bodies on their way through a composite: one source for several members, copies kept whole, readings retold."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Self

from holdall.core.address import Address
from holdall.errors import DigestMismatchError, OutOfSpaceError
from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import CLIENT_SPOOL_BYTES
from holdall.stores.base import pieces
from holdall.stores.closing_reading import ClosingReading

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from holdall.stores.base import Info, Reading, Source, Span
    from holdall.stores.composite import Member


class Watched:
    """A stream that remembers what it raised, so that nobody takes that for an error of who reads it.

    Args:
        source: The stream.

    Attributes:
        error: What it raised, or None.
    """

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self.error: BaseException | None = None
        self._source = source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields what the stream yields."""
        try:
            async for piece in self._source:
                yield piece
        except BaseException as error:
            self.error = error
            raise


class Kept:
    """Bytes taken in whole: as they are if they came whole, else in memory while they are few, then in a file.

    Any number of readers may go through them at once. Close it when it is no longer needed.

    Attributes:
        size_bytes: How many there are.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._data: bytes | None = None
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()

    @classmethod
    async def of(cls, source: Source | Reading) -> Self:
        """Takes in a source to its end.

        Raises:
            OutOfSpaceError: There is no room for a temporary file.
        """
        kept = cls()
        try:
            if isinstance(source, bytes):
                kept._data = source
                kept._hash.update(source)
                kept.size_bytes = len(source)
            else:
                await kept._take_in(source)
        except BaseException:
            kept.close()
            raise
        return kept

    @property
    def address(self) -> Address:
        """The address of the bytes."""
        return Address(self._hash.digest())

    def source(self) -> Source:
        """The bytes as something to store, anew with each call: whole if they are few."""
        if self._data is not None:
            return self._data
        if self.size_bytes <= CLIENT_SPOOL_BYTES:
            return self._at(0, self.size_bytes)
        return self.pieces(0, self.size_bytes)

    async def pieces(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`, at most `CHUNK_BYTES` at a time."""
        for at in range(start, stop, CHUNK_BYTES):
            yield self._at(at, min(at + CHUNK_BYTES, stop))

    def close(self) -> None:
        """Lets go of the file; closing twice is harmless."""
        if self._file is not None:
            self._file.close()

    async def _take_in(self, source: AsyncIterable[bytes]) -> None:
        with making_room():
            self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes it
                CLIENT_SPOOL_BYTES, prefix="holdall-kept-"
            )
        async for piece in source:
            self._hash.update(piece)
            self.size_bytes += len(piece)
            with making_room():
                self._file.write(piece)

    def _at(self, start: int, stop: int) -> bytes:
        if self._data is not None:
            return self._data[start:stop]
        assert self._file is not None  # noqa: S101 - `of` made one or the other
        with making_room():
            self._file.seek(start)  # with the read in one go, so that readers do not meet
            return self._file.read(stop - start)


class KeptReading(ClosingReading):
    """A reading of bytes that were kept, and are closed with it.

    Args:
        kept: All bytes of the entry.
        info: Of the entry.
        span: Which part to yield.

    Raises:
        RangeError: The span starts at or after the end; the bytes are not closed.
    """

    def __init__(self, kept: Kept, info: Info, span: Span) -> None:
        self.info = info
        self.start, self.stop = span.resolve(info.size_bytes)
        self._kept = kept

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`."""
        return self._kept.pieces(self.start, self.stop)

    async def aclose(self) -> None:
        """Lets go of the bytes."""
        self._kept.close()


class RetoldReading(ClosingReading):
    """A member's reading with another `Info`, whose errors say whose they are.

    Args:
        member: Whose it is.
        reading: The member's.
        info: What to tell of the entry.
    """

    def __init__(self, member: Member, reading: Reading, info: Info) -> None:
        self.info = info
        self.start = reading.start
        self.stop = reading.stop
        self._member = member
        self._reading = reading

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields what the member's reading yields."""
        with self._member.asked():
            async for piece in self._reading:
                yield piece

    async def aclose(self) -> None:
        """Closes the member's reading."""
        await self._reading.aclose()


class Feed:
    """One stream, read once, for several takers; it goes at the pace of the slowest, a piece or two ahead.

    Args:
        source: The stream.
        expected: What it must hash to.

    Attributes:
        error: What the stream raised, or that it is not what was expected; None while all is well.
    """

    def __init__(self, source: AsyncIterable[bytes], expected: Address | None) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._expected = expected
        self._hash = hashlib.sha256()

    async def into(
        self, takers: Sequence[Callable[[AsyncIterator[bytes]], Awaitable[Address]]]
    ) -> tuple[Address, list[Address | BaseException]]:
        """Hands the stream to every taker; one that fails no longer holds up the others.

        Returns:
            The address of what came, and what each taker answered or raised. Where all failed before the end, the
            address is that of the part that was read.

        Raises:
            BaseException: What the stream raised, once all takers have ended; they were told of it as well.
            DigestMismatchError: The stream is not what was expected.
        """
        outlets = [_Outlet() for _ in takers]
        tasks = [asyncio.ensure_future(_drain(take, outlet)) for take, outlet in zip(takers, outlets, strict=True)]
        try:
            await self._pump(outlets)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.error is not None:
            raise self.error
        return Address(self._hash.digest()), answers

    async def _pump(self, outlets: list[_Outlet]) -> None:
        try:
            async for piece in pieces(self._source):
                self._hash.update(piece)
                for outlet in outlets:
                    await outlet.give(piece)
                if all(outlet.closed for outlet in outlets):
                    return
            self._check()
        except Exception as error:  # noqa: BLE001 - `into` raises it again
            self.error = error
        for outlet in outlets:
            await outlet.give(self.error)

    def _check(self) -> None:
        address = Address(self._hash.digest())
        if self._expected is not None and address != self._expected:
            raise DigestMismatchError(f"The bytes hash to {address}, not to {self._expected}.")


class _Outlet:
    """Where one taker gets its pieces; None is the end, an error is raised to it."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(1)

    async def give(self, item: bytes | BaseException | None) -> None:
        """Waits until there is room, unless the taker has gone."""
        if not self.closed:
            await self._waiting.put(item)

    async def pieces(self) -> AsyncIterator[bytes]:
        """What the taker reads."""
        while True:
            item = await self._waiting.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Lets the giver go on without this taker."""
        self.closed = True
        while not self._waiting.empty():
            self._waiting.get_nowait()


async def _drain(take: Callable[[AsyncIterator[bytes]], Awaitable[Address]], outlet: _Outlet) -> Address:
    try:
        return await take(outlet.pieces())
    finally:
        outlet.close()


@contextmanager
def making_room() -> Iterator[None]:
    """Translates what can go wrong with a temporary file."""
    try:
        yield
    except OSError as error:
        raise OutOfSpaceError(
            f"A temporary file on this machine cannot be used: {error.strerror or error}.",
            hint="Make room, or set TMPDIR to where there is some.",
        ) from error
