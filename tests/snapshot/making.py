"""Commits made by hand, of any tree that one can think of: also of those that `holdall commit` would never make."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdall.core.address import Address
from holdall.core.chunking import cut
from holdall.core.codec import Codec
from holdall.core.manifest import Manifest, burst, encode_sizes, index_parts
from holdall.core.packing import Large, is_large, pack_bytes, segments
from holdall.core.tree import Entry, Metadata, Type, order

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from holdall.stores.base import Store

META = Metadata(1_500_000_000_123_456_789, os.getuid(), os.getgid())


def file(
    path: str | bytes, data: bytes = b"", mode: int = 0o644, *, meta: Metadata | None = None
) -> tuple[Entry, bytes]:
    entry = Entry(os.fsencode(path), Type.FILE, mode, len(data), Address.of(data), metadata=meta)
    return entry, data


def folder(path: str | bytes, mode: int = 0o755, *, meta: Metadata | None = None) -> tuple[Entry, bytes]:
    return Entry(os.fsencode(path), Type.DIRECTORY, mode, metadata=meta), b""


def symlink(path: str | bytes, target: str, *, meta: Metadata | None = None) -> tuple[Entry, bytes]:
    return Entry(os.fsencode(path), Type.SYMLINK, 0o777, target=os.fsencode(target), metadata=meta), b""


def hard_link(
    path: str | bytes, target: str, mode: int = 0o644, *, meta: Metadata | None = META
) -> tuple[Entry, bytes]:
    return Entry(os.fsencode(path), Type.HARD_LINK, mode, target=os.fsencode(target), metadata=meta), b""


def tree_of(root: Path) -> list[tuple[Entry, bytes]]:
    """The entries of a directory without metadata, in order."""
    found = []
    for path in root.rglob("*"):
        name, status = os.fsencode(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found.append(symlink(name, os.readlink(path)))
        elif stat.S_ISDIR(status.st_mode):
            found.append(folder(name))
        else:
            found.append(file(name, path.read_bytes(), 0o755 if status.st_mode & 0o100 else 0o644))
    return sorted(found, key=lambda pair: order(pair[0].path))


@dataclass
class Made:
    """The blobs of a commit before they are stored, for tests that spoil them.

    Attributes:
        codec: How they are compressed.
        chunks: The archive's chunks, unpacked.
        sizes: What the commit says of their lengths; theirs where None.
        entries: What the index says.
        depth: 2 names the chunks through bursts, of three each.
    """

    codec: Codec
    chunks: list[bytes]
    entries: list[Entry]
    sizes: list[int] | None = None
    depth: int = 1
    extra: list[bytes] = field(default_factory=list)

    def blobs(self) -> list[bytes]:
        """All blobs, the manifest last."""
        chunks = [self.codec.compress(chunk) for chunk in self.chunks]
        parts = [self.codec.compress(part) for part in index_parts(self.entries)]
        index = burst(map(Address.of, parts))
        sizes = self.codec.compress(encode_sizes(self.sizes or [len(chunk) for chunk in self.chunks]))
        members = tuple(map(Address.of, chunks))
        nests = [burst(members[at : at + 3]) for at in range(0, len(members), 3)] if self.depth == 2 else []
        manifest = Manifest(
            self.codec,
            Address.of(index),
            Address.of(sizes),
            self.depth,
            tuple(map(Address.of, nests)) if nests else members,
        )
        return [*chunks, *parts, index, sizes, *nests, *self.extra, manifest.encode()]

    async def put(self, store: Store) -> Address:
        """Stores them; the commit's address."""
        for blob in self.blobs():
            address = await store.put(blob)
        return address


def made(tree: Iterable[tuple[Entry, bytes]], codec: Codec = Codec.ZSTD, depth: int = 1) -> Made:
    """A commit of entries and contents, which are taken in the order given, and as they are."""
    pairs = list(tree)
    contents = {entry.path: data for entry, data in pairs}
    chunks: list[bytes] = []
    for segment in segments([entry for entry, _ in pairs]):
        if isinstance(segment, Large):
            data = contents[segment.entry.path]
            chunks += cut(io.BytesIO(data), len(data))
        else:
            small = [entry for entry in segment.entries if entry.type is Type.FILE and not is_large(entry)]
            chunks.append(pack_bytes(segment, [contents[entry.path] for entry in small]))
    return Made(codec, chunks, [entry for entry, _ in pairs], depth=depth)


def with_content(entry: Entry, data: bytes) -> Entry:
    """An entry that claims other contents than it has."""
    return replace(entry, content=Address.of(data))
