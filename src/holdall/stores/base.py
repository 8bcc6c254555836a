"""The Store protocol: what every store promises, and the values that pass through it.

Two roles make up a `Store`: `Blobs`, immutable bytes under their own SHA-256, and `Slots`, values that change under
an address of the caller's choosing. Both share one space of addresses, and a blob always wins it. What only some
stores can do is a small protocol of its own (`BatchExistence`) that a caller asks for with `isinstance`.

These docstrings are contracts. `holdall.testing.conformance` holds every store to them.

For all stores:

* Errors are of `holdall.errors`; those of the operating system or of a library never leave a store.
* Concurrency: any number of calls may run at once, from any number of processes that open the same store. Each call
  takes effect at one moment between its start and its return.
* Durability: when a write returns, its result is as durable as the store was opened to be; when it raises, nothing
  of it is kept, unless the error is `UnreachableError`, after which the outcome is unknown.
* A reader sees a value whole, as one write left it, or not at all.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from holdall.errors import NotFoundError, RangeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from types import TracebackType

    from holdall.core.address import Address

Source: TypeAlias = "bytes | AsyncIterable[bytes]"
"""Bytes to store: whole, or in pieces of any size that are asked for one at a time."""


class Kind(Enum):
    """What lives at an address."""

    BLOB = "blob"
    SLOT = "slot"

    __hash__ = object.__hash__
    """Members are single, and Enum's own hash is a Python call; kinds are looked up on the quickest path."""


class Info(NamedTuple):
    """What a store knows of an entry without reading it.

    Attributes:
        address: Where it is.
        kind: Blob or slot.
        size_bytes: Its length.
        version: An opaque token, different after every write of a slot, constant for a blob.
        used_ns: Its recorded last use, nanoseconds since 1970; may lag the real one by a small part of the retention.
        expires_ns: When it may be deleted unless it is used, or None if never or not known.
    """

    address: Address
    kind: Kind
    size_bytes: int
    version: str
    used_ns: int
    expires_ns: int | None = None


class _Always:
    """Write whatever is there."""


class _Absent:
    """Write only where nothing is."""


class IfVersion(NamedTuple):
    """Write only over the slot version named."""

    version: str


ALWAYS: Final = _Always()
ABSENT: Final = _Absent()
Condition: TypeAlias = "_Always | _Absent | IfVersion"


class Span(NamedTuple):
    """Part of an entry, as a caller asks for it; the default is all of it.

    Attributes:
        start: First byte, or, when negative, that many bytes before the end.
        stop: One past the last byte; None for the end. Beyond the end means the end.
    """

    start: int = 0
    stop: int | None = None

    def resolve(self, size_bytes: int) -> tuple[int, int]:
        """The first byte and one past the last, within an entry of `size_bytes`.

        Raises:
            RangeError: It starts at or after the end of the entry, unless it asks for the whole of it.
        """
        if self == WHOLE:
            return 0, size_bytes
        start = max(0, size_bytes + self.start) if self.start < 0 else self.start
        stop = size_bytes if self.stop is None else min(self.stop, size_bytes)
        if start >= stop:
            raise RangeError(f"The entry has only {size_bytes} bytes.", size_bytes=size_bytes)
        return start, stop


WHOLE: Final = Span()


