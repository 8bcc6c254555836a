"""Checking every share of an entry, and making those anew that are damaged or gone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdall.core.shares import Role
from holdall.errors import (
    AccessError,
    AlreadySetError,
    DamageError,
    HoldallError,
    NotFoundError,
    StoreError,
    VersionMismatchError,
)
from holdall.limits.stores import SHARES_LEASE_SECONDS
from holdall.stores.shares_ground import attempts
from holdall.stores.shares_keyring import FIRST
from holdall.stores.shares_listing import heads_of
from holdall.stores.shares_member import all_of
from holdall.stores.shares_reading import Lane, Share
from holdall.stores.shares_value import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.shares_finding import Finder, Found
    from holdall.stores.shares_member import Member
    from holdall.stores.shares_placing import ErasurePlacing

_REFUSALS = (StoreError, AccessError)


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one entry.

    Attributes:
        address: Of the entry.
        members: The names of the members whose share was made anew.
        error: Why it could not be repaired, or None.
    """

    address: Address
    members: list[str]
    error: HoldallError | None = None


class Repairer:
    """Repairs entries of which some shares are enough.

    Args:
        finder: Finds and opens entries.
        placing: Makes shares.
    """

    def __init__(self, finder: Finder, placing: ErasurePlacing) -> None:
        self._finder = finder
        self._keyring = finder.keyring
        self._arbiter = finder.arbiter
        self._placing = placing

    async def heal(self, address: Address) -> bool:
        """Whether the first member has an entry after all, or has got it back from the others.

        That it has none is believed at once where the others have nothing either. Where they have, another client may
        be about to remove it: it is given `SHARES_LEASE_SECONDS`, unless the first member is known to have lost
        everything.
        """
        if not await self._finder.traces(address):
            return False
        if self._arbiter.member not in await self._finder.labels.lost():
            end = time.monotonic() + SHARES_LEASE_SECONDS
            while time.monotonic() < end:
                await asyncio.sleep(0.05)
                if await self._arbiter.look(self._keyring.entry(address), address) is not None:
                    return True
                if not await self._finder.traces(address):
                    return False
        try:
            return bool(await self.repair(address))
        except NotFoundError:
            for member in self._finder.others:  # so that nobody has to wait for them again
                await member.remove(self._keyring.pointer(address, member.index), address)
            return False

    async def check(self, address: Address) -> dict[str, str]:
        """Reads every share of an entry.

        Returns:
            By the name of each member whose share is not what was written, or that did not say: the reason, as
            `Fault.reason`.

        Raises:
            HoldallError: As `Finder.find`.
        """
        found = await self._finder.find(address)
        return {member.name: reason for member, reason in (await self._unsound(found)).items()}

    async def repair(self, address: Address) -> list[str]:
        """Makes anew every share of an entry that is damaged or gone.

        Returns:
            The names of the members that got one.

        Raises:
            NotFoundError: Nothing is there.
            DamageError: Too few shares are left.
            StoreError: Too few members answered, or one did not take its share.
        """
        async for _ in attempts(address):
            found = await self._finder.find(address)
            unsound = await self._unsound(found)
            bad = [member for member, reason in unsound.items() if reason in {"damaged", "missing"}]
            if not bad:
                return []
            async with await self._finder.reading(found) as reading:
                value = Value()
                try:
                    await value.add(reading)
                    await all_of(self._renew(member, found.head, value) for member in bad if member.index != FIRST)
                    if self._arbiter.member in bad:
                        await self._renew_first(found, value)
                except (AlreadySetError, VersionMismatchError):
                    continue
                finally:
                    value.close()
            if await self._is_current(found.head):
                return [member.name for member in bad]
            await self._undo(bad, found.head)
        raise AssertionError  # attempts() ends by raising

    async def repair_all(self) -> AsyncIterator[Repair]:
        """Repairs every entry that any member knows of, and labels members that had lost everything.

        Raises:
            AccessError: A member does not list itself to this caller.
            SecretError: All that is there was stored with other secrets.
            StoreError: A member does not list itself now.
        """
        complete, anything = True, False
        for member in self._finder.members:
            async for head, _ in heads_of(member, self._finder):
                if member.index != FIRST and await self._is_listed_by_first(head.address):
                    continue  # it was its turn already
                anything = True
                try:
                    names = await self.repair(head.address)
                except NotFoundError:
                    continue  # deleted meanwhile, or a share that no entry tells of
                except HoldallError as error:
                    complete = False
                    yield Repair(head.address, [], error)
                    continue
                yield Repair(head.address, names)
        if not anything:
            await self._finder.labels.check_secret()
        if complete:
            for member in await self._finder.labels.lost():
                await self._finder.labels.label(member)

    async def _is_listed_by_first(self, address: Address) -> bool:
        name = self._keyring.entry(address)
        seen = await self._arbiter.look(name, address)
        return seen is not None and self._opened(seen.sealed, name) is not None

    async def _unsound(self, found: Found) -> dict[Member, str]:
        """The members whose share is not what was written, and why."""

        async def judge(member: Member) -> str | None:
            try:
                return None if await self._is_sound(member, found.head) else "damaged"
            except NotFoundError:
                return "missing"
            except DamageError:
                return "damaged"
            except _REFUSALS:
                return "unreachable"

        members = self._finder.members
        reasons = await all_of(judge(member) for member in members)
        unsound = {member: reason for member, reason in zip(members, reasons, strict=True) if reason is not None}
        for member, reason in unsound.items():
            if reason != "unreachable":
                member.note(found.head.address, reason)
        return unsound

    async def _is_sound(self, member: Member, head: Head) -> bool:
        """Whether a member's share is what was written, to its last byte."""
        name, layout = self._keyring.part(head, member.index), self._keyring.layout(head)
        if head.is_slot and member.index != FIRST:
            pointer = self._keyring.pointer(head.address, member.index)
            sealed, _ = await member.head(pointer, head.address, use=False)
            if self._keyring.opened(sealed, pointer).version != head.version:
                return False
        with member.asked(head.address):
            share = Share(member, await member.store.get(name, use=False), head.address)
        try:
            own = self._keyring.opened(await share.head(), name)
            if own.share_id(member.index) != head.share_id(member.index) or own.address != head.address:
                return False
            lane = Lane(share, layout, self._keyring.blocks(head, member.index, head.share_id(member.index)))
            for number in range(layout.stripes):
                await lane.block(number)
            return share.info.size_bytes == layout.offset(layout.stripes)
        finally:
            await share.aclose()

    async def _renew(self, member: Member, head: Head, value: Value) -> None:
        await self._placing.write(member, head, value, anew=True)
        if head.is_slot:
            pointer = self._keyring.pointer(head.address, member.index)
            with member.asked(head.address):
                sealed = self._keyring.sealed(head.at(member.index, Role.POINTER), pointer)
                await member.store.write(pointer, sealed)

    async def _renew_first(self, found: Found, value: Value) -> None:
        name = self._keyring.entry(found.head.address)
        token = found.token
        if token is None:
            seen = await self._arbiter.look(name, found.head.address)
            if seen is not None and self._opened(seen.sealed, name) is not None:
                raise VersionMismatchError(f"{found.head.address} has another version.")
            token = None if seen is None else seen.info.version
        await self._arbiter.change(name, lambda: self._placing.source(found.head, value, FIRST), token)

    async def _is_current(self, head: Head) -> bool:
        """Whether the first member still has what was repaired."""
        name = self._keyring.entry(head.address)
        seen = await self._arbiter.look(name, head.address)
        return seen is not None and self._opened(seen.sealed, name) in {None, head}

    async def _undo(self, members: list[Member], head: Head) -> None:
        """Removes what was made anew for an entry that was changed or deleted meanwhile."""
        for member in members:
            if member.index != FIRST:
                await member.remove(self._keyring.part(head, member.index), head.address)

    def _opened(self, sealed: bytes, name: Address) -> Head | None:
        try:
            return self._keyring.opened(sealed, name)
        except DamageError:
            return None
