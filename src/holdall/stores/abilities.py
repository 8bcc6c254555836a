"""Abilities that some stores have beyond `holdall.stores.base`, and what to do where one is missing."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from holdall.stores.base import ALWAYS, WHOLE, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from holdall.core.address import Address
    from holdall.errors import HoldallError
    from holdall.stores.base import Blobs, Condition, Info, Reading, Span


@runtime_checkable
class AddressListing(Protocol):
    """A store that lists its addresses at less cost than its entries."""

    def addresses(self) -> AsyncIterator[Address]:
        """Yields the address of every entry, in the order and with the promises of `Blobs.entries`.

        Raises:
            AccessError: The store does not list itself to this caller.
            StoreError: See `holdall.stores.base`.
        """
        ...


@runtime_checkable
class BurstReading(Protocol):
    """A store that concatenates the members of a burst on its own side."""

    async def get_burst(self, address: Address, span: Span = WHOLE, *, depth: int = 1, use: bool = True) -> Reading:
        """Opens the concatenation of the members of the burst at `address`.

        Args:
            address: The burst.
            span: Which part of the concatenation.
            depth: How many levels of bursts within bursts are resolved.
            use: Whether this counts as a use of the burst and its members.

        Raises:
            NotFoundError: The burst or a member is missing; nothing was read yet.
            BurstError: It is not a burst.
            RangeError: The span starts at or after the end.
            StoreError: See `holdall.stores.base`.
        """
        ...


async def addresses(store: Blobs) -> AsyncIterator[Address]:
    """Yields the address of every entry in the order of `Blobs.entries`, the cheapest way the store has.

    Raises:
        AccessError: The store does not list itself to this caller.
        StoreError: See `holdall.stores.base`.
    """
    if isinstance(store, AddressListing):
        async with aclosing(store.addresses()) as found:  # type: ignore[type-var]
            async for address in found:
                yield address
        return
    async with aclosing(store.entries()) as infos:  # type: ignore[type-var]
        async for info in infos:
            yield info.address


class Spooled(Protocol):
    """Bytes that a `Spooling` store keeps on its own side before they have an address.

    `write` takes a piece; `keep` and `hash` are its halves, for a caller that overlaps writing and hashing. Each may
    be called from any one thread at a time. Closing it uncommitted leaves nothing behind.

    Attributes:
        size_bytes: How much was kept so far.
    """

    size_bytes: int

    def write(self, piece: bytes | memoryview) -> None:
        """Keeps and hashes a piece.

        Raises:
            TooLargeError: It would pass the largest size.
            StoreError: See the module.
        """
        ...

    def keep(self, piece: bytes | memoryview) -> None:
        """Keeps a piece without hashing it; errors as `write`."""
        ...

    def hash(self, piece: bytes | memoryview) -> None:
        """Hashes a piece without keeping it."""
        ...

    @property
    def address(self) -> Address:
        """The address of what was hashed so far."""
        ...

    def close(self) -> None:
        """Lets go of it; closing twice is harmless."""
        ...


@runtime_checkable
class Spooling(Protocol):
    """A store that takes a body piece by piece before it is known what it is."""

    def spool(self) -> Spooled:
        """Begins a body.

        Raises:
            StoreError: See the module.
        """
        ...

    async def put_spooled(self, spooled: Spooled, *, expected: Address | None = None) -> Address:
        """As `Blobs.put`; the spool is closed whatever happens."""
        ...

    async def write_spooled(self, address: Address, spooled: Spooled, *, when: Condition = ALWAYS) -> Info:
        """As `Slots.write`; the spool is closed whatever happens."""
        ...

    async def append_spooled(self, address: Address, spooled: Spooled) -> Info:
        """As `Slots.append`; the spool is closed whatever happens."""
        ...


class Glimpse(NamedTuple):
    """A small entry, read whole at once.

    Attributes:
        kind: Blob or slot.
        version: As `Info.version`.
        used_ns: As `Info.used_ns`.
        data: All of its bytes.
    """

    kind: Kind
    version: str
    used_ns: int
    data: bytes


@runtime_checkable
class Immediate(Protocol):
    """A store that can serve small bytes without waiting, so that no task need be made for them.

    Both calls come from one event loop's thread and never block on anything but a fast local disk.
    """

    def get_now(self, address: Address) -> Glimpse | None:
        """Reads a small entry as a use of it, or returns None: not now, ask `get`.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: See the module.
        """
        ...

    def put_now(self, data: bytes, done: Callable[[Address | HoldallError], None]) -> None:
        """Stores small bytes as `put` does and calls `done`, now or later in the loop, with the outcome."""
        ...


@runtime_checkable
class BulkStoring(Protocol):
    """A store that takes many blobs at once at less cost than one by one."""

    async def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores each of `blobs` as `put` does; their addresses, in order.

        Durability: as of `put`, for all of them, when this returns. If it raises, any of them may have been stored.

        Raises:
            TooLargeError: One is more than the store takes.
            StoreError: See the module.
        """
        ...


@runtime_checkable
class Quarantining(Protocol):
    """A store that takes a damaged blob out of the way without losing its bytes."""

    async def quarantine(self, address: Address) -> str | None:
        """Removes the blob at `address` if it does not hash to it, and keeps what is there for people to look at.

        Durability: as of `Blobs.delete`; the bytes kept are no entry, and nothing ever removes them.

        Returns:
            Where they are kept, or None where nothing was done: there is no blob, or none that is damaged.

        Raises:
            StoreError: See `holdall.stores.base`.
        """
        ...


@runtime_checkable
class UseRecording(Protocol):
    """A store that is read even where it cannot write down that it was."""

    @property
    def unrecorded_uses(self) -> int:
        """How many uses could not be written down since it was opened: their timers did not restart."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """A store that knows whether it brings a key to where its entries are."""

    @property
    def has_key(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class Removing(Protocol):
    """A store that tells caches what was removed from it, by whatever process."""

    def removals_counter(self) -> memoryview:
        """One 64-bit word that says how many removals there have been, cheap enough to look at before every read."""
        ...

    def removals_since(self, position: int) -> list[Address] | None:
        """What was removed after `position`, or None if that is no longer known."""
        ...


@runtime_checkable
class FileBacked(Protocol):
    """A `Reading` whose bytes are those of an open file at the same offsets, for sendfile."""

    def fileno(self) -> int:
        """The descriptor, valid until the reading is closed."""
        ...


class OpenFile(Protocol):
    """An open entry that is a file.

    Attributes:
        info: Of the version that is open.
    """

    info: Info

    def fileno(self) -> int:
        """The descriptor, valid until it is closed."""
        ...

    def close(self) -> None:
        """Lets go of it. Closing twice is harmless."""
        ...


@runtime_checkable
class ThreadReading(Protocol):
    """A store whose entries can be opened on the thread that is to read them, whichever that is."""

    def open_here(self, address: Address, *, use: bool = True) -> OpenFile:
        """Opens an entry, blocking.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: See the module.
        """
        ...


@runtime_checkable
class BatchStat(Protocol):
    """A store that can look at many entries in one go."""

    async def stat_many(self, addresses: list[Address], *, use: bool = True) -> list[Info | None]:
        """What is at each of `addresses`, in their order, None where nothing is.

        Raises:
            StoreError: See the module.
        """
        ...
