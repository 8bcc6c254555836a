"""The texts and blobs that make a commit: its manifest, its index, its chunk sizes.

The **manifest** is a burst, so that a plain burst read restores the archive; what else a reader needs to know stands
in comments at its top. It holds nothing of when, where or by whom, so the same tree has the same address everywhere.

The **index** is a burst too: its members, read together, are rows of MessagePack, one for each entry of the tree, in
order. It is cut by path, so an edit changes one member. The **sizes** blob holds the length of each chunk before
compression. Index parts and sizes are compressed as the chunks are.
"""

from __future__ import annotations

import hashlib
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import DIGEST_BYTES, Address
from holdall.core.archive import header_bytes
from holdall.core.burst import members
from holdall.core.codec import Codec
from holdall.core.tree import Checker, Entry, Metadata, Type, shown
from holdall.errors import AddressError, BurstError, CommitError, DamagedCommitError, TreeError
from holdall.limits.snapshot import (
    CHUNK_RAW_BYTES_MAX,
    COMMIT_CHUNKS_MAX,
    FILE_BYTES_MAX,
    INDEX_PART_BYTES,
    INDEX_PART_BYTES_MAX,
    INDEX_ROWS_MAX,
    MANIFEST_LINES_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VERSION: Final = 1
_FIRST_LINE: Final = b"# holdall commit %d\n" % VERSION
_HEADER: Final = re.compile(rb"# ([a-z]+) (.+)")
_INDEX_CUT_SHARE: Final = 256
_TYPES: Final = (Type.FILE, Type.DIRECTORY, Type.SYMLINK, Type.HARD_LINK)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_TYPES)}


class Manifest(msgspec.Struct, frozen=True):
    """What a commit's address names.

    Attributes:
        codec: How its chunks are compressed.
        index: The burst of index parts.
        sizes: The blob of chunk sizes.
        depth: Levels of bursts to resolve when the archive is read: 2 where the manifest names parts of itself.
        members: The chunks, in order; with a depth of 2 the bursts that name them.
    """

    codec: Codec
    index: Address
    sizes: Address
    depth: int
    members: tuple[Address, ...]

    def encode(self) -> bytes:
        """The manifest's text."""
        lines = [
            _FIRST_LINE,
            b"# codec %b\n" % self.codec.value.encode(),
            b"# index %b\n" % self.index.path.encode(),
            b"# sizes %b\n" % self.sizes.path.encode(),
        ]
        if self.depth > 1:
            lines.append(b"# depth %d\n" % self.depth)
        return b"".join(lines) + burst(self.members)


