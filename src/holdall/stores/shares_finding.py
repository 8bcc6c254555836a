"""Finding an entry and opening enough of its shares, whoever of the members fails.

The first member says what is stored. Where some shares are enough and it does not answer, has lost the entry or lies,
the others are asked what they have: a blob is there if enough of them hold shares of it, a slot if enough hold parts
of the version that their pointers name.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdall.core.shares import Head, Role
from holdall.errors import AccessError, BusyError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.limits.stores import SHARES_ATTEMPTS_MAX, SHARES_LOOKS_MAX, STRIPE_BYTES
from holdall.stores.base import WHOLE, Info, Kind, Span
from holdall.stores.shares_keyring import FIRST
from holdall.stores.shares_member import all_of
from holdall.stores.shares_opening import ShareOpener, SharesGoneError
from holdall.stores.shares_reading import Lane, Share, SharesReading

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from holdall.core.address import Address
    from holdall.stores.shares_arbiter import Arbiter
    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_label import Labels
    from holdall.stores.shares_member import Member


@dataclass(slots=True)
class Found:
    """An entry as it was found.

    Attributes:
        head: Its head.
        info: What a caller is told of it.
        token: Of the first member's copy, for a change; None where others told of it.
        share: The first member's share, open behind its head; None where it was not asked for.
    """

    head: Head
    info: Info
    token: str | None
    share: Share | None = None


class Finder:
    """Looks for entries, and opens them.

    Args:
        members: All members, in order.
        arbiter: The first one.
        keyring: Names and seals.
        labels: What the members say of themselves.
    """

    def __init__(self, members: Sequence[Member], arbiter: Arbiter, keyring: Keyring, labels: Labels) -> None:
        self.members = members
        self.others = members[1:]
        self.keyring = keyring
        self.arbiter = arbiter
        self.labels = labels
        self.redundant = keyring.code.needed < keyring.code.total
        """Whether an entry outlives a member."""

    async def open(self, address: Address, span: Span = WHOLE, *, use: bool) -> SharesReading:
        """Opens an entry; see `Blobs.get`."""
        before, looks = None, 0
        for _ in range(SHARES_ATTEMPTS_MAX):
            found = await self.find(address, whole=span == WHOLE, use=use)
            try:
                return await self.reading(found, span, use=use)
            except SharesGoneError as error:
                looks = looks + 1 if found.token == before else 0
                before = found.token
                if looks == SHARES_LOOKS_MAX:
                    for member in error.lacking:
                        member.note(address, "missing")
                    raise error.other or error from None
            await asyncio.sleep(0.005 * 2**looks)
        raise BusyError(f"{address} changes faster than it can be read.")

    async def find(self, address: Address, *, whole: bool = False, use: bool = False) -> Found:
        """Finds an entry.

        Args:
            address: The entry.
            whole: Whether to open the first member's share too.
            use: Whether this counts as a use, at the first member.

        Raises:
            NotFoundError: Nothing is there.
            SecretError: Nothing is there, and all that is was written with another secret.
            DamageError: The first member lies, and the others cannot say what it should.
            StoreError: Too few members answered.
        """
        others_know = self.redundant
        if others_know and self.arbiter.member.rests:
            with suppress(StoreError, AccessError):  # the first may be back
                found = await self.recover(address, use=use)
                if found is not None:
                    return found
            others_know = False
        try:
            return await self._ask_first(address, whole=whole, use=use)
        except (NotFoundError, DamageError, StoreError, AccessError) as error:
            if isinstance(error, DamageError):
                self.arbiter.member.note(address, "damaged")
            found = await self.recover(address, use=use) if others_know else None
            if found is None:
                if isinstance(error, NotFoundError):
                    await self.labels.check_secret()
                raise
            if isinstance(error, NotFoundError):
                self.arbiter.member.note(address, "missing")
            return found

    async def recover(self, address: Address, *, use: bool = False) -> Found | None:
        """What the members but the first can rebuild at `address`, or None.

        Raises:
            HoldallError: They might, if more of them answered.
        """
        blobs, slots, silent = await self._traces(address, use=use)
        if len(blobs) >= self.keyring.code.needed:
            head, info = next(iter(blobs.values()))
            entry = self.keyring.head(address, size_bytes=head.size_bytes, digest=head.digest)
            return Found(entry, info_of(entry, info), None)
        best = len(blobs)
        versions = {head.version: (head, info) for head, info in slots}
        for head, info in sorted(versions.values(), key=lambda found: -found[0].sequence):
            held = await all_of(self._holds(member, head) for member in self.others)
            best = max(best, held.count(True))
            if held.count(True) >= self.keyring.code.needed:
                entry = head.at(FIRST, Role.ENTRY)
                return Found(entry, info_of(entry, info), None)
        everybody_is_silent = len(silent) == len(self.others)
        if silent and (everybody_is_silent or (best and best + len(silent) >= self.keyring.code.needed)):
            raise silent[0]
        return None

    async def traces(self, address: Address) -> bool:
        """Whether any member but the first holds something of an entry at `address`."""
        blobs, slots, _ = await self._traces(address, use=False)
        return bool(blobs or slots)

    async def knows(self, member: Member, head: Head) -> bool:
        """Whether a member can list the entry that a head is of.

        Raises:
            StoreError: It did not say.
        """
        address = head.address
        if member.index == FIRST:
            return await self._trace(member, self.keyring.entry(address), address, use=False) is not None
        name = self.keyring.pointer(address, member.index)
        if not head.is_slot:
            name = self.keyring.share(address, member.index)
        return await self._trace(member, name, address, use=False) is not None

    async def reading(self, found: Found, span: Span = WHOLE, *, use: bool = False) -> SharesReading:
        """Opens as many shares of what was found as are needed; `found.share` is used or closed.

        Raises:
            RangeError: The span starts at or after the end.
            SharesGoneError: Shares are missing; the entry may have changed meanwhile.
            DamageError: Too few shares are what was written.
            StoreError: Too few members answered.
        """
        lanes: dict[int, Lane] = {}
        try:
            start, stop = span.resolve(found.info.size_bytes)
            layout = self.keyring.layout(found.head)
            opener = ShareOpener(self.members, self.keyring, found.head, found.token, stop, use=use)
            spared: Collection[Member] = self.others
            if start < stop:
                if found.share is not None:
                    lanes[FIRST] = opener.adopt(found.share)
                spared = opener.spared(lanes)
                await all_of([opener.more(lanes, start // STRIPE_BYTES), self._touch(found.head, spared, use=use)])
                if opener.lacking and await self._unchanged(found):
                    for member in opener.lacking:
                        member.note(found.head.address, "missing")
            else:
                await self._touch(found.head, spared, use=use)
        except BaseException:
            for lane in lanes.values():
                await lane.aclose()
            raise
        finally:
            if found.share is not None and FIRST not in lanes:
                await found.share.aclose()
        return SharesReading(
            found.info, found.head, start, stop, code=self.keyring.code, layout=layout, lanes=lanes, opener=opener
        )

    async def touch(self, head: Head) -> None:
        """Restarts the timers of all that belongs to an entry at the members but the first."""
        await self._touch(head, self.others, use=True)

    async def has_parts(self, head: Head) -> bool:
        """Whether every member but the first that answers has its part of a slot; all of it is used."""
        await self.touch(head)
        held = await all_of(self._holds(member, head, unknown=True) for member in self.others)
        return all(held)

    async def _touch(self, head: Head, members: Collection[Member], *, use: bool) -> None:
        if not use:
            return
        calls = [(member, self.keyring.part(head, member.index)) for member in members if member.index != FIRST]
        if head.is_slot and self.redundant:
            calls += [(member, self.keyring.pointer(head.address, member.index)) for member in self.others]

        async def look(member: Member, name: Address) -> None:
            with suppress(StoreError, AccessError):
                if not member.rests and not await member.holds(name, head.address) and not head.is_slot:
                    member.note(head.address, "missing")

        await all_of(look(member, name) for member, name in calls)

    async def _ask_first(self, address: Address, *, whole: bool, use: bool) -> Found:
        name, member = self.keyring.entry(address), self.arbiter.member
        if not whole:
            seen = await self.arbiter.look(name, address, use=use)
            if seen is None:
                raise nothing_at(address)
            head = self.checked(seen.sealed, name, address, member)
            return Found(head, info_of(head, seen.info), seen.info.version)
        with member.asked(address):
            try:
                share = Share(member, await member.store.get(name, use=use), address)
            except NotFoundError:
                raise nothing_at(address) from None
        try:
            head = self.checked(await share.head(), name, address, member)
        except BaseException:
            await share.aclose()
            raise
        return Found(head, info_of(head, share.info), share.info.version, share)

    def checked(self, sealed: bytes, name: Address, address: Address, member: Member) -> Head:
        """The head that a member gave for an entry.

        Raises:
            DamageError: It is not the one that was written.
        """
        try:
            head = self.keyring.opened(sealed, name)
        except DamageError:
            head = None
        if head is None or head.address != address:
            raise DamageError(f"What {member.name} holds of {address} is not what was written.")
        return head

    async def _traces(
        self, address: Address, *, use: bool
    ) -> tuple[dict[int, tuple[Head, Info]], list[tuple[Head, Info]], list[HoldallError]]:
        """Blob shares by member, pointers, and the errors of members that did not answer."""
        blobs: dict[int, tuple[Head, Info]] = {}
        slots: list[tuple[Head, Info]] = []
        silent: list[HoldallError] = []

        async def ask(member: Member) -> None:
            share, pointer = (
                self.keyring.share(address, member.index),
                self.keyring.pointer(address, member.index),
            )
            try:
                blob, slot = await all_of(
                    [self._trace(member, share, address, use=use), self._trace(member, pointer, address, use=use)]
                )
            except (StoreError, AccessError) as error:
                silent.append(error)
                return
            if blob is not None:
                blobs[member.index] = blob
            if slot is not None:
                slots.append(slot)

        await all_of(ask(member) for member in sorted(self.others, key=lambda member: member.rests))
        return blobs, slots, silent

    async def _trace(self, member: Member, name: Address, address: Address, *, use: bool) -> tuple[Head, Info] | None:
        try:
            sealed, info = await member.head(name, address, use=use)
            return self.checked(sealed, name, address, member), info
        except NotFoundError:
            return None
        except DamageError:
            member.note(address, "damaged")
            return None

    async def _holds(self, member: Member, head: Head, *, unknown: bool = False) -> bool:
        try:
            return await member.holds(self.keyring.part(head, member.index), head.address, use=False)
        except (StoreError, AccessError):
            return unknown

    async def _unchanged(self, found: Found) -> bool:
        """Whether the first member still says what it said; so if others told."""
        if found.token is None:
            return True
        try:
            seen = await self.arbiter.look(self.keyring.entry(found.head.address), found.head.address)
        except HoldallError:
            return True
        return seen is not None and seen.info.version == found.token


def info_of(head: Head, info: Info) -> Info:
    """What a caller is told of an entry, from its head and what a member says of it."""
    return Info(
        head.address,
        Kind.SLOT if head.is_slot else Kind.BLOB,
        head.size_bytes,
        version_of(head),
        info.used_ns,
        info.expires_ns,
    )


def version_of(head: Head) -> str:
    """The version that callers see."""
    return head.version.hex() if head.is_slot else head.address.hex()


def nothing_at(address: Address) -> NotFoundError:
    """The error that says so."""
    return NotFoundError(f"Nothing is stored at {address}.")
