"""The slots of a mirror: one member decides, the others follow, and whoever misses a change is noted.

Every change asks all members first. The first that answers leads: it is brought up to date if a note says that it is
behind, or if it lost its copy; then it alone checks the condition and makes the change; at last the others get the
outcome. So of two clients that change a slot at once one wins, as long as both reach that member. See `mirror_leading`
for who is believed, and `docs/composites.md` for what this cannot do.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdall.errors import (
    AlreadySetError,
    BlobInTheWayError,
    ConflictError,
    HoldallError,
    NotFoundError,
    UnreachableError,
    VersionMismatchError,
)
from holdall.limits import MIRROR_FOLLOW_ATTEMPTS_MAX
from holdall.stores.base import ABSENT, WHOLE, IfVersion, Info, Kind
from holdall.stores.composite import at_once, raise_first
from holdall.stores.composite_bodies import Kept, KeptReading
from holdall.stores.mirror_copying import bring_up, copy_slot, holds_same
from holdall.stores.mirror_leading import Standing, note_address, note_text, told, version_at
from holdall.stores.mirror_looking import info_at, look_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Condition
    from holdall.stores.composite import Member, Turns
    from holdall.stores.mirror_lacks import Lacks
    from holdall.stores.mirror_looking import Look


@dataclass(slots=True)
class _Change:
    """One change under way.

    Attributes:
        address: Of the slot.
        leader: Who decides.
        followers: Who else can be asked.
        absent: Who cannot.
        noted: What each member's note says by now; see `Standing.behind`.
        missed_ns: When it is made, for the notes.
    """

    address: Address
    leader: Standing
    followers: list[Standing]
    absent: list[Member]
    noted: dict[Member, dict[str, int]] = field(init=False)
    missed_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        self.noted = {standing.member: dict(standing.behind) for standing in self.present}

    @property
    def present(self) -> list[Standing]:
        """Everybody who can be asked."""
        return [self.leader, *self.followers]

    def doubts(self, standing: Standing) -> bool:
        """Whether a note named this member before the change, so that nothing it holds need be right."""
        return any(standing.member.tag in other.behind for other in self.present)

    def missed_by(self, members: Iterable[Member]) -> dict[str, int]:
        """What a note says of members that miss this change."""
        return dict.fromkeys(sorted(member.tag for member in members), self.missed_ns)


class MirrorSlots:
    """The slot calls of a mirror.

    Args:
        members: All members, in the order in which they lead.
        lacks: Where it is remembered who lacks what.
        turns: One call at a time changes an address.
    """

    def __init__(self, members: Sequence[Member], lacks: Lacks, turns: Turns) -> None:
        self._members = members
        self._lacks = lacks
        self._turns = turns

    async def write(self, address: Address, body: Kept, when: Condition) -> Info:
        """Replaces the value; see `Slots.write`."""
        async with self._turns.of(address):
            change = await self._begin(address, AlreadySetError if when is ABSENT else BlobInTheWayError)
            leader = change.leader.member
            if isinstance(when, IfVersion):
                own = when.version if change.leader.is_blob else version_at(leader, when.version)
                if own is None:
                    raise VersionMismatchError(f"{address} has another version.")
                when = IfVersion(own)
            async with self._noted(change):
                info = await leader.ask(leader.store.write(address, body.source(), when=when))

            async def repeat(follower: Standing) -> None:
                member = follower.member
                if info.kind is Kind.BLOB:
                    await member.ask(member.store.put(body.source(), expected=address))
                else:
                    await member.ask(member.store.write(address, body.source()))

            await self._follow(change, info, repeat)
            return told(leader, info)

    async def append(self, address: Address, body: Kept) -> Info:
        """Adds to the value; see `Slots.append`."""
        async with self._turns.of(address):
            change = await self._begin(address)
            leader, before = change.leader.member, change.leader.info
            async with self._noted(change):
                info = await leader.ask(leader.store.append(address, body.source()))

            async def repeat(follower: Standing) -> None:
                member = follower.member
                if _size(follower.info) == _size(before) and not change.doubts(follower):
                    theirs = await member.ask(member.store.append(address, body.source()))
                    if theirs.size_bytes == info.size_bytes:
                        return
                await copy_slot(address, leader, info, member)

            await self._follow(change, info, repeat)
            return told(leader, info)

    async def take(self, address: Address) -> KeptReading:
        """Opens and removes the slot; see `Slots.take`.

        The value is here before the others let go of it. Where it does not arrive, it comes back from them.
        """
        async with self._turns.of(address):
            change = await self._begin(address)
            leader = change.leader.member
            async with (
                self._noted(change, removing=True, doubted=False),
                await leader.ask(leader.store.take(address)) as reading,
            ):
                with leader.asked():
                    body = await Kept.of(reading)
            try:
                await self._follow(change, None, lambda follower: copy_slot(address, leader, None, follower.member))
                return KeptReading(body, told(leader, reading.info), WHOLE)
            except BaseException:
                body.close()
                raise

    async def delete(self, address: Address) -> None:
        """Removes the slot; see `Blobs.delete`. The caller has the address's turn."""
        change = await self._begin(address)
        leader = change.leader.member
        async with self._noted(change, removing=True):
            await leader.ask(leader.store.delete(address, kind=Kind.SLOT))
        await self._follow(change, None, lambda follower: copy_slot(address, leader, None, follower.member))

    async def even(self, address: Address) -> list[Member]:
        """Gives every member the value that counts, compared byte by byte, and tidies up the notes.

        Returns:
            The members whose value was another, or that had none.

        Raises:
            NotFoundError: There is none, and every member agrees by now.
            BlobInTheWayError: A blob has come.
            HoldallError: A member cannot be asked or written to; the others agree by now.
        """
        async with self._turns.of(address):
            look = await look_at(address, self._members, notes=True)
            source = look.source
            if source is None:
                raise look.nothing()
            if source.is_blob:
                raise _blob_in_the_way(address)
            mended: list[Member] = []

            async def settle(other: Standing) -> None:
                if not await holds_same(address, source, other):
                    await copy_slot(address, source.member, source.info, other.member)
                    mended.append(other.member)

            others = [standing for standing in look.standings if standing is not source]
            answers = await at_once(map(settle, others))
            failed = _failed(others, answers)
            change = _Change(address, source, others, list(look.failed))
            await self._settle_notes(change, [*look.failed, *failed])
            raise_first(failed.values())
            if source.info is None:
                raise look.nothing()
            raise_first(look.failed.values())
            return mended

    # --- a change, step by step ---

    async def _begin(self, address: Address, refusal: type[ConflictError] = BlobInTheWayError) -> _Change:
        """Finds who leads, and brings it up to date; refuses where a blob is that the leader lacks."""
        look: Look = await look_at(address, self._members, notes=True)
        while (source := look.source) is not None:
            first = look.standings[0]
            if source.is_blob and not first.is_blob:
                raise refusal(f"{address} holds a blob, which never changes.")
            if source is not first:
                try:
                    first.info = await bring_up(address, source, first)
                except HoldallError as error:
                    look.standings.remove(first)
                    look.failed[first.member] = error
                    continue
            return _Change(address, first, look.standings[1:], list(look.failed))
        raise look.nothing()

    @asynccontextmanager
    async def _noted(self, change: _Change, *, removing: bool = False, doubted: bool = True) -> AsyncIterator[None]:
        """Notes who will miss the change of the block before it is made, and takes that back if it is refused.

        Args:
            change: The change.
            removing: Whether it removes the slot, which all followers miss for a moment.
            doubted: Whether, where it is not known if it was made, it is to count as made.
        """
        for standing in change.present:
            lead = standing is change.leader
            missing = [*change.absent, *(follower.member for follower in change.followers if removing and lead)]
            try:
                if missing:
                    await _note(change, standing.member, change.missed_by(missing))
            except HoldallError:
                if lead:
                    raise
        try:
            yield
        except BaseException as error:
            made = doubted and isinstance(error, (UnreachableError, asyncio.CancelledError))
            gone = removing and isinstance(error, NotFoundError)
            if gone and not await _is_gone(change):
                made = True  # by another client, who is still at it and needs the note
            if not made:
                await self._take_back(change, gone=gone)
            raise

    async def _take_back(self, change: _Change, *, gone: bool) -> None:
        """Has the notes say again what they said; where the slot is gone, only of those who do not know it."""
        absent = {member.tag for member in change.absent}
        for standing in change.present:
            said = {tag: at_ns for tag, at_ns in standing.behind.items() if not gone or tag in absent}
            with suppress(HoldallError):
                await _note(change, standing.member, said)

    async def _follow(
        self, change: _Change, info: Info | None, repeat: Callable[[Standing], Awaitable[object]]
    ) -> None:
        """Makes the followers do as the leader did, which left `info`, and notes who could not.

        Nothing is raised: the change is made. Where another client has changed the slot meanwhile, its value and ours
        may have reached a follower in another order than the leader, so the follower gets what the leader has.
        """
        address, leader = change.address, change.leader.member
        failed = _failed(change.followers, await at_once(map(repeat, change.followers)))
        with suppress(HoldallError):
            for _ in range(MIRROR_FOLLOW_ATTEMPTS_MAX if change.followers else 0):
                now = await leader.ask(info_at(leader.store, address))
                if _version(now) == _version(info) or (now is not None and now.kind is Kind.BLOB):
                    break
                info = now
                copies = [copy_slot(address, leader, now, follower.member) for follower in change.followers]
                failed = _failed(change.followers, await at_once(copies))
        await self._finish(change, list(failed))

    async def _finish(self, change: _Change, late: list[Member]) -> None:
        """Notes that these, and who could not be asked, missed the change, and that nobody else is behind.

        What fails here is mended by the next change.
        """
        behind = [*change.absent, *late]
        for standing in change.present:
            said = change.missed_by(member for member in behind if member is not standing.member)
            with suppress(HoldallError):
                await _note(change, standing.member, said)
        self._remember(change, behind)

    async def _settle_notes(self, change: _Change, behind: list[Member]) -> None:
        """Leaves of the notes what they say of these, for nothing has changed that they could have missed."""
        tags = {member.tag for member in behind}
        for standing in change.present:
            said = {tag: missed_ns for tag, missed_ns in standing.behind.items() if tag in tags}
            with suppress(HoldallError):
                await _note(change, standing.member, said)
        self._remember(change, [member for member in behind if member not in change.absent])

    def _remember(self, change: _Change, behind: list[Member]) -> None:
        for standing in change.present:
            self._lacks.discard(standing.member, change.address)
        for member in behind:
            self._lacks.add(member, change.address)


