"""Everything of one store into another: what the target lacks, and the slots whose values differ.

Nothing is removed from the target. What it has is asked for in batches, so a backup that was broken off, or is made
every night, copies what is missing and no more. Each blob is held to its address on its way in.

A slot that was copied has a version of its own in the target, so slots are compared by length and by their bytes.
"""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from holdall.errors import (
    AccessError,
    ConflictError,
    DamageError,
    HoldallError,
    NotFoundError,
    StoreError,
    TooLargeError,
)
from holdall.limits import KIB, SMALL_BYTES_MAX
from holdall.limits.snapshot import BACKUP_BATCH, STORE_JOBS
from holdall.snapshot.bulk import BulkWriter
from holdall.snapshot.verify_store import digest_of, examine, ignore
from holdall.snapshot.whole_store import PASSING, GarbledError, every_address, looks, persistently, trouble_with
from holdall.stores.abilities import BatchStat, BulkStoring
from holdall.stores.base import Kind, missing
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from holdall.core.address import Address
    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Info, Reading, Store


_KEY_BYTES_MAX: Final = 4 * KIB
"""A blob up to this length may be the text of a slot's key, so that one store has the slot where the other has it."""


@dataclass(slots=True)
class BackupReport:
    """What a backup has done so far.

    Attributes:
        copied: Entries that are in the target now and were not, or not so; in a dry run, that would be.
        copied_bytes: Their length together.
        there: Entries that the target had already.
        damaged: Entries not copied because their bytes are wrong or cannot be read.
        refused: Entries that one of the stores would not give or take.
        left_out: Slots, where only blobs are asked for.
    """

    copied: int = 0
    copied_bytes: int = 0
    there: int = 0
    damaged: int = 0
    refused: int = 0
    left_out: int = 0

    @property
    def seen(self) -> int:
        """Entries that were looked at."""
        return self.copied + self.there + self.damaged + self.refused + self.left_out


