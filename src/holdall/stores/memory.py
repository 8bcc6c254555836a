"""The store in memory: the contracts of `holdall.stores.base` in their plainest form.

It is the reference that other stores are compared with, and `memory:` for tests and demonstrations. What lies
between two awaits happens at one moment on an event loop, so a source is read to its end first and then takes
effect without awaiting. It must not know of files, of HTTP, or of what another store finds hard.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import (
    AlreadySetError,
    BlobInTheWayError,
    DigestMismatchError,
    KindError,
    NotFoundError,
    OutOfSpaceError,
    TooLargeError,
    VersionMismatchError,
)
from holdall.limits import CHUNK_BYTES
from holdall.stores.base import ABSENT, ALWAYS, WHOLE, Condition, IfVersion, Info, Kind, Source, Span, pieces
from holdall.stores.closing_reading import ClosingReading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

KEEP_FOR_EVER: Final = Retention(length_ns=None)

_Entry: TypeAlias = "tuple[Info, bytes]"


class MemoryStore:
    """A store that lives as long as the object does; closing it keeps nothing.

    Concurrency: any number of tasks of one event loop.
    Durability: none.

    Args:
        size_bytes_max: Bytes it holds at most, all entries and arriving bodies together; None for no bound.
        retention: What `Info.expires_ns` is reckoned by. Nothing is deleted here: that is a sweeper's work.
        clock_ns: Tells the time in nanoseconds since 1970.
    """

    def __init__(
        self,
        *,
        size_bytes_max: int | None = None,
        retention: Retention = KEEP_FOR_EVER,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._size_bytes_max = size_bytes_max
        self._retention = retention
        self._clock_ns = clock_ns
        self._entries: dict[Address, _Entry] = {}
        self._held_bytes = 0
        self._writes = 0

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes under their SHA-256; see `Blobs.put`.

        Raises:
            DigestMismatchError: The bytes do not hash to `expected`.
            TooLargeError: They are more than the store could ever hold.
            OutOfSpaceError: They are more than it can hold now.
        """
        data = await self._received(source)
        address = Address.of(data)
        if expected is not None and address != expected:
            raise DigestMismatchError(f"The bytes hash to {address}, not to {expected}.")
        self._keep_blob(address, data)
        return address

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> MemoryReading:
        """Opens the entry at `address`; see `Blobs.get`.

        Raises:
            NotFoundError: Nothing is there.
            RangeError: The span starts at or after its end.
        """
        info, data = self._found(address)
        start, stop = span.resolve(info.size_bytes)
        if use:
            info = self._use(address)
        return MemoryReading(info, data, start, stop)

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at the entry at `address`; see `Blobs.stat`.

        Raises:
            NotFoundError: Nothing is there.
        """
        info, _ = self._found(address)
        return self._use(address) if use else info

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes the entry at `address`; see `Blobs.delete`.

        Raises:
            NotFoundError: Nothing is there.
            KindError: It is not of the kind asked for; nothing was removed.
        """
        info, _ = self._found(address)
        if kind is not None and info.kind is not kind:
            raise KindError(f"{address} is a {info.kind.value}, not a {kind.value}.")
        self._remove(address)

    async def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest use first; see `Blobs.entries`."""
        infos = [info for info, _ in self._entries.values()]
        infos.sort(key=lambda info: (-info.used_ns, info.address))
        for info in infos:
            yield info

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not here; see `BatchExistence.missing`."""
        absent = []
        for address in dict.fromkeys(addresses):
            if address in self._entries:
                self._use(address)
            else:
                absent.append(address)
        return absent

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces the slot at `address`; see `Slots.write`.

        Raises:
            BlobInTheWayError: A blob is there.
            AlreadySetError: `ABSENT`, and something is there.
            VersionMismatchError: `IfVersion`, and the slot has another version or is not there.
            TooLargeError: The bytes are more than the store could ever hold.
            OutOfSpaceError: They are more than it can hold now.
        """
        data = await self._received(source)
        is_blob = Address.of(data) == address
        self._check(address, when, is_blob=is_blob)
        return self._keep_blob(address, data) if is_blob else self._keep_slot(address, data)

    async def append(self, address: Address, source: Source) -> Info:
        """Adds bytes at the end of the slot at `address`; see `Slots.append`.

        Raises:
            BlobInTheWayError: A blob is there.
            TooLargeError: The bytes are more than the store could ever hold.
            OutOfSpaceError: They are more than it can hold now.
        """
        data = await self._received(source)
        info, before = self._entries.get(address, (None, b""))
        if info is not None and info.kind is Kind.BLOB:
            raise _blob_in_the_way(address)
        return self._keep_slot(address, before + data)

    async def take(self, address: Address) -> MemoryReading:
        """Opens and removes the slot at `address`; see `Slots.take`.

        Raises:
            NotFoundError: Nothing is there.
            BlobInTheWayError: A blob is there.
        """
        info, data = self._found(address)
        if info.kind is Kind.BLOB:
            raise _blob_in_the_way(address)
        self._remove(address)
        return MemoryReading(info, data, 0, len(data))

    async def aclose(self) -> None:
        """Forgets everything."""
        for address in list(self._entries):
            self._remove(address)

    async def _received(self, source: Source) -> bytes:
        """All bytes of a source, counted as they arrive and no longer once they are here."""
        data = bytearray()
        with self._arriving() as arrived:
            async for piece in pieces(source):
                arrived(len(piece))
                data += piece
        return bytes(data)

    @contextmanager
    def _arriving(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of one body while it arrives, and lets go of the count however that ends."""
        total = 0

        def arrived(size_bytes: int) -> None:
            nonlocal total
            self._check_room(total + size_bytes, more_bytes=size_bytes)
            total += size_bytes
            self._held_bytes += size_bytes

        try:
            yield arrived
        finally:
            self._held_bytes -= total

    def _check_room(self, entry_bytes: int, *, more_bytes: int) -> None:
        """Refuses an entry of `entry_bytes`, `more_bytes` of them new, that does not fit."""
        if self._size_bytes_max is None:
            return
        if entry_bytes > self._size_bytes_max:
            raise TooLargeError(f"The store holds at most {self._size_bytes_max} bytes.")
        if self._held_bytes + more_bytes > self._size_bytes_max:
            raise OutOfSpaceError(f"The store is full: it holds at most {self._size_bytes_max} bytes.")

    def _found(self, address: Address) -> _Entry:
        entry = self._entries.get(address)
        if entry is None:
            raise NotFoundError(f"The store holds nothing at {address}.")
        return entry

    def _check(self, address: Address, when: Condition, *, is_blob: bool) -> None:
        """Refuses a write that its condition or a blob at its address forbids."""
        info, _ = self._entries.get(address, (None, b""))
        if when is ABSENT:
            if info is not None:
                raise AlreadySetError(f"Something is already stored at {address}.")
            return
        blob_is_there = info is not None and info.kind is Kind.BLOB
        if blob_is_there and not is_blob:
            raise _blob_in_the_way(address)
        if isinstance(when, IfVersion) and (info is None or info.version != when.version):
            raise VersionMismatchError(f"{address} has another version.")

    def _keep_blob(self, address: Address, data: bytes) -> Info:
        old, _ = self._entries.get(address, (None, b""))
        if old is not None and old.kind is Kind.BLOB:
            return self._use(address)
        return self._keep(address, Kind.BLOB, address.hex(), data)

    def _keep_slot(self, address: Address, data: bytes) -> Info:
        self._writes += 1
        return self._keep(address, Kind.SLOT, str(self._writes), data)

    def _keep(self, address: Address, kind: Kind, version: str, data: bytes) -> Info:
        _, old = self._entries.get(address, (None, b""))
        more_bytes = len(data) - len(old)
        self._check_room(len(data), more_bytes=more_bytes)
        self._held_bytes += more_bytes
        now_ns = self._clock_ns()
        info = Info(address, kind, len(data), version, now_ns, self._retention.expires_ns(now_ns))
        self._entries[address] = (info, data)
        return info

    def _use(self, address: Address) -> Info:
        """Restarts the timer of an entry that is there."""
        info, data = self._entries[address]
        now_ns = self._clock_ns()
        info = info._replace(used_ns=now_ns, expires_ns=self._retention.expires_ns(now_ns))
        self._entries[address] = (info, data)
        return info

    def _remove(self, address: Address) -> None:
        _, data = self._entries.pop(address)
        self._held_bytes -= len(data)


class MemoryReading(ClosingReading):
    """An open entry of a `MemoryStore`; see `Reading`.

    Args:
        info: Of the version pinned.
        data: All of its bytes.
        start: First byte that will be yielded.
        stop: One past the last.
    """

    def __init__(self, info: Info, data: bytes, start: int, stop: int) -> None:
        self.info = info
        self.start = start
        self.stop = stop
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop` in pieces of `CHUNK_BYTES`."""
        for at in range(self.start, self.stop, CHUNK_BYTES):
            yield self._data[at : min(at + CHUNK_BYTES, self.stop)]

    async def read(self) -> bytes:
        """All bytes from `start` to `stop`."""
        return self._data[self.start : self.stop]


def _blob_in_the_way(address: Address) -> BlobInTheWayError:
    return BlobInTheWayError(f"{address} holds a blob, which never changes.")
