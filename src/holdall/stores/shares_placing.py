"""Placing shares at the members but the first, before the first is told of them, and removing them.

A blob's shares have names of their own, so whoever stores the same bytes again finds them: they are created, never
replaced, and two who store the same blob at once use the same ones. The parts of a slot's version are nobody else's.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from holdall.core.shares import ID_BYTES, Erasure, Role
from holdall.errors import (
    AccessError,
    AlreadySetError,
    DamageError,
    HoldallError,
    NotFoundError,
    StoreError,
    UnreachableError,
)
from holdall.limits.stores import STRIPE_BYTES
from holdall.stores.base import ABSENT
from holdall.stores.shares_keyring import FIRST
from holdall.stores.shares_member import all_of
from holdall.stores.shares_reading import Lane, Share
from holdall.stores.shares_value import Remainder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.base import Source
    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_member import Member
    from holdall.stores.shares_value import Value

Placed: TypeAlias = "tuple[Head, Callable[[], Source]]"
"""The head to write at the first member, and what to write there."""

_REFUSALS: Final = (StoreError, AccessError)


class Placing(Protocol):
    """How a code's shares come to the members."""

    def placed(self, head: Head, value: Value, *, careful: bool) -> AbstractAsyncContextManager[Placed]:
        """Places the shares of a value at the members but the first; its own can be written until the block ends.

        Args:
            head: Of the entry.
            value: Its bytes.
            careful: Whether to look for a blob's shares before sending them.

        Raises:
            AlreadySetError: Another placed shares of the same blob meanwhile; try again, carefully.
            StoreError: Too few members took theirs.
        """
        ...

    async def whole(self, head: Head) -> bool:
        """Whether all members but the first have the shares of a blob that its head tells of; they are used.

        Raises:
            StoreError: Too few members said so.
        """
        ...


class Members:
    """Calls to all members but the first, of which some may fail.

    Args:
        members: All members, in order.
        least: How many members, the first among them, must take a change.
    """

    def __init__(self, members: Sequence[Member], least: int) -> None:
        self.others = members[1:]
        self._spare = len(members) - least

    async def each(self, address: Address, call: Callable[[Member], Awaitable[bool]]) -> bool:
        """Calls each at once; whether all that could do it answered True.

        Raises:
            HoldallError: Of more of them than may fail; those that may are noted.
        """
        failures: list[HoldallError] = []

        async def attempt(member: Member) -> bool:
            try:
                if member.rests and self._spare:
                    raise UnreachableError(f"{member.name} did not answer a short while ago.")
                return await call(member)
            except _REFUSALS as error:
                member.note_error(address, error)
                failures.append(error)
                return True

        answers = await all_of(attempt(member) for member in self.others)
        if len(failures) > self._spare:
            raise failures[0]
        return all(answers)


class ErasurePlacing:
    """Shares that are the same whoever makes them; see `Placing`.

    Args:
        members: Those to place them at.
        keyring: Names and seals.
        code: The keyring's.
    """

    def __init__(self, members: Members, keyring: Keyring, code: Erasure) -> None:
        self._members = members
        self._keyring = keyring
        self._code = code

    @asynccontextmanager
    async def placed(self, head: Head, value: Value, *, careful: bool) -> AsyncIterator[Placed]:
        """Places shares; see `Placing.placed`."""

        async def place(member: Member) -> bool:
            name = self._keyring.part(head, member.index)
            if careful and not head.is_slot and await member.holds(name, head.address):
                return True
            await self.write(member, head, value, anew=head.is_slot)
            return True

        await self._members.each(head.address, place)
        yield head, lambda: self.source(head, value, FIRST)

    async def whole(self, head: Head) -> bool:
        """Whether the shares of a blob are there; see `Placing.whole`."""
        return await self._members.each(
            head.address, lambda member: member.holds(self._keyring.part(head, member.index), head.address)
        )

    async def write(self, member: Member, head: Head, value: Value, *, anew: bool) -> None:
        """Writes a member's share; over what it has only where `anew`.

        Raises:
            StoreError: The member did not take it.
        """
        name = self._keyring.part(head, member.index)
        with member.asked(head.address):
            source = self.source(head, value, member.index)
            if anew:
                await member.store.write(name, source)
                return
            try:
                await member.store.write(name, source, when=ABSENT)
            except AlreadySetError:
                with suppress(NotFoundError):  # gone again: whoever asks for `whole` finds out
                    await member.store.stat(name)

    def source(self, head: Head, value: Value, index: int) -> Source:
        """A member's share, to be written."""
        role = Role.ENTRY if index == FIRST else Role.PART if head.is_slot else Role.SHARE
        own = head if index == FIRST else head.at(index, role)
        name = self._keyring.part(head, index)
        return self._keyring.source(own, name, lambda number: self._code.block(value.stripe(number), index))


