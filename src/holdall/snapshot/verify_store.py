"""Reading what a store holds and holding it to its addresses; taking out of the way what does not match.

A blob must hash to its address. A slot has no hash to be held to; it is read to its end, which shows whether it can be
read at all. One whose bytes are those of its own address is a blob that was copied without its mode, by which a
directory tells the two apart; it is counted, and can be stored as a blob again. Nothing else here is a use of an entry:
no timer restarts.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.errors import AccessError, ConflictError, DamageError, NotFoundError, StoreError
from holdall.limits import CHUNK_BYTES, MIB
from holdall.limits.snapshot import STORE_JOBS, UNDOUBTED_DELETIONS_MAX
from holdall.snapshot.whole_store import PASSING, Trouble, every_address, persistently, trouble_with
from holdall.stores.abilities import BatchStat, FileBacked, Quarantining
from holdall.stores.base import IfVersion, Kind
from holdall.stores.disk import translated
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from holdall.core.address import Address
    from holdall.stores.base import Blobs, Info, Reading, Slots

_LOOKS: Final = 2
"""A blob is called damaged when it was read wrong this often."""
_STEP_BYTES: Final = 8 * MIB
"""A thread hashes this much before the loop hears of it: a few milliseconds' work, so that Ctrl-C is heeded."""
_SIZES_BATCH: Final = 1024
_random: Final = SystemRandom()


def ignore(size_bytes: int) -> None:
    """Counts nothing."""
    del size_bytes


class Examined(NamedTuple):
    """An entry that was read to its end.

    Attributes:
        info: What the store knows of it, but for its kind where the bytes prove another.
        is_unmarked: Whether the store has it as a slot, and its bytes are the blob of its address.
    """

    info: Info
    is_unmarked: bool


@dataclass(slots=True)
class VerifyReport:
    """What a verification has found so far.

    Attributes:
        blobs: Blobs that were read whole and have their hash.
        blobs_bytes: Their length together.
        slots: Slots that could be read.
        damaged: Entries whose bytes are wrong or cannot be read.
        refused: Entries that the store did not let be read.
        set_aside: Damaged blobs that were taken out of the way.
        unmarked: Of `blobs`, those that the store has as slots.
        marked: Of `blobs`, those that it had as slots, and has as blobs now.
    """

    blobs: int = 0
    blobs_bytes: int = 0
    slots: int = 0
    damaged: int = 0
    refused: int = 0
    set_aside: int = 0
    unmarked: int = 0
    marked: int = 0

    @property
    def seen(self) -> int:
        """Entries that were looked at."""
        return self.blobs + self.slots + self.damaged + self.refused


class StoreVerification:
    """One pass over a store, or over a random part of it.

    Args:
        store: The store.
        share: How large a part, from above 0 to 1; each entry is taken with this chance.
        jobs: Entries under way at once.
        quarantine: Take damaged blobs out of the way: a store that can keeps them under another name, any other
            deletes them.
        mark: The same store, to store as a blob again what it has as a slot and is one.
        count: Told of bytes as they are read.

    Attributes:
        report: What has been found so far.
    """

    def __init__(
        self,
        store: Blobs,
        *,
        share: float = 1.0,
        jobs: int = STORE_JOBS,
        quarantine: bool = False,
        mark: Slots | None = None,
        count: Callable[[int], None] = ignore,
    ) -> None:
        self.report = VerifyReport()
        self._store = store
        self._share = share
        self._jobs = jobs
        self._quarantine = quarantine
        self._marking = mark
        self._count = count

    async def troubles(self) -> AsyncGenerator[Trouble, None]:
        """Goes through the store and yields what is wrong as it is found; the report is complete when it ends.

        Raises:
            AccessError: The store does not list itself to this caller, or does not let him delete.
            DamageError: Most of what was read is damaged, so that nothing more is deleted.
            StoreError: The store cannot be reached, or failed.
        """
        async with (
            aclosing(self._chosen()) as chosen,
            aclosing(in_order(chosen, self._look, width=self._jobs)) as looks,
        ):
            async for trouble in looks:
                if trouble is None:
                    continue
                if not trouble.is_damage:
                    self.report.refused += 1
                    yield trouble
                    continue
                self.report.damaged += 1
                self._check_deletions()
                aside = self._quarantine and await set_aside(self._store, trouble)
                self.report.set_aside += aside
                yield replace(trouble, set_aside=aside)

    async def size_bytes(self) -> int | None:
        """About how much there is to read, or None where that cannot be told at little cost."""
        if not isinstance(self._store, BatchStat):
            return None
        total, batch = 0, []
        async with aclosing(every_address(self._store)) as addresses:
            async for address in addresses:
                batch.append(address)
                if len(batch) == _SIZES_BATCH:
                    total += await _sum_of_sizes(self._store, batch)
                    batch = []
        return round((total + await _sum_of_sizes(self._store, batch)) * self._share)

    async def _chosen(self) -> AsyncGenerator[Address, None]:
        async with aclosing(every_address(self._store)) as addresses:
            async for address in addresses:
                if self._share >= 1 or _random.random() < self._share:
                    yield address

    async def _look(self, address: Address) -> Trouble | None:
        """Reads an entry; what is wrong with it, or None."""
        try:
            found = await look_twice(self._store, address, count=self._count)
        except NotFoundError:
            return None  # it has gone since it was listed
        if isinstance(found, Trouble):
            return found
        if found.info.kind is Kind.SLOT:
            self.report.slots += 1
            return None
        self.report.blobs += 1
        self.report.blobs_bytes += found.info.size_bytes
        if found.is_unmarked:
            marked = await self._mark(address)
            self.report.marked += marked
            self.report.unmarked += not marked
        return None

    async def _mark(self, address: Address) -> bool:
        """Stores a blob that is marked as a slot again, as what it is; whether that was done."""
        if self._marking is None:
            return False
        with suppress(NotFoundError, ConflictError):  # somebody has changed it
            async with await self._store.get(address, use=False) as reading:
                info = await self._marking.write(address, reading, when=IfVersion(reading.info.version))
            return info.kind is Kind.BLOB
        return False

    def _check_deletions(self) -> None:
        """Stops before more is deleted when so much is damaged that something between here and the store must be.

        Raises:
            DamageError: Deletions have been many, and most of what was read is damaged.
        """
        report = self.report
        deletes = self._quarantine and not isinstance(self._store, Quarantining)
        if deletes and report.set_aside >= UNDOUBTED_DELETIONS_MAX and report.damaged > report.blobs:
            raise DamageError(
                "More than half of what was read is damaged, so nothing more is deleted.",
                hint="Verify on the store's own machine: what lies between may change what it sends.",
            )


