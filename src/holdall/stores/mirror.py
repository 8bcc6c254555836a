"""The mirror: a store whose members each hold everything, so that any of them can be lost.

`MirrorStore` is the face; `mirror_blobs` and `mirror_slots` have the two roles, which are kept apart because a blob can
be held to its address and a slot cannot. What it promises, and what it cannot, is in `docs/spread.md`.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final

from holdall.errors import HoldallError, KindError, NotFoundError, SettingError, UnreachableError
from holdall.limits.snapshot import BACKUP_BATCH, UPLOADS_MAX
from holdall.stores.base import ALWAYS, WHOLE, Info, Kind, Span
from holdall.stores.composite import Turns, at_once, close_all, due, members_of, names_of, quarantine_at, raise_first
from holdall.stores.composite_bodies import Kept
from holdall.stores.composite_listing import united
from holdall.stores.mirror_blobs import MirrorBlobs
from holdall.stores.mirror_finding import Finder
from holdall.stores.mirror_lacks import Lacks
from holdall.stores.mirror_looking import look_at
from holdall.stores.mirror_slots import MirrorSlots
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Condition, Reading, Source, Store

_LISTED: Final = 1024


class MirrorStore:
    """A store that keeps everything in each of its members.

    A blob is written to all members at once, its source read once, at the pace of the slowest. It is kept when
    `copies_min` of them have it; who missed it is in `degraded`. It is read from the first member, in their order,
    whose copy hashes to the address: one up to 64 MiB is checked before a byte of it is yielded, a longer one as it
    goes, its last piece withheld until it is known to be right; of part of a blob over 1 MiB the bytes are taken on
    trust. A copy that the read found missing or wrong is then replaced. A use is a use in every member.

    A slot is decided by the first member that can be asked; see `mirror_slots`. Its version is of the member that
    decided it, and no condition on it holds at another.

    Concurrency: the calls of one object belong to one event loop. Any number of clients may have the same members; what
    they change at once is decided by the first member that all of them reach.
    Durability: a write that returned is as durable as at least `copies_min` members make it, a slot's as its leader.
    Where fewer members than `copies_min` took a blob, they may keep it although `put` raised.

    Args:
        members: The members' names and stores, in the order in which they are asked; they are closed with the mirror.
        copies_min: How many members must have taken a blob for its write to succeed; the others may fail.

    Raises:
        SettingError: The members are none, too many or not told apart by their names, or `copies_min` is not possible.
    """

    def __init__(self, members: Sequence[tuple[str, Store]], *, copies_min: int = 1) -> None:
        self._members = members_of(members)
        if not 1 <= copies_min <= len(self._members):
            raise SettingError(f"{copies_min} copies cannot be kept in {len(self._members)} stores.")
        self._lacks = Lacks(self._members)
        self._turns = Turns()
        self._blobs = MirrorBlobs(self._members, self._lacks, self._turns, copies_min)
        self._slots = MirrorSlots(self._members, self._lacks, self._turns)
        self._finder = Finder(self._members, self._lacks, self._blobs, self._slots)

    @property
    def degraded(self) -> dict[str, set[Address]]:
        """For each member, by name, the addresses of which it is known to lack the copy, or to have a wrong one.

        It is what this object has noticed and not mended: by writes that a member missed, by reads, and by `missing`.
        At most 65,536 a member are remembered; `overlooked` counts more.
        """
        return self._lacks.known()

    @property
    def overlooked(self) -> dict[str, int]:
        """For each member, by name, how often it missed something that was not remembered in `degraded`."""
        return self._lacks.overlooked()

    @property
    def mended(self) -> dict[str, int]:
        """For each member, by name, how many copies it was given that were missing or wrong."""
        return self._lacks.mended()

    @property
    def failed(self) -> dict[str, str | None]:
        """For each member, by name, what it said when it failed last, or None where it did all that it was asked."""
        return {member.name: member.failure for member in self._members}

    # --- Blobs ---

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes in every member; see `Blobs.put`.

        Raises:
            DigestMismatchError: The bytes do not hash to `expected`; no member kept them.
            AccessError: A member refuses this caller; others may have kept them.
            StoreError: Fewer members than `copies_min` took them; the first failure of one that did not.
        """
        return await self._blobs.put(source, expected)

    async def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores many blobs in every member; see `BulkStoring`. Errors as `put`."""
        return await self._blobs.put_many(blobs)

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
        """Opens an entry; see `Blobs.get`.

        Raises:
            DamageError: No member has a whole copy.
            UnreachableError: No member that can be asked has it, and there are others.
        """
        return await self._finder.get(address, span, use=use)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at an entry; see `Blobs.stat`. A use looks at every member, and notes which of them lack it."""
        [info] = await self._finder.stat_many([address], use=use)
        if isinstance(info, HoldallError):
            raise info
        return info

    async def stat_many(self, addresses: list[Address], *, use: bool = True) -> list[Info | None]:
        """Looks at many entries; see `BatchStat`."""
        infos: list[Info | None] = []
        for info in await self._finder.stat_many(addresses, use=use):
            if isinstance(info, HoldallError) and not isinstance(info, NotFoundError):
                raise info
            infos.append(None if isinstance(info, HoldallError) else info)
        return infos

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` no member has; see `BatchExistence.missing`.

        What some members have and others lack is copied to those before this returns: a backup or a commit that asks
        what is missing so brings a member up to date that was away or lost its disk. Members that cannot be asked are
        passed over.

        Raises:
            StoreError: No member can be asked.
        """
        return await self._finder.missing(list(dict.fromkeys(addresses)))

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes an entry; see `Blobs.delete`.

        Raises:
            UnreachableError: It is a blob, and a member cannot be asked: what it keeps would come back. Nothing was
                removed.
        """
        async with self._turns.of(address):
            look = await look_at(address, self._members)
            source = look.source
            if source is None or source.info is None:
                raise look.nothing()
            if kind is not None and source.info.kind is not kind:
                raise KindError(f"{address} is a {source.info.kind.value}, not a {kind.value}.")
            if source.info.kind is Kind.SLOT:
                await self._slots.delete(address)
                return
            if look.failed:
                error = next(iter(look.failed.values()))
                raise UnreachableError(
                    f"{names_of(look.failed)} cannot be asked, and would keep {address} ({error.message})",
                    hint="A blob is removed from every member or from none: try again when all are there.",
                )
            holders = [standing.member for standing in look.standings if standing.info is not None]
            await self._blobs.delete(address, holders)

    async def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest use first; see `Blobs.entries`."""
        batch: list[Address] = []
        async with aclosing(self.addresses()) as addresses:  # type: ignore[type-var]
            async for address in addresses:
                batch.append(address)
                if len(batch) == _LISTED:
                    for info in filter(None, await self.stat_many(batch, use=False)):
                        yield info
                    batch = []
        for info in filter(None, await self.stat_many(batch, use=False)):
            yield info

    def addresses(self) -> AsyncIterator[Address]:
        """Yields every address that a member lists, once; see `AddressListing.addresses`.

        Members that cannot be asked or do not list themselves are left out as long as another lists.
        """
        return united(due(self._members), partial(self.stat_many, use=False))

    async def aclose(self) -> None:
        """Closes every member; see `Blobs.aclose`."""
        await close_all(self._members)

    # --- Slots ---

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`."""
        body = await Kept.of(source)
        try:
            if body.address == address and when is ALWAYS:
                await self._blobs.put(body.source(), address)
                return await self.stat(address, use=False)
            return await self._slots.write(address, body, when)
        finally:
            body.close()

    async def append(self, address: Address, source: Source) -> Info:
        """Adds to a slot; see `Slots.append`."""
        body = await Kept.of(source)
        try:
            return await self._slots.append(address, body)
        finally:
            body.close()

    async def take(self, address: Address) -> Reading:
        """Reads and removes a slot; see `Slots.take`."""
        return await self._slots.take(address)

    # --- mending ---

    async def repair(self, address: Address) -> list[str]:
        """Makes every member hold the entry at `address`, whole and the same; reads every copy of it.

        Returns:
            The names of the members whose copy was missing or wrong.

        Raises:
            NotFoundError: No member has it.
            DamageError: No member has it whole, or one does not let its wrong copy be replaced.
            HoldallError: A member cannot be asked or written to; the others are as they should be.
        """
        look = await look_at(address, self._members)
        if any(standing.is_blob for standing in look.standings):
            return [member.name for member in await self._blobs.repair(address)]
        try:
            return [member.name for member in await self._slots.even(address)]
        except NotFoundError:
            self._lacks.forget(address)
            raise

    async def repair_degraded(self, *, jobs: int = UPLOADS_MAX) -> dict[Address, HoldallError]:
        """Repairs every address in `degraded`; what could not be repaired, and why."""
        wanted = list(dict.fromkeys(address for lacked in self.degraded.values() for address in lacked))
        failures: dict[Address, HoldallError] = {}

        async def mend(address: Address) -> None:
            try:
                await self.repair(address)
            except NotFoundError:
                pass
            except HoldallError as error:
                failures[address] = error

        async for _ in in_order(wanted, mend, width=jobs):
            pass
        return failures

    async def repair_all(self) -> None:
        """Gives each member whatever another lists and it lacks; for one that was away, or begins anew.

        It looks, and does not read: a copy that is there and wrong is found by `repair`, and by reading. It is a use of
        every entry. What could not be copied is in `degraded`.

        Raises:
            AccessError: No member lists itself to this caller.
            StoreError: A member cannot be asked; what comes after has not been looked at.
        """
        self._lacks.count_anew()
        batch: list[Address] = []
        async with aclosing(united(self._members, partial(self.stat_many, use=False))) as addresses:
            async for address in addresses:
                batch.append(address)
                if len(batch) == BACKUP_BATCH:
                    await self._finder.missing(batch, everybody=True)
                    batch = []
        await self._finder.missing(batch, everybody=True)

    async def quarantine(self, address: Address) -> str | None:
        """Takes damaged copies of a blob out of the way in the members that can keep them; see `Quarantining`."""
        answers = await at_once(quarantine_at(member, address) for member in self._members)
        raise_first(answers)
        return ", ".join(str(answer) for answer in answers if answer is not None) or None
