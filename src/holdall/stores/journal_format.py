"""The bytes of the journal: segments of batches of records. Encoding and decoding only; no file is opened here.

`.holdall-journal` is two segments of equal length. A segment begins with a header block that names its epoch and a
random nonce, or says that it is retired. Batches follow, each on a block of its own so that a later torn write cannot
reach an acknowledged one, and each carrying the nonce, so that neither an older epoch's batch nor a blob that looks
like one is ever taken for a batch. A batch that was not written whole fails its checksum and is passed over: batches
of several processes sync independently, so one behind a hole may well have been acknowledged.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.address import Address
from holdall.limits.stores import JOURNAL_BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

JOURNAL_NAME: Final = ".holdall-journal"
NONCE_BYTES: Final = 16
RETIRED_NONCE: Final = bytes(NONCE_BYTES)

_SEGMENT_MAGIC: Final = b"holdall journal\x01"
_BATCH_MAGIC: Final = b"hld-batc"
_SEGMENT: Final = struct.Struct("<16s16sQI")
_BATCH: Final = struct.Struct("<8s16sQII")
_CHECKSUM: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<BQ32sQI")


class Change(IntEnum):
    """What a record says happened at an address."""

    BLOB = 1
    """A blob with these bytes."""
    SLOT = 2
    """A slot's value became these bytes."""
    APPEND = 3
    """These bytes were added to a slot at an offset."""
    REMOVED = 4
    """The entry was removed."""
    FILE = 5
    """What the directory had at the address was durable by itself; all before is past."""
    COMING = 6
    """A slot's file, durable but for its name, was about to be named; it has the revision as its mtime."""


class Record(NamedTuple):
    """One change.

    Attributes:
        change: What happened.
        address: Where.
        revision: The slot's revision, nanoseconds; 0 for a blob.
        offset: Where an append begins, bytes.
        data: The bytes written, none for REMOVED, FILE and COMING.
    """

    change: Change
    address: Address
    revision: int = 0
    offset: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        """The record's bytes, as `decode_records` reads them."""
        head = _RECORD.pack(self.change, self.revision, self.address, self.offset, len(self.data))
        return head + self.data


def encode_blob(address: Address, data: bytes) -> bytes:
    """The same as a BLOB record's `encode`, without making one; the durable small write passes here."""
    return _RECORD.pack(Change.BLOB, 0, address, 0, len(data)) + data


def encode_segment_header(nonce: bytes, epoch: int) -> bytes:
    """A whole header block; `RETIRED_NONCE` says that nothing in the segment counts any more."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, nonce, epoch, 0)[: -_CHECKSUM.size]
    return (head + _CHECKSUM.pack(zlib.crc32(head))).ljust(JOURNAL_BLOCK_BYTES, b"\0")


def decode_segment_header(block: bytes) -> tuple[bytes, int] | None:
    """The nonce and epoch of a segment in use, or None if it is retired or was never begun."""
    magic, nonce, epoch, checksum = _SEGMENT.unpack_from(block)
    whole = zlib.crc32(block[: _SEGMENT.size - _CHECKSUM.size]) == checksum
    return (nonce, epoch) if magic == _SEGMENT_MAGIC and whole and nonce != RETIRED_NONCE else None


def batch_bytes(payload_bytes: int) -> int:
    """The room in the segment, whole blocks, that a batch with this payload takes."""
    return -(-(_BATCH.size + _CHECKSUM.size + payload_bytes) // JOURNAL_BLOCK_BYTES) * JOURNAL_BLOCK_BYTES


def encode_batch(records: Iterable[bytes], nonce: bytes, sequence: int) -> bytes:
    """A batch of encoded records, padded to whole blocks.

    Args:
        records: As `Record.encode` gives them.
        nonce: The segment's.
        sequence: The batch's number, in the order in which the changes happened.
    """
    parts = list(records)
    length = sum(map(len, parts))
    head = _BATCH.pack(_BATCH_MAGIC, nonce, sequence, length, len(parts))
    checksum = zlib.crc32(head)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    padding = bytes(batch_bytes(length) - length - _BATCH.size - _CHECKSUM.size)
    return b"".join((head, _CHECKSUM.pack(checksum), *parts, padding))


def decode_segment(segment: memoryview) -> Iterator[tuple[int, list[Record]]]:
    """Yields the number and the records of each whole batch of a segment in use; nothing for a retired one."""
    header = decode_segment_header(bytes(segment[:JOURNAL_BLOCK_BYTES]))
    if header is None:
        return
    nonce, at = header[0], JOURNAL_BLOCK_BYTES
    while at + JOURNAL_BLOCK_BYTES <= len(segment):
        magic, batch_nonce, sequence, length, count = _BATCH.unpack_from(segment, at)
        start = at + _BATCH.size + _CHECKSUM.size
        if magic == _BATCH_MAGIC and batch_nonce == nonce and start + length <= len(segment):
            payload = segment[start : start + length]
            (checksum,) = _CHECKSUM.unpack_from(segment, at + _BATCH.size)
            if zlib.crc32(payload, zlib.crc32(segment[at : at + _BATCH.size])) == checksum:
                yield sequence, _decode_records(payload, count)
                at += batch_bytes(length)
                continue
        at += JOURNAL_BLOCK_BYTES


def _decode_records(payload: memoryview, count: int) -> list[Record]:
    records, at = [], 0
    for _ in range(count):
        change, revision, address, offset, length = _RECORD.unpack_from(payload, at)
        at += _RECORD.size
        records.append(Record(Change(change), Address(address), revision, offset, bytes(payload[at : at + length])))
        at += length
    return records
