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
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address
from holdall.limits import CLOCK_TICK_NS, COARSE_CLOCK_TICK_NS

if TYPE_CHECKING:
    from holdall.snapshot.walk import Signature

VERSION: Final = 1
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


class _Content(msgspec.Struct, array_like=True):
    version: int
    files: dict[bytes, bytes]
    """By path, `_signed` and the hash of the contents: one object each, for there may be millions."""
    chunks: dict[bytes, list[Chunk]]
    packs: dict[bytes, Chunk]


class FileCache:
    """The memory of one tree and one codec.

    Args:
        path: Its file, or None to remember nothing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._old = _read(path)
        self._new = _Content(VERSION, {}, {}, {})

    def content(self, path: bytes, signature: Signature) -> Address | None:
        """The hash of a file's contents, if it is known and the file is as it was."""
        found = self._new.files.get(path) or self._old.files.get(path)
        if found is None or found[: _SIGNED.size] != _signed(signature):
            return None
        self._new.files[path] = found
        return Address(found[_SIGNED.size :])

    def chunks(self, path: bytes, signature: Signature) -> list[Chunk] | None:
        """The chunks of a large file, if they are known and the file is as it was."""
        found = self._new.chunks.get(path) or self._old.chunks.get(path)
        if found is None or self.content(path, signature) is None:
            return None
        self._new.chunks[path] = found
        return found

    def pack(self, key: bytes) -> Chunk | None:
        """The chunk that a pack with this key became."""
        found = self._new.packs.get(key) or self._old.packs.get(key)
        if found is not None:
            self._new.packs[key] = found
        return found

    def keep_file(
        self, path: bytes, signature: Signature, content: Address, read_ns: int, chunks: list[Chunk] | None = None
    ) -> None:
        """Remembers a file.

        Args:
            path: Its path in the tree.
            signature: Of the file that was read.
            content: The hash of its contents.
            read_ns: When reading it began, nanoseconds since 1970.
            chunks: Of a large file, its chunks.
        """
        changed_ns = max(signature.mtime_ns, signature.ctime_ns)
        coarse = not signature.mtime_ns % _SECOND_NS and not signature.ctime_ns % _SECOND_NS
        if changed_ns + (COARSE_CLOCK_TICK_NS if coarse else CLOCK_TICK_NS) < read_ns:
            self._new.files[path] = _signed(signature) + content
            if chunks is not None:
                self._new.chunks[path] = chunks

    def keep_pack(self, key: bytes, chunk: Chunk) -> None:
        """Remembers what a pack became."""
        self._new.packs[key] = chunk

    def save(self) -> None:
        """Writes down what this commit used, in place of what was there; where it cannot, nothing is remembered."""
        if self._path is None:
            return
        folder, name = os.path.split(self._path)
        making = f"{self._path}.{os.getpid()}"
        with suppress(OSError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            for left in os.listdir(folder):
                if left.startswith(f"{name}."):  # by a commit that was killed; one under way remembers nothing then
                    os.unlink(os.path.join(folder, left))
            with open(making, "wb") as file:
                file.write(msgspec.msgpack.encode(self._new))
            os.replace(making, self._path)


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


def _read(path: str | None) -> _Content:
    empty = _Content(VERSION, {}, {}, {})
    if path is None:
        return empty
    try:
        with open(path, "rb") as file:
            found = msgspec.msgpack.decode(file.read(), type=_Content)
    except (OSError, msgspec.MsgspecError):
        return empty
    return found if found.version == VERSION else empty