async def _note(change: _Change, keeper: Member, behind: dict[str, int]) -> None:
    """Makes one member's note say this; there is none where nobody is behind."""
    place = note_address(change.address)
    if behind == change.noted[keeper]:
        return
    if behind:
        await keeper.ask(keeper.store.write(place, note_text(change.address, behind)))
    else:
        with suppress(NotFoundError):
            await keeper.ask(keeper.store.delete(place, kind=Kind.SLOT))
    change.noted[keeper] = behind


async def _is_gone(change: _Change) -> bool:
    """Whether nobody has the slot any more; if not, another client removes it just now, and needs the note."""
    answers = await at_once(
        standing.member.ask(info_at(standing.member.store, change.address)) for standing in change.present
    )
    return all(answer is None for answer in answers)


def _failed(standings: list[Standing], answers: Sequence[object]) -> dict[Member, HoldallError]:
    """Who did not do as asked; one that met a blob has the blob, which is more."""
    return {
        standing.member: answer
        for standing, answer in zip(standings, answers, strict=True)
        if isinstance(answer, HoldallError) and not isinstance(answer, ConflictError)
    }


def _size(info: Info | None) -> int:
    return 0 if info is None else info.size_bytes


def _version(info: Info | None) -> str | None:
    return None if info is None else info.version


def _blob_in_the_way(address: Address) -> BlobInTheWayError:
    return BlobInTheWayError(f"{address} holds a blob, which never changes.")
