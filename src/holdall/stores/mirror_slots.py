"""The slots of a mirror: one member decides, the others follow, and whoever misses a change is noted.

Every change asks all members first. The first that answers leads: it is brought up to date if a note says that it is
behind, or if it lost its copy; then it alone checks the condition and makes the change; at last the others get the
outcome. So of two clients that change a slot at once one wins, as long as both reach that member. See `mirror_leading`
for who is believed, and `docs/spread.md` for what this cannot do.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from holdall.errors import (
    AlreadySetError,
    BlobInTheWayError,
    ConflictError,
    DamageError,
    HoldallError,
    NotFoundError,
    StoreError,
    UnreachableError,
    VersionMismatchError,
)
from holdall.limits.stores import MIRROR_FOLLOW_ATTEMPTS_MAX
from holdall.stores.base import ABSENT, WHOLE, IfVersion, Info, Kind
from holdall.stores.composite import at_once, names_of, raise_first
from holdall.stores.composite_bodies import Kept, KeptReading
from holdall.stores.mirror_copying import bring_up, copy_slot, holds_same
from holdall.stores.mirror_leading import Standing, source_of, told, version_at
from holdall.stores.mirror_looking import info_at, look_at, read_copies
from holdall.stores.mirror_notes import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Condition
    from holdall.stores.composite import Member, Turns
    from holdall.stores.mirror_lacks import Lacks
    from holdall.stores.mirror_looking import Look


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
            leader = _holder(change)
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
        leader = _holder(change)
        async with self._noted(change, removing=True):
            await leader.ask(leader.store.delete(address, kind=Kind.SLOT))
        await self._follow(change, None, lambda follower: copy_slot(address, leader, None, follower.member))

    async def even(self, address: Address) -> list[Member]:
        """Gives every member the value that counts, compared byte by byte, and tidies up the notes.

        Returns:
            The members whose value was another, or that had none.

        Raises:
            NotFoundError: There is none, and every member agrees by now.
            BlobInTheWayError: A blob is there.
            DamageError: The value that counts is damaged.
            HoldallError: A member cannot be asked or written to; the others agree by now.
        """
        async with self._turns.of(address):
            mended = await self._replace_damaged(address)
            change = await self._begin(address)
            leader = change.leader
            if change.caught_up:
                mended.append(leader.member)

            async def settle(follower: Standing) -> None:
                if not await holds_same(address, leader, follower):
                    await copy_slot(address, leader.member, leader.info, follower.member)
                    mended.append(follower.member)

            late = await self._bring_along(change, leader.info, settle)
            await change.note_still_behind([*change.absent, *late])
            self._remember(change, late)
            raise_first(late.values())
            if leader.info is None and not change.absent:
                raise NotFoundError(f"No member holds anything at {address}.")
            raise_first(change.absent.values())
            return mended

    async def _replace_damaged(self, address: Address) -> list[Member]:
        """Puts a copy that is whole in the place of those that are damaged, before who leads is asked for.

        Not where the copies that are whole have missed a change: the value that was lost was a later one.

        Returns:
            The members that got it.

        Raises:
            DamageError: The copies that are whole have missed a change.
            HoldallError: A member does not take it.
        """
        whole, damaged = await read_copies(address, self._members)
        if not whole or not damaged:
            return []
        source = source_of(whole)
        if any(source.member.tag in standing.behind for standing in [*whole, *damaged]):
            raise DamageError(
                f"{names_of(standing.member for standing in damaged)} holds the latest value of {address}, damaged; "
                f"that of {source.member.name} is an earlier one.",
                hint="Remove the slot at the one that is damaged, or write it anew.",
            )

        async def replace(standing: Standing) -> None:
            member = standing.member
            over: Condition = ABSENT
            if standing.info is not None:
                over = IfVersion(standing.info.version)
            else:  # not even its kind can be read, so no write is taken over it
                with suppress(NotFoundError):
                    await member.ask(member.store.delete(address))
            await copy_slot(address, source.member, source.info, member, over)

        answers = await at_once(map(replace, damaged))
        raise_first(answer for answer in answers if not isinstance(answer, ConflictError))  # changed meanwhile
        return [
            one.member for one, answer in zip(damaged, answers, strict=True) if not isinstance(answer, HoldallError)
        ]

    # --- a change, step by step ---

    async def _begin(self, address: Address, refusal: type[ConflictError] = BlobInTheWayError) -> Change:
        """Finds who leads, and brings it up to date; refuses where a blob is that the leader lacks."""
        look: Look = await look_at(address, self._members, changing=True)
        while (source := look.source) is not None:
            first = look.standings[0]
            if source.is_blob and not first.is_blob:
                raise refusal(f"{address} holds a blob, which never changes.")
            change = Change(address, first, look.standings[1:], look.failed)
            if source is not first:
                try:
                    first.info = await bring_up(address, source, first)
                    await change.inherit(source)
                    change.caught_up = True
                except HoldallError as error:
                    look.standings.remove(first)
                    look.failed[first.member] = error
                    continue
            return change
        raise look.nothing()

    @asynccontextmanager
    async def _noted(self, change: Change, *, removing: bool = False, doubted: bool = True) -> AsyncIterator[None]:
        """Notes who will miss the change of the block before it is made, and takes that back if it is refused.

        Args:
            change: The change.
            removing: Whether it removes the slot, which all followers miss for a moment.
            doubted: Whether, where it is not known if it was made, it is to count as made.
        """
        await change.announce(removing=removing)
        try:
            yield
        except BaseException as error:
            if not (doubted and isinstance(error, (UnreachableError, asyncio.CancelledError))):
                await change.take_back(gone=removing and isinstance(error, NotFoundError))
            raise

    async def _follow(self, change: Change, info: Info | None, repeat: Callable[[Standing], Awaitable[object]]) -> None:
        """Makes the followers do as the leader did, which left `info`, and notes who could not; nothing is raised."""
        late = await self._bring_along(change, info, repeat)
        await change.note_who_missed_it(late)
        self._remember(change, [*change.absent, *late])

    async def _bring_along(
        self, change: Change, info: Info | None, repeat: Callable[[Standing], Awaitable[object]]
    ) -> dict[Member, HoldallError]:
        """Does with each follower what brings it to the leader's state, `info`; who did not get there, and why.

        Where another client has changed the slot meanwhile, its value and ours may have reached a follower in another
        order than the leader, so the follower gets what the leader has by now.
        """
        if not change.followers:
            return {}
        address, leader = change.address, change.leader.member
        failed = _failed(change.followers, await at_once(map(repeat, change.followers)))
        doubt: HoldallError = StoreError(f"{address} keeps changing.")
        try:
            for _ in range(MIRROR_FOLLOW_ATTEMPTS_MAX):
                now = await leader.ask(info_at(leader.store, address))
                if _version(now) == _version(info) or (now is not None and now.kind is Kind.BLOB):
                    return failed
                info = now
                copies = [copy_slot(address, leader, now, follower.member) for follower in change.followers]
                failed = _failed(change.followers, await at_once(copies))
        except HoldallError as error:
            doubt = error
        return dict.fromkeys((follower.member for follower in change.followers), doubt)

    def _remember(self, change: Change, behind: Iterable[Member]) -> None:
        for standing in change.present:
            self._lacks.discard(standing.member, change.address)
        for member in behind:
            self._lacks.add(member, change.address)


def _holder(change: Change) -> Member:
    """The leader, if it has something to remove."""
    if change.leader.info is None:
        raise NotFoundError(f"No member holds anything at {change.address}.")
    return change.leader.member


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
