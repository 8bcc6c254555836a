"""Manifests, indexes and codecs: read back as written, and refused where they are not what they claim."""

from __future__ import annotations

import gzip
import subprocess
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core import manifest as format_1
from holdall.core.address import Address
from holdall.core.burst import members
from holdall.core.codec import Codec
from holdall.core.manifest import Manifest, decode_manifest, decode_sizes, encode_sizes, index_parts, nested, read_index
from holdall.core.tree import Entry, Metadata, Type
from holdall.errors import CommitError, DamageError, TreeError
from holdall.limits.snapshot import CHUNK_RAW_BYTES_MAX, INDEX_PART_BYTES, INDEX_PART_BYTES_MAX, MANIFEST_LINES_MAX
from support import need_tool

A, B, C = Address.of(b"a"), Address.of(b"b"), Address.of(b"c")


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_manifest_is_a_burst_and_read_back(codec: Codec, depth: int) -> None:
    manifest = Manifest(codec, A, B, depth, (C, A, C))
    text = manifest.encode()

    assert decode_manifest(text) == manifest
    assert members(text) == [C, A, C]


GOOD = Manifest(Codec.ZSTD, A, B, 1, (C,)).encode()
NOT_MANIFESTS = {
    "nothing": b"",
    "a burst": b"%b\n" % C.path.encode(),
    "a newer one": GOOD.replace(b"commit 1", b"commit 2"),
    "no codec": GOOD.replace(b"# codec zstd\n", b""),
    "an unknown codec": GOOD.replace(b"zstd", b"lzma"),
    "no index": GOOD.replace(b"# index", b"# inbox"),
    "an index that is no address": GOOD.replace(b"# index /", b"# index //"),
    "a depth that is none": GOOD.replace(b"# codec", b"# depth two\n# codec"),
    "too deep": GOOD.replace(b"# codec", b"# depth 3\n# codec"),
    "a member that is no address": GOOD + b"/abc\n",
}


@pytest.mark.parametrize("text", NOT_MANIFESTS.values(), ids=NOT_MANIFESTS)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(CommitError):
        decode_manifest(text)


def test_a_manifest_of_many_chunks_is_nested_at_places_that_stay() -> None:
    chunks = [Address.of(b"%d" % number) for number in range(3 * MANIFEST_LINES_MAX)]
    parts = nested(chunks)

    assert nested(chunks[:MANIFEST_LINES_MAX]) == []
    assert [member for part in parts for member in members(part)] == chunks
    assert len(set(nested([A, *chunks])) - set(parts)) <= 2


names = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in {b".", b".."}
)
metadata = st.none() | st.builds(
    Metadata, st.integers(-(2**60), 2**60), st.integers(0, 2**32), st.integers(0, 2**32), st.text(), st.text(),
    st.lists(st.tuples(st.binary(), st.binary()), max_size=2).map(tuple),
)  # fmt: skip
entries = st.one_of(
    st.builds(Entry, names, st.just(Type.DIRECTORY), st.integers(0, 0o7777), metadata=metadata),
    st.builds(Entry, names, st.just(Type.SYMLINK), st.just(0o777), target=names, metadata=metadata),
    st.builds(
        Entry, names, st.just(Type.FILE), st.integers(0, 0o7777), st.integers(0, 2**45), st.just(A), metadata=metadata
    ),
)


@given(st.lists(entries, unique_by=lambda entry: entry.path).map(lambda found: sorted(found, key=lambda e: e.path)))
def test_an_index_is_read_back(tree: list[Entry]) -> None:
    assert list(read_index(index_parts(tree))) == tree


def test_an_edit_changes_one_part_of_an_index() -> None:
    tree = [Entry(b"%05d" % number, Type.FILE, 0o644, number, A) for number in range(10_000)]
    before = list(index_parts(tree))
    after = list(index_parts([*tree[:5000], Entry(b"05000", Type.FILE, 0o644, 1, B), *tree[5001:]]))

    assert len(before) > 20
    assert len(set(after) - set(before)) == 1


def test_names_of_somebodys_choosing_make_no_part_that_is_longer_than_a_reader_takes() -> None:
    long = b"/".join([b"n" * 250] * 20)
    paths = [path for path in (b"%05d" % number + long for number in range(3000)) if sha256(path).digest()[1]]
    parts = list(index_parts([Entry(path, Type.FILE, 0o644, 1, A) for path in paths]))

    assert max(map(len, parts)) < 2 * INDEX_PART_BYTES
    assert sum(map(len, parts)) > 10_000_000


