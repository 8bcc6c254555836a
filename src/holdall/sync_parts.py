"""What a `SyncStore` takes and gives: sources of bytes, open entries as binary files, and slots."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from holdall.bridge import some
from holdall.core.address import Address
from holdall.errors import AddressError, DamageError, KindError, LocalFileError, UsageError
from holdall.limits import CHUNK_BYTES
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Kind
from holdall.stores.opening import directory_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence

    from _typeshed import WriteableBuffer

    from holdall.bridge import LoopThread
    from holdall.snapshot.commit import Report as CommitReport
    from holdall.stores.base import Info, Reading, Source, Store

_T = TypeVar("_T")

Path: TypeAlias = "str | os.PathLike[str]"


class Commit(NamedTuple):
    """A commit that was made: where it is; and what was done, and left out because it could not be read."""

    address: Address
    report: CommitReport


class Readable(Protocol):
    """A file, or anything else that gives bytes when it is read."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        ...


SyncSource: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Iterable[bytes]"
"""Bytes to store: themselves, the path of a file, a file open in binary mode, or bytes in pieces."""


def pieces_of(source: SyncSource) -> Generator[bytes, None, None]:
    """Yields the bytes of a source that is not bytes itself.

    Raises:
        LocalFileError: The file at a path cannot be read.
        UsageError: It gives no bytes.
    """
    if isinstance(source, str | os.PathLike):
        yield from _file_pieces(os.fspath(source))
        return
    read = getattr(source, "read", None)
    if read is None and not hasattr(source, "__iter__"):
        raise UsageError(f"No bytes can be read from {type(source).__name__}.")
    pieces: Iterable[Any] = source if read is None else iter(lambda: read(CHUNK_BYTES) or b"", b"")  # type: ignore[assignment]
    for piece in pieces:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise UsageError(f"{type(piece).__name__} is no bytes.", hint="Open the file in binary mode, or encode it.")
        yield bytes(piece)


