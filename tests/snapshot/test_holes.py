"""Files with holes: the commit is that of written zeros at a fraction of the cost, and a checkout makes holes again."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from making import file, made
from test_commit import commit

from holdall.core.address import Address
from holdall.core.chunking import cut
from holdall.core.codec import Codec
from holdall.core.tree import Entry, Type
from holdall.errors import ChangedError
from holdall.limits import KIB, MIB
from holdall.limits.snapshot import READ_AHEAD_CHUNKS_MAX
from holdall.snapshot.checkout import Wish, checkout
from holdall.snapshot.reading import open_commit
from holdall.snapshot.sources import LargeFile
from holdall.stores.base import WHOLE, Span
from holdall.stores.memory import MemoryReading, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYOUTS = {
    "begin": (32 * MIB, [(20 * MIB + 5, 3 * MIB)]),
    "end": (32 * MIB + 7, [(0, 3 * MIB)]),
    "middle": (40 * MIB, [(0, 4097), (20 * MIB, MIB), (39 * MIB, MIB)]),
    "all": (17 * MIB + 1, []),
    "short holes": (16 * MIB, [(3 * MIB * number, 64 * KIB) for number in range(6)]),
    "as long as a chunk": (16 * MIB, [(0, MIB), (2 * MIB, MIB), (4 * MIB, 2 * MIB), (14 * MIB, MIB)]),
}
"""Length, and where there are data."""

ADDRESS = "7e63ecf25847bba455829f99d0be6ee1c83e5ca0bcd16558d1a9c9176f15b224"
"""Of a tree with a file for each layout, not compressed, in format version 1."""


def pieces(name: str) -> list[tuple[int, bytes]]:
    chance = random.Random(name)
    return [(at, chance.randbytes(size)) for at, size in LAYOUTS[name][1]]


def make(path: Path, name: str, *, holes: bool) -> None:
    with open(path, "wb") as out:
        out.write(b"" if holes else bytes(LAYOUTS[name][0]))
        out.truncate(LAYOUTS[name][0])
        for at, data in pieces(name):
            out.seek(at)
            out.write(data)


def rooms_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def holey_tree(root: Path, *, holes: bool = True) -> Path:
    root.mkdir()
    for name in LAYOUTS:
        make(root / name, name, holes=holes)
    return root


def hole_of(name: str) -> Callable[[int], int]:
    """What a file system says that keeps holes to the byte."""
    size, data = LAYOUTS[name]
    starts = [*(at for at, _ in data), size]

    def hole_bytes(at: int) -> int:
        if any(start <= at < start + length for start, length in data):
            return 0
        return next(start for start in starts if start >= at) - at

    return hole_bytes


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("says_bytes", [0, 1 << 30])  # files of different lengths are cut to different averages
def test_skipping_a_hole_moves_no_cut(name: str, says_bytes: int) -> None:
    whole = bytearray(LAYOUTS[name][0])
    for at, data in pieces(name):
        whole[at : at + len(data)] = data

    assert list(cut(io.BytesIO(whole), says_bytes, hole_of(name))) == list(cut(io.BytesIO(whole), says_bytes))


def test_holes_and_written_zeros_are_the_same_commit(tmp_path: Path) -> None:
    sparse, dense = holey_tree(tmp_path / "sparse"), holey_tree(tmp_path / "dense", holes=False)
    found = commit(sparse, str(tmp_path / "store"), codec=Codec.NONE)

    assert found.address is not None
    assert found.address.hex() == ADDRESS
    assert commit(dense, str(tmp_path / "store"), codec=Codec.NONE).address == found.address
    assert rooms_bytes(sparse / "begin") < rooms_bytes(dense / "begin")  # or it was the same tree twice


def test_a_hole_is_not_read_and_sent_once(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree" / "image", "wb") as out:
        for at in (100 * MIB, 200 * MIB):
            out.seek(at)
            out.write(b"data")
        out.truncate(300 * MIB)
    before = read_bytes_so_far()
    report = commit(tmp_path / "tree", str(tmp_path / "store"), codec=Codec.NONE)

    assert report.chunks >= 300
    assert report.sent_bytes < 10 * MIB
    assert read_bytes_so_far() - before < 20 * MIB


def read_bytes_so_far() -> int:
    """What this process has read by system calls, holes too."""
    with open("/proc/self/io") as lines:
        return int(next(lines).split()[1])


def test_a_file_that_ends_in_its_hole_meanwhile_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    make(path, "end", holes=True)
    large = LargeFile(os.open(path, os.O_RDONLY), Entry(b"image", Type.FILE, 0o644, path.stat().st_size))
    os.truncate(path, 20 * MIB)
    with pytest.raises(ChangedError, match="shorter"):
        list(large.chunks())
    large.close()


class _Counting(MemoryStore):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[Address]()

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> MemoryReading:
        self.asked[address] += 1
        return await super().get(address, span, use=use)


def test_the_chunk_of_a_hole_is_fetched_a_few_times_only(tmp_path: Path) -> None:
    data = b"begin" + bytes(100 * MIB) + b"end"

    async def run() -> _Counting:
        store = _Counting()
        address = await made([file("image", data)]).put(store)
        async with await open_commit(store, address) as reader:
            assert reader.chunks > 100
            await checkout(reader, Wish(directory=str(tmp_path / "out")))
        return store

    store = asyncio.run(run())

    assert max(store.asked.values()) <= READ_AHEAD_CHUNKS_MAX
    assert (tmp_path / "out" / "image").read_bytes() == data
    assert rooms_bytes(tmp_path / "out" / "image") < MIB
