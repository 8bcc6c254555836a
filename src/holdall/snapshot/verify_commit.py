"""Holding a commit to its address: every blob it is made of, and every byte that these make up.

Blobs that hash to their addresses can still be put together to something that means nothing. So it is also checked
that the archive is the one of the index, byte for byte: headers, contents, padding and end.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.address import Address
from holdall.core.archive import TRAILER, header, header_bytes
from holdall.core.manifest import decode_manifest
from holdall.core.tree import Type, shown
from holdall.errors import DamageError, MemberNotFoundError, NotFoundError
from holdall.limits.snapshot import INDEX_PARTS_MAX, MANIFEST_LINES_MAX, STORE_JOBS
from holdall.snapshot.fetching import read_list, read_manifest
from holdall.snapshot.layout import Layout
from holdall.snapshot.reading import open_commit
from holdall.snapshot.verify_store import ignore, look_twice
from holdall.snapshot.whole_store import Trouble
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from hashlib import _Hash

    from holdall.core.manifest import Manifest
    from holdall.core.tree import Entry
    from holdall.errors import HoldallError
    from holdall.snapshot.layout import Batch, Step
    from holdall.snapshot.reading import CommitReader
    from holdall.stores.base import Blobs

_LOST_MAX: Final = 1000
"""Paths of files that cannot be restored which are remembered; the rest is counted."""


@dataclass(slots=True)
class CommitReport:
    """What the verification of a commit has found so far.

    Attributes:
        entries: Entries of the tree.
        chunks: Chunks that are what they should be.
        archive_bytes: Their length together, unpacked.
        lost: Paths of files that cannot be restored, the first of them.
        lost_count: How many there are.
    """

    entries: int = 0
    chunks: int = 0
    archive_bytes: int = 0
    lost: list[bytes] = field(default_factory=list)
    lost_count: int = 0


class _Part(NamedTuple):
    """A run of the archive.

    Attributes:
        entry: Whose it is; None for the trailer.
        expected: Its bytes where they follow from the entry; None for contents.
    """

    entry: Entry | None
    expected: bytes | None


class _Seen(NamedTuple):
    """A chunk that was looked at.

    Attributes:
        batch: What it should hold.
        data: The chunk; nothing where it could not be read.
        error: Why not.
        wrong: Entries whose header, contents or padding in it are not those of the index.
    """

    batch: Batch[_Part]
    data: bytes
    error: HoldallError | None
    wrong: list[Entry | None]


class CommitVerification:
    """One pass over a commit; nothing of it counts as used.

    Args:
        store: Where it is.
        address: The commit's.
        count: Told of bytes of the archive as they are verified.
        expect: Told of the length of the archive, once that is known.

    Attributes:
        report: What has been found so far.
    """

    def __init__(
        self,
        store: Blobs,
        address: Address,
        *,
        count: Callable[[int], None] = ignore,
        expect: Callable[[int], None] = ignore,
    ) -> None:
        self.report = CommitReport()
        self._store = store
        self._address = address
        self._count = count
        self._expect = expect
        self._where = ""
        """Where archive and index first differ."""
        self._open: tuple[Entry, _Hash] | None = None
        """The file of several chunks that is being hashed."""

    async def troubles(self) -> AsyncGenerator[Trouble, None]:
        """Goes through the commit and yields each blob of it that is missing or damaged.

        Raises:
            NotFoundError: There is no such commit.
            CommitError: What is there is no commit, or its index is none.
            DamageError: The manifest does not hash to its address, or the archive is not that of the index.
            StoreError: The store cannot be reached.
        """
        manifest = decode_manifest(await read_manifest(self._store, self._address, use=False))
        lists = [manifest.index, manifest.sizes, *(manifest.members if manifest.depth > 1 else ())]
        found = [trouble async for trouble in self._look_at(lists)]
        if manifest.index not in {trouble.address for trouble in found}:
            parts = await read_list(self._store, manifest.index, INDEX_PARTS_MAX, "index", use=False)
            found += [trouble async for trouble in self._look_at(parts)]
        for trouble in found:
            yield trouble
        if found:  # what the chunks should make up cannot be known; whether they are whole can
            async for trouble in self._chunks_alone(manifest, {trouble.address for trouble in found}):
                yield trouble
            return
        async with await open_commit(self._store, self._address, use=False) as reader:
            self._expect(reader.archive_bytes)
            async for trouble in self._archive(reader):
                yield trouble
        if self._where:
            raise DamageError(f"The commit's archive is not that of its index, at {self._where}.")

    async def _look_at(self, addresses: Iterable[Address]) -> AsyncGenerator[Trouble, None]:
        async with aclosing(in_order(addresses, self._look_up, width=STORE_JOBS)) as found:
            async for trouble in found:
                if trouble is not None:
                    yield trouble

    async def _look_up(self, address: Address) -> Trouble | None:
        """What is wrong with a blob by itself, or None."""
        try:
            found = await look_twice(self._store, address)
        except NotFoundError:
            return Trouble(address, MemberNotFoundError(f"{address}, which the commit needs, is not in the store."))
        return found if isinstance(found, Trouble) else None

    async def _chunks_alone(self, manifest: Manifest, lost: set[Address]) -> AsyncGenerator[Trouble, None]:
        lists = [manifest.members]
        if manifest.depth > 1:
            readable = [part for part in manifest.members if part not in lost]
            lists = [await read_list(self._store, part, MANIFEST_LINES_MAX, "manifest", use=False) for part in readable]
        for chunks in lists:
            async for trouble in self._look_at(chunks):
                yield trouble

    async def _archive(self, reader: CommitReader) -> AsyncGenerator[Trouble, None]:
        wanted = self._batches(reader)
        async with aclosing(reader.unpacked(wanted, self._look, on_error=self._missed)) as chunks:
            async for seen in chunks:
                if seen.error is not None:
                    assert seen.batch.chunk is not None  # noqa: S101 - only a chunk can be missing
                    self._lose(seen.batch)
                    chunk = reader.chunk(seen.batch.chunk)
                    trouble = await self._look_up(chunk)
                    if trouble is None:  # the blob is whole; it is no chunk of this commit
                        self._where = self._where or f"the chunk {chunk}: {seen.error.message.rstrip('.')}"
                    else:
                        yield trouble
                    continue
                for entry in seen.wrong + await self._hash_on(seen):
                    self._where = self._where or ("its end" if entry is None else repr(shown(entry.path)))
                    self._lose_entry(entry)
                self.report.chunks += 1
                self.report.archive_bytes += len(seen.data)
                self._count(len(seen.data))

    async def _batches(self, reader: CommitReader) -> AsyncGenerator[tuple[int | None, Batch[_Part]], None]:
        layout: Layout[_Part] = Layout(reader.offsets)
        end = 0
        async with aclosing(reader.spans()) as spans:
            async for entry, at in spans:
                self.report.entries += 1
                end = at + entry.size_bytes + entry.padding_bytes
                head = header_bytes(entry)
                parts = (
                    (_Part(entry, header(entry)), head, at - head),
                    (_Part(entry, None), entry.size_bytes, at),
                    (_Part(entry, bytes(entry.padding_bytes)), entry.padding_bytes, at + entry.size_bytes),
                )
                for part, size, start in parts:
                    if size:
                        for batch in layout.add(part, size, start):
                            yield batch.chunk, batch
        for batch in (*layout.add(_Part(None, TRAILER), len(TRAILER), end), *layout.finish()):
            yield batch.chunk, batch

    def _look(self, batch: Batch[_Part], data: bytes) -> _Seen:
        """Looks at a chunk, on the thread that unpacked it."""
        wrong = []
        for (entry, expected), start, stop, offset in batch.steps:
            found = memoryview(data)[start:stop]
            if expected is not None:
                fits = found == expected[offset : offset + stop - start]
            else:
                assert entry is not None  # noqa: S101 - contents are a file's
                fits = stop - start < entry.size_bytes or Address.of(found) == entry.content
            if not fits:
                wrong.append(entry)
        return _Seen(batch, data, None, wrong)

    def _missed(self, batch: Batch[_Part], error: HoldallError) -> _Seen:
        return _Seen(batch, b"", error, [])

    # --- files of several chunks ---

    async def _hash_on(self, seen: _Seen) -> list[Entry | None]:
        """Hashes what a chunk has of a file of several; the file if it is complete and wrong."""
        wrong: list[Entry | None] = []
        for step in seen.batch.steps:
            entry = step.item.entry
            if entry is None or not _is_piece(step):
                continue
            if step.offset == 0:
                self._open = entry, hashlib.sha256()
            if self._open is None or self._open[0] is not entry:
                continue  # a chunk of it is lost
            digest = self._open[1]
            await asyncio.to_thread(digest.update, memoryview(seen.data)[step.start : step.stop])
            if step.offset + step.stop - step.start == entry.size_bytes:
                self._open = None
                if digest.digest() != entry.content:
                    wrong.append(entry)
        return wrong

    def _lose(self, batch: Batch[_Part]) -> None:
        """Notes the files that are, in part at least, in a chunk that is missing or damaged."""
        last: Entry | None = None
        for step in batch.steps:
            entry = step.item.entry
            if entry is None or entry is last or entry.type is not Type.FILE or step.item.expected is not None:
                continue
            last = entry
            if not _is_piece(step) or step.offset == 0 or (self._open is not None and self._open[0] is entry):
                self._lose_entry(entry)
            if _is_piece(step):
                self._open = None

    def _lose_entry(self, entry: Entry | None) -> None:
        if entry is None or (self.report.lost and self.report.lost[-1] == entry.path):
            return
        self.report.lost_count += 1
        if len(self.report.lost) < _LOST_MAX:
            self.report.lost.append(entry.path)


def _is_piece(step: Step[_Part]) -> bool:
    """Whether a step is part of the contents of a file that has more in other chunks."""
    entry = step.item.entry
    return entry is not None and step.item.expected is None and step.stop - step.start < entry.size_bytes
