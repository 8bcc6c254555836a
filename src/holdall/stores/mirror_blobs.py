"""The blobs of a mirror: written to every member at once, read from the first that has them whole, mended after that.

Whatever a blob's bytes claim can be checked against its address, so no member has to be believed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import (
    AccessError,
    DamageError,
    DigestMismatchError,
    HoldallError,
    NotFoundError,
    RangeError,
    StoreError,
)
from holdall.limits.stores import CLIENT_SPOOL_BYTES, MIRROR_CHECKED_BYTES_MAX
from holdall.stores.abilities import Quarantining
from holdall.stores.base import Info, Kind, Span
from holdall.stores.composite import at_once, put_all, raise_first
from holdall.stores.composite_bodies import Feed, Kept, KeptReading, RetoldReading, Watched
from holdall.stores.mirror_copying import digest_at
from holdall.stores.mirror_flowing import FlowingReading
from holdall.stores.mirror_leading import told
from holdall.stores.mirror_looking import info_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from holdall.stores.base import Reading, Source
    from holdall.stores.composite import Member, Turns
    from holdall.stores.mirror_lacks import Lacks


class MirrorBlobs:
    """The blob calls of a mirror.

    Args:
        members: All members, in the order in which they are read from.
        lacks: Where it is remembered who lacks what.
        turns: One call at a time mends or removes an address.
        copies_min: How many members must have taken a blob.
    """

    def __init__(self, members: Sequence[Member], lacks: Lacks, turns: Turns, copies_min: int) -> None:
        self._members = members
        self._lacks = lacks
        self._turns = turns
        self._copies_min = copies_min

    async def put(self, source: Source, expected: Address | None) -> Address:
        """Stores bytes in every member; see `Blobs.put`."""
        writers = self._writers()
        answers: Sequence[Address | BaseException]
        if isinstance(source, bytes):
            address = Address.of(source)
            if expected is not None and address != expected:
                raise DigestMismatchError(f"The bytes hash to {address}, not to {expected}.")
            answers = await at_once(member.ask(member.store.put(source, expected=address)) for member in writers)
        else:
            feed = Feed(source, expected)
            address, answers = await feed.into([self._taker(member, feed, expected) for member in writers])
        stored = [answer if isinstance(answer, BaseException) else [answer] for answer in answers]
        self._settle([address], dict(zip(writers, stored, strict=True)))
        return address

    async def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores blobs in every member; see `BulkStoring`."""
        writers, addresses = self._writers(), [Address.of(data) for data in blobs]
        stored = await at_once(member.ask(put_all(member.store, blobs)) for member in writers)
        self._settle(addresses, dict(zip(writers, stored, strict=True)))
        return addresses

    async def open(
        self,
        address: Address,
        span: Span,
        holders: Sequence[Member],
        *,
        lacking: Mapping[Member, bool],
        opened: Reading | None = None,
        use: bool,
    ) -> Reading:
        """Opens a blob at the first member whose copy is whole, and mends those that are not.

        Args:
            address: The blob.
            span: Which part.
            holders: Who may have it, in the order to try.
            lacking: Who is known to lack it, and whether there is something else in its place.
            opened: What the first of `holders` has answered already.
            use: Whether this counts as a use.

        Raises:
            NotFoundError: None of `holders` has it.
            RangeError: The span starts at or after its end.
            DamageError: Nobody has a whole copy.
            StoreError: Somebody may have one and cannot give it.
        """
        wrong = dict(lacking)
        failures: list[HoldallError] = []
        for at, member in enumerate(holders):
            try:
                reading = await self._open_one(member, address, span, opened if at == 0 else None, use=use)
                size = reading.info.size_bytes
                whole = (reading.start, reading.stop) == (0, size)
                if size > MIRROR_CHECKED_BYTES_MAX or not whole:
                    return FlowingReading(
                        self, address, (member, reading), holders[at + 1 :], verify=whole, lacking=wrong
                    )
                kept = await _checked(member, address, reading)
            except NotFoundError:
                wrong[member] = False
            except DamageError as error:
                wrong[member] = True
                failures.append(error)
            except (StoreError, AccessError) as error:
                failures.insert(0, error)
            else:
                return await self._kept_reading(member, kept, reading.info, span, wrong)
        for member in wrong:
            self._lacks.add(member, address)
        raise _worst(address, failures)

    async def mend(self, address: Address, source: Kept | Member, holder: Member, targets: dict[Member, bool]) -> None:
        """Gives members the blob that they lack, or instead of what they hold in its place.

        Args:
            address: The blob.
            source: Its bytes, or a member to read them from.
            holder: A member that has a whole copy; if it no longer does, the blob was removed, and nothing is done.
            targets: Who is to have it, and whether something else must go before.

        Raises:
            HoldallError: Not all of them have it now. It is remembered which.
        """
        if not targets:
            return
        for target in targets:
            self._lacks.add(target, address)
        async with self._turns.of(address):
            if await holder.ask(info_at(holder.store, address)) is None:
                self._lacks.forget(address)
                return
            answers = await at_once(
                self._mend_one(address, source, target, wrong=wrong) for target, wrong in targets.items()
            )
        for target, answer in zip(targets, answers, strict=True):
            if not isinstance(answer, HoldallError):
                self._lacks.discard(target, address)
        raise_first(answers)

    async def repair(self, address: Address) -> list[Member]:
        """Reads every member's copy to its end, and replaces those that are missing or wrong by one that is whole.

        Returns:
            Those who had none, or a wrong one.

        Raises:
            NotFoundError: Nobody has one.
            DamageError: Nobody has a whole one, or a wrong one cannot be replaced.
            HoldallError: A member cannot be asked or written to; the others are as they should be.
        """
        found = dict(zip(self._members, await at_once(_examined(m, address) for m in self._members), strict=True))
        whole = [member for member, answer in found.items() if not isinstance(answer, HoldallError)]
        targets = {
            member: isinstance(answer, DamageError)
            for member, answer in found.items()
            if isinstance(answer, (DamageError, NotFoundError))
        }
        failures = [
            answer for member, answer in found.items() if isinstance(answer, HoldallError) and member not in targets
        ]
        if not whole:
            raise _worst(address, failures + [error for error in found.values() if isinstance(error, DamageError)])
        for member in whole:
            self._lacks.discard(member, address)
        await self.mend(address, whole[0], whole[0], targets)
        raise_first(failures)
        return list(targets)

    async def delete(self, address: Address, holders: Sequence[Member]) -> None:
        """Removes the blob from all who have it, the first of them last; the caller has the address's turn.

        Who looks meanwhile so finds it at the first, or nowhere, and does not take it for one to be mended.

        Raises:
            NotFoundError: Another has removed it from the first of `holders`.
            HoldallError: One of them does not let it go; some of the others may have.
        """
        first, *others = holders
        for member in reversed(others):
            with suppress(NotFoundError):
                await member.ask(member.store.delete(address))
        await first.ask(first.store.delete(address))
        self._lacks.forget(address)

    # --- inside ---

    def _taker(
        self, member: Member, feed: Feed, expected: Address | None
    ) -> Callable[[AsyncIterator[bytes]], Awaitable[Address]]:
        return lambda pieces: member.ask(member.store.put(pieces, expected=expected), source=feed)

    def _writers(self) -> Sequence[Member]:
        """Those to be given a blob: those worth asking, if they are enough."""
        worth = [member for member in self._members if member.is_due()]
        return worth if len(worth) >= self._copies_min else self._members

    def _settle(self, addresses: list[Address], answers: Mapping[Member, list[Address] | BaseException]) -> None:
        """Counts who has taken these blobs, and remembers who has not.

        Raises:
            HoldallError: Too few have, or one has refused them for a reason that is the caller's.
        """
        failures: list[HoldallError] = []
        for member, answer in answers.items():
            if isinstance(answer, (StoreError, DamageError)):
                failures.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer != addresses:
                failures.append(DamageError(f"{member.name}: It stored something else than was sent."))
        if len(answers) - len(failures) < self._copies_min:
            raise failures[0]
        for member in self._members:
            note = self._lacks.discard if answers.get(member) == addresses else self._lacks.add
            for address in addresses:
                note(member, address)

    async def _open_one(
        self, member: Member, address: Address, span: Span, opened: Reading | None, *, use: bool
    ) -> Reading:
        """Opens a member's copy; the whole of it, so that it can be checked, if that is little."""
        try:
            reading = await member.ask(member.store.get(address, span, use=use)) if opened is None else opened
        except RangeError as error:
            if error.size_bytes > CLIENT_SPOOL_BYTES:
                raise
        else:
            size = reading.info.size_bytes
            if size > CLIENT_SPOOL_BYTES or (reading.start, reading.stop) == (0, size):
                return reading
            await reading.aclose()
        return await member.ask(member.store.get(address, use=False))

    async def _kept_reading(
        self, member: Member, kept: Kept, info: Info, span: Span, wrong: dict[Member, bool]
    ) -> KeptReading:
        try:
            with suppress(HoldallError):  # the bytes are right; who could not be mended is remembered
                await self.mend(info.address, kept, member, wrong)
            blob = Info(info.address, Kind.BLOB, kept.size_bytes, "", info.used_ns, info.expires_ns)
            return KeptReading(kept, told(member, blob), span)
        except BaseException:
            kept.close()
            raise

    async def _mend_one(self, address: Address, source: Kept | Member, target: Member, *, wrong: bool) -> None:
        if wrong:
            await _take_away(target, address)
        if isinstance(source, Kept):
            await target.ask(target.store.put(source.source(), expected=address))
            return
        async with await source.ask(source.store.get(address, use=False)) as reading:
            watched = Watched(RetoldReading(source, reading, reading.info))
            await target.ask(target.store.put(watched, expected=address), source=watched)


