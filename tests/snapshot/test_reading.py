"""A commit is read back as it was made, whatever its codec, its depth and its store."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import META, file, folder, hard_link, made, symlink

from holdall.core.address import Address
from holdall.core.archive import header, header_bytes
from holdall.core.codec import Codec
from holdall.core.tree import Entry, Metadata, Type
from holdall.errors import DamageError, MemberNotFoundError
from holdall.limits.snapshot import CHUNK_RAW_BYTES_MAX, READ_AHEAD_BYTES_MAX
from holdall.snapshot.layout import Layout
from holdall.snapshot.reading import open_commit
from holdall.snapshot.verify_commit import CommitVerification
from holdall.stores.directory import DirectoryStore
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryStore
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdall.stores.base import Store

LARGE = random.Random(3).randbytes(3_000_000)
TREE = [
    folder("a"),
    file("a/empty"),
    file("a/large", LARGE),
    symlink("a/link", "../b"),
    file("a/run", b"#!/bin/sh\n", 0o755),
    file(b"b\xff\n", b"odd"),
    file("c" * 250, b"long"),
    file("d", b"x" * 250_000),
]


async def opened(kind: str, tmp_path: Path) -> Store:
    return MemoryStore() if kind == "memory" else await DirectoryStore.open(str(tmp_path / "store"))


@pytest.mark.parametrize("kind", ["memory", "directory"])
@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_commit_is_read_back(tmp_path: Path, kind: str, codec: Codec, depth: int) -> None:
    async def read() -> tuple[list[Entry], bytes, int]:
        store = await opened(kind, tmp_path)
        try:
            address = await made(TREE, codec, depth).put(store)
            async with await open_commit(store, address) as reader:
                entries = [entry async for entry in reader.entries()]
                return entries, b"".join([chunk async for chunk in reader.archive()]), reader.archive_bytes
        finally:
            await store.aclose()

    entries, archive, size = asyncio.run(read())

    assert entries == [entry for entry, _ in TREE]
    assert archive == b"".join(made(TREE).chunks)
    assert size == len(archive)


def test_a_commit_is_read_back_from_a_server(tmp_path: Path) -> None:
    async def read(url: str) -> bytes:
        store = HTTPStore(url)
        try:
            address = await made(TREE).put(store)
            async with await open_commit(store, address) as reader:
                return b"".join([chunk async for chunk in reader.archive()])
        finally:
            await store.aclose()

    with running_server(tmp_path / "data") as server:
        archive = asyncio.run(read(server.url))

    assert archive == b"".join(made(TREE).chunks)


def test_the_offset_of_each_file_is_where_its_contents_are() -> None:
    async def read() -> dict[bytes, bytes]:
        store = MemoryStore()
        address = await made(TREE).put(store)
        async with await open_commit(store, address) as reader:
            archive = b"".join([chunk async for chunk in reader.archive()])
            return {entry.path: archive[at : at + entry.size_bytes] async for entry, at in reader.spans()}

    found = asyncio.run(read())

    assert found == {entry.path: data for entry, data in TREE}


def test_only_the_chunks_wanted_are_fetched() -> None:
    class Counting(MemoryStore):
        read: list[Address] = []  # noqa: RUF012 - one test, one store

        async def get(self, address, *args, **kwargs):  # type: ignore[no-untyped-def]
            self.read.append(address)
            return await super().get(address, *args, **kwargs)

    async def read() -> tuple[list[Address], Address]:
        store = Counting()
        address = await made(TREE).put(store)
        async with await open_commit(store, address) as reader:
            store.read.clear()
            _ = [chunk async for chunk in reader.archive(1, 2)]
            return store.read, reader.chunk(1)

    read_addresses, second = asyncio.run(read())

    assert read_addresses == [second]


def test_reading_ahead_is_bounded_by_bytes() -> None:
    chunk = bytes(READ_AHEAD_BYTES_MAX // 8)
    most = 0

    class Watching(MemoryStore):
        under_way = 0

        async def get(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal most
            self.under_way += 1
            most = max(most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
            return await super().get(*args, **kwargs)

    async def read() -> None:
        store = Watching()
        commit = made([], Codec.NONE)
        commit.chunks = [chunk] * 40
        address = await commit.put(store)
        async with await open_commit(store, address) as reader:
            async for _ in reader.archive():
                pass

    asyncio.run(read())

    assert 1 < most <= 4


def test_a_reading_that_is_given_up_leaves_nothing_behind() -> None:
    async def read() -> set[asyncio.Task[object]]:
        store = MemoryStore()
        address = await made(TREE).put(store)
        async with await open_commit(store, address) as reader:
            async with aclosing(reader.archive()) as chunks:
                async for _ in chunks:
                    break
            return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(read()) == set()


def test_a_chunk_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    async def read(number: int, data: bytes | None) -> Exception:
        store = await DirectoryStore.open(str(tmp_path / f"store{number}"))
        try:
            address = await made(TREE).put(store)
            async with await open_commit(store, address) as reader:
                spoil(tmp_path / f"store{number}", reader.chunk(2), data)
                with pytest.raises((DamageError, MemberNotFoundError)) as caught:
                    _ = [chunk async for chunk in reader.archive()]
                assert reader.chunk(2).path in str(caught.value)
                return caught.value
        finally:
            await store.aclose()

    kinds = [type(asyncio.run(read(number, data))) for number, data in enumerate([None, b"", b"other", LARGE])]

    assert kinds == [MemberNotFoundError, DamageError, DamageError, DamageError]


def spoil(folder: Path, address: Address, data: bytes | None) -> None:
    """Changes a file of a store behind its back."""
    path = folder / address.name
    mode = path.stat().st_mode
    os.unlink(path)
    if data is not None:
        path.write_bytes(data)
        path.chmod(mode)


# --- the parts ---


metadata = st.none() | st.builds(
    Metadata, st.integers(-(2**60), 2**60), st.integers(0, 2**32), st.integers(0, 2**32), st.text(max_size=40)
)
paths = st.binary(min_size=1, max_size=220)
any_entries = st.one_of(
    st.builds(Entry, paths, st.just(Type.DIRECTORY), st.just(0o755), metadata=metadata),
    st.builds(Entry, paths, st.just(Type.SYMLINK), st.just(0o777), target=paths, metadata=metadata),
    st.builds(Entry, paths, st.just(Type.FILE), st.just(0o644), st.sampled_from([0, 8**11 - 1, 8**11])),
)


@given(any_entries)
def test_the_length_of_a_header_is_known_without_making_it(entry: Entry) -> None:
    assert header_bytes(entry) == len(header(entry))


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=20),
    data=st.data(),
)
def test_a_layout_gives_every_wanted_byte_once_and_in_order(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    marks = sorted(data.draw(st.lists(st.integers(0, total), max_size=12)))
    items = list(zip(marks[::2], marks[1::2], strict=False))
    offsets = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    archive = bytes(number % 251 for number in range(total))
    layout: Layout[int] = Layout(offsets)
    batches = [batch for number, (start, stop) in enumerate(items) for batch in layout.add(number, stop - start, start)]
    batches += layout.finish()
    found: dict[int, bytes] = dict.fromkeys(range(len(items)), b"")
    for batch in batches:
        chunk = b"" if batch.chunk is None else archive[offsets[batch.chunk] : offsets[batch.chunk + 1]]
        for step in batch.steps:
            assert step.offset == len(found[step.item])
            found[step.item] += chunk[step.start : step.stop]
    numbers = [batch.chunk for batch in batches if batch.chunk is not None]

    assert [found[number] for number in range(len(items))] == [archive[start:stop] for start, stop in items]
    assert numbers == sorted(set(numbers))


def test_a_run_of_empty_items_does_not_grow_without_bound() -> None:
    layout: Layout[int] = Layout([0, 10])
    batches = [batch for number in range(10_000) for batch in layout.add(number, 0, 0)]
    batches += layout.finish()

    assert [step.item for batch in batches for step in batch.steps] == list(range(10_000))
    assert len(batches) > 1


# --- verification ---


async def verified(store: Store, address: Address) -> tuple[list[Address], CommitVerification]:
    run = CommitVerification(store, address)
    return [trouble.address async for trouble in run.troubles()], run


FULL = [
    folder("a", meta=META),
    file("a/one", b"1" * 600, meta=META),
    hard_link("a/two", "a/one"),
    file("b", LARGE, meta=META),
]


@pytest.mark.parametrize("tree", [TREE, FULL, []], ids=["plain", "with metadata", "empty"])
def test_a_whole_commit_is_verified(tree: list[tuple[Entry, bytes]]) -> None:
    async def verify() -> tuple[list[Address], CommitVerification]:
        store = MemoryStore()
        return await verified(store, await made(tree).put(store))

    troubles, run = asyncio.run(verify())

    assert troubles == []
    assert (run.report.entries, run.report.archive_bytes) == (len(tree), len(b"".join(made(tree).chunks)))
    assert run.report.lost_count == 0


@pytest.mark.parametrize(
    ("number", "lost"), [(0, []), (1, [b"a/large"]), (-1, [b"a/run", b"b\xff\n", b"c" * 250, b"d"])]
)
def test_verification_names_each_chunk_and_the_files_that_are_lost_with_it(number: int, lost: list[bytes]) -> None:
    async def verify() -> tuple[list[Address], CommitVerification, Address]:
        store = MemoryStore()
        commit = made(TREE)
        address = await commit.put(store)
        bad = Address.of(commit.codec.compress(commit.chunks[number]))
        await store.delete(bad)
        troubles, run = await verified(store, address)
        return troubles, run, bad

    troubles, run, bad = asyncio.run(verify())

    assert troubles == [bad]
    assert run.report.lost == lost


def test_a_large_file_with_several_lost_chunks_is_lost_once() -> None:
    async def verify() -> tuple[list[Address], CommitVerification]:
        store = MemoryStore()
        commit = made(TREE)
        address = await commit.put(store)
        for number in (2, 4):
            await store.delete(Address.of(commit.codec.compress(commit.chunks[number])))
        return await verified(store, address)

    troubles, run = asyncio.run(verify())

    assert len(troubles) == 2
    assert run.report.lost == [b"a/large"]


@pytest.mark.parametrize("depth", [1, 2])
def test_verification_goes_on_where_the_index_or_a_list_is_lost(depth: int) -> None:
    async def verify(gone: list[Address]) -> list[Address]:
        store = MemoryStore()
        address = await made(TREE, depth=depth).put(store)
        for place in gone:
            await store.delete(place)
        return (await verified(store, address))[0]

    commit = made(TREE, depth=depth)
    blobs = [Address.of(blob) for blob in commit.blobs()]
    index_part, index, sizes = blobs[len(commit.chunks) : len(commit.chunks) + 3]
    for gone in ([index_part, blobs[-2]], [index, blobs[0]], [sizes, blobs[0]], [blobs[0], index_part, sizes]):
        assert sorted(asyncio.run(verify(gone))) == sorted(gone)


def test_a_whole_blob_that_is_no_chunk_of_the_commit_is_not_called_damaged() -> None:
    async def verify() -> None:
        store = MemoryStore()
        commit = made(TREE)
        commit.sizes = [len(chunk) for chunk in commit.chunks]
        commit.sizes[1] += 512
        commit.sizes[2] -= 512
        await verified(store, await commit.put(store))

    with pytest.raises(DamageError, match=r"not that of its index, at the chunk .* the commit says"):
        asyncio.run(verify())


def wrong_header(chunks: list[bytes]) -> None:
    chunks[0] = chunks[0][:512].replace(b"0000755", b"0000777") + chunks[0][512:]


def wrong_padding(chunks: list[bytes]) -> None:
    chunks[-1] = chunks[-1][:-1025] + b"x" + chunks[-1][-1024:]


def wrong_end(chunks: list[bytes]) -> None:
    chunks[-1] = chunks[-1][:-1] + b"x"


def wrong_small_file(chunks: list[bytes]) -> None:
    chunks[-1] = chunks[-1].replace(b"#!/bin/sh", b"#!/bin/ls")


def wrong_large_file(chunks: list[bytes]) -> None:
    chunks[2] = b"x" + chunks[2][1:]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (wrong_header, "'a'"),
        (wrong_padding, "'d'"),
        (wrong_end, "its end"),
        (wrong_small_file, "'a/run'"),
        (wrong_large_file, "'a/large'"),
    ],
)
def test_an_archive_that_is_not_that_of_the_index_is_found(change: Callable[[list[bytes]], None], where: str) -> None:
    async def verify() -> None:
        store = MemoryStore()
        commit = made(TREE)
        change(commit.chunks)
        await verified(store, await commit.put(store))

    with pytest.raises(DamageError, match="not that of its index") as caught:
        asyncio.run(verify())
    assert where in str(caught.value)


def test_a_chunk_may_be_as_long_as_the_format_allows() -> None:
    async def read() -> int:
        store = MemoryStore()
        commit = made([], Codec.ZSTD)
        commit.chunks = [os.urandom(CHUNK_RAW_BYTES_MAX), b""]
        async with await open_commit(store, await commit.put(store)) as reader:
            return sum([len(chunk) async for chunk in reader.archive()])

    assert asyncio.run(read()) == CHUNK_RAW_BYTES_MAX