def decode_manifest(text: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        CommitError: It is none.
    """
    if not text.startswith(b"# holdall commit "):
        raise CommitError("This is not a commit.", hint="A commit is what `holdall commit` prints the address of.")
    if not text.startswith(_FIRST_LINE):
        raise CommitError("The commit has a format that is newer than this version.", hint="Upgrade holdall.")
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n", 16)[1:-1]:
        found = _HEADER.fullmatch(line)
        if found is None:
            break
        fields.setdefault(found[1], found[2])
    try:
        named = members(text)
        depth = int(fields.get(b"depth", b"1"))
        if depth not in {1, 2}:
            raise DamagedCommitError("The commit is nested too deep.")
        return Manifest(
            codec=Codec(fields[b"codec"].decode("ascii")),
            index=Address.parse_path(fields[b"index"].decode("ascii")),
            sizes=Address.parse_path(fields[b"sizes"].decode("ascii")),
            depth=depth,
            members=tuple(named),
        )
    except KeyError as error:
        raise DamagedCommitError(f"The commit's manifest does not name its {error.args[0].decode()}.") from error
    except (ValueError, AddressError, BurstError) as error:
        raise DamagedCommitError(f"The commit's manifest is damaged: {str(error).rstrip('.')}.") from error


def burst(addresses: Iterable[Address]) -> bytes:
    """A burst of these members."""
    return b"".join([b"%b\n" % address.path.encode() for address in addresses])


def nested(chunks: Sequence[Address]) -> list[bytes]:
    """The bursts that a manifest of many chunks names in their place, or nothing where one manifest will do.

    Each ends where the chunks' addresses say, so that a change leaves the others as they are.
    """
    if len(chunks) <= MANIFEST_LINES_MAX:
        return []
    parts, gathered = [], list[Address]()
    for chunk in chunks:
        gathered.append(chunk)
        full = len(gathered) >= MANIFEST_LINES_MAX
        if full or (len(gathered) >= MANIFEST_LINES_MAX // 8 and chunk[31] % 128 == 0 and chunk[30] % 8 == 0):
            parts.append(burst(gathered))
            gathered = []
    if gathered:
        parts.append(burst(gathered))
    return parts


def encode_sizes(sizes: Sequence[int]) -> bytes:
    """The chunks' lengths before compression.

    Raises:
        TreeError: They are more than a commit may have.
    """
    if len(sizes) > COMMIT_CHUNKS_MAX:
        raise TreeError(f"The tree has over {COMMIT_CHUNKS_MAX} chunks.", hint="Commit its directories one by one.")
    return msgspec.msgpack.encode(list(sizes))


def decode_sizes(data: bytes, chunks: int) -> list[int]:
    """The chunks' lengths.

    Args:
        data: As `encode_sizes` gives it.
        chunks: How many there must be.

    Raises:
        CommitError: They are not that.
    """
    try:
        found = msgspec.msgpack.decode(data, type=list[int])
    except msgspec.MsgspecError as error:
        raise DamagedCommitError(f"The commit's chunk sizes are damaged: {error}.") from error
    if len(found) != chunks or any(not 0 <= size <= CHUNK_RAW_BYTES_MAX for size in found):
        raise DamagedCommitError("The commit's chunk sizes do not fit its chunks.")
    return found


class _MetadataRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    mtime_ns: int
    uid: int
    gid: int
    user: str
    group: str
    xattrs: list[tuple[bytes, bytes]]


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    path: bytes
    type: int
    mode: int
    size_bytes: int
    content: bytes
    target: bytes
    metadata: _MetadataRow | None


_DECODER: Final = msgspec.msgpack.Decoder(list[_Row])


class IndexWriter:
    """Turns entries, in order, into the parts of an index: each an array of rows, cut at paths.

    A part also ends where it has grown long, so that names of somebody's choosing cannot make one that no reader takes.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._size_bytes = 0

    def add(self, entry: Entry) -> bytes | None:
        """Takes an entry, the contents of a file known; returns the part that it completes, if it does.

        Raises:
            TreeError: It has more extended attributes than a commit takes.
        """
        size = DIGEST_BYTES + len(entry.path) + len(entry.target)
        if entry.metadata is not None:
            size += sum(len(name) + len(value) for name, value in entry.metadata.xattrs)
        if size > INDEX_PART_BYTES_MAX // 2:
            raise TreeError(f"{shown(entry.path)!r} has more extended attributes than a commit takes.")
        self._rows.append(_row(entry))
        self._size_bytes += size
        if self._size_bytes >= INDEX_PART_BYTES or hashlib.sha256(entry.path).digest()[1] % _INDEX_CUT_SHARE == 0:
            return self.finish()
        return None

    def finish(self) -> bytes | None:
        """The part of what is left, if anything is."""
        rows, self._rows, self._size_bytes = self._rows, [], 0
        return msgspec.msgpack.encode(rows) if rows else None


class IndexReader:
    """Turns the parts of an index, all and in order, into entries, each known to be safe to restore."""

    def __init__(self) -> None:
        self._checker = Checker()
        self._count = 0

    def read(self, part: bytes) -> Iterator[Entry]:
        """The entries of the next part.

        Raises:
            CommitError: The part is damaged.
            TreeError: An entry must not be restored.
        """
        rows = _rows(part)
        self._count += len(rows)
        if self._count > INDEX_ROWS_MAX:
            raise DamagedCommitError(f"The commit has over {INDEX_ROWS_MAX} entries.")
        for row in rows:
            yield self._checker.check(_entry(row))


def index_parts(entries: Iterable[Entry]) -> Iterator[bytes]:
    """All parts of a tree's index; see `IndexWriter`."""
    writer = IndexWriter()
    for part in (*map(writer.add, entries), writer.finish()):
        if part is not None:
            yield part


def read_index(parts: Iterable[bytes]) -> Iterator[Entry]:
    """Yields the entries of a whole index, each once it is known to be safe to restore.

    Args:
        parts: As `index_parts` gives them, all and in order.

    Raises:
        CommitError: A part is damaged.
        TreeError: An entry must not be restored.
    """
    reader = IndexReader()
    for part in parts:
        yield from reader.read(part)


def read_index_part(part: bytes) -> Iterator[Entry]:
    """Yields the entries of one part alone; whether they are safe to restore only the whole index tells.

    Raises:
        CommitError: The part is damaged.
    """
    return map(_entry, _rows(part))


def _rows(part: bytes) -> list[_Row]:
    try:
        return _DECODER.decode(part)
    except msgspec.MsgspecError as error:
        raise DamagedCommitError(f"The commit's index is damaged: {error}.") from error


def _row(entry: Entry) -> _Row:
    meta = entry.metadata
    kept = meta and _MetadataRow(meta.mtime_ns, meta.uid, meta.gid, meta.user, meta.group, list(meta.xattrs))
    content = bytes(entry.content or b"")
    return _Row(entry.path, _NUMBERS[entry.type], entry.mode, entry.size_bytes, content, entry.target, kept or None)


def _entry(row: _Row) -> Entry:
    meta = row.metadata
    kind = _TYPES[row.type] if 0 <= row.type < len(_TYPES) else None
    is_file = kind is Type.FILE
    if (
        kind is None
        or not 0 <= row.mode <= 0o7777
        or len(row.content) != (DIGEST_BYTES if is_file else 0)
        or not 0 <= row.size_bytes <= (FILE_BYTES_MAX if is_file else 0)
    ):
        raise DamagedCommitError(f"The commit's index has a row that means nothing, for {shown(row.path[:80])!r}.")
    return Entry(
        path=row.path,
        type=kind,
        mode=row.mode,
        size_bytes=row.size_bytes,
        content=Address(row.content) if is_file else None,
        target=row.target,
        metadata=None if meta is None else _metadata(meta),
    )


def _metadata(row: _MetadataRow) -> Metadata:
    return Metadata(row.mtime_ns, row.uid, row.gid, row.user, row.group, tuple(row.xattrs))


def spans(entries: Iterable[Entry], *, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Each entry with the offset in the archive at which its contents begin.

    Args:
        entries: All of them, in order.
        start: Where the first begins.
    """
    at = start
    for entry in entries:
        at += header_bytes(entry)
        yield entry, at
        at += entry.size_bytes + entry.padding_bytes


def offsets(sizes: Iterable[int]) -> list[int]:
    """Where each chunk begins in the archive, and where the last ends."""
    return [0, *accumulate(sizes)]
