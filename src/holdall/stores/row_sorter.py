"""Rows of bytes, sorted in bounded memory: a part at a time, the parts merged from an unnamed file."""

from __future__ import annotations

import heapq
import itertools
import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Self

from holdall.limits.stores import LISTING_SORT_ENTRIES
from holdall.stores.composite_bodies import making_room

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_ROWS = 1024


class RowSorter:
    """Takes rows in any order and yields them sorted.

    Args:
        row_bytes: How long each row is.
    """

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._rows: list[bytes] = []
        self._file: BinaryIO | None = None
        self._ends = [0]

    def add(self, row: bytes) -> None:
        """Takes a row.

        Raises:
            OutOfSpaceError: There is no room for a temporary file.
        """
        self._rows.append(row)
        if len(self._rows) < LISTING_SORT_ENTRIES:
            return
        self._rows.sort()
        with making_room():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="holdall-sort-")  # noqa: SIM115 - `close` closes it
            self._file.write(b"".join(self._rows))
            self._ends.append(self._file.tell())
        self._rows.clear()

    def rows(self) -> Iterator[bytes]:
        """Yields every row that was added, in order; none may be added meanwhile.

        Raises:
            OutOfSpaceError: The temporary file cannot be read.
        """
        self._rows.sort()
        with making_room():
            if self._file is not None:
                self._file.flush()
            runs = [self._run(start, stop) for start, stop in itertools.pairwise(self._ends)]
            yield from heapq.merge(*runs, self._rows)

    def close(self) -> None:
        """Lets go of the file; closing twice is harmless."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, start: int, stop: int) -> Iterator[bytes]:
        """The rows of one sorted part; parts share a descriptor, so each reads at its offset."""
        assert self._file is not None  # noqa: S101 - only a file has parts
        size = self._row_bytes * _READ_ROWS
        for at in range(start, stop, size):
            piece = os.pread(self._file.fileno(), min(size, stop - at), at)
            for offset in range(0, len(piece), self._row_bytes):
                yield piece[offset : offset + self._row_bytes]
