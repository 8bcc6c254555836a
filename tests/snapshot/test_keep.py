"""Keeping a commit uses all that it is made of, and tells what is missing."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
from typing import TYPE_CHECKING

import pytest
from making import file, folder, made

from holdall.core.address import Address
from holdall.core.codec import Codec
from holdall.errors import ReadOnlyError
from holdall.snapshot.keep import keep
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

TREE = [folder("a"), file("a/f", random.Random(5).randbytes(2_000_000)), file("b", b"2")]


@pytest.mark.parametrize("depth", [1, 2])
def test_each_blob_of_a_commit_is_used(depth: int) -> None:
    async def run() -> tuple[dict[Address, int], set[Address], int]:
        clock = itertools.count()
        store = MemoryStore(clock_ns=lambda: next(clock))
        other = await store.put(b"something else")
        commit = made(TREE, depth=depth)
        address = await commit.put(store)
        before = {info.address: info.used_ns async for info in store.entries()}
        report = await keep(store, address)
        after = {info.address: info.used_ns async for info in store.entries()}
        assert report.missing == []
        assert after[other] == before[other]
        return (
            {place: after[place] - before[place] for place in before},
            {Address.of(blob) for blob in commit.blobs()},
            report.members,
        )

    later, blobs, members = asyncio.run(run())

    assert {place for place, passed in later.items() if passed} == blobs
    assert members == len(blobs)


@pytest.mark.parametrize("depth", [1, 2])
def test_what_is_missing_is_named_and_the_rest_is_kept(depth: int) -> None:
    async def run(gone: list[Address]) -> list[Address]:
        store = MemoryStore()
        address = await made(TREE, depth=depth).put(store)
        for place in gone:
            await store.delete(place)
        return (await keep(store, address)).missing

    blobs = [Address.of(blob) for blob in made(TREE, depth=depth).blobs()]
    for gone in ([blobs[1]], [blobs[0], blobs[2]], *[[blob] for blob in blobs[3:-1]]):
        assert sorted(asyncio.run(run(gone))) == sorted(gone)


def test_a_chunk_that_comes_twice_is_missed_once() -> None:
    async def run() -> list[Address]:
        store = MemoryStore()
        commit = made([file("a", bytes(9_000_000))], Codec.NONE)
        address = await commit.put(store)
        await store.delete(Address.of(commit.chunks[2]))
        return (await keep(store, address)).missing

    assert len(asyncio.run(run())) == 1


class ReadOnlyDisk(Disk):
    """A disk that takes no change of a time."""

    def set_times(self, fd: int, accessed_ns: int, modified_ns: int) -> None:
        del fd, accessed_ns, modified_ns
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_nothing_is_kept_where_no_use_can_be_written_down(tmp_path: Path) -> None:
    async def stored() -> Address:
        store = await DirectoryStore.open(str(tmp_path))
        address = await made(TREE).put(store)
        await store.aclose()
        return address

    async def run() -> None:
        frozen = await DirectoryStore.open(str(tmp_path), disk=ReadOnlyDisk)
        try:
            await keep(frozen, address)
        finally:
            await frozen.aclose()

    address = asyncio.run(stored())
    for entry in tmp_path.glob("*.tig"):
        os.utime(entry, ns=(0, 0))

    with pytest.raises(ReadOnlyError, match="is not kept"):
        asyncio.run(run())
