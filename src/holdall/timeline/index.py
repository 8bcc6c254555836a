"""Which blobs there are, in the order of their times: rows that are searched where they lie, in a mapped file.

It is a cache of what the names in a git tree say; a missing, damaged or foreign file of it is an empty one. The file
is a magic, a nonce that tells it from its successor, and then batches, each the rows that came with one state of the
tree, sorted, with a checksum. The first is searched in the file itself; those that were appended since are few and
held in memory, until they are sorted into it.
"""

from __future__ import annotations

import heapq
import mmap
import os
import struct
import threading
import zlib
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from holdall.core import instant
from holdall.limits.timeline import INDEX_TAIL_ROWS_MAX, TIMESTAMP_BITS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAGIC: Final = b"holdall timeline index 1\n"
_NONCE_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _NONCE_BYTES
_TIME_BYTES: Final = TIMESTAMP_BITS_MAX // 8
_GIT_OID_BYTES: Final = 20
_BATCH: Final = struct.Struct("<8s20sQII")
_BATCH_MAGIC: Final = b"hld-tlix"
_ZERO: Final = 1 << (TIMESTAMP_BITS_MAX - 1)
_LAST: Final = (1 << TIMESTAMP_BITS_MAX) - 1
_NO_LABEL: Final = 0


class Row(NamedTuple):
    """A blob that is there.

    Attributes:
        timestamp_ns: Nanoseconds since 1970.
        name: Its file's.
        oid: What finds its bytes: a git object's name, or an address.
        label: Its label, or None.
    """

    timestamp_ns: int
    name: str
    oid: bytes
    label: str | None


class Found(NamedTuple):
    """A blob that was found, as it goes into the index.

    Attributes:
        key: What its name is sorted by; see `instant.key_of`.
        oid: As of `Row`.
        label: As of `Row`.
    """

    key: bytes
    oid: bytes
    label: str | None