class XorPlacing:
    """Pads drawn anew for each value, and what they leave of it for the first member; see `Placing`.

    Args:
        members: Those to place pads at.
        keyring: Names and seals; its code is `Xor`.
    """

    def __init__(self, members: Members, keyring: Keyring) -> None:
        self._members = members
        self._keyring = keyring

    @asynccontextmanager
    async def placed(self, head: Head, value: Value, *, careful: bool) -> AsyncIterator[Placed]:
        """Places pads; those of the same blob that are there already are used again; see `Placing.placed`."""
        rest = Remainder(value)
        careful = careful or value.size_bytes > STRIPE_BYTES
        ids = {FIRST: secrets.token_bytes(ID_BYTES)}

        async def place(member: Member) -> bool:
            share_id = None
            if careful and not head.is_slot:
                share_id = await self._adopt(member, head, rest)
            ids[member.index] = share_id or await self._create(member, head, rest)
            return True

        try:
            await rest.fill()
            await self._members.each(head.address, place)
            if not head.is_slot:
                head = replace(head, ids=tuple(ids[index] for index in sorted(ids)))
            entry = self._keyring.entry(head.address)
            yield head, lambda: self._keyring.source(head, entry, rest.stripe)
        finally:
            rest.close()

    async def whole(self, head: Head) -> bool:
        """Whether the pads that a blob's head tells of are there; see `Placing.whole`."""

        async def look(member: Member) -> bool:
            name = self._keyring.part(head, member.index)
            try:
                sealed, _ = await member.head(name, head.address)
                return self._keyring.opened(sealed, name).version == head.ids[member.index]
            except (NotFoundError, DamageError):
                return False

        return await self._members.each(head.address, look)

    async def _create(self, member: Member, head: Head, rest: Remainder) -> bytes:
        """Draws a pad and places it; returns its id.

        Raises:
            AlreadySetError: The blob has another pad there by now.
        """
        name = self._keyring.part(head, member.index)
        if head.is_slot:
            own = head.at(member.index, Role.PART)
        else:
            share_id = secrets.token_bytes(ID_BYTES)
            own = replace(head, index=member.index, role=Role.SHARE, version=share_id, ids=())

        def pad(number: int) -> bytes:
            drawn = secrets.token_bytes(self._keyring.layout(head).stripe_bytes(number))
            rest.take(number, drawn)
            return drawn

        with member.asked(head.address):
            source = self._keyring.source(own, name, pad)
            if head.is_slot:
                await member.store.write(name, source)
            else:
                await member.store.write(name, source, when=ABSENT)
        return own.version

    async def _adopt(self, member: Member, head: Head, rest: Remainder) -> bytes | None:
        """Takes the pad that a member has for this blob; its id, or None where it has none.

        Raises:
            AlreadySetError: It had one that cannot be used, and that is gone now.
        """
        name, layout = self._keyring.part(head, member.index), self._keyring.layout(head)
        try:
            with member.asked(head.address):
                share = Share(member, await member.store.get(name), head.address)
        except NotFoundError:
            return None
        try:
            found = self._keyring.opened(await share.head(), name)
            lane = Lane(share, layout, self._keyring.blocks(found, member.index, found.version))
            for number in range(layout.stripes):
                rest.take(number, await lane.block(number))
        except DamageError:
            member.note(head.address, "damaged")
            await member.remove(name, head.address)
            raise AlreadySetError(f"The pad of {head.address} at {member.name} was damaged.") from None
        finally:
            await share.aclose()
        return found.version
