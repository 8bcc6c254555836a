"""Files read and written piece by piece, in the event loop that moves large ones."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits import CHUNK_BYTES
from holdall.sync.reading import CHANGING
from holdall.sync.state import Signature, settled_ns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_SECOND_NS: Final = 1_000_000_000


def changing() -> LocalFileError:
    """The error that says so of a file."""
    return LocalFileError(f"it {CHANGING}.")


async def settled(fd: int) -> Signature:
    """What an open file is, once its last change is so long ago that a further one could be told."""
    status, latest_ns = os.fstat(fd), time.time_ns() + _SECOND_NS
    if status.st_ctime_ns > latest_ns:
        raise LocalFileError("it changed in the future, by the clock of this host.")
    # A time in the future that somebody set would be another after any change.
    changed_ns = max(ns for ns in (status.st_mtime_ns, status.st_ctime_ns) if ns <= latest_ns)
    await asyncio.sleep(max(0, settled_ns(changed_ns) - time.time_ns()) / _SECOND_NS)
    if Signature.of(os.fstat(fd)) != Signature.of(status):
        raise changing()
    return Signature.of(status)


async def pieces(fd: int, signature: Signature) -> AsyncIterator[bytes]:
    """The bytes of an open file from its beginning; an error where it is not, or does not stay, what it was."""
    offset = 0
    while True:
        if Signature.of(os.fstat(fd)) != signature:
            raise changing()
        piece = os.pread(fd, CHUNK_BYTES, offset)
        if not piece:
            return
        offset += len(piece)
        yield piece
        await asyncio.sleep(0)


def write(fd: int, piece: bytes) -> None:
    """Adds bytes at the end of a file."""
    left = memoryview(piece)
    while left:
        left = left[os.pwrite(fd, left, os.fstat(fd).st_size) :]


@contextmanager
def local(done: str) -> Iterator[None]:
    """Turns errors of the system into ours; `done` is what could not be done to the file."""
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"it cannot be {done}: {error.strerror or error}.") from error
