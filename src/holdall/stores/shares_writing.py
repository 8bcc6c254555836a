"""Writing entries: blobs, slots, and what is added to slots."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from holdall.core.shares import ID_BYTES
from holdall.errors import AlreadySetError, UnreachableError, VersionMismatchError
from holdall.stores.base import ALWAYS
from holdall.stores.shares_finding import info_of
from holdall.stores.shares_ground import attempts
from holdall.stores.shares_opening import SharesGoneError
from holdall.stores.shares_value import Value

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Condition, Info
    from holdall.stores.shares_ground import Ground, Standing
    from holdall.stores.shares_placing import Placing


class Writer:
    """Writes entries; the caller sees to it that it changes one entry once at a time.

    Args:
        ground: The steps.
        placing: Places shares.
    """

    def __init__(self, ground: Ground, placing: Placing) -> None:
        self._ground = ground
        self._placing = placing

    async def blob(self, value: Value, when: Condition = ALWAYS) -> Info:
        """Stores a value under its own hash; see `Blobs.put` and `Slots.write`."""
        ground, address, ours = self._ground, value.address, False
        wanted = ground.keyring.head(address, size_bytes=value.size_bytes, digest=address)
        async for attempt in attempts(address):
            standing = await ground.standing(address, heal=when is not ALWAYS)
            if not ours:
                standing.check(address, when, is_blob=True)
            head = standing.head
            if head is not None and not head.is_slot and await self._placing.whole(head):
                seen = await ground.arbiter.look(ground.keyring.entry(address), address, use=True)
                if seen is not None:
                    return info_of(head, seen.info)
                continue
            try:
                async with self._placing.placed(wanted, value, careful=attempt > 0 or head is not None) as placed:
                    entry, source = placed
                    if entry == head:
                        continue
                    info = await ground.commit(entry, source, standing.token)
            except (AlreadySetError, VersionMismatchError):
                continue
            ours = True
            if head is not None and head.is_slot:
                await ground.unpoint(address)
                await ground.forget(head)
            if await self._placing.whole(entry):
                return info_of(entry, info)
        raise AssertionError  # attempts() ends by raising

    async def slot(self, address: Address, value: Value, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`."""
        async for _ in attempts(address):
            standing = await self._ground.standing(address)
            standing.check(address, when, is_blob=False)
            info = await self._replace(address, standing, value)
            if info is not None:
                return info
        raise AssertionError  # attempts() ends by raising

    async def append(self, address: Address, value: Value) -> Info:
        """Adds to a slot, by writing all of it anew; see `Slots.append`."""
        async for _ in attempts(address):
            standing = await self._ground.standing(address)
            standing.check(address, ALWAYS, is_blob=False)
            found = standing.found()
            joined = Value()
            try:
                if found is not None:
                    async with await self._ground.finder.reading(found) as reading:
                        await joined.add(reading)
                await joined.add(value.whole())
                info = await self._replace(address, standing, joined)
            except SharesGoneError as error:
                if (await self._ground.standing(address, heal=False)).token == standing.token:
                    raise error.other or error from None
                continue
            finally:
                joined.close()
            if info is not None:
                return info
        raise AssertionError  # attempts() ends by raising

    async def _replace(self, address: Address, standing: Standing, value: Value) -> Info | None:
        """Writes a slot over what was seen there, or returns None because it is something else by now."""
        ground, before = self._ground, standing.head
        version = secrets.token_bytes(ID_BYTES)
        head = ground.keyring.head(address, size_bytes=value.size_bytes, digest=value.address, version=version)
        head = replace(head, sequence=max(time.time_ns(), 1 + (before.sequence if before is not None else 0)))
        is_placed = False
        try:
            async with self._placing.placed(head, value, careful=False) as (entry, source):
                is_placed = True
                info = await ground.commit(entry, source, standing.token)
        except (AlreadySetError, VersionMismatchError):
            await ground.forget(head)
            return None
        except (asyncio.CancelledError, UnreachableError):
            if not is_placed:  # else it may have been done
                ground.later(ground.forget(head))
            raise
        except BaseException:
            ground.later(ground.forget(head))
            raise
        await ground.settle(head, info.version)
        if before is not None and before.is_slot:
            await ground.forget(before)
        return info_of(head, info)