async def _checked(member: Member, address: Address, reading: Reading) -> Kept:
    """All bytes of a reading, once they are seen to hash to the address; the reading is closed."""
    async with reading:
        with member.asked():
            kept = await Kept.of(reading)
    if kept.address == address:
        return kept
    kept.close()
    raise DamageError(f"{member.name}: What it holds at {address} does not hash to it.")


async def _examined(member: Member, address: Address) -> None:
    """Reads a member's copy to its end.

    Raises:
        DamageError: It is not the blob.
    """
    if await digest_at(address, member) != address:
        raise DamageError(f"{member.name}: What it holds at {address} does not hash to it.")


async def _take_away(member: Member, address: Address) -> None:
    """Removes what a member holds in the place of a blob, or has it keep that under another name.

    Raises:
        DamageError: It does not let it go.
    """
    if isinstance(member.store, Quarantining):
        await member.ask(member.store.quarantine(address))
        return
    try:
        await member.ask(member.store.delete(address))
    except NotFoundError:
        pass
    except AccessError as error:
        raise DamageError(
            f"{member.name} has a damaged copy of {address} and does not let it be replaced.",
            hint="Open it with its API key, or run holdall verify --quarantine on its own machine.",
        ) from error


def _worst(address: Address, failures: list[HoldallError]) -> HoldallError:
    """What to say where no member gave a whole copy: rather that one may exist than that it is lost."""
    for error in failures:
        if not isinstance(error, DamageError):
            return error
    if not failures:
        return NotFoundError(f"No member holds anything at {address}.")
    return DamageError(f"No member has a whole copy of {address}.", hint="Put the right bytes there from elsewhere.")
