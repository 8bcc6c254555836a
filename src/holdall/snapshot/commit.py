"""A tree into a store, under one address.

Chunks and parts of the index go first, then the index, the manifest last: no address exists before all that it names is
durable. Nothing is sent that the store has; an interrupted commit that is run again asks anew, and goes on there.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address
from holdall.core.codec import Codec
from holdall.core.manifest import IndexWriter, Manifest, burst, encode_sizes, nested
from holdall.core.tree import Type
from holdall.errors import ChangedError, DamageError
from holdall.limits.snapshot import (
    COMMIT_ATTEMPTS_MAX,
    ENTRY_BYTES,
    UPLOAD_BATCHES_MAX,
    UPLOAD_BYTES_MAX,
    UPLOAD_CHUNKS_MAX,
    UPLOADS_MAX,
)
from holdall.snapshot.building import Builder, UnreadableError
from holdall.snapshot.sources import Sources
from holdall.snapshot.walk import Skipped
from holdall.stores.abilities import BulkStoring
from holdall.stores.base import missing
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from holdall.snapshot.building import Built
    from holdall.snapshot.file_cache import FileCache
    from holdall.snapshot.walk import Found
    from holdall.stores.base import Store

_THREADS: Final = max(2, min(8, os.cpu_count() or 2))


class Report(msgspec.Struct):
    """What a commit did.

    Attributes:
        address: The commit's; None after a dry run.
        entries: In the tree.
        size_bytes: Of the archive.
        chunks: It has.
        depth: How deep its bursts are nested.
        sent_chunks: Chunks, and parts of the index, that the store did not have.
        sent_bytes: Of them, as stored.
        skipped: What was left out against one's will.
    """

    address: Address | None = None
    entries: int = 0
    size_bytes: int = 0
    chunks: int = 0
    depth: int = 1
    sent_chunks: int = 0
    sent_bytes: int = 0
    skipped: list[Skipped] = []


class Committer:
    """Puts trees into one store.

    Args:
        store: The store.
        codec: How chunks are compressed.
        dry_run: Send nothing; count what would be sent.
        on_progress: Told how far the report has come.
    """

    def __init__(
        self,
        store: Store,
        *,
        codec: Codec = Codec.ZSTD,
        dry_run: bool = False,
        on_progress: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._dry_run = dry_run
        self._on_progress = on_progress

    async def commit(
        self, root: str, walk: Callable[[Callable[[Skipped], None]], Iterable[Found]], cache: FileCache
    ) -> Report:
        """Commits a tree.

        Args:
            root: Its directory.
            walk: Walks it, telling of what it had to skip; called anew when the tree changed too much meanwhile.
            cache: What is known of it; saved when the commit is done.

        Returns:
            What was done; all of it is durable.

        Raises:
            UsageError: The root is no directory, or a pattern of what to leave out cannot be read.
            ChangedError: Large files kept changing.
            StoreError: The store failed, or the tree cannot be read.
        """
        left_out: list[Skipped] = []
        for attempt in range(1, COMMIT_ATTEMPTS_MAX + 1):
            report = Report()
            report.skipped += left_out
            tree = _without(left_out, walk(report.skipped.append), report.skipped.append)
            try:
                await self._attempt(root, tree, cache, report)
            except ChangedError:
                if attempt == COMMIT_ATTEMPTS_MAX:
                    raise
            except UnreadableError as error:
                left_out.append(Skipped(error.path, error.reason))
                if attempt == COMMIT_ATTEMPTS_MAX:
                    raise ChangedError("Too many of the tree's large files cannot be read.") from error
            else:
                report.skipped = list(dict.fromkeys(report.skipped))  # a walk may find again what an attempt told of
                return report
        raise AssertionError  # the last attempt returned or raised

    async def _attempt(self, root: str, tree: Iterable[Found], cache: FileCache, report: Report) -> None:
        sources = Sources(root)
        executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="holdall-commit")
        upload = _Upload(self._store, self._codec, report, dry_run=self._dry_run)
        try:
            cache.begin()
            builder = Builder(sources, self._codec, cache, executor, report.skipped.append)
            batches = _batches(builder.build(tree))
            async with (
                aclosing(_ahead(batches)) as made,
                aclosing(in_order(made, upload.take, width=UPLOAD_BATCHES_MAX)) as taken,
            ):
                async for _ in taken:
                    self._on_progress(report)
            report.address = await upload.finish()
        except BaseException:
            cache.close()
            raise
        finally:
            executor.shutdown(cancel_futures=True)
            sources.close()
        if self._dry_run:
            cache.close()
        else:
            await asyncio.get_running_loop().run_in_executor(None, cache.save)
        self._on_progress(report)


class _Upload:
    """What of a commit is in the store, and what its manifest will say."""

    def __init__(self, store: Store, codec: Codec, report: Report, *, dry_run: bool) -> None:
        self._store = store
        self._codec = codec
        self._report = report
        self._dry_run = dry_run
        self._chunks: list[Address] = []
        self._sizes: list[int] = []
        self._index = IndexWriter()
        self._index_parts: list[Address] = []
        self._known: set[Address] = set()

    async def take(self, batch: Sequence[Built]) -> None:
        """Sends what the store lacks of a batch of chunks, and the index that comes with it.

        Calls may be under way at once. What belongs in order is noted before the first of them waits for anything.
        """
        report = self._report
        parts: list[bytes] = []
        by_address: dict[Address, Built] = {}
        for built in batch:
            address = Address(built.chunk.address)
            self._chunks.append(address)
            self._sizes.append(built.chunk.size_bytes)
            by_address.setdefault(address, built)
            report.size_bytes += built.chunk.size_bytes
            report.entries += len(built.entries)
            parts += [part for part in map(self._index.add, built.entries) if part is not None]
        report.chunks += len(batch)
        compressed = [self._codec.compress(part) for part in parts]
        named = [Address.of(part) for part in compressed]
        self._index_parts += named
        found = dict(zip(named, compressed, strict=True))
        lacking = await self._lacking([*by_address, *found])
        loop = asyncio.get_running_loop()
        for address in lacking:
            if address not in found:
                built = by_address[address]
                data = built.data
                found[address] = await loop.run_in_executor(None, built.rebuild) if data is None else data
        await self._send([found[address] for address in lacking], lacking)

    async def finish(self) -> Address | None:
        """Sends the rest, the manifest last; its address, or None in a dry run."""
        last = self._index.finish()
        part = [] if last is None else [self._codec.compress(last)]
        lists = nested(self._chunks)
        # All that names nothing that is not durable yet goes at once: each time may cost a sync, or a round trip.
        sizes, *stored = await self._put([self._codec.compress(encode_sizes(self._sizes)), *part, *lists])
        members = stored[len(part) :] if lists else self._chunks
        (index,) = await self._put([burst([*self._index_parts, *stored[: len(part)]])])
        self._report.depth = 2 if lists else 1
        manifest = Manifest(self._codec, index, sizes, self._report.depth, tuple(members))
        (address,) = await self._put([manifest.encode()])
        return None if self._dry_run else address

    async def _put(self, blobs: list[bytes]) -> list[Address]:
        """Stores blobs that the store may have; their addresses in order."""
        addresses = [Address.of(data) for data in blobs]
        by_address = dict(zip(addresses, blobs, strict=True))
        lacking = await self._lacking(by_address)
        await self._send([by_address[address] for address in lacking], lacking)
        return addresses

    async def _lacking(self, addresses: Iterable[Address]) -> list[Address]:
        asked = [address for address in addresses if address not in self._known]
        self._known.update(asked)
        return await missing(self._store, asked) if asked else []

    async def _send(self, blobs: list[bytes], addresses: list[Address]) -> None:
        self._report.sent_chunks += len(blobs)
        self._report.sent_bytes += sum(map(len, blobs))
        if self._dry_run or not blobs:
            return
        if isinstance(self._store, BulkStoring):
            if await self._store.put_many(blobs) != addresses:
                raise DamageError("The store named another address for a chunk than it has.")
            return

        async def put(blob: tuple[bytes, Address]) -> None:
            await self._store.put(blob[0], expected=blob[1])

        async for _ in in_order(zip(blobs, addresses, strict=True), put, width=UPLOADS_MAX):
            pass


def _without(left_out: Sequence[Skipped], tree: Iterable[Found], on_skip: Callable[[Skipped], None]) -> Iterator[Found]:
    """A tree without the files that cannot be read, and without their other names, which cannot be read either."""
    reasons = {skipped.path: skipped.reason for skipped in left_out}
    for found in tree:
        entry = found.entry
        if entry.type is Type.HARD_LINK and entry.target in reasons:
            on_skip(Skipped(entry.path, reasons[entry.target]))
        elif entry.path not in reasons:
            yield found


async def _ahead(batches: Iterator[list[Built]]) -> AsyncGenerator[list[Built], None]:
    """Yields the batches; the next is made while the last is sent."""
    loop = asyncio.get_running_loop()
    coming = loop.run_in_executor(None, next, batches, None)
    try:
        while (batch := await coming) is not None:
            coming = loop.run_in_executor(None, next, batches, None)
            yield batch
    finally:
        await asyncio.gather(coming, return_exceptions=True)


def _batches(chunks: Iterator[Built]) -> Iterator[list[Built]]:
    """Gathers chunks until it is worth asking the store about them."""
    batch: list[Built] = []
    size = 0
    for built in chunks:
        batch.append(built)
        size += len(built.data or b"") + ENTRY_BYTES * len(built.entries)
        if size >= UPLOAD_BYTES_MAX or len(batch) >= UPLOAD_CHUNKS_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
