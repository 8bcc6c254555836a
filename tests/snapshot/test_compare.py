"""Two commits are compared by their indexes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from making import META, file, folder, hard_link, made, symlink

from holdall.core.tree import Metadata
from holdall.snapshot.compare import compare
from holdall.snapshot.reading import open_commit
from holdall.stores.memory import MemoryStore

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.core.tree import Entry

BASE = [folder("a"), file("a/f", b"1"), symlink("a/l", "f"), file("b", b"2", 0o755)]


def difference(old: Any, new: Any) -> list[tuple[str, bytes]]:
    async def run() -> list[tuple[str, bytes]]:
        store = MemoryStore()
        first, second = await made(old).put(store), await made(new).put(store)
        async with await open_commit(store, first) as before, await open_commit(store, second) as after:
            return [tuple(change) async for change in compare(before, after)]  # type: ignore[misc]

    return asyncio.run(run())


CASES: dict[str, tuple[list[tuple[Entry, bytes]], list[tuple[str, bytes]]]] = {
    "nothing": (BASE, []),
    "everything gone": ([], [("D", b"a"), ("D", b"a/f"), ("D", b"a/l"), ("D", b"b")]),
    "contents": ([BASE[0], file("a/f", b"9"), *BASE[2:]], [("M", b"a/f")]),
    "the right to execute": ([*BASE[:3], file("b", b"2")], [("M", b"b")]),
    "a target": ([*BASE[:2], symlink("a/l", "g"), BASE[3]], [("M", b"a/l")]),
    "a type": ([*BASE[:3], symlink("b", "2")], [("M", b"b")]),
    "a file less": ([BASE[0], *BASE[2:]], [("D", b"a/f")]),
    "files more": ([*BASE[:2], file("a/g"), *BASE[2:], file("c")], [("A", b"a/g"), ("A", b"c")]),
    "a name that sorts between": ([*BASE[:3], file("a.b"), BASE[3]], [("A", b"a.b")]),
    "a directory in a file's place": ([*BASE[:3], folder("b"), file("b/c")], [("M", b"b"), ("A", b"b/c")]),
}


@pytest.mark.parametrize(("tree", "changes"), CASES.values(), ids=CASES)
def test_what_differs_is_told_and_nothing_else(
    tree: list[tuple[Entry, bytes]], changes: list[tuple[str, bytes]]
) -> None:
    turned = [({"A": "D", "D": "A"}.get(letter, letter), path) for letter, path in changes]

    assert difference(BASE, tree) == changes
    assert difference(tree, BASE) == turned


def test_metadata_counts_where_both_have_it_and_times_never() -> None:
    later = Metadata(9, 9, 9)
    full = [file("a", b"1", 0o640, meta=META), hard_link("b", "a", 0o640)]
    other = [file("a", b"1", 0o600, meta=META), hard_link("b", "a", 0o640)]
    times = [file("a", b"1", 0o640, meta=later), hard_link("b", "a", 0o640, meta=later)]

    assert difference(full, other) == [("M", b"a")]
    assert difference(full, times) == []
    assert difference([file("a", b"1", 0o640, meta=META)], [file("a", b"1")]) == []


def test_of_two_large_trees_only_the_parts_that_differ_are_read() -> None:
    tree = [file(f"f{number:05}", b"%d" % number) for number in range(5000)]
    edited = [*tree[:2000], file("f02000", b"edited"), *tree[2001:]]

    async def run() -> tuple[list[Any], int, int]:
        store = MemoryStore()
        read: list[Address] = []
        first, second = await made(tree).put(store), await made(edited).put(store)
        async with await open_commit(store, first) as before, await open_commit(store, second) as after:
            parts = await before.index_parts()
            for reader in (before, after):
                fetch = reader.index_part

                async def counted(address: Address, fetch: Any = fetch) -> bytes:
                    read.append(address)
                    return bytes(await fetch(address))

                reader.index_part = counted  # type: ignore[method-assign]
            return [change async for change in compare(before, after)], len(read), len(parts)

    changes, fetched, parts = asyncio.run(run())

    assert changes == [("M", b"f02000")]
    assert parts > 10
    assert fetched == 2
