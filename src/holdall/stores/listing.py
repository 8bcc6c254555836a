"""Walking a data directory: the sorted listing, and the sweep that removes what has expired.

Both take the directory as it is, a million entries or more, in bounded memory.
"""

from __future__ import annotations

import heapq
import itertools
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from holdall.core.address import Address, is_entry_name
from holdall.limits.stores import LISTING_SORT_ENTRIES, SWEEP_BATCH
from holdall.stores.base import Kind
from holdall.stores.entry_file import TEMPORARY_PREFIX, is_entry, kind_of, last_use_ns

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from holdall.stores.shelf import Shelf

_ROW: Final = struct.Struct(">Q32s")
"""Last use, counted down so that rows sort newest first, and the address."""
_LAST_NS: Final = (1 << 64) - 1


def newest_first(path: str) -> Generator[Address, None, None]:
    """Yields the address of every entry in a directory, newest recorded use first, ties by address.

    Rows are sorted in memory `LISTING_SORT_ENTRIES` at a time; more are merged from an unnamed file.

    Raises:
        OSError: The directory cannot be read.
    """
    import tempfile  # noqa: PLC0415 - slow to import, and most who open a directory list nothing

    rows: list[bytes] = []
    with tempfile.TemporaryFile(prefix="holdall-listing-") as runs:
        ends = [0]
        for row in _rows(path):
            rows.append(row)
            if len(rows) == LISTING_SORT_ENTRIES:
                rows.sort()
                runs.write(b"".join(rows))
                ends.append(runs.tell())
                rows.clear()
        rows.sort()
        runs.flush()
        stored = [_run(runs, start, stop) for start, stop in itertools.pairwise(ends)]
        for row in heapq.merge(*stored, rows):
            yield Address(row[8:])


def _rows(path: str) -> Iterator[bytes]:
    with os.scandir(path) as found:
        for item in found:
            if not is_entry_name(item.name):
                continue
            with suppress(FileNotFoundError):
                status = item.stat(follow_symlinks=False)
                if is_entry(status):
                    used = last_use_ns(status, kind_of(status) or Kind.SLOT)
                    yield _ROW.pack(_LAST_NS - max(0, used), bytes.fromhex(item.name[:64]))


def _run(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """The rows of one sorted run, read a few at a time; runs share a descriptor, so each reads at its offset."""
    size = _ROW.size * 1024
    for at in range(start, stop, size):
        piece = os.pread(file.fileno(), min(size, stop - at), at)
        for offset in range(0, len(piece), _ROW.size):
            yield piece[offset : offset + _ROW.size]


@dataclass(slots=True)
class SweepReport:
    """What one sweep saw.

    Attributes:
        entries: Entries left.
        size_bytes: Their length together.
        removed: Entries removed.
        next_expiry_ns: When the next of those left may expire, or None.
    """

    entries: int = 0
    size_bytes: int = 0
    removed: int = 0
    next_expiry_ns: int | None = None


def sweep(shelf: Shelf) -> Iterator[SweepReport]:
    """Looks at every entry and removes what has expired; also temporary files whose process is gone.

    A generator, so that its caller sets the pace: it yields the report so far after each `SWEEP_BATCH` names, and
    once at the end.

    Raises:
        OSError: The directory cannot be read or written.
    """
    report = SweepReport()
    with os.scandir(shelf.disk.path) as found:
        for number, item in enumerate(found, start=1):
            with suppress(FileNotFoundError):
                if is_entry_name(item.name):
                    _sweep_entry(shelf, item, report)
                elif item.name.startswith(TEMPORARY_PREFIX):
                    _sweep_temporary(shelf, item.name)
            if number % SWEEP_BATCH == 0:
                yield report
    yield report


def _sweep_entry(shelf: Shelf, item: os.DirEntry[str], report: SweepReport) -> None:
    status = item.stat(follow_symlinks=False)
    if not is_entry(status):
        return
    used = last_use_ns(status, kind_of(status) or Kind.SLOT)
    now = time.time_ns()
    if shelf.retention.expired(used, now) and _remove_expired(shelf, Address.parse_name(item.name), now):
        report.removed += 1
        return
    report.entries += 1
    report.size_bytes += status.st_size
    expires = shelf.retention.expires_ns(used)
    if expires is not None:
        report.next_expiry_ns = min(expires, report.next_expiry_ns or expires)


def _remove_expired(shelf: Shelf, address: Address, now_ns: int) -> bool:
    """Removes an entry if it is still expired now that nobody can use it meanwhile; says whether it did."""
    with shelf.locked(address):
        status = shelf.disk.look(address.name)
        kind = kind_of(status)
        if not is_entry(status) or not shelf.retention.expired(last_use_ns(status, kind or Kind.SLOT), now_ns):
            return False
        shelf.disk.unlink(address.name)  # not journaled: what a power cut brings back expires again
        if kind is not Kind.SLOT:
            shelf.control.removals.note(address)
        return True


def _sweep_temporary(shelf: Shelf, name: str) -> None:
    process, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
    incarnation = rest.partition("-")[0]
    if process.isdecimal() and incarnation.isdecimal():
        if shelf.control.is_current(int(process), int(incarnation)):
            return
        shelf.disk.unlink(name)
