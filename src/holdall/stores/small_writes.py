"""The small writes of one event loop, gathered so that a group of them pays for one sync and one wake-up.

Only an event loop's own thread may use this. A write goes to the journal with all that came in the same turn of the
loop; when the journal says it is durable, it gets its file and its answer. What cannot be done at once (a name that is
taken, a directory without a journal) goes to a thread.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import HoldallError
from holdall.stores.disk import translate
from holdall.stores.journal_format import encode_blob
from holdall.stores.shelf import Durability

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from holdall.stores.shelf import Shelf


@dataclass(frozen=True, slots=True)
class _Write:
    address: Address
    data: bytes
    done: Callable[[Address | HoldallError], None]


class SmallWrites:
    """Stores small blobs for callers on one event loop.

    Args:
        shelf: The directory.
        executor: Where calls that may block run.
    """

    def __init__(self, shelf: Shelf, executor: Executor) -> None:
        self._shelf = shelf
        self._executor = executor
        self._gathered: list[_Write] = []

    def put(self, data: bytes, done: Callable[[Address | HoldallError], None]) -> None:
        """Stores at most `SMALL_BYTES_MAX` bytes and calls `done` with the outcome, now or later in the loop."""
        write = _Write(Address.of(data), data, done)
        if self._shelf.durability is Durability.OS:
            self._place(write, None)
        elif self._shelf.journal is None:
            self._in_thread(write, self._shelf.put_small, None)
        else:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._submit)
            self._gathered.append(write)

    def _submit(self) -> None:
        """Hands what this turn of the loop gathered to the journal."""
        group, self._gathered = self._gathered, []
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

        for write in group:
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
