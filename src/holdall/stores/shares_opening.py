"""Opening shares of one writing, one member after the other until enough are open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdall.errors import DamageError, HoldallError, NotFoundError, RangeError
from holdall.limits.stores import STRIPE_BYTES
from holdall.stores.base import Span
from holdall.stores.shares_keyring import FIRST
from holdall.stores.shares_reading import Lane, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_member import Member


class SharesGoneError(DamageError):
    """Too few members have the shares that the head tells of.

    Args:
        address: Of the entry.
        lacking: The members that lack theirs.
        other: What else kept a share from being opened, if anything did.
    """

    def __init__(self, address: Address, lacking: Sequence[Member], other: HoldallError | None) -> None:
        names = ", ".join(member.name for member in lacking)
        super().__init__(f"Too few shares of {address} are left: {names} lost what was stored there.")
        self.lacking = lacking
        self.other = other


class ShareOpener:
    """Opens shares of one writing; see `shares_reading.Opener`.

    Args:
        members: All members, in order.
        keyring: Names and seals.
        head: Of the entry.
        token: Version of the first member's copy, or None where it is not to be asked.
        stop: One past the last byte of the value that is wanted.
        use: Whether a share that is opened is used.

    Attributes:
        lacking: The members found to lack theirs.
    """

    def __init__(
        self, members: Sequence[Member], keyring: Keyring, head: Head, token: str | None, stop: int, *, use: bool
    ) -> None:
        self.lacking: list[Member] = []
        self._keyring = keyring
        self._head = head
        self._token = token
        self._use = use
        self._layout = keyring.layout(head)
        self._last = -(-stop // STRIPE_BYTES)
        self._failed: list[Member] = []
        self._silent: list[HoldallError] = []
        self._left = sorted(
            (member for member in members if member.index != FIRST or token is not None),
            key=lambda member: (member.rests, member.index),
        )

    def adopt(self, share: Share) -> Lane:
        """Takes over a share that is open already, behind its head."""
        self._left = [member for member in self._left if member is not share.member]
        return self._lane(share)

    def spared(self, lanes: dict[int, Lane]) -> list[Member]:
        """The members that need not be asked if all goes well."""
        return self._left[self._keyring.code.needed - len(lanes) :]

    async def more(self, lanes: dict[int, Lane], first: int) -> None:
        """Adds lanes that begin with the stripe `first`, until there are as many as are needed.

        Raises:
            SharesGoneError: There are too few left, and some members lack theirs.
            DamageError: There are too few left that are what was written.
            HoldallError: There are too few left that answer.
        """
        while len(lanes) < self._keyring.code.needed:
            count = self._keyring.code.needed - len(lanes)
            asked, self._left = self._left[:count], self._left[count:]
            if not asked:
                raise self._failure()
            answers = await asyncio.gather(
                *(self._open(lanes, member, first) for member in asked), return_exceptions=True
            )
            for member, answer in zip(asked, answers, strict=True):
                if answer is not None:
                    self._note(member, answer)

    async def drop(self, lanes: dict[int, Lane], lane: Lane, error: BaseException) -> None:
        """Does without a lane that failed; or raises the error, if that is no fault of its member."""
        self._note(lane.member, error)
        lanes.pop(lane.member.index, None)
        await lane.aclose()

    def _note(self, member: Member, error: BaseException) -> None:
        match error:
            case NotFoundError():
                self.lacking.append(member)
            case DamageError():
                self._failed.append(member)
                member.note(self._head.address, "damaged")
            case HoldallError():
                self._silent.append(error)
            case _:
                raise error

    def _failure(self) -> HoldallError:
        address, other = self._head.address, next(iter(self._silent), None)
        if self.lacking:
            return SharesGoneError(address, self.lacking, other)
        if other is not None:
            return other
        names = ", ".join(member.name for member in self._failed)
        return DamageError(f"Too few shares of {address} are left: what {names} holds is not what was written.")

    async def _open(self, lanes: dict[int, Lane], member: Member, first: int) -> None:
        name = self._keyring.part(self._head, member.index)
        span = Span(self._layout.offset(first), self._layout.offset(self._last))
        with member.asked(self._head.address):
            try:
                reading = await member.store.get(name, span, use=self._use)
            except RangeError:
                raise DamageError(f"The share at {member.name} is too short.") from None
        if member.index == FIRST and reading.info.version not in {"", self._token}:
            await reading.aclose()
            raise NotFoundError("The entry has changed.")
        lanes[member.index] = self._lane(Share(member, reading, self._head.address))

    def _lane(self, share: Share) -> Lane:
        index = share.member.index
        return Lane(share, self._layout, self._keyring.blocks(self._head, index, self._head.share_id(index)))