class Reading(Protocol):
    """An open entry, pinned: what it yields is one version, whatever happens to the entry meanwhile.

    Iterate it once for its pieces (at most `limits.CHUNK_BYTES` each) or `read` it whole; close it, or use it as
    an async context manager.

    Attributes:
        info: Of the version pinned.
        start: First byte that will be yielded.
        stop: One past the last.
    """

    info: Info
    start: int
    stop: int

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop` in order.

        Raises:
            DamageError: The bytes run short, or (stores that verify what they read) do not match the address.
            StoreError: The store failed meanwhile.
        """
        ...

    async def read(self) -> bytes:
        """All bytes from `start` to `stop`; the caller has checked that they fit in memory."""
        ...

    async def aclose(self) -> None:
        """Lets go of the entry. Closing twice is harmless."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Blobs(Protocol):
    """Immutable bytes under their own SHA-256; also what both roles share: reading, looking, deleting, listing."""

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes under the SHA-256 of what arrived.

        Storing what is already there rewrites nothing and restarts its timer. A slot at that address is replaced.

        Args:
            source: The bytes; if it raises, the error passes through and nothing is kept.
            expected: Refuse bytes that do not hash to this.

        Raises:
            DigestMismatchError: The bytes do not hash to `expected`.
            TooLargeError: They are more than the store takes.
            StoreError: See the module.
        """
        ...

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
        """Opens the blob or slot at `address`.

        Args:
            address: Where to read.
            span: Which part.
            use: Whether this counts as a use, restarting the timer.

        Raises:
            NotFoundError: Nothing is there.
            RangeError: The span starts at or after its end.
            StoreError: See the module.
        """
        ...

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at the blob or slot at `address` without reading it.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: See the module.
        """
        ...

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes the entry at `address`.

        Args:
            address: What to remove.
            kind: Remove it only if it is of this kind.

        Raises:
            NotFoundError: Nothing is there.
            KindError: It is of the other kind; nothing was removed.
            StoreError: See the module.
        """
        ...

    def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest recorded use first, ties by address, each at most once.

        Concurrency: an entry that exists throughout the iteration is yielded; others may be. Memory is bounded
        whatever the number of entries.

        Raises:
            AccessError: The store does not list itself to this caller.
            StoreError: See the module.
        """
        ...

    async def aclose(self) -> None:
        """Makes durable what is still on its way and lets go of everything. Closing twice is harmless."""
        ...


class Slots(Protocol):
    """Mutable values, each under an address that its owner chose, the hash of a key."""

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces the value at `address`, all at once.

        Bytes that hash to `address` are that address's blob and are stored as one.

        Args:
            address: Where to write.
            source: The new value.
            when: `ALWAYS`; `ABSENT`: only where nothing is, so that of any racers exactly one wins;
                `IfVersion`: only over that version of a slot.

        Raises:
            BlobInTheWayError: A blob is there (with `ABSENT`: `AlreadySetError`).
            AlreadySetError: `ABSENT`, and something is there.
            VersionMismatchError: `IfVersion`, and the slot has another version or is not there.
            TooLargeError: The bytes are more than the store takes.
            StoreError: See the module.
        """
        ...

    async def append(self, address: Address, source: Source) -> Info:
        """Adds bytes at the end of a slot, creating it if absent; appends never interleave or tear.

        Raises:
            BlobInTheWayError: A blob is there.
            TooLargeError: The bytes are more than the store takes.
            StoreError: See the module.
        """
        ...

    async def take(self, address: Address) -> Reading:
        """Opens the slot at `address` and removes it in one step; of any takers exactly one gets it.

        Durability: the removal is durable when this returns. The bytes live only in the `Reading`.

        Raises:
            NotFoundError: Nothing is there.
            BlobInTheWayError: A blob is there.
            StoreError: See the module.
        """
        ...


class Store(Blobs, Slots, Protocol):
    """Both roles over one space of addresses."""


@runtime_checkable
class BatchExistence(Protocol):
    """A store that can be asked for many addresses in one go."""

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not in the store, in their order, each once; the others' timers restart.

        Raises:
            StoreError: See the module.
        """
        ...


async def missing(store: Blobs, addresses: Iterable[Address]) -> list[Address]:
    """Which of `addresses` are not in `store`, by batch where it can, else one after the other.

    Raises:
        StoreError: See the module.
    """
    if isinstance(store, BatchExistence):
        return await store.missing(addresses)
    absent = []
    for address in dict.fromkeys(addresses):
        try:
            await store.stat(address)
        except NotFoundError:
            absent.append(address)
    return absent


async def pieces(source: Source) -> AsyncIterator[bytes]:
    """Yields a source's bytes in pieces, none of them empty."""
    if isinstance(source, bytes):
        if source:
            yield source
        return
    async for piece in source:
        if piece:
            yield piece
