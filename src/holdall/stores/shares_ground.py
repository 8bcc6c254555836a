"""What writing and removing stand on: what is there before, one step at the first member, and tidying up afterwards.

What holds at every moment, whoever else changes the same entry and whoever dies in the middle:

* the first member has an entry only when all shares that its head tells of have been placed;
* the parts of a slot's version are removed only by whoever took that version away at the first member;
* a blob's shares are removed before its entry, so where there is no entry nobody is about to remove shares. Who stores
  a blob looks for its shares once more when the entry is there, and places again what is missing.

So a client that dies leaves at most parts and shares that no entry tells of. They cost room and nothing else; those of
a blob are used by the next who stores it.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdall.core.shares import Role
from holdall.errors import (
    AccessError,
    AlreadySetError,
    BlobInTheWayError,
    BusyError,
    DamageError,
    StoreError,
    UnreachableError,
    VersionMismatchError,
)
from holdall.limits.stores import SHARES_ATTEMPTS_MAX
from holdall.stores.base import ABSENT, ALWAYS, IfVersion
from holdall.stores.shares_finding import Found, info_of, version_of
from holdall.stores.shares_member import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.base import Condition, Info, Source
    from holdall.stores.shares_finding import Finder
    from holdall.stores.shares_member import Member
    from holdall.stores.shares_repair import Repairer


@dataclass(frozen=True, slots=True)
class Standing:
    """What the first member has at an address before it is changed.

    Attributes:
        head: Of the entry, or None.
        info: What the member says of it, or None.
    """

    head: Head | None = None
    info: Info | None = None

    @property
    def token(self) -> str | None:
        """What a change has to name, or None where nothing is."""
        return None if self.info is None else self.info.version

    @property
    def damaged(self) -> bool:
        """Whether something is there that cannot be read."""
        return self.head is None and self.info is not None

    def found(self) -> Found | None:
        """The entry, as something to open."""
        if self.head is None or self.info is None:
            return None
        return Found(self.head, info_of(self.head, self.info), self.token)

    def check(self, address: Address, when: Condition, *, is_blob: bool) -> None:
        """Refuses a write that its condition, a blob or damage at its address forbids; see `Slots.write`."""
        if when is ABSENT:
            if self.info is not None:
                raise AlreadySetError(f"Something is already stored at {address}.")
            return
        if self.damaged and not (is_blob and when is ALWAYS):
            raise DamageError(f"What is stored at {address} is damaged, so it cannot be said what it was.")
        if self.head is not None and not self.head.is_slot and not is_blob:
            raise BlobInTheWayError(f"{address} holds a blob, which never changes.")
        if isinstance(when, IfVersion) and (self.head is None or version_of(self.head) != when.version):
            raise VersionMismatchError(f"{address} has another version.")


class Ground:
    """Steps that changes are made of.

    Args:
        finder: Finds and opens entries.
        repairer: Gives the first member back what it lost; None where that cannot be done.
    """

    def __init__(self, finder: Finder, repairer: Repairer | None) -> None:
        self.finder = finder
        self.keyring = finder.keyring
        self.arbiter = finder.arbiter
        self.others = finder.others
        self._repairer = repairer
        self._background: set[asyncio.Task[None]] = set()

    async def standing(self, address: Address, *, heal: bool = True) -> Standing:
        """What the first member has at `address`.

        Args:
            address: The entry.
            heal: Whether to give it back first what it has lost or damaged and the others can rebuild.

        Raises:
            DamageError: It is damaged, and the others cannot rebuild it.
            StoreError: The first member did not answer.
        """
        name, member = self.keyring.entry(address), self.arbiter.member
        healing = heal and self._repairer is not None
        while True:
            seen = await self.arbiter.look(name, address)
            if seen is None:
                head = None
                if not (healing and self._repairer is not None and await self._repairer.heal(address)):
                    return Standing()
            else:
                try:
                    head = self.finder.checked(seen.sealed, name, address, member)
                except DamageError:
                    head = None
                    member.note(address, "damaged")
                if head is not None or not (healing and self._repairer is not None):
                    return Standing(head, seen.info)
                await self._repairer.repair(address)
            healing = False

    async def commit(self, head: Head, source: Callable[[], Source], token: str | None) -> Info:
        """Makes an entry what its head says, in one step at the first member.

        Raises:
            AlreadySetError: Something is there, and `token` is None.
            VersionMismatchError: Something else is there than `token` names.
            UnreachableError: It is not known whether it was done.
            StoreError: The member could not.
        """
        name = self.keyring.entry(head.address)
        try:
            return await self.arbiter.change(name, source, token)
        except UnreachableError as error:
            try:
                seen = await self.arbiter.look(name, head.address)
            except StoreError:
                raise error from None
            if seen is None or seen.sealed != self.keyring.sealed(head, name):
                raise
            return seen.info

    async def settle(self, head: Head, token: str) -> None:
        """Tells the other members which version a slot has, until it is the one that it has by then.

        What a member does not take is noted; a repair makes it good.
        """
        if not self.finder.redundant:
            return
        address: Address = head.address
        current: Head | None = head
        for _ in range(SHARES_ATTEMPTS_MAX):
            if current is None or not current.is_slot:
                await self.unpoint(address)
            else:
                await all_of(self._point(member, current) for member in self.others)
            try:
                standing = await self.standing(address, heal=False)
            except (StoreError, AccessError):
                return
            if standing.token == token:
                return
            current, token = standing.head, standing.token or ""

    async def unpoint(self, address: Address) -> None:
        """Removes the pointers of a slot; what a member does not remove is noted."""
        if self.finder.redundant:
            await all_of(
                self._remove(member, self.keyring.pointer(address, member.index), address) for member in self.others
            )

    async def forget(self, head: Head) -> None:
        """Removes the parts of a slot's version that no entry tells of; what a member does not remove is noted."""
        await all_of(
            self._remove(member, self.keyring.part(head, member.index), head.address) for member in self.others
        )

    def later(self, work: Coroutine[object, object, None]) -> None:
        """Does something although the caller is cancelled; `aclose` waits for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def aclose(self) -> None:
        """Waits for what is still to be done."""
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _point(self, member: Member, head: Head) -> None:
        name = self.keyring.pointer(head.address, member.index)
        with suppress(StoreError, AccessError), member.asked(head.address):
            await member.store.write(name, self.keyring.sealed(head.at(member.index, Role.POINTER), name))

    async def _remove(self, member: Member, name: Address, address: Address) -> None:
        with suppress(StoreError, AccessError):
            await member.remove(name, address)


async def attempts(address: Address) -> AsyncIterator[int]:
    """Numbers the tries of a change, with ever longer waits between them.

    Raises:
        BusyError: There were `SHARES_ATTEMPTS_MAX`.
    """
    for number in range(SHARES_ATTEMPTS_MAX):
        yield number
        await asyncio.sleep(secrets.randbelow(min(2**number, 200)) / 1000)
    raise BusyError(f"{address} is changed by others all the time.")