def test_more_attributes_than_a_reader_takes_are_refused() -> None:
    most = Metadata(0, 0, 0, xattrs=((b"user.a", bytes(INDEX_PART_BYTES_MAX // 2 - 1000)),))
    more = Metadata(0, 0, 0, xattrs=((b"user.a", bytes(INDEX_PART_BYTES_MAX // 2)),))

    assert all(len(part) < INDEX_PART_BYTES_MAX for part in index_parts([file(b"a"), file(b"b", metadata=most)]))
    with pytest.raises(TreeError, match="more extended attributes"):
        list(index_parts([file(b"a", metadata=more)]))


def test_more_chunks_than_a_reader_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_1, "COMMIT_CHUNKS_MAX", 10)

    with pytest.raises(TreeError, match="over 10 chunks"):
        encode_sizes([1] * 11)


def file(path: bytes, *, metadata: Metadata | None = None) -> Entry:
    return Entry(path, Type.FILE, 0o644, 1, A, metadata=metadata)


META = Metadata(0, 0, 0)
EVIL_TREES = {
    "an absolute path": [file(b"/etc/passwd")],
    "a way out": [Entry(b"a", Type.DIRECTORY, 0o755), file(b"a/../../b")],
    "the parent": [file(b"..")],
    "the root": [file(b".")],
    "an empty name": [Entry(b"a", Type.DIRECTORY, 0o755), file(b"a//b")],
    "an empty path": [file(b"")],
    "a NUL": [file(b"a\0b")],
    "a name too long": [file(b"a" * 256)],
    "a path too long": [file(b"/".join([b"a" * 255] * 65))],
    "twice the same": [file(b"a"), file(b"a")],
    "not in order": [file(b"b"), file(b"a")],
    "in a directory that is not there": [file(b"a/b")],
    "in a symlink": [Entry(b"a", Type.SYMLINK, 0o777, target=b"/etc"), file(b"a/b")],
    "in a file": [file(b"a"), file(b"a/b")],
    "in a directory that is over": [
        Entry(b"a", Type.DIRECTORY, 0o755), Entry(b"b", Type.DIRECTORY, 0o755), file(b"a/b")],
    "a symlink to nothing": [Entry(b"a", Type.SYMLINK, 0o777)],
    "a symlink with a NUL": [Entry(b"a", Type.SYMLINK, 0o777, target=b"b\0")],
    "a hard link out": [Entry(b"a", Type.HARD_LINK, 0o644, target=b"/etc/passwd")],
    "a hard link to what comes later": [Entry(b"a", Type.HARD_LINK, 0o644, target=b"b"), file(b"b", metadata=META)],
    "a hard link to a symlink": [
        Entry(b"a", Type.SYMLINK, 0o777, target=b"/etc"), Entry(b"b", Type.HARD_LINK, 0o644, target=b"a")],
}  # fmt: skip


@pytest.mark.parametrize("tree", EVIL_TREES.values(), ids=EVIL_TREES)
def test_what_must_not_be_restored_is_refused(tree: list[Entry]) -> None:
    with pytest.raises(TreeError):
        list(read_index(index_parts(tree)))


GOOD_ROW = [b"a", 0, 0o644, 1, bytes(32), b"", None]
EVIL_ROWS = {
    "another type": [b"a", 4, 0o644, 0, b"", b"", None],
    "a negative type": [b"a", -1, 0o644, 0, b"", b"", None],
    "a mode that is none": [b"a", 0, 0o10000, 1, bytes(32), b"", None],
    "a negative length": [b"a", 0, 0o644, -1, bytes(32), b"", None],
    "a length beyond all": [b"a", 0, 0o644, 1 << 62, bytes(32), b"", None],
    "a directory with contents": [b"a", 1, 0o755, 1, b"", b"", None],
    "a hash that is none": [b"a", 0, 0o644, 1, bytes(31), b"", None],
    "text for bytes": [1, 0, 0o644, 1, bytes(32), b"", None],
    "too few": [b"a", 0],
    "no row": 5,
}


@pytest.mark.parametrize("row", EVIL_ROWS.values(), ids=EVIL_ROWS)
def test_rows_that_mean_nothing_are_refused(row: object) -> None:
    with pytest.raises(CommitError):
        list(read_index([msgspec.msgpack.encode([GOOD_ROW, row])]))


def test_an_index_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_1, "INDEX_ROWS_MAX", 10)
    tree = [file(b"%02d" % number) for number in range(11)]

    with pytest.raises(CommitError, match="over 10 entries"):
        list(read_index(index_parts(tree)))


def test_sizes_are_read_back_and_must_fit() -> None:
    data = encode_sizes([1, 2, CHUNK_RAW_BYTES_MAX])

    assert decode_sizes(data, 3) == [1, 2, CHUNK_RAW_BYTES_MAX]
    for wrong, count in [(data, 2), (encode_sizes([-1]), 1), (encode_sizes([1 << 40]), 1), (b"\xff", 1), (b"", 0)]:
        with pytest.raises(CommitError):
            decode_sizes(wrong, count)


@pytest.mark.parametrize("codec", Codec)
@given(st.binary(max_size=2000))
def test_a_chunk_is_compressed_and_back(codec: Codec, data: bytes) -> None:
    assert codec.decompress(codec.compress(data)) == data


@pytest.mark.parametrize(("codec", "tool"), [(Codec.ZSTD, "zstd"), (Codec.GZIP, "gzip")])
def test_chunks_one_after_the_other_are_one_stream(codec: Codec, tool: str) -> None:
    stream = b"".join(codec.compress(piece) for piece in (b"one ", b"", b"two"))
    run = subprocess.run([need_tool(tool), "-dc"], input=stream, capture_output=True, check=True)

    assert run.stdout == b"one two"


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.GZIP])
def test_what_is_no_chunk_is_refused(codec: Codec) -> None:
    whole = codec.compress(b"some bytes" * 100)
    for wrong in (b"", b"x", whole[:-1], whole[:5], whole + b"x", whole + whole):
        with pytest.raises(DamageError):
            codec.decompress(wrong)
    with pytest.raises(DamageError, match="more than"):
        codec.decompress(codec.compress(bytes(CHUNK_RAW_BYTES_MAX + 1)))


def test_gzip_names_no_system_and_no_time() -> None:
    assert Codec.GZIP.compress(b"a")[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    assert gzip.decompress(Codec.GZIP.compress(b"a")) == b"a"
