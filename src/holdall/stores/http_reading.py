"""Open entries of an HTTP store: straight off the connection, or from a copy where the server leaves things unsaid."""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO, TYPE_CHECKING

from holdall.errors import DamageError, StoreError
from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import CLIENT_SPOOL_BYTES
from holdall.stores.base import Info, Kind
from holdall.stores.closing_reading import ClosingReading
from holdall.stores.http_wire import KIND, content_range, info_from, length_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from holdall.core.address import Address
    from holdall.stores.base import Span
    from holdall.stores.http_session import Translating


class HTTPReading(ClosingReading):
    """An entry as it comes off the connection; a blob read whole is checked against its address.

    Args:
        response: The answer, its body not read yet.
        info: Of the version that is answered.
        start: First byte to yield.
        stop: One past the last.
        skip: Bytes of the body before `start`.
        verify: The address that the bytes must have, or None where they cannot be checked.
        translating: Turns errors of the network into ours.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        info: Info,
        *,
        start: int,
        stop: int,
        skip: int = 0,
        verify: Address | None,
        translating: Translating,
    ) -> None:
        self.info = info
        self.start = start
        self.stop = stop
        self._response = response
        self._skip = skip
        self._verify = verify
        self._translating = translating

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`.

        Raises:
            DamageError: They run short, or are not those of the address.
            UnreachableError: The connection broke.
        """
        digest = hashlib.sha256()
        left, skip = self.stop - self.start, self._skip
        while left:
            with self._translating:
                piece = await self._response.content.read(min(CHUNK_BYTES, left + skip))
            if not piece:
                raise DamageError(f"{self.info.address} ended {left} bytes early.")
            dropped = min(skip, len(piece))
            skip -= dropped
            if dropped:
                piece = piece[dropped:]
            if piece:
                left -= len(piece)
                if self._verify is not None:
                    digest.update(piece)
                if not left:
                    self._check(digest.digest())
                yield piece
        if self.start == self.stop:
            self._check(digest.digest())

    async def aclose(self) -> None:
        """Gives the connection back if the answer was read to its end, else closes it."""
        self._response.release()

    def _check(self, digest: bytes) -> None:
        if self._verify is not None and digest != self._verify:
            raise DamageError(f"What the server answers for {self._verify} does not hash to it.")


class CopiedReading(ClosingReading):
    """An entry that was copied whole before it was known what it is; see `copied`.

    Args:
        file: The copy, which is closed with the reading.
        info: Of the version copied.
        span: Which part to yield.

    Raises:
        RangeError: The span starts at or after the end.
    """

    def __init__(self, file: IO[bytes], info: Info, span: Span) -> None:
        self.info = info
        self.start, self.stop = span.resolve(info.size_bytes)
        self._file = file

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`."""
        self._file.seek(self.start)
        left = self.stop - self.start
        while left:
            piece = self._file.read(min(CHUNK_BYTES, left))
            left -= len(piece)
            yield piece

    async def aclose(self) -> None:
        """Removes the copy."""
        self._file.close()


async def copied(
    response: aiohttp.ClientResponse, address: Address, translating: Translating, *, keep: bool, checkable: bool = True
) -> tuple[IO[bytes], Info]:
    """Copies the answer of a server that does not say what an entry is, and finds it out by hashing.

    Args:
        response: The answer, its body not read yet.
        address: Of the entry.
        translating: Turns errors of the network into ours.
        keep: Whether to keep the bytes; if not, the file stays empty.
        checkable: Whether the whole of it must hash to `address` if that is a blob; not so for a burst.

    Returns:
        The copy, in memory while it is small and then in an unnamed file, and what is known now.

    Raises:
        DamageError: The server calls it a blob, and it does not hash to its address.
        StoreError: The answer is not that of an entry.
        UnreachableError: The connection broke.
    """
    if response.status != 200:
        raise StoreError(f"The server answered {response.status} where an entry was asked for.")
    digest, size_bytes = hashlib.sha256(), 0
    file = tempfile.SpooledTemporaryFile(CLIENT_SPOOL_BYTES, prefix="holdall-copy-")  # noqa: SIM115 - the reading's
    try:
        with translating:
            while piece := await response.content.read(CHUNK_BYTES):
                digest.update(piece)
                size_bytes += len(piece)
                if keep:
                    file.write(piece)
    except BaseException:
        file.close()
        raise
    kind = Kind.BLOB if digest.digest() == address else Kind.SLOT
    if kind is Kind.SLOT and checkable and response.headers.get(KIND) == Kind.BLOB.value:
        file.close()
        raise DamageError(f"What the server answers for {address} does not hash to it.")
    return file, Info(address, kind, size_bytes, digest.hexdigest(), used_ns=0)


async def reading_of(
    response: aiohttp.ClientResponse, address: Address, span: Span, translating: Translating, *, checkable: bool
) -> HTTPReading | CopiedReading:
    """Makes an answer to a GET a reading.

    Args:
        response: The answer, its body not read yet.
        address: Of the entry.
        span: Which part was asked for; the server may have answered all of it.
        translating: Turns errors of the network into ours.
        checkable: Whether the whole of it must hash to `address` if that is a blob; not so for a burst.

    Raises:
        RangeError: The span starts at or after the end.
        StoreError: The server answered something else than it was asked for.
    """
    first, size = 0, length_from(response.headers)
    if response.status == 206:
        part = content_range(response.headers)
        if part is None:
            raise StoreError("The server answered part of an entry and did not say which.")
        first, size = part
    info = info_from(response.headers, address, size) if size is not None else None
    if info is None and (size is None or response.status != 206):
        file, info = await copied(response, address, translating, keep=True, checkable=checkable)
        response.release()
        return _reading_of_copy(file, info, span)
    if info is None:
        info = Info(address, Kind.SLOT, size or 0, "", used_ns=0)
    if not checkable:
        info = info._replace(kind=Kind.SLOT)  # whatever it is made of, it does not hash to the address
    start, stop = span.resolve(info.size_bytes)
    if first > start:
        raise StoreError("The server answered another part of the entry than it was asked for.")
    checked = checkable and info.kind is Kind.BLOB and (start, stop) == (0, info.size_bytes)
    return HTTPReading(
        response,
        info,
        start=start,
        stop=stop,
        skip=start - first,
        verify=address if checked else None,
        translating=translating,
    )


def _reading_of_copy(file: IO[bytes], info: Info, span: Span) -> CopiedReading:
    try:
        return CopiedReading(file, info, span)
    except BaseException:
        file.close()
        raise
