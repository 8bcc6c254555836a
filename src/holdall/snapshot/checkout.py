"""Restoring a commit into a directory: what was asked for, planned first and then done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdall.snapshot.reading import THREADS
from holdall.snapshot.restoring import Restoration
from holdall.snapshot.selection import Selection
from holdall.snapshot.target import Target
from holdall.snapshot.writing import TreeWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdall.snapshot.planning import Plan
    from holdall.snapshot.reading import CommitReader


class Report(msgspec.Struct):
    """What a checkout did.

    Attributes:
        directory: Where the tree is.
        entries: Entries of the commit that were wanted.
        files: Files written.
        files_bytes: Their length together.
        left: Entries that were there as they should be.
        deleted: Entries deleted.
        troubles: A sentence for each kind of metadata that could not be given back.
    """

    directory: str
    entries: int = 0
    files: int = 0
    files_bytes: int = 0
    left: int = 0
    deleted: int = 0
    troubles: list[str] = []


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How a commit is to be restored.

    Attributes:
        directory: Where to.
        paths: What of it; without any, everything.
        replace: Whether to replace what differs.
        delete: Whether to delete what the commit does not have.
        spared: Patterns of what is never deleted, written as in `.gitignore`.
        dry_run: Whether only to plan.
        threads: How many compare files; None for one per processor.
    """

    directory: str
    paths: Sequence[bytes] = ()
    replace: bool = False
    delete: bool = False
    spared: Sequence[str] = ()
    dry_run: bool = False
    threads: int | None = None


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
        work = Restoration(reader, plan, writer, exact=exact, flush=target.flush, on_progress=on_progress)
        await work.do()
        if plan is None or plan.changes or exact:
            target.complete()
        return Report(
            wish.directory,
            entries=work.entries,
            files=writer.files,
            files_bytes=writer.files_bytes,
            left=plan.left if plan else 0,
            deleted=work.deleted,
            troubles=writer.settler.troubles,
        )


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
    from holdall.snapshot.planning import Planner  # noqa: PLC0415 - most checkouts begin with nothing to compare

    there = not target.is_empty
    extras: Iterator[tuple[bytes, bool]] | None = None
    if there and wish.delete and not target.fresh:
        from holdall.snapshot.extras import present  # noqa: PLC0415 - nothing else needs the walk

        extras = present(target.path, wish.spared)
    planner = Planner(
        reader,
        selection,
        target.root if there else None,
        threads=wish.threads or THREADS,
        present=extras,
        on_change=on_change,
        on_progress=lambda done: on_progress("Comparing", done, max(done, reader.archive_bytes)),
    )
    return await planner.plan(replace=wish.replace or target.fresh, delete=wish.delete)