async def look_twice(store: Blobs, address: Address, *, count: Callable[[int], None] = ignore) -> Examined | Trouble:
    """Examines an entry, and once more where the first look found it wrong.

    Args:
        store: Where it is.
        address: The entry's.
        count: Told of bytes as they are read.

    Returns:
        What was found, or what was wrong with it both times.

    Raises:
        NotFoundError: Nothing is there.
        AccessError: The store does not let this caller read.
        StoreError: The store cannot be reached.
    """
    for look in range(1, _LOOKS + 1):
        try:
            return await persistently(partial(examine, store, address, count=count))
        except (*PASSING, AccessError):
            raise
        except (DamageError, StoreError) as error:
            if look == _LOOKS:
                return trouble_with(address, error)
    raise AssertionError  # the last look returned or raised


async def set_aside(store: Blobs, trouble: Trouble) -> bool:
    """Takes a damaged blob out of the way: kept under another name by a store that can, else deleted.

    Args:
        store: Where it is.
        trouble: What `look_twice` found; one that could not be read is not deleted for it.

    Returns:
        Whether it was; a slot is left alone, and so is what is whole by now or has gone.

    Raises:
        AccessError: The store does not let this caller delete.
        StoreError: The store cannot be reached, or cannot be written.
    """
    if isinstance(store, Quarantining):
        return await store.quarantine(trouble.address) is not None
    if isinstance(trouble.error, DamageError):
        with suppress(NotFoundError, ConflictError):
            await store.delete(trouble.address, kind=Kind.BLOB)
            return True
    return False


async def examine(store: Blobs, address: Address, *, count: Callable[[int], None] = ignore) -> Examined:
    """Reads an entry to its end, and holds a blob to its address.

    Args:
        store: Where it is.
        address: The entry's.
        count: Told of bytes as they are read.

    Raises:
        DamageError: A blob's bytes do not hash to its address, or run short.
        NotFoundError: Nothing is there.
        StoreError: It cannot be read.
    """
    async with await store.get(address, use=False) as reading:
        digest = await digest_of(reading, count)
    info = reading.info
    if digest == address:
        return Examined(info._replace(kind=Kind.BLOB), info.kind is Kind.SLOT)
    if info.kind is Kind.BLOB:
        raise DamageError(
            f"What the store has at {address} does not hash to it.",
            hint="Take it out of the way with holdall verify --quarantine, then copy it from another store.",
        )
    return Examined(info, is_unmarked=False)


async def digest_of(reading: Reading, count: Callable[[int], None] = ignore) -> bytes:
    """The SHA-256 of all that an open entry yields.

    Args:
        reading: The entry; the caller closes it.
        count: Told of bytes as they are read.

    Raises:
        DamageError: The bytes run short.
        StoreError: They cannot be read.
    """
    digest = hashlib.sha256()
    if isinstance(reading, FileBacked):
        for at in range(reading.start, reading.stop, _STEP_BYTES):
            stop = min(reading.stop, at + _STEP_BYTES)
            await asyncio.to_thread(_take_in, reading.fileno(), at, stop, digest.update)
            count(stop - at)
    else:
        async for piece in reading:
            digest.update(piece)
            count(len(piece))
    return digest.digest()


def _take_in(fd: int, at: int, stop: int, take: Callable[[bytes], None]) -> None:
    with translated():
        while at < stop:
            piece = os.pread(fd, min(CHUNK_BYTES, stop - at), at)
            if not piece:
                raise DamageError("The entry's file has become shorter than it was.")
            take(piece)
            at += len(piece)


async def _sum_of_sizes(store: BatchStat, addresses: list[Address]) -> int:
    return sum(info.size_bytes for info in await store.stat_many(addresses, use=False) if info is not None)
