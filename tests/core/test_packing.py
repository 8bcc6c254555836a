"""The archive is cut where the tree says, so that little changes when little changes."""

from __future__ import annotations

import io
import random

from hypothesis import given
from hypothesis import strategies as st

from holdall.core.archive import TRAILER, header, header_bytes
from holdall.core.chunking import cut
from holdall.core.packing import Large, Pack, is_large, pack_bytes, segments
from holdall.core.tree import Entry, Metadata, Type
from holdall.limits import KIB, MIB
from holdall.limits.snapshot import LARGE_FILE_BYTES_MIN, PACK_BYTES_MAX


def file(name: str, size_bytes: int) -> Entry:
    return Entry(name.encode(), Type.FILE, 0o644, size_bytes)


def contents_of(entry: Entry) -> bytes:
    return (entry.path * (entry.size_bytes // len(entry.path) + 1))[: entry.size_bytes]


def joined(entries: list[Entry]) -> bytes:
    """What the segments of a tree are together."""
    parts = []
    for segment in segments(entries):
        if isinstance(segment, Large):
            parts.append(contents_of(segment.entry))
        else:
            small = [entry for entry in segment.entries if entry.type is Type.FILE and not is_large(entry)]
            parts.append(pack_bytes(segment, map(contents_of, small)))
    return b"".join(parts)


trees = st.lists(
    st.tuples(st.integers(0, 999), st.sampled_from([0, 1, 511, 512, 513, 70_000, LARGE_FILE_BYTES_MIN, 600_000])),
    max_size=12,
    unique_by=lambda pair: pair[0],
)


@given(trees)
def test_the_segments_are_the_archive(tree: list[tuple[int, int]]) -> None:
    entries = [file(f"{number:03}", size) for number, size in sorted(tree)]
    expected = b"".join(header(e) + contents_of(e) + bytes(e.padding_bytes) for e in entries) + TRAILER

    assert joined(entries) == expected


def keys(entries: list[Entry]) -> list[bytes]:
    return [segment.key(()) for segment in segments(entries) if isinstance(segment, Pack)]


def test_an_edit_changes_one_pack_and_a_new_file_few() -> None:
    chance = random.Random(1)
    entries = [file(f"{number:05}", chance.randrange(12_000)) for number in range(20_000)]
    before = keys(entries)
    edited = [*entries[:7000], file("07000", 5), *entries[7001:]]
    longer = [*entries[:7000], file("06999a", 5000), *entries[7000:]]

    assert len(before) > 100
    assert len(set(keys(edited)) - set(before)) <= 2
    assert len(set(keys(longer)) - set(before)) <= 3


def test_packs_are_neither_small_nor_large() -> None:
    entries = [file(f"{number:05}", 6000) for number in range(5000)]
    sizes = [sum(512 + e.size_bytes + e.padding_bytes for e in pack.entries) for pack in segments(entries)
             if isinstance(pack, Pack)]  # fmt: skip

    assert max(sizes) <= PACK_BYTES_MAX + LARGE_FILE_BYTES_MIN
    assert min(sizes[:-1]) >= 256 * KIB


def test_what_is_inserted_in_front_of_a_large_file_moves_no_later_cut() -> None:
    data = random.Random(2).randbytes(16 * MIB)
    before = list(cut(io.BytesIO(data), len(data)))
    after = list(cut(io.BytesIO(b"inserted" + data), len(data) + 8))

    assert b"".join(before) == data
    assert b"".join(after) == b"inserted" + data
    assert len(set(after) - set(before)) <= 2
    assert [len(chunk) for chunk in before[:4]] == CUTS


CUTS = [591632, 281317, 465903, 490761]
"""Part of the commit format: a cut elsewhere would give every large file another address."""


def test_long_names_and_attributes_make_no_pack_longer_than_a_chunk_may_be() -> None:
    meta = Metadata(0, 0, 0, xattrs=((b"user.a", bytes(60_000)),))
    full = [Entry(b"%05d" % number, Type.FILE, 0o644, 1, metadata=meta) for number in range(300)]
    long = [Entry(b"%05d" % number, Type.SYMLINK, 0o777, target=b"t" * 16_000) for number in range(2000)]

    for entries in (full, long):
        packs = [segment for segment in segments(entries) if isinstance(segment, Pack)]
        assert max(sum(map(header_bytes, pack.entries)) for pack in packs) < PACK_BYTES_MAX + 2 * 60_000
        assert len(packs) > 10