class Index:
    """The rows of one timeline.

    Concurrency: threads may look for rows while `turn` keeps one from changing them.

    Args:
        path: Its file, or None to hold all in memory.
        oid_bytes: How long the `oid` of each row is.

    Attributes:
        state: What the rows are of: the object name of a tree, or empty.
        turn: Held by whoever changes the rows, from when they are no more what they were until they are again whole.
    """

    def __init__(self, path: str | None, *, oid_bytes: int = _GIT_OID_BYTES) -> None:
        self.turn = threading.RLock()
        self._path = path
        self._row = struct.Struct(f">{instant.KEY_BYTES}s{oid_bytes}sI")
        self.clear()

    def clear(self) -> None:
        """Forgets all rows."""
        self.state = b""
        self._nonce = b""
        self._end = 0
        self._main: mmap.mmap | bytes = b""
        self._start, self._count = 0, 0
        self._tail: list[bytes] = []
        self._labels: list[str | None] = [None]
        self._label_numbers: dict[str | None, int] = {None: _NO_LABEL}

    def __len__(self) -> int:
        return self._count + len(self._tail)

    # --- its file ---

    def load(self) -> None:
        """Takes in what other processes have written since; a file that is none is as if there were none.

        The caller holds `turn`.
        """
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                head = file.read(_HEAD_BYTES)
                if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC):
                    self.clear()
                    return
                size_bytes = os.fstat(file.fileno()).st_size
                if head[len(_MAGIC) :] != self._nonce or size_bytes < self._end:
                    self.clear()
                    self._nonce, self._end = head[len(_MAGIC) :], _HEAD_BYTES
                if size_bytes > self._end:
                    self._read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError, msgspec.MsgspecError):
            self.clear()

    def _read(self, mapped: mmap.mmap) -> None:
        while self._end + _BATCH.size <= len(mapped):
            magic, state, count, labels_bytes, checksum = _BATCH.unpack_from(mapped, self._end)
            at = self._end + _BATCH.size
            rows_at, end = at + labels_bytes, at + labels_bytes + count * self._row.size
            if magic != _BATCH_MAGIC or end > len(mapped):
                return
            if zlib.crc32(memoryview(mapped)[at:end], zlib.crc32(state)) != checksum:
                return
            for label in msgspec.json.decode(mapped[at:rows_at], type=list[str]):
                self._number(label)
            if self._end == _HEAD_BYTES:
                self._main, self._start, self._count = mapped, rows_at, count
            else:
                self._tail += [mapped[place : place + self._row.size] for place in range(rows_at, end, self._row.size)]
                self._tail.sort()
            self.state, self._end = state, end

    def add(self, found: Iterable[Found], state: bytes, *, keep: bool = True) -> None:
        """Adds rows, and writes them down where that is possible; the caller holds the timeline's lock and `turn`.

        Args:
            found: What was not there before.
            state: What the rows are of from now on.
            keep: Whether to write at all.
        """
        known = len(self._labels)
        pack, number = self._row.pack, self._number
        rows = sorted(pack(key, oid, number(label) if label else _NO_LABEL) for key, oid, label in found)
        labels = self._labels[known:]
        self.state = state
        anew = not self._count or len(self._tail) + len(rows) > INDEX_TAIL_ROWS_MAX
        if anew:
            rows = sorted(self._tail + rows) if self._tail else rows
            if self._count:
                main = (self._main[at : at + self._row.size] for at in self._places(0, self._count))
                rows = list(heapq.merge(main, rows))
            labels = self._labels[1:]
        joined, count = b"".join(rows), len(rows)
        if anew:
            rows.clear()
            self._main, self._start, self._count, self._tail = joined, 0, count, []
        elif len(rows) > 1:
            self._tail = sorted(self._tail + rows)
        else:
            for row in rows:
                insort(self._tail, row)
        if not keep:
            self._nonce = b""  # so that `load` begins anew
        elif self._path is not None:
            try:
                self._write(self._path, joined, count, labels, anew=anew)
            except OSError:
                self._path = None

    def _write(self, path: str, joined: bytes, count: int, labels: list[str | None], *, anew: bool) -> None:
        names = msgspec.json.encode(labels)
        checksum = zlib.crc32(joined, zlib.crc32(names, zlib.crc32(self.state)))
        head = _BATCH.pack(_BATCH_MAGIC, self.state, count, len(names), checksum) + names
        if anew:
            self._nonce, self._end = os.urandom(_NONCE_BYTES), _HEAD_BYTES
            with open(f"{path}.new", "wb") as file:
                file.writelines((_MAGIC, self._nonce, head, joined))
            os.replace(f"{path}.new", path)
        else:
            with open(path, "r+b") as file:
                file.seek(self._end)
                file.writelines((head, joined))
                file.truncate()
        self._end += len(head) + len(joined)

    # --- looking ---

    def rows(
        self, first_ns: float, last_ns: float, *, descending: bool = False, label: str | None = None
    ) -> Iterator[Row]:
        """The rows of a range of times, ends included, as they are at this moment.

        Args:
            first_ns: Nanoseconds since 1970 or an infinity; not above `last_ns` if any row is to be found.
            last_ns: The same.
            descending: Latest first.
            label: Only those with this label.
        """
        lowest, beyond = _key(first_ns), _key(last_ns, after=True)
        with self.turn:
            labels = self._labels
            wanted = None if label is None else self._label_numbers.get(label, -1)
            from_main = self._between(lowest, beyond, descending=descending)
            start, stop = bisect_left(self._tail, lowest), bisect_left(self._tail, beyond)
            from_tail = self._tail[start:stop]
        if descending:
            from_tail.reverse()
        return self._unpacked(heapq.merge(from_main, from_tail, reverse=descending), wanted, labels)

    def _unpacked(self, rows: Iterable[bytes], wanted: int | None, labels: list[str | None]) -> Iterator[Row]:
        for packed in rows:
            key, oid, number = self._row.unpack(packed)
            if wanted is None or wanted == number:
                name = instant.name_of(key)
                yield Row(name.timestamp_ns, instant.encode(*name), oid, labels[number])

    def _between(self, lowest: bytes, beyond: bytes, *, descending: bool) -> Iterator[bytes]:
        main, places = self._main, self._places(0, self._count)
        start = bisect_left(places, lowest, key=lambda at: main[at : at + self._row.size])
        stop = bisect_left(places, beyond, key=lambda at: main[at : at + self._row.size])
        chosen = places[start:stop]
        return (main[at : at + self._row.size] for at in (reversed(chosen) if descending else chosen))

    def _places(self, start: int, stop: int) -> range:
        return range(self._start + start * self._row.size, self._start + stop * self._row.size, self._row.size)

    def _number(self, label: str | None) -> int:
        number = self._label_numbers.setdefault(label, len(self._labels))
        if number == len(self._labels):
            self._labels.append(label)
        return number


def _key(moment_ns: float, *, after: bool = False) -> bytes:
    """What the rows of a time begin with, or, with `after`, what is above all of them."""
    if moment_ns in {float("inf"), float("-inf")}:
        place = _LAST + 1 if moment_ns > 0 else 0
    else:
        place = min(max(int(moment_ns) + _ZERO + after, 0), _LAST + 1)
    return b"\xff" * (_TIME_BYTES + 1) if place > _LAST else place.to_bytes(_TIME_BYTES, "big")