def _file_pieces(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "A str is the path of a file; what is to be stored itself is bytes."
        raise LocalFileError(f"Cannot read {path[:200]!r}: {reason}.", hint=hint) from error


class _Pieces(io.RawIOBase):
    """An open entry as raw input: what is left of one piece, and the pieces to come."""

    def __init__(self, thread: LoopThread, reading: Reading) -> None:
        self.info = reading.info
        self._thread = thread
        self._reading = reading
        self._pieces = reading.__aiter__()
        self._rest = memoryview(b"")
        self._left_bytes = reading.stop - reading.start
        whole = self._left_bytes == reading.info.size_bytes
        self._digest = hashlib.sha256() if whole and reading.info.kind is Kind.BLOB else None

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads what there is into a buffer; a blob's last bytes only once all of them are known to be right."""
        if self.closed:
            raise ValueError("The stream is closed.")
        if not self._rest and self._left_bytes:
            self._rest = memoryview(self._next())
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._rest))
        into[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        """Lets go of the entry. Closing twice is harmless."""
        if not self.closed:
            super().close()
            self._thread.let_go(self._reading)

    def _next(self) -> bytes:
        found, error = self._thread.run(some(self._pieces, 1))
        if error is not None:
            raise error
        if not found:
            raise DamageError(f"What the store has at {self.info.address} is shorter than it says.")
        piece = found[0]
        self._left_bytes -= len(piece)
        if self._digest is not None:
            self._digest.update(piece)
            if not self._left_bytes:
                _check(self.info, self._digest.digest())
        return piece


class Stream(io.BufferedReader):
    """An open entry as a binary file: `read`, `readline`, iteration by lines; close it, or use it in a `with`.

    It stays the version that was opened, whatever happens to the entry. The last bytes of a blob that is read whole
    come only if all of them hash to its address.

    Attributes:
        info: Of the version that is open.
    """

    def __init__(self, thread: LoopThread, reading: Reading) -> None:
        raw = _Pieces(thread, reading)
        super().__init__(raw, CHUNK_BYTES)
        self.info: Info = raw.info


def _check(info: Info, digest: bytes) -> None:
    if info.kind is Kind.BLOB and digest != info.address:
        raise DamageError(
            f"What the store has at {info.address} does not hash to it.",
            hint="Take it out of the way with holdall verify --quarantine, then copy it from another store.",
        )


def address_of(where: Address | str) -> Address:
    """An address as it may be given.

    Raises:
        AddressError: It is none.
    """
    if isinstance(where, Address):
        return where
    if isinstance(where, str):
        return Address.parse_text(where)
    raise AddressError(f"{type(where).__name__} is not an address.")


def left_out(url: str, directory: Path, exclude: Sequence[str] = ()) -> Sequence[str]:
    """What is no part of a tree: `exclude`, and the store and the caches where they lie in it.

    Raises:
        UsageError: The tree is one of these itself.
    """
    from holdall.snapshot.commit_directory import own_places  # noqa: PLC0415 - slow to import

    path = directory_of(url)
    places = {} if path is None else {path: "the store"}
    return exclude if isinstance(exclude, str) else (*own_places(os.fspath(directory), places), *exclude)


def name_of(url: Path) -> str:
    """A store's name; what is a path to Python is one here, whatever it looks like."""
    return url if isinstance(url, str) else os.path.abspath(url)


class SyncParts:
    """An open store and the loop that it lives in.

    Args:
        thread: The loop.
        store: The store.
    """

    def __init__(self, thread: LoopThread, store: Store) -> None:
        self.thread = thread
        self.store = store

    def feed(self, source: SyncSource, take: Callable[[Source], Coroutine[Any, Any, _T]]) -> _T:
        """Gives a source to a call of the store; errors as those of the call and of `pieces_of`."""
        if isinstance(source, bytes | bytearray | memoryview):
            return self.thread.run(take(bytes(source)))
        with closing(pieces_of(source)) as pieces:
            return self.thread.run_fed(take, pieces)

    def read(self, opening: Callable[[], Awaitable[Reading]], *, only: Kind | None = None) -> bytes:
        """All bytes of an entry.

        Raises:
            KindError: It is not of the kind that alone is asked for.
            HoldallError: As opening and reading it.
        """

        async def work() -> bytes:
            async with await opening() as reading:
                info = reading.info
                if only is not None and info.kind is not only:
                    raise KindError(f"{info.address} holds a {info.kind.value}.", hint="Read it with get.")
                data = await reading.read()
            if len(data) == info.size_bytes:
                _check(info, Address.of(data))
            return data

        return self.thread.run(work())

    def stream(self, opening: Callable[[], Awaitable[Reading]]) -> Stream:
        """An entry as a file; errors as opening it."""
        return Stream(self.thread, self.thread.run(self.thread.owned(opening)))


class Slot:
    """A value that changes, under one address. Get one with `SyncStore.slot`.

    Attributes:
        address: Where it is.
    """

    def __init__(self, parts: SyncParts, address: Address) -> None:
        self.address = address
        self._parts = parts

    def get(self) -> bytes:
        """The value.

        Raises:
            NotFoundError: Nothing is there.
            KindError: A blob is there.
            StoreError: The store failed.
        """
        return self._parts.read(lambda: self._parts.store.get(self.address), only=Kind.SLOT)

    def reading(self) -> Stream:
        """Opens what is there as a file; `info.version` of it is what `set` can be held to. Errors as `get`."""
        return self._parts.stream(lambda: self._parts.store.get(self.address))

    def set(self, value: SyncSource, *, if_version: str | None = None) -> Info:
        """Replaces the value, all at once.

        Args:
            value: As `SyncStore.put` takes it.
            if_version: Write only over this version.

        Raises:
            VersionMismatchError: The slot has another version, or is not there.
            BlobInTheWayError: A blob is there.
            StoreError: The store failed.
        """
        when = ALWAYS if if_version is None else IfVersion(if_version)
        return self._parts.feed(value, lambda source: self._parts.store.write(self.address, source, when=when))

    def claim(self, value: SyncSource) -> Info:
        """Writes only where nothing is, so that of any racers exactly one wins.

        Raises:
            AlreadySetError: Something is there.
            StoreError: The store failed.
        """
        return self._parts.feed(value, lambda source: self._parts.store.write(self.address, source, when=ABSENT))

    def append(self, value: SyncSource) -> Info:
        """Adds bytes at the end, creating the slot if absent; appends never interleave or tear.

        Raises:
            BlobInTheWayError: A blob is there.
            StoreError: The store failed.
        """
        return self._parts.feed(value, lambda source: self._parts.store.append(self.address, source))

    def take(self) -> bytes:
        """Reads the value and removes the slot in one step; of any takers exactly one gets it.

        Raises:
            NotFoundError: Nothing is there.
            BlobInTheWayError: A blob is there.
            StoreError: The store failed.
        """
        return self._parts.read(lambda: self._parts.store.take(self.address))

    def delete(self) -> None:
        """Removes the slot.

        Raises:
            NotFoundError: Nothing is there.
            KindError: A blob is there.
            StoreError: The store failed.
        """
        self._parts.thread.run(self._parts.store.delete(self.address, kind=Kind.SLOT))


def slot_of(parts: SyncParts, key: str | bytes | None, address: Address | str | None) -> Slot:
    """The slot of a key, or the one at an address.

    Raises:
        AddressError: The address is none.
        UsageError: Neither is given, or both.
    """
    if (key is None) == (address is None):
        raise UsageError("Which slot?", hint="Give its key, or address=.")
    if address is not None:
        where = address_of(address)
    elif isinstance(key, str):
        where = Address.of(key.encode("utf-8", "surrogateescape"))
    else:
        assert key is not None  # noqa: S101 - one of the two is there
        where = key if isinstance(key, Address) else Address.of(key)
    return Slot(parts, where)
