"""From a tree to chunks: read, cut, compress, on a few threads, in the order of the archive and no further ahead.

Reading, hashing, cutting and compressing all leave the interpreter free while they run, so threads use every core. The
chunks come out in the order of the archive; how many are under way bounds the memory.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from holdall.core.address import Address
from holdall.core.packing import Large, Pack, is_large, pack_bytes, segments
from holdall.core.tree import Type, shown
from holdall.errors import ChangedError
from holdall.snapshot.file_cache import Chunk, Row, file_row
from holdall.snapshot.sources import LargeFile, Sources
from holdall.snapshot.walk import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

    from holdall.core.codec import Codec
    from holdall.core.tree import Entry
    from holdall.snapshot.file_cache import FileCache
    from holdall.snapshot.walk import Found, Signature

_AHEAD: Final = 5
"""Chunks under way at once: enough for a few cores, and at most 10 MiB before compression."""


class UnreadableError(Exception):
    """A large file, or one with several names, cannot be read; the tree has to be walked again without it.

    Args:
        path: Its path.
        reason: Why.
    """

    def __init__(self, path: bytes, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class _Run(msgspec.Struct):
    """The chunks of a large file so far, in their order."""

    chunks: list[Chunk]
    signature: Signature | None = None
    read_ns: int = 0


class Built(msgspec.Struct):
    """A chunk of the archive.

    Attributes:
        chunk: Its address, and its length before compression.
        data: As it is stored; None where it was stored before, and was not made again.
        rebuild: Makes `data` after all.
        entries: What the index gets with this chunk, the contents of files known.
        run: Of a large file, what it is part of.
        kept: What the next commit wants to know of it.
    """

    chunk: Chunk
    data: bytes | None
    rebuild: Callable[[], bytes]
    entries: tuple[Entry, ...] = ()
    run: _Run | None = None
    kept: tuple[Row, ...] = ()


_Step: TypeAlias = "Future[Built] | Built"


class Builder:
    """Builds the chunks of one tree, once.

    Args:
        sources: Its files.
        codec: How chunks are compressed.
        cache: What is known from earlier commits.
        executor: Threads to compress on.
        on_skip: Told of files that could not be read.
    """

    def __init__(
        self,
        sources: Sources,
        codec: Codec,
        cache: FileCache,
        executor: Executor,
        on_skip: Callable[[Skipped], None],
    ) -> None:
        self._sources = sources
        self._codec = codec
        self._cache = cache
        self._executor = executor
        self._on_skip = on_skip
        self._found: dict[bytes, Found] = {}
        self._lost: dict[bytes, str | None] = {}
        """Files that were found and are in no chunk, each with what is wrong with it, or None if it is gone."""
        self._last: tuple[bytes, bytes, Chunk] | None = None
        """The last chunk of a large file, before and after it was compressed: the chunks of a hole are one object."""

    def build(self, tree: Iterable[Found]) -> Iterator[Built]:
        """Yields the chunks of the archive in order.

        Args:
            tree: As `walk` finds it.

        Raises:
            ChangedError: A file changed too much while it was read.
            UnreadableError: A large file, or one with several names, cannot be read.
            OSError: The tree cannot be read.
        """
        under_way: deque[_Step] = deque()
        try:
            for step in self._steps(tree):
                under_way.append(step)
                if len(under_way) >= _AHEAD:
                    yield self._came(under_way.popleft())
            while under_way:
                yield self._came(under_way.popleft())
        finally:
            for step in under_way:
                if not isinstance(step, Built):
                    step.cancel()

    def _came(self, step: _Step) -> Built:
        built = step if isinstance(step, Built) else step.result()
        if self._lost:
            self._check_links(built.entries)
        if built.run is not None:
            built.run.chunks.append(built.chunk)
            for entry in built.entries:  # with the last of its chunks a large file's contents are known
                if built.run.signature is not None and entry.content is not None:
                    run = built.run
                    self._cache.keep(file_row(entry.path, built.run.signature, entry.content, run.read_ns, run.chunks))
        self._cache.keep(built.kept)
        return built

    def _check_links(self, entries: tuple[Entry, ...]) -> None:
        """Refuses links to a file that was lost: the tree has to be walked again, so that one of them is the file."""
        for entry in entries:
            if entry.type is Type.HARD_LINK and entry.target in self._lost:
                reason = self._lost[entry.target]
                if reason is not None:
                    raise UnreadableError(entry.target, reason)
                raise ChangedError(f"{shown(entry.target)!r} went away while the tree was read.")

    def _steps(self, tree: Iterable[Found]) -> Iterator[_Step]:
        for segment in segments(self._noted(tree)):
            if isinstance(segment, Large):
                yield from self._large(self._found.pop(segment.entry.path))
                continue
            found, self._found = self._found, {}
            if (large := _large_of(segment.entries)) is not None:
                self._found[large.path] = found.pop(large.path)  # its contents come next
            yield self._known(segment, found) or self._executor.submit(self._pack, segment, found)

    def _noted(self, tree: Iterable[Found]) -> Iterator[Entry]:
        """The tree's entries, each with its file's signature kept until its segment is built."""
        for found in tree:
            if found.entry.type is Type.FILE:
                if is_large(found.entry) and not self._opens(found):
                    continue
                self._found[found.entry.path] = found
            yield found.entry

    def _opens(self, found: Found) -> bool:
        """Whether a large file can be opened: found out later, its header would be in a chunk already."""
        path = found.entry.path
        try:
            fd = self._sources.open(found)
        except OSError as error:
            self._lost[path] = reason = error.strerror or str(error)
            self._on_skip(Skipped(path, reason))
            return False
        if fd is None:
            self._lost[path] = None
            return False
        os.close(fd)
        return True

    # --- packs ---

    def _pack(self, pack: Pack, found: dict[bytes, Found]) -> Built:
        data, entries, rows = self._make_pack(pack, found)
        return Built(rows[0].chunks[0], data, lambda: data, _indexed(entries), kept=rows)

    def _known(self, pack: Pack, found: dict[bytes, Found]) -> Built | None:
        """What the pack became when nothing in it was different."""
        entries: list[Entry] = []
        rows: list[Row] = []
        contents: list[Address] = []
        for entry in pack.entries:
            file = found.get(entry.path)
            if file is None or file.signature is None:
                entries.append(entry)
                continue
            row = self._cache.file(entry.path, file.signature)
            if row is None:
                return None
            rows.append(row)
            contents.append(row.content)
            entries.append(entry.read(contents[-1], entry.size_bytes, entry.mode))
        key = pack.key(contents)
        chunk = self._cache.pack(key)
        if chunk is None:
            return None
        kept = (Row(b"", key, (chunk,)), *rows)
        return Built(chunk, None, partial(self._rebuild_pack, pack, found, chunk), _indexed(tuple(entries)), kept=kept)

    def _make_pack(self, pack: Pack, found: dict[bytes, Found]) -> tuple[bytes, tuple[Entry, ...], tuple[Row, ...]]:
        """A pack's chunk, its entries, and what to remember: first of the pack, then of its files."""
        entries: list[Entry] = []
        contents: list[bytes] = []
        rows: list[Row] = []
        for entry in pack.entries:
            file = found.get(entry.path)
            if file is None:
                entries.append(entry)
                continue
            try:
                read = self._sources.read_small(file)
            except OSError as error:
                self._lost[entry.path] = reason = error.strerror or str(error)
                self._on_skip(Skipped(entry.path, reason))
                continue
            if read is None:  # gone since the walk
                self._lost[entry.path] = None
                continue
            entries.append(read.entry)
            contents.append(read.data)
            if read.signature is not None and read.entry.content is not None:
                rows += file_row(entry.path, read.signature, read.entry.content, read.read_ns)
        made = Pack(pack.lead_bytes, tuple(entries), pack.is_last)
        raw = pack_bytes(made, contents)
        data = self._codec.compress(raw)
        chunk = Chunk(bytes(Address.of(data)), len(raw))
        key = made.key(entry.content for entry in entries if entry.content is not None)
        return data, made.entries, (Row(b"", key, (chunk,)), *rows)

    def _rebuild_pack(self, pack: Pack, found: dict[bytes, Found], chunk: Chunk) -> bytes:
        data, _, rows = self._make_pack(pack, found)
        if rows[0].chunks[0] != chunk:
            raise ChangedError("A file changed while the tree was read.")
        return data

    # --- large files ---

    def _large(self, found: Found) -> Iterator[_Step]:
        path, signature = found.entry.path, found.signature
        known = None if signature is None else self._cache.file(path, signature)
        if known is not None and known.chunks:
            yield from self._known_chunks(found, known)
            return
        file = self._open_large(found)
        try:
            run, at, waiting = _Run([], read_ns=file.read_ns), 0, b""
            for raw in file.chunks():
                if waiting:
                    yield self._executor.submit(self._chunk, found, run, waiting, at)
                    at += len(waiting)
                waiting = raw
            run.signature = file.signature
            done = found.entry.read(file.content, found.entry.size_bytes, found.entry.mode)
            yield self._executor.submit(self._chunk, found, run, waiting, at, (done,))
        except OSError as error:
            raise UnreadableError(path, error.strerror or str(error)) from error
        finally:
            file.close()

    def _open_large(self, found: Found) -> LargeFile:
        try:
            fd = self._sources.open(found)
        except OSError as error:
            raise UnreadableError(found.entry.path, error.strerror or str(error)) from error
        if fd is None:
            raise ChangedError(f"{shown(found.entry.path)!r} went away while the tree was read.")
        return LargeFile(fd, found.entry)

    def _known_chunks(self, found: Found, known: Row) -> Iterator[_Step]:
        entry, at = found.entry, 0
        for number, chunk in enumerate(known.chunks, start=1):
            is_last = number == len(known.chunks)
            entries = (entry.read(known.content, entry.size_bytes, entry.mode),) if is_last else ()
            again = partial(self._read_again, found, chunk, at)
            yield Built(chunk, None, again, entries, kept=(known,) if is_last else ())
            at += chunk.size_bytes

    def _chunk(self, found: Found, run: _Run, raw: bytes, at: int, entries: tuple[Entry, ...] = ()) -> Built:
        last = self._last
        if last is not None and last[0] is raw:
            _, data, chunk = last
        else:
            data = self._codec.compress(raw)
            chunk = Chunk(bytes(Address.of(data)), len(raw))
            self._last = raw, data, chunk
        return Built(chunk, data, partial(self._read_again, found, chunk, at), entries, run)

    def _read_again(self, found: Found, chunk: Chunk, at: int) -> bytes:
        fd = self._sources.open(found)
        if fd is None:
            raise ChangedError(f"{shown(found.entry.path)!r} went away while the tree was read.")
        try:
            raw = b""
            while len(raw) < chunk.size_bytes:
                piece = os.pread(fd, chunk.size_bytes - len(raw), at + len(raw))
                if not piece:
                    break
                raw += piece
        finally:
            os.close(fd)
        data = self._codec.compress(raw)
        if Address.of(data) != chunk.address:
            raise ChangedError(f"{shown(found.entry.path)!r} changed while the tree was read.")
        return data


def _large_of(entries: tuple[Entry, ...]) -> Entry | None:
    """The large file that a pack ends before, whose header is the last thing in it; None where there is none."""
    return entries[-1] if entries and is_large(entries[-1]) else None


def _indexed(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Without the large file, whose contents are not known yet."""
    return entries if _large_of(entries) is None else entries[:-1]
