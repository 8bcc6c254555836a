"""What the stores of shares have in common: a `Store` over members that each hold only sealed slots.

Who decides what lives in the modules beside this one: `shares_finding` and `shares_opening` read, `shares_writing`,
`shares_placing` and `shares_removing` change, each on the rules that `shares_ground` states; `shares_listing`,
`shares_missing`, `shares_label` and `shares_repair` are what they say.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from holdall.core.shares import Erasure
from holdall.errors import DigestMismatchError, SettingError
from holdall.stores.base import ALWAYS, WHOLE, Span
from holdall.stores.shares_arbiter import Arbiter
from holdall.stores.shares_finding import Finder
from holdall.stores.shares_ground import Ground
from holdall.stores.shares_keyring import FIRST
from holdall.stores.shares_label import Labels
from holdall.stores.shares_listing import entries_of
from holdall.stores.shares_member import Faults, all_of, members_of
from holdall.stores.shares_missing import missing_from
from holdall.stores.shares_placing import ErasurePlacing, Members, XorPlacing
from holdall.stores.shares_removing import Remover
from holdall.stores.shares_repair import Repairer
from holdall.stores.shares_value import arrived
from holdall.stores.shares_writing import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Condition, Info, Kind, Source, Store
    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_member import Fault
    from holdall.stores.shares_placing import Placing
    from holdall.stores.shares_reading import SharesReading


class SharesBase:
    """A store made of stores, for `SplitStore`, `SharesStore` and `EncryptedStore`, which say what it promises.

    Concurrency: the calls of one object belong to one event loop; any number of objects and processes may use the
    same members with the same secret.
    Durability: that of the members that must take a change.

    Args:
        stores: The members; closed with this store.
        names: What a person calls them.
        keyring: The secret and the code.
        least: How many members must take a change; the first is always among them.

    Raises:
        SettingError: The members are too many, or not all different.
    """

    def __init__(self, stores: Sequence[Store], names: Sequence[str] | None, keyring: Keyring, *, least: int) -> None:
        self._faults = Faults()
        self._members = members_of(stores, names, self._faults)
        self._labels = Labels(self._members, keyring)
        self._arbiter = Arbiter(self._members[FIRST], keyring)
        self._finder = Finder(self._members, self._arbiter, keyring, self._labels)
        self._locks: WeakValueDictionary[Address, asyncio.Lock] = WeakValueDictionary()
        members = Members(self._members, least)
        self._repairer: Repairer | None = None
        placing: Placing = XorPlacing(members, keyring)
        if isinstance(keyring.code, Erasure):
            placing = ErasurePlacing(members, keyring, keyring.code)
            self._repairer = Repairer(self._finder, placing)
        self._ground = Ground(self._finder, self._repairer if self._finder.redundant else None)
        self._writer = Writer(self._ground, placing)
        self._remover = Remover(self._ground, members)

    @property
    def faults(self) -> list[Fault]:
        """What members were found to do wrong, each fault once, oldest first; the newest few hundred."""
        return self._faults.all()

    # --- Blobs ---

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes under their SHA-256; see `Blobs.put`."""
        async with arrived(source) as value:
            if expected is not None and value.address != expected:
                raise DigestMismatchError(f"The bytes hash to {value.address}, not to {expected}.")
            await self._labels.ready_to_write()
            async with self._locked(value.address):
                await self._writer.blob(value)
            return value.address

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> SharesReading:
        """Opens an entry; see `Blobs.get`."""
        await self._labels.read()
        return await self._finder.open(address, span, use=use)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at an entry; see `Blobs.stat`."""
        await self._labels.read()
        found = await self._finder.find(address, use=use)
        if use:
            await self._finder.touch(found.head)
        return found.info

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes an entry; see `Blobs.delete`. If too few members answer, nothing is removed anywhere."""
        await self._labels.read()
        async with self._locked(address):
            await self._remover.delete(address, kind)

    async def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest use first; see `Blobs.entries`."""
        await self._labels.read()
        async for info in entries_of(self._finder):
            yield info

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not there, or have lost a share; see `BatchExistence.missing`."""
        await self._labels.read()
        return await missing_from(self._finder, addresses)

    async def aclose(self) -> None:
        """Ends what is under way and closes all members; see `Blobs.aclose`."""
        await self._ground.aclose()
        await all_of(member.store.aclose() for member in self._members)

    # --- Slots ---

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`."""
        async with arrived(source) as value:
            await self._labels.ready_to_write()
            async with self._locked(address):
                if value.address == address:
                    return await self._writer.blob(value, when)
                return await self._writer.slot(address, value, when)

    async def append(self, address: Address, source: Source) -> Info:
        """Adds to a slot, by writing all of it anew; see `Slots.append`."""
        async with arrived(source) as value:
            await self._labels.ready_to_write()
            async with self._locked(address):
                return await self._writer.append(address, value)

    async def take(self, address: Address) -> SharesReading:
        """Reads and removes a slot; see `Slots.take`."""
        await self._labels.read()
        async with self._locked(address):
            return await self._remover.take(address)

    # --- inside ---

    def _repairing(self) -> Repairer:
        """Repairs this store.

        Raises:
            SettingError: Its code has nothing to repair from.
        """
        if self._repairer is None:
            raise SettingError("What a split has lost cannot be made anew.", hint="Store it again.")
        return self._repairer

    @asynccontextmanager
    async def _locked(self, address: Address) -> AsyncIterator[None]:
        """One change of an entry at a time by this object, so that only those of others have to be retried."""
        lock = self._locks.get(address)
        if lock is None:
            lock = self._locks[address] = asyncio.Lock()
        async with lock:
            yield
