"""The small writes of one event loop, gathered so that a group of them pays for one sync and one wake-up.

Only an event loop's own thread may use this. A write goes to the journal with all that came in the same turn of the
loop; when the journal says it is durable, it gets its file and its answer. What cannot be done at once (a name that is
taken, a directory without a journal) goes to a thread.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.address import Address
from holdall.errors import HoldallError
from holdall.stores.changes import Durability
from holdall.stores.disk import translate
from holdall.stores.journal_format import encode_blob
from holdall.stores.placer import MESSAGE_BYTES_MAX, PLACED, TAKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from holdall.stores.blob_shelf import BlobShelf
    from holdall.stores.journal import Journal
    from holdall.stores.placer import Placer
    from holdall.stores.shelf import Shelf


class _Write(NamedTuple):
    address: Address
    data: bytes
    done: Callable[[Address | HoldallError], None]
    sequence: int
    """`BlobShelf.change_sequence` before it went to the journal."""


_MESSAGE_WRITES_MAX: Final = MESSAGE_BYTES_MAX // (9 * 1024)
_ALONE_MAX: Final = 3
"""Up to this many writes at once are placed here: a message to the placer and back takes longer."""
_SUBMISSION_BYTES_MAX: Final = 1024 * 1024
"""What one turn brings is handed to the journal in parts of this size, which fit into the smallest of journals."""
_PLACED_BYTES_MAX: Final = 8 * 1024
"""A larger write is placed here: copying it to the placer would cost what it saves."""


class SmallWrites:
    """Stores small blobs for callers on one event loop.

    Args:
        shelf: The directory.
        blobs: Its blobs.
        executor: Where calls that may block run.
        placer: A second process to create files, or None to do without.
    """

    def __init__(self, shelf: Shelf, blobs: BlobShelf, executor: Executor, placer: Placer | None) -> None:
        self._shelf = shelf
        self._blobs = blobs
        self._executor = executor
        self._placer = placer
        self._gathered: list[_Write] = []
        self._under_way = 0
        self._idle: asyncio.Event | None = None

    def put(self, data: bytes, done: Callable[[Address | HoldallError], None]) -> None:
        """Stores at most `SMALL_BYTES_MAX` bytes and calls `done` with the outcome, now or later in the loop."""
        address = Address.of(data)
        durable = self._shelf.durability is Durability.SYNC
        write = _Write(address, data, done, self._blobs.change_sequence(address) if durable else 0)
        self._under_way += 1
        if durable and (self._shelf.changes.journal is None or not self._shelf.disk.unnamed):
            self._in_thread(write)
        elif not durable and self._placer is None:
            self._place(write, None)
        else:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._submit)
            self._gathered.append(write)

    async def aclose(self) -> None:
        """Waits until every write has its outcome, and ends the placer; none may be put any more."""
        if self._under_way:
            self._idle = asyncio.Event()
            await self._idle.wait()
        if self._placer is not None:
            self._placer.close()

    def _submit(self) -> None:
        """Hands what this turn of the loop gathered to the journal, or, where nothing must be durable, to its files."""
        group, self._gathered = self._gathered, []
        if self._shelf.changes.journal is None:
            self._place_group(group, None)
            return
        start, size = 0, 0
        for number, write in enumerate(group):
            size += len(write.data)
            if size > _SUBMISSION_BYTES_MAX and number > start:
                self._journal(group[start:number])
                start, size = number, len(write.data)
        self._journal(group[start:])

    def _journal(self, group: list[_Write]) -> None:
        loop, journal = asyncio.get_running_loop(), self._shelf.changes.journal
        assert journal is not None  # noqa: S101 - `put` saw it, and it stays until the store is closed

        def synced(epoch: int, error: OSError | None) -> None:
            loop.call_soon_threadsafe(self._durable, journal, group, epoch, error)

        journal.submit([encode_blob(write.address, write.data) for write in group], synced)

    def _durable(self, journal: Journal, group: list[_Write], epoch: int, error: OSError | None) -> None:
        """Gives each write of a group its file; the journal may retire the group when all have theirs."""
        if error is not None:
            failure = as_holdall_error(error)
            for write in group:
                self._answer(write, failure)
            return
        left = len(group)

        def placed() -> None:
            nonlocal left
            left -= 1
            if not left:
                journal.release(epoch)

        self._place_group(group, placed)

    def _place_group(self, group: list[_Write], placed: Callable[[], None] | None) -> None:
        """Gives each write its file: many small ones by the placer, the others here."""
        if self._placer is None or len(group) <= _ALONE_MAX:
            for write in group:
                self._place(write, placed)
            return
        message: list[_Write] = []
        for write in group:
            if len(write.data) > _PLACED_BYTES_MAX:
                self._place(write, placed)
                continue
            message.append(write)
            if len(message) == _MESSAGE_WRITES_MAX:
                self._offer(message, placed)
                message = []
        if message:
            self._offer(message, placed)

    def _offer(self, message: list[_Write], placed: Callable[[], None] | None) -> None:
        def outcomes(codes: bytes | None) -> None:
            if codes is None:
                for write in message:
                    self._place(write, placed)
                return
            for write, code in zip(message, codes, strict=True):
                if code in {PLACED, TAKEN}:
                    self._settle(write, placed, taken=code == TAKEN)
                else:
                    self._fail(write, placed, OSError(code, os.strerror(code)))

        assert self._placer is not None  # noqa: S101 - `_place_group` saw it
        if not self._placer.offer([(write.address, write.data) for write in message], outcomes):
            for write in message:
                self._place(write, placed)

    def _place(self, write: _Write, placed: Callable[[], None] | None) -> None:
        try:
            quick = self._blobs.place_quickly(write.address, write.data)
        except OSError as error:
            self._fail(write, placed, error)
        else:
            self._settle(write, placed, taken=not quick)

    def _settle(self, write: _Write, placed: Callable[[], None] | None, *, taken: bool) -> None:
        """Answers a write that has its file, by itself or because the same blob was there.

        Any other goes to a thread and begins anew, under the entry's lock: one whose name a slot has, whose timer must
        be restarted, or that met a change whose order beside it only the lock can tell. It lets the journal go first:
        who has the lock may be waiting for a segment to be retired.
        """
        try:
            there = not taken or self._blobs.holds(write.address)
        except OSError as error:
            self._fail(write, placed, error)
            return
        if placed is not None:
            there = there and not write.sequence & 1 and self._blobs.change_sequence(write.address) == write.sequence
            placed()
        if there:
            self._answer(write, write.address)
        else:
            self._in_thread(write)

    def _fail(self, write: _Write, placed: Callable[[], None] | None, error: OSError) -> None:
        if placed is not None:
            placed()
        self._answer(write, as_holdall_error(error))

    def _in_thread(self, write: _Write) -> None:
        def answered(future: asyncio.Future[None]) -> None:
            error = future.exception()
            self._answer(write, write.address if error is None else as_holdall_error(error))

        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, self._blobs.put_small, write.address, write.data)
        future.add_done_callback(answered)

    def _answer(self, write: _Write, outcome: Address | HoldallError) -> None:
        self._under_way -= 1
        if not self._under_way and self._idle is not None:
            self._idle.set()
        write.done(outcome)


def as_holdall_error(error: BaseException) -> HoldallError:
    """The error as a `HoldallError`; one that is neither that nor the system's is raised as it is."""
    if isinstance(error, HoldallError):
        return error
    if isinstance(error, OSError):
        try:
            translate(error)
        except HoldallError as meant:
            return meant
    raise error
