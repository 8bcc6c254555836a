"""Doing what a checkout has planned.

Chunks come from the reader, unpacked and checked on several threads; one thread writes the files, in the order of the
tree. Symlinks come after all files, hard links too, and directories get their metadata when all in them is done.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdall.core.address import Address
from holdall.core.tree import Type
from holdall.limits import MIB
from holdall.limits.snapshot import FINISHING_ENTRIES_MAX
from holdall.snapshot.layout import Batch, Layout
from holdall.snapshot.writing import Action, TreeWriter, Wanted, check_content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from holdall.core.tree import Entry
    from holdall.snapshot.planning import Plan
    from holdall.snapshot.reading import CommitReader

_READY_BYTES_MAX: Final = 4 * MIB
"""Chunks that wait for the one that writes; while there are more, no further ones are taken."""
_FLUSH_BYTES: Final = 32 * MIB
"""After so many the disk begins to take them in, while the next are unpacked."""


class Restoration:
    """Doing once what was planned.

    Args:
        reader: The commit.
        plan: What is to be done; None where everything is to be made.
        writer: Writes the tree; closed when all is done.
        exact: Whether what is left alone gets its metadata too.
        flush: Makes durable what was written so far; called on a thread.
        on_progress: Told what is being done, for how many bytes it is done, and of how many.

    Attributes:
        entries: Entries of the commit that were wanted.
        deleted: Entries deleted.
    """

    def __init__(
        self,
        reader: CommitReader,
        plan: Plan | None,
        writer: TreeWriter,
        *,
        exact: bool,
        flush: Callable[[], None],
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self.entries = 0
        self.deleted = 0
        self._reader = reader
        self._plan = plan
        self._writer = writer
        self._exact = exact
        self._flush = flush
        self._flushing: asyncio.Future[None] | None = None
        self._flushed_bytes = 0
        self._on_progress = on_progress
        self._done_bytes = 0
        self._total_bytes = reader.archive_bytes if plan is None else plan.files_bytes
        self._last: list[Wanted] = []
        self._last_count = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="holdall-write")

    async def do(self) -> None:
        """Does it.

        Raises:
            HoldallError: As `checkout`.
        """
        try:
            await self._delete_blocking()
            await self._write()
            await self._delete_extras()
            await self._finish()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._writer.close()
            if self._flushing is not None:
                await asyncio.gather(self._flushing, return_exceptions=True)

    # --- files and directories ---

    async def _write(self) -> None:
        writing: asyncio.Future[None] | None = None
        ready: list[tuple[Batch[Wanted], bytes]] = []
        ready_bytes = 0
        try:
            async with aclosing(self._reader.unpacked(self._batches(), _checked)) as chunks:
                async for batch, data in chunks:
                    ready.append((batch, data))
                    ready_bytes += len(data)
                    if writing is not None and (writing.done() or ready_bytes > _READY_BYTES_MAX):
                        await writing
                        writing = None
                    if writing is None:  # all that came meanwhile in one go
                        writing = self._hand_over(ready)
                        ready, ready_bytes = [], 0
                    self._advance(batch, data)
        finally:
            if writing is not None:
                await asyncio.gather(writing, return_exceptions=True)
            if writing is None or not (writing.cancelled() or writing.exception()):
                await self._hand_over(ready)  # also where the next chunk is missing: the next run goes on from here
        if writing is not None:
            await writing
        # Chunks that hold nothing but headers were not needed.
        self._on_progress("Restoring", self._total_bytes, self._total_bytes)

    def _advance(self, batch: Batch[Wanted], data: bytes) -> None:
        self._done_bytes += len(data) if self._plan is None else sum(step.stop - step.start for step in batch.steps)
        self._on_progress("Restoring", self._done_bytes, self._total_bytes)

    def _hand_over(self, ready: list[tuple[Batch[Wanted], bytes]]) -> asyncio.Future[None]:
        def write() -> None:
            for batch, data in ready:
                self._writer.run(batch, data)

        loop = asyncio.get_running_loop()
        written = self._writer.written_bytes
        if written - self._flushed_bytes > _FLUSH_BYTES and (self._flushing is None or self._flushing.done()):
            self._flushed_bytes = written
            self._flushing = loop.run_in_executor(None, self._flush)
        return loop.run_in_executor(self._thread, write)

    async def _batches(self) -> AsyncGenerator[tuple[int | None, Batch[Wanted]], None]:
        layout: Layout[Wanted] = Layout(self._reader.offsets)
        number = 0
        async with aclosing(self._reader.spans()) as spans:
            async for entry, at in spans:
                wanted = self._wanted(entry, number)
                number += 1
                if wanted is None:
                    continue
                size = entry.size_bytes if wanted.action in {Action.MAKE, Action.REPLACE} else 0
                for batch in layout.add(wanted, size, at):
                    yield batch.chunk, batch
        for batch in layout.finish():
            yield batch.chunk, batch

    def _wanted(self, entry: Entry, number: int) -> Wanted | None:
        """What is to be done with an entry now; what has to wait is put aside."""
        action = Action.MAKE if self._plan is None else Action(self._plan.actions[number])
        borrower = self._plan.borrowed.get(entry.path) if self._plan and self._plan.borrowed else None
        if borrower is not None and self._plan is not None:
            action = Action(self._plan.actions[borrower.number])
            if action is Action.LEAVE and not self._exact:
                return None
            return Wanted(replace(entry, path=borrower.path), action, early=True)
        late = self._late(entry, number, action)
        if late is not None:
            self._last_count += 1
            if len(self._last) < FINISHING_ENTRIES_MAX:
                self._last.append(late)
        if action is Action.PASS:
            return None
        self.entries += 1
        if entry.type not in {Type.FILE, Type.DIRECTORY}:
            return None
        if action is Action.LEAVE and (entry.type is Type.DIRECTORY or not entry.metadata or not self._exact):
            return None
        return Wanted(entry, action)

    # --- what comes last ---

    def _late(self, entry: Entry, number: int, action: Action) -> Wanted | None:
        """What is to be done with an entry after all files are there, if anything is."""
        if action is Action.PASS or entry.type is Type.FILE:
            return None
        if action is Action.LEAVE and not (self._exact and entry.metadata):
            return None
        if entry.type is Type.DIRECTORY and entry.metadata is None:
            return None
        if entry.type is Type.HARD_LINK and self._plan is not None and self._plan.borrowed:
            borrower = self._plan.borrowed.get(entry.target)
            if borrower is not None:
                return None if borrower.number == number else Wanted(replace(entry, target=borrower.path), action)
        return Wanted(entry, action)

    async def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        inside: list[Wanted] = []
        """Directories on the way to the last entry, which get their metadata when all in them is done."""
        async with aclosing(self._lasts()) as lasts:
            async for batch in lasts:
                await loop.run_in_executor(self._thread, self._finish_some, batch, inside)
        await loop.run_in_executor(self._thread, self._leave, inside, None)

    async def _lasts(self) -> AsyncGenerator[list[Wanted], None]:
        if self._last_count <= len(self._last):
            yield self._last
            return
        self._last.clear()
        number, batch = 0, list[Wanted]()
        async with aclosing(self._reader.entries()) as entries:
            async for entry in entries:
                action = Action.MAKE if self._plan is None else Action(self._plan.actions[number])
                late = self._late(entry, number, action)
                number += 1
                if late is not None:
                    batch.append(late)
                if len(batch) >= FINISHING_ENTRIES_MAX:
                    yield batch
                    batch = []
        yield batch

    def _finish_some(self, batch: list[Wanted], inside: list[Wanted]) -> None:
        for wanted in batch:
            self._leave(inside, wanted.entry.path)
            if wanted.entry.type is Type.DIRECTORY:
                inside.append(wanted)
            else:
                self._writer.finish(wanted.entry, wanted.action)

    def _leave(self, inside: list[Wanted], path: bytes | None) -> None:
        while inside and (path is None or not path.startswith(inside[-1].entry.path + b"/")):
            wanted = inside.pop()
            self._writer.finish(wanted.entry, wanted.action)

    # --- what the commit does not have ---

    async def _delete_blocking(self) -> None:
        """Deletes what keeps a directory from making way for something else."""
        if self._plan is None or not self._plan.blocked:
            return
        ways = tuple(path + b"/" for path in self._plan.blocked)
        first = [extra for extra in self._plan.extras if extra[0].startswith(ways)]
        self._plan.extras = [extra for extra in self._plan.extras if not extra[0].startswith(ways)]
        self.deleted += await self._delete(first)

    async def _delete_extras(self) -> None:
        if self._plan is not None:
            self.deleted += await self._delete(self._plan.extras)
            await self._delete([(path, False) for path in self._plan.leftovers])

    async def _delete(self, extras: list[tuple[bytes, bool]]) -> int:
        def delete() -> int:
            # Backwards, so that a directory comes after all in it.
            return sum(self._writer.remove(path, directory=is_directory) for path, is_directory in reversed(extras))

        return await asyncio.get_running_loop().run_in_executor(self._thread, delete)


def _checked(batch: Batch[Wanted], data: bytes) -> tuple[Batch[Wanted], bytes]:
    """Holds the contents of small files to the index, on the thread that unpacked them."""
    view = memoryview(data)
    for (entry, action, _), start, stop, _ in batch.steps:
        if entry.type is Type.FILE and action in {Action.MAKE, Action.REPLACE} and stop - start == entry.size_bytes:
            check_content(entry, Address.of(view[start:stop]))
    return batch, data
