"""What is remembered of a tree between two commits, so that what has not changed is not read again.

It is a cache: a missing, damaged or foreign file of it is an empty one, and deleting it costs only time. An entry is
believed only where the file's device, inode, length and both times are what they were, and only if the file had lain
still for a moment when it was read: two edits within one tick of the file system's clock would look like one.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address
from holdall.core.tree import order
from holdall.limits.snapshot import CLOCK_TICK_NS, COARSE_CLOCK_TICK_NS
from holdall.stores.disk import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdall.snapshot.walk import Signature

_HEAD: Final = b"holdall file cache 2\n"
_BLOCK_ROWS: Final = 512
_BLOCK_BYTES_MAX: Final = 1 << 26
_LENGTH: Final = struct.Struct("<I")
_PACKS_MAX: Final = 64
"""Packs passed on the way that nobody asked for yet: those of the next files, or of a tree that has changed."""
_SECOND_NS: Final = 1_000_000_000
_SIGNED: Final = struct.Struct("<QQQqq")


class Chunk(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A chunk that was stored.

    Attributes:
        address: Where.
        size_bytes: Its length before compression.
    """

    address: bytes
    size_bytes: int


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is remembered of a file, or of a pack.

    Attributes:
        path: Of the file; empty for a pack.
        known: The file's signature and the hash of its contents; the pack's key.
        chunks: Of a large file; the one that the pack became.
    """

    path: bytes
    known: bytes
    chunks: tuple[Chunk, ...] = ()

    @property
    def content(self) -> Address:
        """The hash of the file's contents."""
        return Address(self.known[_SIGNED.size :])


_DECODER: Final = msgspec.msgpack.Decoder(list[Row])


class FileCache:
    """The memory of one tree and one codec, read and written in the order of the tree, so that it takes little room.

    Args:
        path: Its file, or None to remember nothing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._old: IO[bytes] | None = None
        self._block: Iterator[Row] = iter(())
        self._row: Row | None = None
        self._packs: dict[bytes, Chunk] = {}
        self._new: IO[bytes] | None = None
        self._rows: list[Row] = []

    def begin(self) -> None:
        """Begins a commit: what was remembered is asked for from the first entry of the tree on."""
        self.close()
        if self._path is None:
            return
        with suppress(OSError):
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._new = open(f"{self._path}.{os.getpid()}-{id(self):x}", "xb")  # noqa: SIM115 - for a whole commit
            self._new.write(_HEAD)
        with suppress(OSError):
            self._old = open(self._path, "rb", opener=open_regular)  # noqa: SIM115 - as above
            if self._old.read(len(_HEAD)) == _HEAD:
                self._advance()

    def file(self, path: bytes, signature: Signature) -> Row | None:
        """What is known of a file, if it is as it was. Files are asked for once each, in the order of the tree."""
        wanted: list[bytes] | None = None
        while (row := self._row) is not None:
            if row.path == path:
                self._advance()
                return row if row.known[: _SIGNED.size] == _signed(signature) else None
            if row.path:
                wanted = wanted or order(path)
                if order(row.path) > wanted:
                    return None
                self._advance()
            else:
                self._pass_pack(row)
        return None

    def pack(self, key: bytes) -> Chunk | None:
        """The chunk that a pack with this key became; asked for after its files."""
        while (row := self._row) is not None and not row.path:
            self._pass_pack(row)
        return self._packs.pop(key, None)

    def keep(self, rows: Iterable[Row]) -> None:
        """Remembers these, in the order of the tree, a pack before its files."""
        if self._new is not None:
            self._rows += rows
            if len(self._rows) >= _BLOCK_ROWS:
                self._write()

    def save(self) -> None:
        """Puts what this commit used in place of what was there; where it cannot, nothing is remembered."""
        self._write()
        new = self._new
        if new is None or self._path is None:
            return
        folder, name = os.path.split(self._path)
        with suppress(OSError):
            new.close()
            for left in os.listdir(folder):
                made = os.path.join(folder, left)
                if left.startswith(f"{name}.") and made != new.name:
                    os.unlink(made)  # by a commit that was killed; one under way remembers nothing then
            os.replace(new.name, self._path)
            self._new = None
        self.close()

    def close(self) -> None:
        """Lets go; what was not saved is forgotten."""
        old, new = self._old, self._new
        self._old = self._new = self._row = None
        self._block, self._packs, self._rows = iter(()), {}, []
        if old is not None:
            old.close()
        if new is not None:
            with suppress(OSError):
                new.close()
            with suppress(OSError):
                os.unlink(new.name)

    # --- inside ---

    def _pass_pack(self, row: Row) -> None:
        if len(self._packs) >= _PACKS_MAX:
            del self._packs[next(iter(self._packs))]
        if row.chunks:
            self._packs[row.known] = row.chunks[0]
        self._advance()

    def _advance(self) -> None:
        """Goes to the next row that was remembered; there is none after one that cannot be read."""
        self._row = next(self._block, None)
        while self._row is None and (rows := self._read()):
            self._block = iter(rows)
            self._row = next(self._block, None)

    def _read(self) -> list[Row]:
        if self._old is None:
            return []
        try:
            length = self._old.read(_LENGTH.size)
            if len(length) == _LENGTH.size and (size := _LENGTH.unpack(length)[0]) <= _BLOCK_BYTES_MAX:
                return _DECODER.decode(self._old.read(size))
        except (OSError, msgspec.MsgspecError):
            pass
        return []

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if self._new is None or not rows:
            return
        block = msgspec.msgpack.encode(rows)
        try:
            self._new.write(_LENGTH.pack(len(block)) + block)
        except OSError:
            self.close()


def file_row(
    path: bytes, signature: Signature, content: Address, read_ns: int, chunks: Iterable[Chunk] = ()
) -> tuple[Row, ...]:
    """What to remember of a file: nothing if it had not lain still when it was read.

    Args:
        path: Its path in the tree.
        signature: Of the file that was read.
        content: The hash of its contents.
        read_ns: When reading it began, nanoseconds since 1970.
        chunks: Of a large file, its chunks.
    """
    changed_ns = max(signature.mtime_ns, signature.ctime_ns)
    coarse = not signature.mtime_ns % _SECOND_NS and not signature.ctime_ns % _SECOND_NS
    if changed_ns + (COARSE_CLOCK_TICK_NS if coarse else CLOCK_TICK_NS) >= read_ns:
        return ()
    return (Row(path, _signed(signature) + content, tuple(chunks)),)


def cache_path(folder: str, root: str, codec: str) -> str:
    """The file that remembers a tree.

    Args:
        folder: Where caches are.
        root: The tree's absolute path.
        codec: What its chunks are compressed with.
    """
    name = hashlib.sha256(os.fsencode(f"{codec}\0{root}")).hexdigest()[:32]
    return os.path.join(folder, "trees", name)


def _signed(signature: Signature) -> bytes:
    """A signature as bytes."""
    return _SIGNED.pack(signature.device, signature.inode, signature.size_bytes, signature.mtime_ns, signature.ctime_ns)
