"""What a checkout has to do, decided before anything is changed.

The plan takes a byte for each entry of the commit, however long their names are, and what it has to delete.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from holdall.core.tree import Type, order
from holdall.errors import ConflictError
from holdall.snapshot.looking import Looker
from holdall.snapshot.selection import named
from holdall.snapshot.writing import Action
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from holdall.core.tree import Entry
    from holdall.snapshot.reading import CommitReader
    from holdall.snapshot.selection import Selection

_BATCH: Final = 128
"""Entries that a thread looks at before it reports."""
_EXAMPLES_MAX: Final = 8
"""Paths kept for the sentence that refuses to replace them."""


class Borrower(NamedTuple):
    """A hard link that becomes the file, because the file that it names is not wanted.

    Attributes:
        path: Its path.
        number: Its place among the entries of the commit.
    """

    path: bytes
    number: int


class Plan(msgspec.Struct):
    """What is to be done.

    Attributes:
        actions: An `Action` for each entry of the commit, in order.
        borrowed: Of files that are not wanted themselves, but hard links to them are: the first of these.
        extras: What the commit does not have, with whether it is a directory, in order.
        leftovers: See `Looker`.
        blocked: Entries that a directory has the place of, which will be empty once the extras are gone.
        files_bytes: The length of all files to write.
        left: Entries that are there as they should be.
        changes: How many things are to be made, replaced or deleted.
    """

    actions: bytearray = msgspec.field(default_factory=bytearray)
    borrowed: dict[bytes, Borrower] = {}
    extras: list[tuple[bytes, bool]] = []
    leftovers: list[bytes] = []
    blocked: list[bytes] = []
    files_bytes: int = 0
    left: int = 0
    changes: int = 0


class Planner:
    """Makes the plan of one checkout.

    Args:
        reader: The commit.
        selection: What of it is wanted.
        root: The open directory, or None where there is nothing yet.
        threads: How many compare files.
        present: What is in the directory that a commit of it would have, with whether it is a directory, in order;
            None where nothing is to be deleted.
        on_change: Told of each change in order, as A, M or D and the path.
        on_progress: Told how many bytes were compared.
    """

    def __init__(
        self,
        reader: CommitReader,
        selection: Selection,
        root: int | None,
        *,
        threads: int,
        present: Iterable[tuple[bytes, bool]] | None = None,
        on_change: Callable[[str, bytes], None],
        on_progress: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._selection = selection
        self._looker = None if root is None else Looker(root, reader.address)
        self._threads = threads
        self._present = iter(()) if present is None else iter(present)
        self._here: tuple[bytes, bool] | None = None
        self._on_change = on_change
        self._on_progress = on_progress
        self._compared_bytes = 0
        self._plan = Plan()
        self._different = 0
        self._examples: list[bytes] = []

    async def plan(self, *, replace: bool, delete: bool) -> Plan:
        """Compares, and decides.

        Args:
            replace: Whether what differs may be replaced.
            delete: Whether what the commit does not have may be removed.

        Raises:
            ConflictError: Something differs that may not be replaced.
            NotFoundError: The commit does not have what is wanted.
            LocalFileError: Something cannot be looked at.
            HoldallError: As `CommitReader.entries`.
        """
        self._here = next(self._present, None)
        executor = ThreadPoolExecutor(self._threads, thread_name_prefix="holdall-look")
        try:
            await self._compare(executor)
            await self._compare_borrowed()
            self._selection.check()
            while self._here is not None:
                self._extra(self._here)
            self._check(replace=replace, delete=delete)
            self._plan.leftovers = self._looker.leftovers if self._looker is not None else []
        finally:
            executor.shutdown(cancel_futures=True)
            if self._looker is not None:
                self._looker.close()
        return self._plan

    async def _compare(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()

        async def look(batch: list[tuple[Entry, bool]]) -> list[tuple[Entry, Action, bool]]:
            wanted = [entry for entry, is_wanted in batch if is_wanted]
            if self._looker is None or not wanted:
                found = iter([(Action.MAKE, False)] * len(wanted))
            else:
                found = iter(await loop.run_in_executor(executor, self._looker.look, wanted))
            return [(entry, *(next(found) if is_wanted else (Action.PASS, False))) for entry, is_wanted in batch]

        async with (
            aclosing(self._batches()) as batches,
            aclosing(in_order(batches, look, width=2 * self._threads)) as looked,
        ):
            async for batch in looked:
                for entry, action, is_blocked in batch:
                    self._decide(entry, action, is_blocked=is_blocked)
                    self._compared_bytes += entry.size_bytes
                if self._looker is not None:
                    self._on_progress(self._compared_bytes)

    async def _batches(self) -> AsyncGenerator[list[tuple[Entry, bool]], None]:
        batch: list[tuple[Entry, bool]] = []
        async with aclosing(self._reader.spans()) as entries:  # they tell of every fault before anything is changed
            async for entry, _ in entries:
                batch.append((entry, self._selection.takes(entry)))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        yield batch

    async def _compare_borrowed(self) -> None:
        """Goes through the commit once more for files that are wanted in another place than their own."""
        if not self._plan.borrowed:
            return
        async with aclosing(self._reader.entries()) as entries:
            async for entry in entries:
                borrower = self._plan.borrowed.get(entry.path)
                if borrower is not None:
                    found = self._look(replace(entry, path=borrower.path))
                    self._plan.actions[borrower.number] = self._count(borrower.path, entry.size_bytes, *found)

    def _decide(self, entry: Entry, action: Action, *, is_blocked: bool) -> None:
        plan = self._plan
        self._pass_by(entry.path)
        if action is not Action.PASS and entry.type is Type.HARD_LINK and not self._selection.covers(entry.target):
            borrower = plan.borrowed.setdefault(entry.target, Borrower(entry.path, len(plan.actions)))
            if borrower.path == entry.path:
                plan.actions.append(Action.PASS)  # until `_compare_borrowed` knows better
                return
            action, is_blocked = self._look(replace(entry, target=borrower.path))
        plan.actions.append(self._count(entry.path, entry.size_bytes, action, is_blocked))

    def _look(self, entry: Entry) -> tuple[Action, bool]:
        return (Action.MAKE, False) if self._looker is None else self._looker.look([entry])[0]

    def _count(self, path: bytes, size_bytes: int, action: Action, is_blocked: bool) -> Action:
        plan = self._plan
        if action is Action.LEAVE:
            plan.left += 1
        elif action is Action.MAKE:
            self._change("A", path)
            plan.files_bytes += size_bytes
        elif action is not Action.PASS:
            self._change("M", path)
            plan.files_bytes += size_bytes if action is Action.REPLACE else 0
            self._different += 1
            if len(self._examples) < _EXAMPLES_MAX:
                self._examples.append(path)
            if is_blocked:
                plan.blocked.append(path)
        return action

    def _change(self, letter: str, path: bytes) -> None:
        self._plan.changes += 1
        self._on_change(letter, path)

    # --- what the commit does not have ---

    def _pass_by(self, path: bytes) -> None:
        """Notes what is in the directory before an entry of the commit."""
        while self._here is not None and order(self._here[0]) < order(path):
            self._extra(self._here)
        if self._here is not None and self._here[0] == path:
            self._here = next(self._present, None)

    def _extra(self, present: tuple[bytes, bool]) -> None:
        if self._selection.covers(present[0]):
            self._plan.extras.append(present)
            self._change("D", present[0])
        self._here = next(self._present, None)

    # --- brakes ---

    def _check(self, *, replace: bool, delete: bool) -> None:
        if self._different and not replace:
            raise ConflictError(
                f"{self._different:,} {'entry differs' if self._different == 1 else 'entries differ'} from the commit: "
                f"{named(self._examples, self._different)}; nothing was changed.",
                hint="--overwrite replaces what differs.",
            )
        blocked = [path for path in self._plan.blocked if not (delete and self._will_be_empty(path))]
        if blocked:
            raise ConflictError(
                f"A directory is where the commit has something else: {named(blocked)}; nothing was changed.",
                hint="Move it away, or, if all in it may go, add --delete.",
            )

    def _will_be_empty(self, path: bytes) -> bool:
        inside = sum(extra.startswith(path + b"/") for extra, _ in self._plan.extras)
        return self._looker is not None and self._looker.directory_holds(path) == inside
