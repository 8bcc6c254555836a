"""How the archive of a tree is cut into pieces that stay the same where the tree does.

The archive is a sequence of **segments**. The contents of a large file are a segment of their own, cut by content
(see `chunking`), so the file has the same chunks wherever it lies. All between two large files, small files with
their headers and the large files' headers, is cut into **packs**, each one chunk. Where a pack ends depends on the
path of its last entry and on its size, so an edit changes one pack, and a new file one or two.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from holdall.core.archive import TRAILER, header, header_bytes
from holdall.core.tree import Entry, Type
from holdall.limits.snapshot import LARGE_FILE_BYTES_MIN, PACK_BYTES_MAX, PACK_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TYPE_NAMES: Final = {kind: kind.value.encode() for kind in Type}
_CUT_SHARE: Final = 64
"""One path in this many ends a pack that is large enough."""


class Pack(msgspec.Struct, frozen=True):
    """A run of the archive that becomes one chunk.

    Attributes:
        lead_bytes: Zero bytes at its beginning: the padding of the large file before it.
        entries: What it holds: headers, and the contents of small files.
        is_last: Whether the archive's trailer is at its end.
    """

    lead_bytes: int
    entries: tuple[Entry, ...]
    is_last: bool

    def key(self, contents: Iterable[bytes]) -> bytes:
        """What tells this pack from any other: equal keys, equal bytes.

        Args:
            contents: The hash of each small file's contents, in order.
        """
        parts = [b"%d %d" % (self.lead_bytes, self.is_last)]
        for entry in self.entries:
            parts.append(
                b"%b\0%b\0%d %d %b" % (entry.path, entry.target, entry.mode, entry.size_bytes, _TYPE_NAMES[entry.type])
            )
            if entry.metadata is not None:
                parts.append(header(entry))
        return hashlib.sha256(b"\0\0".join([*parts, *contents])).digest()


class Large(msgspec.Struct, frozen=True):
    """The contents of one large file."""

    entry: Entry


Segment: TypeAlias = "Pack | Large"


def is_large(entry: Entry) -> bool:
    """Whether an entry's contents are a segment of their own."""
    return entry.type is Type.FILE and entry.size_bytes >= LARGE_FILE_BYTES_MIN


def segments(entries: Iterable[Entry]) -> Iterator[Segment]:
    """Cuts the archive of a tree.

    Args:
        entries: All of them, in order; their contents need not be known.

    Yields:
        The archive's segments in order; the last is a pack.
    """
    lead, gathered, size = 0, list[Entry](), 0
    for entry in entries:
        large = is_large(entry)
        gathered.append(entry)
        size += header_bytes(entry) + (0 if large else entry.size_bytes + entry.padding_bytes)
        if large or size >= PACK_BYTES_MAX or (size >= PACK_BYTES_MIN and _ends_pack(entry)):
            yield Pack(lead, tuple(gathered), is_last=False)
            lead, gathered, size = 0, [], 0
        if large:
            yield Large(entry)
            lead = entry.padding_bytes
    yield Pack(lead, tuple(gathered), is_last=True)


def pack_bytes(pack: Pack, contents: Iterable[bytes]) -> bytes:
    """A pack's part of the archive.

    Args:
        pack: The pack.
        contents: The contents of each small file in it, in order, as long as its entry says.
    """
    parts, rest = [bytes(pack.lead_bytes)], iter(contents)
    for entry in pack.entries:
        parts.append(header(entry))
        if entry.type is Type.FILE and not is_large(entry):
            parts += (next(rest), bytes(entry.padding_bytes))
    if pack.is_last:
        parts.append(TRAILER)
    return b"".join(parts)


def _ends_pack(entry: Entry) -> bool:
    return hashlib.sha256(entry.path).digest()[0] % _CUT_SHARE == 0
