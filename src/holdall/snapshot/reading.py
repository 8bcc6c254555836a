"""Reading a commit back: nothing of it is used before it is known to be what its address says.

Whatever store a commit comes from, each of its blobs is hashed here, so that a store, a network or a stranger who
wrote the commit can make a restore fail, but never make it wrong. What is held in memory is bounded by `limits`: 40
bytes for each chunk of the commit, and the chunks on their way.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Self, TypeVar

from holdall.core.address import DIGEST_BYTES, Address
from holdall.core.archive import BLOCK_BYTES, TRAILER, header_bytes
from holdall.core.manifest import IndexReader, decode_manifest, decode_sizes
from holdall.errors import DamagedCommitError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.limits import KIB
from holdall.limits.snapshot import (
    COMMIT_CHUNKS_MAX,
    INDEX_PART_BYTES_MAX,
    INDEX_PARTS_MAX,
    MANIFEST_LINES_MAX,
    READ_AHEAD_BYTES_MAX,
    READ_AHEAD_CHUNKS_MAX,
)
from holdall.snapshot.fetching import check, open_member, read_here, read_list, read_manifest, read_member
from holdall.stores.abilities import ThreadReading
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from holdall.core.manifest import Manifest
    from holdall.core.tree import Entry
    from holdall.stores.base import Blobs

_T = TypeVar("_T")
_R = TypeVar("_R")

THREADS: Final = max(2, min(8, os.cpu_count() or 2))
"""Threads that unpack chunks, unless somebody says otherwise."""

_SIZES_BYTES_MAX: Final = 5 * COMMIT_CHUNKS_MAX + KIB
"""MessagePack writes a length in at most five bytes."""
_LISTS_WIDTH: Final = 4
"""Lists and parts of the index that are fetched at once."""


class CommitReader:
    """An open commit. Open one with `open_commit`, and close it, or use it as an async context manager.

    Concurrency: the calls of one object belong to one event loop.

    Attributes:
        address: The commit's.
        manifest: What it says.
        archive_bytes: The length of the archive.
    """

    def __init__(
        self,
        store: Blobs,
        address: Address,
        manifest: Manifest,
        *,
        digests: bytes,
        sizes: list[int],
        use: bool,
        threads: int,
    ) -> None:
        self.address = address
        self.manifest = manifest
        self._store = store
        self._use = use
        self._digests = digests
        self._offsets = array("Q", (0,))
        self._offsets.extend(accumulate(sizes))
        self._index: tuple[Address, ...] | None = None
        self._repeated: tuple[Address, bytes] | None = None
        """The last chunk, checked and unpacked, that the commit names twice in a row, as it does in a hole."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="holdall-unpack")
        self.archive_bytes = self._offsets[-1]

    # --- chunks ---

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self._offsets) - 1

    @property
    def offsets(self) -> array[int]:
        """Where each chunk begins in the archive, and where the last ends."""
        return self._offsets

    def chunk(self, number: int) -> Address:
        """The address of a chunk."""
        return Address(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])

    def chunk_bytes(self, number: int) -> int:
        """The length of a chunk before compression."""
        return self._offsets[number + 1] - self._offsets[number]

    async def unpacked(
        self,
        wanted: AsyncGenerator[tuple[int | None, _T], None],
        work: Callable[[_T, bytes], _R],
        *,
        on_error: Callable[[_T, HoldallError], _R] | None = None,
    ) -> AsyncGenerator[_R, None]:
        """Yields `work(item, chunk)` for each number and item wanted, in their order.

        Chunks are fetched ahead, several at once; `work` is called on a thread, with a chunk that is what its address
        and its length say. Of chunks that are the same and follow one another only the first ones are fetched.

        Args:
            wanted: Numbers of chunks, each with what it is wanted for; None is no chunk, and its bytes are none.
            work: What to do with a chunk.
            on_error: What to do instead where a chunk is missing or cannot be read as what it should be; without it
                that ends the iteration.

        Raises:
            MemberNotFoundError: A chunk is not in the store.
            DamageError: A chunk is not what it should be.
            StoreError: The store failed.
        """
        under_way: deque[tuple[asyncio.Future[_R], int]] = deque()
        held = 0
        try:
            async with aclosing(wanted):
                async for number, item in wanted:
                    cost = 0 if number is None else 2 * self.chunk_bytes(number)
                    while under_way and (held + cost > READ_AHEAD_BYTES_MAX or len(under_way) >= READ_AHEAD_CHUNKS_MAX):
                        future, freed = under_way.popleft()
                        yield await future
                        held -= freed
                    under_way.append((asyncio.ensure_future(self._one(number, item, work, on_error)), cost))
                    held += cost
            while under_way:
                yield await under_way.popleft()[0]
        finally:
            for future, _ in under_way:
                future.cancel()
            await asyncio.gather(*(future for future, _ in under_way), return_exceptions=True)

    async def archive(self, first: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yields the chunks from `first` to before `stop`, unpacked, in order; errors as `unpacked`."""

        async def wanted() -> AsyncGenerator[tuple[int | None, None], None]:
            for number in range(first, self.chunks if stop is None else stop):
                yield number, None

        async with aclosing(self.unpacked(wanted(), lambda _, chunk: chunk)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _one(
        self,
        number: int | None,
        item: _T,
        work: Callable[[_T, bytes], _R],
        on_error: Callable[[_T, HoldallError], _R] | None,
    ) -> _R:
        if number is None:
            return await self._on_thread(work, item, b"")
        address, size = self.chunk(number), self.chunk_bytes(number)
        repeated = self._repeated
        if repeated is not None and repeated[0] == address and len(repeated[1]) == size:
            return await self._on_thread(work, item, repeated[1])
        try:
            packed: bytes | Callable[[], bytes]
            if isinstance(self._store, ThreadReading):  # read it on the thread that unpacks it
                packed = partial(read_here, self._store, address, packed_bytes_max(size), use=self._use)
            else:
                async with await open_member(self._store, address, packed_bytes_max(size), use=self._use) as reading:
                    packed = await reading.read()
            return await self._on_thread(self._unpack, number, packed, partial(work, item))
        except (NotFoundError, StoreError, DamageError) as error:
            # Of a store's errors, a leaf says that it cannot work now; the plain one, that it cannot read this.
            if on_error is None or (isinstance(error, StoreError) and type(error) is not StoreError):
                raise
            return on_error(item, error)

    def _unpack(self, number: int, packed: bytes | Callable[[], bytes], work: Callable[[bytes], _R]) -> _R:
        address, size = self.chunk(number), self.chunk_bytes(number)
        data = packed if isinstance(packed, bytes) else packed()
        check(address, data)
        try:
            chunk = self.manifest.codec.decompress(data, size)
        except DamageError as error:
            raise DamageError(f"The chunk {address} cannot be unpacked: {error.message}") from error
        if len(chunk) != size:
            raise DamageError(f"The chunk {address} has {len(chunk)} bytes, and the commit says {size}.")
        if number + 1 < self.chunks and self.chunk(number + 1) == address:
            self._repeated = address, chunk
        return work(chunk)

    # --- index ---

    async def index_parts(self) -> tuple[Address, ...]:
        """The addresses of the parts of the index, in order.

        Raises:
            CommitError: The index is not one.
            MemberNotFoundError: It is not in the store.
            DamageError: It does not hash to its address.
            StoreError: The store failed.
        """
        if self._index is None:
            self._index = await read_list(self._store, self.manifest.index, INDEX_PARTS_MAX, "index", use=self._use)
        return self._index

    async def index_part(self, address: Address) -> bytes:
        """A part of the index, unpacked; errors as `index_parts`."""
        packed = await read_member(self._store, address, packed_bytes_max(INDEX_PART_BYTES_MAX), use=self._use)
        try:
            return await self._on_thread(self.manifest.codec.decompress, packed, INDEX_PART_BYTES_MAX)
        except DamageError as error:
            raise DamageError(f"The index part {address} cannot be unpacked: {error.message}") from error

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Yields the entries of the tree in order, each once it is known to be safe to restore.

        Raises:
            TreeError: An entry must not be restored.
            HoldallError: As `index_parts`.
        """
        reader = IndexReader()
        parts = await self.index_parts()
        async with aclosing(in_order(parts, self.index_part, width=_LISTS_WIDTH)) as found:
            async for part in found:
                for entry in reader.read(part):
                    yield entry

    async def spans(self) -> AsyncGenerator[tuple[Entry, int], None]:
        """Yields each entry with the offset in the archive at which its contents begin; errors as `entries`.

        Raises:
            CommitError: The entries are not those of the archive.
        """
        at = 0
        async with aclosing(self.entries()) as entries:
            async for entry in entries:
                at += header_bytes(entry)
                size = entry.size_bytes
                if at + size > self.archive_bytes:
                    raise DamagedCommitError("The commit's index names more than its archive holds.")
                yield entry, at
                at += size + -size % BLOCK_BYTES
        if at + len(TRAILER) != self.archive_bytes:
            raise DamagedCommitError("The commit's index and its archive are not of the same length.")

    # --- life ---

    async def aclose(self) -> None:
        """Ends the threads; the store stays open. Closing twice is harmless."""
        self._threads.shutdown(cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _on_thread(self, call: Callable[..., _R], *args: object) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


async def open_commit(store: Blobs, address: Address, *, use: bool = True, threads: int | None = None) -> CommitReader:
    """Opens a commit: its manifest and what else must be known before any of its chunks is read.

    Args:
        store: Where it is; it stays open until the commit is read.
        address: The commit's.
        use: Whether reading counts as a use of what is read.
        threads: How many unpack chunks; None for one per processor.

    Raises:
        NotFoundError: Nothing is stored there.
        CommitError: It is no commit, or one that this version cannot read.
        MemberNotFoundError: A part of it is not in the store.
        DamageError: A part does not hash to its address.
        StoreError: The store failed.
    """
    manifest = decode_manifest(await read_manifest(store, address, use=use))
    digests = await _digests(store, manifest, use=use)
    packed = await read_member(store, manifest.sizes, packed_bytes_max(_SIZES_BYTES_MAX), use=use)
    try:
        data = manifest.codec.decompress(packed, _SIZES_BYTES_MAX)
    except DamageError as error:
        raise DamageError(f"The chunk sizes {manifest.sizes} cannot be unpacked: {error.message}") from error
    sizes = decode_sizes(data, len(digests) // DIGEST_BYTES)
    return CommitReader(store, address, manifest, digests=digests, sizes=sizes, use=use, threads=threads or THREADS)


async def _digests(store: Blobs, manifest: Manifest, *, use: bool) -> bytes:
    """The addresses of all chunks, in order, as one string of bytes."""
    if manifest.depth == 1:
        return b"".join(manifest.members)
    digests = bytearray()

    async def read(part: Address) -> tuple[Address, ...]:
        return await read_list(store, part, MANIFEST_LINES_MAX, "manifest", use=use)

    async with aclosing(in_order(manifest.members, read, width=_LISTS_WIDTH)) as parts:
        async for part in parts:
            digests += b"".join(part)
            if len(digests) > COMMIT_CHUNKS_MAX * DIGEST_BYTES:
                raise DamagedCommitError(f"The commit has over {COMMIT_CHUNKS_MAX} chunks.")
    return bytes(digests)


def packed_bytes_max(size_bytes: int) -> int:
    """The length of the longest thing that a codec makes of so many bytes: what does not compress grows a little."""
    return size_bytes + size_bytes // 128 + KIB
