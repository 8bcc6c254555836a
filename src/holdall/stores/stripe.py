"""The stripe: a store whose members each keep a part, so that their room and their speeds add up.

Which member an address lives on is settled by `core.placement` from the members' names and the address alone. So every
entry has one place, and what the member there says of it is what the stripe says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.core.placement import Placement
from holdall.errors import DigestMismatchError, HoldallError
from holdall.stores.base import ALWAYS, WHOLE, Info, Kind, Span
from holdall.stores.base import missing as missing_in
from holdall.stores.composite import at_once, close_all, looks, members_of, put_all, quarantine_at, raise_first
from holdall.stores.composite_bodies import Kept, RetoldReading, Watched
from holdall.stores.composite_listing import merged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from holdall.stores.base import Condition, Reading, Source, Store
    from holdall.stores.composite import Member


class StripeStore:
    """A store that keeps each entry in one of its members.

    Entries spread evenly, and calls at different addresses run at the sum of the members' speeds. Nothing is kept
    twice: while a member is away, so is its part, and what is lost with it is lost.

    The members' names decide the places, so they must stay as they are; their order and their URLs may change. An entry
    that lies at another member than its home, because there was another set of names when it was written, is neither
    found nor listed. To change the set, open a stripe of the old names and one of the new and copy the one into the
    other, as `holdall backup` does: only what has another home now is copied.

    Concurrency: the calls of one object belong to one event loop. What may happen at an address at once is for the one
    member to settle that has it.
    Durability: the member's.

    Args:
        members: The members' names and stores, in any order; they are closed with the stripe.

    Raises:
        SettingError: The members are none, too many or not told apart by their names.
    """

    def __init__(self, members: Sequence[tuple[str, Store]]) -> None:
        self._members = {member.name: member for member in members_of(members)}
        self._placement = Placement(self._members)

    # --- Blobs ---

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes in the member that their hash names; see `Blobs.put`.

        A stream whose hash is not known before is taken in whole first, in memory while it is short and then in a
        temporary file; one that comes with `expected` goes to its place as it comes.

        Raises:
            OutOfSpaceError: There is no room for the temporary file, or the member has none.
        """
        if not isinstance(source, bytes) and expected is not None:
            home, watched = self._home(expected), Watched(source)
            return await home.ask(home.store.put(watched, expected=expected), source=watched)
        body = await Kept.of(source)
        try:
            address = body.address
            if expected is not None and address != expected:
                raise DigestMismatchError(f"The bytes hash to {address}, not to {expected}.")
            home = self._home(address)
            return await home.ask(home.store.put(body.source(), expected=address))
        finally:
            body.close()

    async def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores many blobs, in all members at once; see `BulkStoring`."""
        by_address = {Address.of(data): data for data in blobs}
        parts = self._parts(list(by_address))
        answers = await at_once(
            home.ask(put_all(home.store, [by_address[address] for address in part])) for home, part in parts
        )
        raise_first(answers)
        return [Address.of(data) for data in blobs]

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
        """Opens an entry; see `Blobs.get`."""
        home = self._home(address)
        reading = await home.ask(home.store.get(address, span, use=use))
        return RetoldReading(home, reading, reading.info)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at an entry; see `Blobs.stat`."""
        home = self._home(address)
        return await home.ask(home.store.stat(address, use=use))

    async def stat_many(self, addresses: list[Address], *, use: bool = True) -> list[Info | None]:
        """Looks at many entries, in all members at once; see `BatchStat`."""
        parts = self._parts(addresses)
        answers = await at_once(home.ask(looks(home.store, part, use=use)) for home, part in parts)
        found: dict[Address, Info | None] = {}
        for (_, part), infos in zip(parts, answers, strict=True):
            if isinstance(infos, HoldallError):
                raise infos
            found |= zip(part, infos, strict=True)
        return [found[address] for address in addresses]

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not in their places, all members asked at once; see `BatchExistence.missing`."""
        asked = list(dict.fromkeys(addresses))
        answers = await at_once(home.ask(missing_in(home.store, part)) for home, part in self._parts(asked))
        absent: set[Address] = set()
        for answer in answers:
            if isinstance(answer, HoldallError):
                raise answer
            absent.update(answer)
        return [address for address in asked if address in absent]

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes an entry; see `Blobs.delete`."""
        home = self._home(address)
        await home.ask(home.store.delete(address, kind=kind))

    def entries(self) -> AsyncIterator[Info]:
        """Yields every entry that is in its place, newest use first; see `Blobs.entries`.

        Raises:
            AccessError: A member does not list itself to this caller, so the listing would lack its part.
        """
        return merged(list(self._members.values()), lambda member, address: self._home(address) is member)

    async def quarantine(self, address: Address) -> str | None:
        """Takes a damaged blob out of the way, if its member can keep it; see `Quarantining`."""
        return await quarantine_at(self._home(address), address)

    async def aclose(self) -> None:
        """Closes every member; see `Blobs.aclose`."""
        await close_all(self._members.values())

    # --- Slots ---

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`."""
        home, body = self._home(address), _watched(source)
        return await home.ask(home.store.write(address, body, when=when), source=body)

    async def append(self, address: Address, source: Source) -> Info:
        """Adds to a slot; see `Slots.append`."""
        home, body = self._home(address), _watched(source)
        return await home.ask(home.store.append(address, body), source=body)

    async def take(self, address: Address) -> Reading:
        """Reads and removes a slot; see `Slots.take`."""
        home = self._home(address)
        reading = await home.ask(home.store.take(address))
        return RetoldReading(home, reading, reading.info)

    # --- inside ---

    def _home(self, address: Address) -> Member:
        return self._members[self._placement.home(address)]

    def _parts(self, addresses: list[Address]) -> list[tuple[Member, list[Address]]]:
        """The addresses of each member that is home to any of them."""
        parts: dict[str, list[Address]] = {}
        for address in addresses:
            parts.setdefault(self._placement.home(address), []).append(address)
        return [(self._members[name], part) for name, part in parts.items()]


def _watched(source: Source) -> Source:
    return source if isinstance(source, bytes) else Watched(source)
