"""One change of a mirror's slot, and the notes that its members keep of who misses it; see `mirror_leading`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdall.errors import HoldallError, NotFoundError
from holdall.stores.base import Kind
from holdall.stores.composite import at_once
from holdall.stores.mirror_leading import note_address, note_text
from holdall.stores.mirror_looking import info_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdall.core.address import Address
    from holdall.stores.composite import Member
    from holdall.stores.mirror_leading import Standing


@dataclass(slots=True)
class Change:
    """One change under way. Of notes only the leader's must succeed; what fails of others the next change mends.

    Attributes:
        address: Of the slot.
        leader: Who decides.
        followers: Who else can be asked.
        absent: Who cannot, and why.
        caught_up: Whether the leader had to be brought up to date.
    """

    address: Address
    leader: Standing
    followers: list[Standing]
    absent: dict[Member, HoldallError]
    caught_up: bool = False
    _noted: dict[Member, dict[str, int]] = field(init=False)
    _made_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        """Takes down what the notes said when they were read."""
        self._noted = {standing.member: dict(standing.behind) for standing in self.present}

    @property
    def present(self) -> list[Standing]:
        """Everybody who can be asked."""
        return [self.leader, *self.followers]

    def doubts(self, standing: Standing) -> bool:
        """Whether a note named this member before the change, so that nothing it holds need be right."""
        return any(standing.member.tag in other.behind for other in self.present)

    async def inherit(self, source: Standing) -> None:
        """Gives the leader, who was brought up to date by another, what the other's note says of third members.

        Raises:
            HoldallError: The leader does not take it.
        """
        self.leader.behind = _without(source.behind, self.leader.member)
        await self._note(self.leader.member, self.leader.behind)

    async def announce(self, *, removing: bool) -> None:
        """Notes who will miss the change.

        Args:
            removing: It is a removal, which every follower misses until it is told.

        Raises:
            HoldallError: The leader does not take its note.
        """
        for standing in self.present:
            lead = standing is self.leader
            missing = [*self.absent, *(follower.member for follower in self.followers if removing and lead)]
            try:
                if missing:
                    await self._note(standing.member, self._missed_by(missing))
            except HoldallError:
                if lead:
                    raise

    async def take_back(self, *, gone: bool) -> None:
        """Has the notes say again what they said before a change that was refused.

        Args:
            gone: It was refused because another client has removed the slot. That client needs the leader's note as
                long as the others have not followed; once they have, all know the same.
        """
        followed = gone and await self._is_gone()
        absent = {member.tag for member in self.absent}
        for standing in self.present:
            said = dict(standing.behind)
            if followed:
                said = _of(_without(self.leader.behind, standing.member), absent)
            elif gone and standing is self.leader:
                said |= self._missed_by(follower.member for follower in self.followers)
            with suppress(HoldallError):
                await self._note(standing.member, said)

    async def note_who_missed_it(self, late: Iterable[Member]) -> None:
        """Notes that these, and who could not be asked, missed the change, and that nobody else is behind."""
        behind = [*self.absent, *late]
        for standing in self.present:
            said = self._missed_by(member for member in behind if member is not standing.member)
            with suppress(HoldallError):
                await self._note(standing.member, said)

    async def note_still_behind(self, members: Iterable[Member]) -> None:
        """Has every note say of these what the leader's says, and of nobody else: all but these know the same now."""
        said = _of(self.leader.behind, {member.tag for member in members})
        for standing in self.present:
            with suppress(HoldallError):
                await self._note(standing.member, _without(said, standing.member))

    def _missed_by(self, members: Iterable[Member]) -> dict[str, int]:
        """What a note says of members that miss this change."""
        return dict.fromkeys(sorted(member.tag for member in members), self._made_ns)

    async def _note(self, keeper: Member, behind: Mapping[str, int]) -> None:
        """Makes one member's note say this; there is none where nobody is behind."""
        place = note_address(self.address)
        if behind == self._noted[keeper]:
            return
        if behind:
            await keeper.ask(keeper.store.write(place, note_text(self.address, behind)))
        else:
            with suppress(NotFoundError):
                await keeper.ask(keeper.store.delete(place, kind=Kind.SLOT))
        self._noted[keeper] = dict(behind)

    async def _is_gone(self) -> bool:
        """Whether nobody has the slot any more."""
        answers = await at_once(
            standing.member.ask(info_at(standing.member.store, self.address)) for standing in self.present
        )
        return all(answer is None for answer in answers)


def _without(behind: Mapping[str, int], member: Member) -> dict[str, int]:
    return {tag: missed_ns for tag, missed_ns in behind.items() if tag != member.tag}


def _of(behind: Mapping[str, int], tags: set[str]) -> dict[str, int]:
    return {tag: missed_ns for tag, missed_ns in behind.items() if tag in tags}
