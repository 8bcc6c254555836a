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
from holdall.stores.disk import translate
from holdall.stores.journal_format import encode_blob
from holdall.stores.placer import MESSAGE_BYTES_MAX, PLACED, TAKEN
from holdall.stores.shelf import Durability

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from holdall.stores.placer import Placer
    from holdall.stores.shelf import Shelf


class _Write(NamedTuple):
    address: Address
    data: bytes
    done: Callable[[Address | HoldallError], None]


_MESSAGE_WRITES_MAX: Final = MESSAGE_BYTES_MAX // (9 * 1024)
_ALONE_MAX: Final = 3
"""Up to this many writes at once are placed here: a message to the placer and back takes longer."""
_PLACED_BYTES_MAX: Final = 8 * 1024
"""A larger write is placed here: copying it to the placer would cost what it saves."""


class SmallWrites:
    """Stores small blobs for callers on one event loop.

    Args:
        shelf: The directory.
        executor: Where calls that may block run.
        placer: A second process to create files, or None to do without.
    """

    def __init__(self, shelf: Shelf, executor: Executor, placer: Placer | None) -> None:
        self._shelf = shelf
        self._executor = executor
        self._placer = placer
        self._gathered: list[_Write] = []

    def put(self, data: bytes, done: Callable[[Address | HoldallError], None]) -> None:
        """Stores at most `SMALL_BYTES_MAX` bytes and calls `done` with the outcome, now or later in the loop."""
        write = _Write(Address.of(data), data, done)
        durable = self._shelf.durability is Durability.SYNC
        if durable and self._shelf.journal is None:
            self._in_thread(write, self._shelf.put_small, None)
        elif not durable and self._placer is None:
            self._place(write, None)
        else:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._submit)
            self._gathered.append(write)

    def close(self) -> None:
        """Ends the placer; what it had in hand is placed here."""
        if self._placer is not None:
            self._placer.close()

    def _submit(self) -> None:
        """Hands what this turn of the loop gathered to the journal, or, where nothing must be durable, to its files."""
        group, self._gathered = self._gathered, []
        if self._shelf.durability is Durability.OS:
            self._place_group(group, None)
            return
        loop = asyncio.get_running_loop()
        journal = self._shelf.journal
        if journal is None:  # the store was closed in this very turn
            for write in group:
                self._in_thread(write, self._shelf.put_small, None)
            return

        def synced(epoch: int, error: OSError | None) -> None:
            loop.call_soon_threadsafe(self._durable, group, epoch, error)

        journal.submit([encode_blob(write.address, write.data) for write in group], synced)

    def _durable(self, group: list[_Write], epoch: int, error: OSError | None) -> None:
        """Gives each write of a group its file; the journal may retire the group when all have theirs."""
        if error is not None:
            failure = as_holdall_error(error)
            for write in group:
                write.done(failure)
            return
        journal = self._shelf.journal
        left = len(group)

        def placed() -> None:
            nonlocal left
            left -= 1
            if not left and journal is not None:
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
                if code == TAKEN:
                    self._in_thread(write, self._shelf.place_small, placed)
                    continue
                if placed is not None:
                    placed()
                write.done(write.address if code == PLACED else as_holdall_error(OSError(code, os.strerror(code))))

        assert self._placer is not None  # noqa: S101 - `_place_group` saw it
        if not self._placer.offer([(write.address, write.data) for write in message], outcomes):
            for write in message:
                self._place(write, placed)

    def _place(self, write: _Write, placed: Callable[[], None] | None) -> None:
        try:
            quick = self._shelf.place_quickly(write.address, write.data)
        except OSError as error:
            if placed is not None:
                placed()
            write.done(as_holdall_error(error))
            return
        if not quick:
            self._in_thread(write, self._shelf.place_small, placed)
            return
        if placed is not None:
            placed()
        write.done(write.address)

    def _in_thread(
        self, write: _Write, call: Callable[[Address, bytes], None], placed: Callable[[], None] | None
    ) -> None:
        def answered(future: asyncio.Future[None]) -> None:
            if placed is not None:
                placed()
            error = future.exception()
            write.done(write.address if error is None else as_holdall_error(error))

        future = asyncio.get_running_loop().run_in_executor(self._executor, call, write.address, write.data)
        future.add_done_callback(answered)


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