class Backup:
    """One copying of a store into another.

    Durability: an entry counts as copied when the target's write of it has returned.

    Args:
        source: The store to copy.
        target: Where to.
        blobs_only: Leave slots alone. What the target has is then known by its address, and not looked at.
        keep: Restart the timers of the source; otherwise reading leaves them as they are.
        dry_run: Write nothing, and count what would be copied.
        jobs: Entries under way at once.
        count: Told of bytes as they are read for copying, and of none when entries were found to be there.

    Attributes:
        report: What has been done so far.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        *,
        blobs_only: bool = False,
        keep: bool = False,
        dry_run: bool = False,
        jobs: int = STORE_JOBS,
        count: Callable[[int], None] = ignore,
    ) -> None:
        self.report = BackupReport()
        self._source = source
        self._target = target
        self._bulk = BulkWriter(target) if isinstance(target, BulkStoring) else None
        self._blobs_only = blobs_only
        self._keep = keep
        self._dry_run = dry_run
        self._jobs = jobs
        self._count = count

    async def troubles(self) -> AsyncGenerator[Trouble, None]:
        """Copies, and yields what could not be copied as it is found; the report is complete when it ends.

        Raises:
            AccessError: The source does not list itself to this caller, or the target takes nothing from him.
            StoreError: A store cannot be reached, or the target failed; what was copied stays.
        """
        try:
            async with (
                aclosing(self._todo()) as todo,
                aclosing(in_order(todo, self._settle, width=self._jobs)) as settled,
            ):
                async for trouble in settled:
                    if trouble is None:
                        continue
                    if trouble.is_damage:
                        self.report.damaged += 1
                    else:
                        self.report.refused += 1
                    yield trouble
        finally:
            if self._bulk is not None:
                await self._bulk.aclose()

    # --- what is to be done ---

    async def _todo(self) -> AsyncGenerator[tuple[Address, bool], None]:
        """Yields what the target lacks, and what must be compared first, with whether it must."""
        batch: list[Address] = []
        async with aclosing(every_address(self._source)) as addresses:
            async for address in addresses:
                batch.append(address)
                if len(batch) == BACKUP_BATCH:
                    for item in await persistently(partial(self._todo_of, batch)):
                        yield item
                    batch = []
        for item in await persistently(partial(self._todo_of, batch)):
            yield item

    async def _todo_of(self, batch: list[Address]) -> list[tuple[Address, bool]]:
        if not batch:
            return []
        if self._keep and not self._dry_run:
            await missing(self._source, batch)  # which is a use of those that are there
        absent = set(await missing(self._target, batch))
        there = [address for address in batch if address not in absent]
        compare = set() if self._blobs_only else await self._doubtful(there)
        self.report.there += len(there) - len(compare)
        self._count(0)
        return [(address, address in compare) for address in batch if address in absent or address in compare]

    async def _doubtful(self, there: list[Address]) -> set[Address]:
        """Which of the addresses that both stores have something at are not a blob, and so the same, in both.

        What an entry is, is asked where that costs least, and of the other store only where it may differ.
        """
        first, second = self._source, self._target
        if isinstance(second, BatchStat) and not isinstance(first, BatchStat):
            first, second = second, first
        asked = [
            (address, info)
            for address, info in zip(there, await looks(first, there), strict=True)
            if info is None or info.kind is Kind.SLOT or info.size_bytes <= _KEY_BYTES_MAX
        ]
        others = await looks(second, [address for address, _ in asked])
        return {
            address
            for (address, one), other in zip(asked, others, strict=True)
            if one is None or other is None or Kind.SLOT in {one.kind, other.kind}
        }

    # --- doing it ---

    async def _settle(self, item: tuple[Address, bool]) -> Trouble | None:
        """Copies one entry if it needs to be; what kept it from that, or None."""
        address, compare = item
        try:
            return await persistently(partial(self._try, address, compare=compare))
        except GarbledError as error:
            return trouble_with(address, error)

    async def _try(self, address: Address, *, compare: bool) -> Trouble | None:
        try:
            await self._copy(address, compare=compare)
        except _SourceError as failed:
            return await self._settle_failure(address, failed.error)
        except DamageError as error:  # the target's word, which may mean that it was damaged before it set out
            return await self._settle_failure(address, error)
        except (ConflictError, TooLargeError) as error:
            return trouble_with(address, error)
        return None

    async def _settle_failure(self, address: Address, error: HoldallError) -> Trouble | None:
        """What it means for an entry that the source did not give it as it should be."""
        if isinstance(error, DamageError):
            try:
                await examine(self._source, address)
            except HoldallError as found:
                error = found
            else:
                raise GarbledError(f"{address} is whole where it is kept, and was not when it arrived.") from error
        if isinstance(error, NotFoundError):
            return None  # it has gone since it was listed
        if isinstance(error, (*PASSING, AccessError)):
            raise error
        if isinstance(error, DamageError):
            error.hint = "It was not copied: put the right bytes there from another copy."
        return trouble_with(address, error)

    async def _copy(self, address: Address, *, compare: bool) -> None:
        """Copies one entry if the target does not have it so.

        Raises:
            _SourceError: What the source raised.
            HoldallError: What the target raised.
        """
        if self._dry_run or compare:
            with _errors_of_source():
                info = await self._source.stat(address, use=False)
            if self._leaves_out(info) or (compare and await self._is_there(info)):
                return
            if self._dry_run:
                self._count_copied(info)
                return
        with _errors_of_source():
            reading = await self._source.get(address, use=False)
        async with reading:
            if not self._leaves_out(reading.info):
                await self._send(reading)
                self._count_copied(reading.info)

    async def _send(self, reading: Reading) -> None:
        info, body = reading.info, self._pieces(reading)
        source = b"".join([piece async for piece in body]) if info.size_bytes <= SMALL_BYTES_MAX else body
        if info.kind is Kind.SLOT:
            await self._target.write(info.address, source)
        elif isinstance(source, bytes) and self._bulk is not None:
            await self._bulk.put(info.address, source)
        else:
            await self._target.put(source, expected=info.address)

    async def _pieces(self, reading: Reading) -> AsyncIterator[bytes]:
        with _errors_of_source():
            async for piece in reading:
                self._count(len(piece))
                yield piece

    async def _is_there(self, info: Info) -> bool:
        """Whether the target has the same at the address of an entry of the source; if so, that is counted."""
        try:
            async with await self._target.get(info.address, use=False) as theirs:
                is_slot = info.kind is Kind.SLOT
                same = theirs.info.kind is info.kind and (not is_slot or theirs.info.size_bytes == info.size_bytes)
                digest = await digest_of(theirs) if same and is_slot else b""
        except (NotFoundError, DamageError, StoreError) as error:
            if isinstance(error, NotFoundError) or trouble_with(info.address, error).is_damage:
                return False  # written again, it may be mended
            raise
        if same and is_slot:
            with _errors_of_source():
                async with await self._source.get(info.address, use=False) as ours:
                    same = await digest_of(ours) == digest
        self.report.there += same
        return same

    def _leaves_out(self, info: Info) -> bool:
        """Whether an entry is none of those asked for; if so, that is counted."""
        left_out = self._blobs_only and info.kind is Kind.SLOT
        self.report.left_out += left_out
        return left_out

    def _count_copied(self, info: Info) -> None:
        self.report.copied += 1
        self.report.copied_bytes += info.size_bytes


class _SourceError(Exception):
    """What the source raised, told apart from what the target raised in the same breath."""

    def __init__(self, error: HoldallError) -> None:
        super().__init__(error.message)
        self.error = error


@contextmanager
def _errors_of_source() -> Iterator[None]:
    try:
        yield
    except HoldallError as error:
        raise _SourceError(error) from error
