"""Restoring a commit into a directory.

First it is planned, then done: chunks come from the reader, unpacked and checked on several threads; one thread writes
the files, in the order of the tree. Symlinks come after all files, hard links too, and directories get their metadata
when all in them is done.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.core.tree import Type
from holdall.limits import FINISHING_ENTRIES_MAX, MIB
from holdall.snapshot.layout import Batch, Layout
from holdall.snapshot.planning import Planner
from holdall.snapshot.selection import Selection
from holdall.snapshot.target import Target
from holdall.snapshot.wish import Report, Wish
from holdall.snapshot.writing import Action, TreeWriter, Wanted, check_content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from holdall.core.tree import Entry
    from holdall.snapshot.planning import Plan
    from holdall.snapshot.reading import CommitReader

__all__ = ["Report", "Wish", "checkout"]

_READY_BYTES_MAX: Final = 4 * MIB
"""Chunks that wait for the one that writes; while there are more, no further ones are taken."""
_FLUSH_BYTES: Final = 32 * MIB
"""After so many the disk begins to take them in, while the next are unpacked."""


def _ignore_change(letter: str, path: bytes) -> None:
    del letter, path


def _ignore_progress(doing: str, done_bytes: int, total_bytes: int) -> None:
    del doing, done_bytes, total_bytes


async def checkout(
    reader: CommitReader,
    wish: Wish,
    *,
    on_change: Callable[[str, bytes], None] = _ignore_change,
    on_progress: Callable[[str, int, int], None] = _ignore_progress,
) -> Report:
    """Restores a commit.

    Args:
        reader: The commit.
        wish: How.
        on_change: Told of each change that is planned, in a dry run: A, M or D, and the path.
        on_progress: Told what is being done, for how many bytes it is done, and of how many.

    Raises:
        ConflictError: Something is in the way; unless it came to be there meanwhile, nothing was changed.
        DamageError: The commit is damaged.
        NotFoundError: A part of it, or a path that was asked for, is not there.
        OutOfSpaceError: The disk is full; the same call goes on from there.
        LocalFileError: Something cannot be written.
        HoldallError: As `CommitReader.entries`.
    """
    selection = Selection(wish.paths)
    with Target(wish.directory) as target:
        target.open(reader.address, selection, make=not wish.dry_run)
        plan = await _plan(reader, wish, selection, target, on_change=on_change, on_progress=on_progress)
        if wish.dry_run:
            return Report(wish.directory, left=plan.left if plan else 0)
        assert target.root is not None  # noqa: S101 - it was made
        writer = TreeWriter(target.root, reader.address, fresh=target.fresh)
        exact = target.fresh or wish.replace
        work = _Work(reader, selection, plan, writer, exact=exact, flush=target.flush, on_progress=on_progress)
        await work.do()
        target.complete()
        report = work.report
        report.directory = wish.directory
        return report


async def _plan(
    reader: CommitReader,
    wish: Wish,
    selection: Selection,
    target: Target,
    *,
    on_change: Callable[[str, bytes], None],
    on_progress: Callable[[str, int, int], None],
) -> Plan | None:
    """What is to be done; None where everything is to be made."""
    if target.is_empty and selection.is_all and not wish.dry_run:
        return None
    there = not target.is_empty
    extras: Iterator[tuple[bytes, bool]] | None = None
    if there and wish.delete and not target.fresh:
        from holdall.snapshot.extras import present  # noqa: PLC0415 - nothing else needs the walk

        extras = present(target.path)
    planner = Planner(
        reader,
        selection,
        target.root if there else None,
        threads=wish.threads,
        present=extras,
        on_change=on_change,
        on_progress=lambda done: on_progress("Comparing", done, max(done, reader.archive_bytes)),
    )
    return await planner.plan(replace=wish.replace or target.fresh, delete=wish.delete)


class _Work:
    """Doing what was planned."""

    def __init__(
        self,
        reader: CommitReader,
        selection: Selection,
        plan: Plan | None,
        writer: TreeWriter,
        *,
        exact: bool,
        flush: Callable[[], None],
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self.report = Report("")
        self._reader = reader
        self._selection = selection
        self._plan = plan
        self._writer = writer
        self._exact = exact
        self._flush = flush
        self._flushing: asyncio.Future[None] | None = None
        self._unflushed_bytes = 0
        self._on_progress = on_progress
        self._done_bytes = 0
        self._total_bytes = reader.archive_bytes if plan is None else plan.files_bytes
        self._last: list[Wanted] = []
        self._last_count = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="holdall-write")

    async def do(self) -> None:
        """Does it; errors as `checkout`."""
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
        report, writer = self.report, self._writer
        report.files, report.files_bytes = writer.files, writer.files_bytes
        report.left = self._plan.left if self._plan else 0
        report.troubles = writer.settler.troubles

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
                    self._done_bytes += sum(step.stop - step.start for step in batch.steps) if self._plan else len(data)
                    self._on_progress("Restoring", self._done_bytes, self._total_bytes)
            if writing is not None:
                await writing
            writing = self._hand_over(ready)
            await writing
            # Chunks that hold nothing but headers were not needed.
            self._on_progress("Restoring", self._total_bytes, self._total_bytes)
        finally:
            if writing is not None:
                await asyncio.gather(writing, return_exceptions=True)

    def _hand_over(self, ready: list[tuple[Batch[Wanted], bytes]]) -> asyncio.Future[None]:
        def write() -> None:
            for batch, data in ready:
                self._writer.run(batch, data)

        loop = asyncio.get_running_loop()
        self._unflushed_bytes += sum(len(data) for _, data in ready)
        if self._unflushed_bytes > _FLUSH_BYTES and (self._flushing is None or self._flushing.done()):
            self._unflushed_bytes = 0
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
        self.report.entries += 1
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
        await self._delete(first)

    async def _delete_extras(self) -> None:
        if self._plan is not None:
            await self._delete(self._plan.extras)

    async def _delete(self, extras: list[tuple[bytes, bool]]) -> None:
        def delete() -> int:
            # Backwards, so that a directory comes after all in it.
            return sum(self._writer.remove(path, directory=is_directory) for path, is_directory in reversed(extras))

        self.report.deleted += await asyncio.get_running_loop().run_in_executor(self._thread, delete)


def _checked(batch: Batch[Wanted], data: bytes) -> tuple[Batch[Wanted], bytes]:
    """Holds the contents of small files to the index, on the thread that unpacked them."""
    view = memoryview(data)
    for (entry, action, _), start, stop, _ in batch.steps:
        if entry.type is Type.FILE and action in {Action.MAKE, Action.REPLACE} and stop - start == entry.size_bytes:
            check_content(entry, Address.of(view[start:stop]))
    return batch, data
