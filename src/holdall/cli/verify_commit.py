"""The part of `holdall verify` that is for commits."""

from __future__ import annotations

import os
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from holdall.cli import output
from holdall.cli.exit_codes import DAMAGED, DONE, code_of
from holdall.core.units import format_size
from holdall.snapshot.fetching import FIRST_WORDS
from holdall.snapshot.selection import named
from holdall.snapshot.verify_commit import CommitVerification
from holdall.snapshot.verify_store import set_aside
from holdall.stores.base import Kind, Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.cli.options import Common
    from holdall.cli.progress import Progress
    from holdall.core.address import Address
    from holdall.snapshot.verify_commit import CommitReport
    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Info, Store


async def is_commit(store: Store, info: Info) -> bool:
    """Whether an entry is a blob that begins as the manifest of a commit does.

    Raises:
        StoreError: It cannot be read.
    """
    if info.kind is not Kind.BLOB or info.size_bytes < len(FIRST_WORDS):
        return False
    async with await store.get(info.address, Span(0, len(FIRST_WORDS)), use=False) as reading:
        return await reading.read() == FIRST_WORDS


async def verify_commit(
    store: Store,
    address: Address,
    progress: Progress,
    common: Common,
    *,
    quarantine: bool,
    show: Callable[[Trouble], None],
) -> int:
    """Verifies a commit, and says what was found.

    Args:
        store: Where it is.
        address: The commit's.
        progress: Told of bytes of its archive.
        common: The options of every command.
        quarantine: Take damaged blobs out of the way.
        show: Shows what is wrong with a blob.

    Returns:
        The exit code.

    Raises:
        HoldallError: As `CommitVerification.troubles`.
    """
    run = CommitVerification(store, address, count=progress.add, expect=progress.expect)
    code, damaged = DONE, 0
    async with aclosing(run.troubles()) as troubles:
        async for found in troubles:
            trouble = found
            if trouble.is_damage and quarantine:
                trouble = replace(trouble, set_aside=await set_aside(store, trouble))
            show(trouble)
            damaged += trouble.is_damage
            code = DAMAGED if trouble.is_damage else code or code_of(trouble.error)
    _tell(address, run.report, common, whole=not code, damaged=damaged)
    return code


def _tell(address: Address, report: CommitReport, common: Common, *, whole: bool, damaged: int) -> None:
    if common.json:
        output.document(
            {
                "address": address.path,
                "kind": "commit",
                "entries": report.entries,
                "chunks": report.chunks,
                "archive_bytes": report.archive_bytes,
                "lost": [os.fsdecode(path) for path in report.lost],
            }
        )
        return
    if damaged and not common.quiet:
        output.note(f"{address} is damaged in {output.count(damaged, 'blob')}.")
    if report.lost:
        files = output.count(report.lost_count, "file")
        output.note(f"{files} cannot be restored: {named(report.lost, report.lost_count)}.")
    if whole and not common.quiet:
        entries = output.count(report.entries, "entry", "entries")
        chunks = output.count(report.chunks, "chunk")
        output.note(f"{address} is whole: {entries}, {format_size(report.archive_bytes)} in {chunks}.")
