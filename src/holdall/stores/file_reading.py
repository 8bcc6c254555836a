"""A `Reading` of one open file."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Self

from holdall.errors import DamageError
from holdall.limits import CHUNK_BYTES
from holdall.stores.disk import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Executor
    from types import TracebackType

    from holdall.stores.base import Info, Span


class FileReading:
    """Part of an open file, read at its own offsets in an executor; `fileno` is there for sendfile.

    Args:
        fd: An open descriptor, closed with the reading; what it holds up to `info.size_bytes` never changes.
        info: Of the entry.
        span: Which part.
        executor: Where blocking reads run.

    Raises:
        RangeError: The span lies outside the entry; the descriptor is closed.
    """

    def __init__(self, fd: int, info: Info, span: Span, executor: Executor) -> None:
        self._fd = fd
        self._executor = executor
        self.info = info
        try:
            self.start, self.stop = span.resolve(info.size_bytes)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor, valid until the reading is closed."""
        return self._fd

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes in pieces; errors as `Reading`."""
        at = self.start
        while at < self.stop:
            piece = await self._read(min(CHUNK_BYTES, self.stop - at), at)
            at += len(piece)
            yield piece

    async def read(self) -> bytes:
        """All of the bytes; errors as `Reading`."""
        return b"".join([piece async for piece in self])

    async def aclose(self) -> None:
        """Closes the descriptor. Closing twice is harmless."""
        self.close()

    def close(self) -> None:
        """`aclose`, for a caller that is not asynchronous."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    async def _read(self, size_bytes: int, offset: int) -> bytes:
        with translated():
            loop = asyncio.get_running_loop()
            piece = await loop.run_in_executor(self._executor, os.pread, self._fd, size_bytes, offset)
        if not piece:
            raise DamageError(f"The file of {self.info.address} has become shorter than it was.")
        return piece
