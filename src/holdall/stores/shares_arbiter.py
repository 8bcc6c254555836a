"""The first member, which decides: whoever changes an entry does it there, in one step, or not at all.

A store that compares and swaps is asked to. An original server can only create what is not there; on it, those who
change an entry meet at a lock, a slot that one of them creates and removes. A lock whose holder went away is broken
after `SHARES_LEASE_SECONDS`, and a holder who was only slow may then overtake its successor: what two clients change
at once on such a server is as safe as that.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from holdall.core.address import Address
from holdall.errors import AlreadySetError, NotFoundError, StoreError, VersionMismatchError
from holdall.limits.stores import SHARES_LEASE_SECONDS
from holdall.stores.base import ABSENT, IfVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from holdall.stores.base import Info, Reading, Source
    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_member import Member

_ID_BYTES = 16


class Seen(NamedTuple):
    """What was found under a name.

    Attributes:
        sealed: How it begins: a head, if it is ours.
        info: What the member says of it; its version is the token for a change.
    """

    sealed: bytes
    info: Info


class Arbiter:
    """Changes under one name, each in one step.

    Args:
        member: The first member.
        keyring: Names the locks.
    """

    def __init__(self, member: Member, keyring: Keyring) -> None:
        self.member = member
        self._keyring = keyring
        self._swaps: bool | None = None

    async def look(self, name: Address, address: Address, *, use: bool = False) -> Seen | None:
        """How what is under `name` begins, or None where nothing is.

        Raises:
            StoreError: The member did not say.
        """
        try:
            return Seen(*await self.member.head(name, address, use=use))
        except NotFoundError:
            return None

    async def change(self, name: Address, source: Callable[[], Source], token: str | None) -> Info:
        """Writes under `name`, over the version `token` or, with None, where nothing is.

        Raises:
            AlreadySetError: Something is there.
            VersionMismatchError: It has another version, or is gone.
            StoreError: The member could not.
        """
        store = self.member.store
        with self.member.asked():
            if token is None:
                return await store.write(name, source(), when=ABSENT)
            if await self._can_swap():
                return await store.write(name, source(), when=IfVersion(token))
            async with self._locked(name):
                try:
                    info = await store.stat(name, use=False)
                except NotFoundError:
                    raise VersionMismatchError(f"{name} is gone.") from None
                if info.version != token:
                    raise VersionMismatchError(f"{name} has another version.")
                return await store.write(name, source())

    async def take(self, name: Address) -> Reading:
        """Opens what is under `name` and removes it in one step.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: The member could not.
        """
        store = self.member.store
        with self.member.asked():
            if await self._can_swap():
                return await store.take(name)
            async with self._locked(name):
                reading = await store.get(name)
                try:
                    await store.delete(name)
                except BaseException:
                    await reading.aclose()
                    raise
                return reading

    async def _can_swap(self) -> bool:
        """Whether the member compares and swaps, and takes; tried out once, on a name of nobody's."""
        if self._swaps is None:
            store, name = self.member.store, Address(secrets.token_bytes(32))
            info = await store.write(name, b"?")
            try:
                await store.write(name, b"!", when=IfVersion(info.version))
                self._swaps = True
            except StoreError as error:
                if type(error) is not StoreError:
                    raise
                self._swaps = False
            finally:
                await self.member.remove(name)
        return self._swaps

    @asynccontextmanager
    async def _locked(self, name: Address) -> AsyncIterator[None]:
        store, lock, mine = self.member.store, self._keyring.lock(name), secrets.token_bytes(_ID_BYTES)
        holder, since = b"", 0.0
        while True:
            try:
                await store.write(lock, mine, when=ABSENT)
                break
            except AlreadySetError:
                now, seen = time.monotonic(), await self._content(lock)
            if seen != holder:
                holder, since = seen, now
            elif seen and now - since > SHARES_LEASE_SECONDS and await self._content(lock) == holder:
                await self.member.remove(lock)
                continue
            await asyncio.sleep(secrets.randbelow(50) / 1000)
        try:
            yield
        finally:
            await asyncio.shield(self._unlock(lock, mine))

    async def _unlock(self, lock: Address, mine: bytes) -> None:
        if await self._content(lock) == mine:
            await self.member.remove(lock)

    async def _content(self, name: Address) -> bytes:
        try:
            async with await self.member.store.get(name) as reading:
                return await reading.read()
        except NotFoundError:
            return b""
