"""The directory store: entries as plain files in one flat directory, shared by any number of processes.

The asynchronous face of `Shelf` and `SlotShelf`: blocking calls run on a few threads, small ones may be answered at
once (`Immediate`). Any number of processes (a server's workers, the command line, a backup) may have the same
directory open.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from holdall.errors import NotFoundError, StoreError
from holdall.limits import BODY_BYTES_MAX, SMALL_BYTES_MAX
from holdall.stores.base import ALWAYS, WHOLE, Info, Kind, Span, pieces
from holdall.stores.blob_shelf import BlobShelf
from holdall.stores.changes import Durability
from holdall.stores.disk import Disk, translated
from holdall.stores.entry_file import info_of
from holdall.stores.file_reading import FileReading
from holdall.stores.listing import SweepReport, newest_first, sweep
from holdall.stores.placer import Placer
from holdall.stores.shelf import UNKNOWN_RETENTION, Shelf
from holdall.stores.slot_shelf import SlotShelf
from holdall.stores.small_writes import SmallWrites
from holdall.stores.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from holdall.core.address import Address
    from holdall.core.retention import Retention
    from holdall.errors import HoldallError
    from holdall.stores.abilities import Glimpse, Spooled
    from holdall.stores.base import Condition, Source

__all__ = ["DirectoryStore", "Durability"]

_THREADS: Final = 8
_LISTING_BATCH: Final = 1024
_P = ParamSpec("_P")
_T = TypeVar("_T")


class DirectoryStore:
    """A store in one flat directory of plain files.

    Open one with `open`. Concurrency: the calls of one object belong to one event loop.
    """

    def __init__(self, shelf: Shelf, placer: Placer | None = None) -> None:
        self._shelf = shelf
        self._blobs = BlobShelf(shelf)
        self._slots = SlotShelf(shelf, self._blobs)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="holdall-disk")
        self._small_writes = SmallWrites(shelf, self._blobs, self._executor, placer)
        self._turns: dict[bytes, asyncio.Lock] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        durability: Durability = Durability.SYNC,
        retention: Retention = UNKNOWN_RETENTION,
        create: bool = True,
        journal: bool = False,
        second_process: bool = False,
        size_bytes_max: int = BODY_BYTES_MAX,
        disk: Callable[[str], Disk] = Disk,
    ) -> DirectoryStore:
        """Opens a directory, first mending what a crash may have left in it.

        Args:
            path: The directory.
            durability: What a write survives when it returns.
            retention: When entries expire, and so how often a use is written down.
            create: Make the directory if it is missing.
            journal: Make small writes durable in groups, through a journal of 64 MiB; for a server.
            second_process: Let a process beside this one create the files of small writes (see `placer`).
            size_bytes_max: Largest entry.
            disk: The seam to the operating system.

        Raises:
            StoreError: It cannot be opened.
        """

        def opened() -> DirectoryStore:
            with translated():
                if create:
                    with suppress(FileExistsError, NotADirectoryError):  # the next question says it better
                        os.makedirs(path, exist_ok=True)
                if not os.path.isdir(path):
                    raise StoreError(f"{path} is not a directory.", hint="Create it, or name another.")
                seam = disk(path)
                try:
                    shelf = Shelf(
                        seam,
                        durability=durability,
                        retention=retention,
                        journal=journal,
                        size_bytes_max=size_bytes_max,
                    )
                except BaseException:
                    seam.close()
                    raise
            return cls(shelf, Placer(path) if second_process and seam.unnamed else None)

        return await asyncio.get_running_loop().run_in_executor(None, opened)

    @property
    def unrecorded_uses(self) -> int:
        """How many uses could not be written down; see `UseRecording`."""
        return self._shelf.unrecorded_uses

    @property
    def path(self) -> str:
        """The directory."""
        return self._shelf.disk.path

    @property
    def replayed(self) -> int:
        """How many journal records opening it replayed after a loss of power."""
        return self._shelf.replayed

    def free_bytes(self) -> int:
        """Bytes that may still be written.

        Raises:
            StoreError: The disk failed.
        """
        with translated():
            return self._shelf.disk.free_bytes()

    # --- Blobs ---

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes under their SHA-256; see `Blobs.put`."""
        return await self.put_spooled(await self._spooled(source), expected=expected)

    async def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores many blobs at once; see `BulkStoring`."""
        return await self._run(self._blobs.put_many, blobs)

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> FileReading:
        """Opens an entry; see `Blobs.get`."""
        return await self._run(self._open, address, span, use=use)

    def open_here(self, address: Address, *, use: bool = True) -> FileReading:
        """Opens an entry on the calling thread, whichever that is; see `ThreadReading`."""
        return self._open(address, WHOLE, use=use)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at an entry; see `Blobs.stat`."""
        return await self._run(self._shelf.stat, address, use=use)

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes an entry; see `Blobs.delete`."""
        async with self._turn(address):
            await self._run(self._shelf.delete, address, kind=kind)

    async def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest use first; see `Blobs.entries`."""
        async with aclosing(self.addresses()) as found:  # type: ignore[type-var]
            async for address in found:
                try:
                    yield await self.stat(address, use=False)
                except NotFoundError:
                    continue

    async def addresses(self) -> AsyncIterator[Address]:
        """Yields the address of every entry in the order of `entries`, at less cost.

        Raises:
            StoreError: The disk failed.
        """
        found = newest_first(self.path)
        try:
            while batch := await self._run(_next_batch, found):
                for address in batch:
                    yield address
        finally:
            try:
                await self._run(found.close)
            except RuntimeError:  # the store was closed first: nothing of it runs any more
                found.close()

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not here; see `BatchExistence.missing`."""
        return await self._run(self._missing, list(dict.fromkeys(addresses)))

    async def stat_many(self, addresses: list[Address], *, use: bool = True) -> list[Info | None]:
        """Looks at many entries; see `BatchStat`."""
        return await self._run(self._stat_many, addresses, use=use)

    async def aclose(self) -> None:
        """Makes durable what is on its way and lets go; see `Blobs.aclose`."""
        if not self._closed:
            self._closed = True
            await self._small_writes.aclose()
            await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)
            await asyncio.get_running_loop().run_in_executor(None, self._shelf.close)

    # --- Slots ---

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`."""
        return await self.write_spooled(address, await self._spooled(source), when=when)

    async def append(self, address: Address, source: Source) -> Info:
        """Adds to a slot; see `Slots.append`."""
        return await self.append_spooled(address, await self._spooled(source))

    async def take(self, address: Address) -> FileReading:
        """Reads and removes a slot; see `Slots.take`."""
        async with self._turn(address):
            return await self._run(self._take, address)

    # --- Spooling ---

    def spool(self) -> Spool:
        """Begins a body; see `Spooling.spool`."""
        return self._shelf.spool()

    async def put_spooled(self, spooled: Spooled, *, expected: Address | None = None) -> Address:
        """As `put`, for a spool of this store."""
        assert isinstance(spooled, Spool)  # noqa: S101 - a spool goes back to the store it came from
        return await self._run(self._blobs.put_spool, spooled, expected=expected)

    async def write_spooled(self, address: Address, spooled: Spooled, *, when: Condition = ALWAYS) -> Info:
        """As `write`, for a spool of this store."""
        assert isinstance(spooled, Spool)  # noqa: S101 - as put_spooled
        async with self._turn(address):
            return await self._run(self._slots.write, address, spooled, when)

    async def append_spooled(self, address: Address, spooled: Spooled) -> Info:
        """As `append`, for a spool of this store."""
        assert isinstance(spooled, Spool)  # noqa: S101 - as put_spooled
        async with self._turn(address):
            return await self._run(self._slots.append, address, spooled)

    # --- Immediate ---

    def get_now(self, address: Address) -> Glimpse | None:
        """Reads a small entry without waiting; see `Immediate.get_now`."""
        return self._shelf.glimpse(address)

    def put_now(self, data: bytes, done: Callable[[Address | HoldallError], None]) -> None:
        """Stores small bytes without waiting; see `Immediate.put_now`."""
        self._small_writes.put(data, done)

    # --- Quarantining ---

    async def quarantine(self, address: Address) -> str | None:
        """Takes a damaged blob out of the way; returns the file that has its bytes. See `Quarantining`."""
        name = await self._run(self._blobs.quarantine, address)
        return None if name is None else os.path.join(self.path, name)

    # --- Removing ---

    def removals_counter(self) -> memoryview:
        """One 64-bit word: how many removals there have been, by whatever process."""
        return self._shelf.control.removals.counter

    def removals_since(self, position: int) -> list[Address] | None:
        """What was removed after `position`; see `Removing`."""
        return self._shelf.control.removals.since(position)

    # --- for the server's sweeper ---

    def may_sweep(self) -> bool:
        """Whether this process is the one, of all that share the directory, that sweeps it."""
        with translated():
            return self._shelf.may_sweep()

    def sweep(self) -> Iterator[SweepReport]:
        """One sweep over all entries, at the pace of its caller; see `listing.sweep`."""
        return sweep(self._shelf)

    # --- inside ---

    async def _spooled(self, source: Source) -> Spool:
        spool = await self._run(self._shelf.spool)
        try:
            async for piece in pieces(source):
                if len(piece) <= SMALL_BYTES_MAX:
                    spool.write(piece)
                else:
                    await self._run(spool.write, piece)
        except BaseException:
            spool.close()
            raise
        return spool

    # These give the descriptor an owner in the very thread that opens it: the caller may have been cancelled meanwhile.

    def _open(self, address: Address, span: Span, *, use: bool) -> FileReading:
        fd, kind, status = self._shelf.open_entry(address, use=use)
        return FileReading(fd, info_of(address, status, kind, self._shelf.retention), span, self._executor)

    def _take(self, address: Address) -> FileReading:
        fd, status = self._slots.take(address)
        return FileReading(fd, info_of(address, status, Kind.SLOT, self._shelf.retention), WHOLE, self._executor)

    def _missing(self, addresses: list[Address]) -> list[Address]:
        found = self._stat_many(addresses, use=True)
        return [address for address, info in zip(addresses, found, strict=True) if info is None]

    def _stat_many(self, addresses: list[Address], *, use: bool) -> list[Info | None]:
        found: list[Info | None] = []
        for address in addresses:
            try:
                found.append(self._shelf.stat(address, use=use))
            except NotFoundError:
                found.append(None)
        return found

    async def _run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        bound = partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, bound)

    @asynccontextmanager
    async def _turn(self, address: Address) -> AsyncIterator[None]:
        """Lets one call at a time of this process wait for an address's lock, so a busy slot takes one thread."""
        key = address[:2]
        lock = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not getattr(lock, "_waiters", None):
                self._turns.pop(key, None)


def _next_batch(found: Iterator[Address]) -> list[Address]:
    with translated():
        return list(islice(found, _LISTING_BATCH))
