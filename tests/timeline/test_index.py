"""The index says what the tree says, whatever was written of it, and however it came there."""

from __future__ import annotations

import fcntl
import math
import os
import threading
from typing import TYPE_CHECKING

import pytest
from gits import blobs_of, git
from hypothesis import given
from hypothesis import strategies as st

from holdall.core import git_tree
from holdall.core.instant import Name, key_of
from holdall.timeline import Store
from holdall.timeline.index import Found, Index
from support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

times = st.integers(-(10**6), 10**6) | st.sampled_from([0, -(1 << 127) + 1, (1 << 127) - 1, 10**18])
batches = st.lists(st.lists(st.tuples(times, st.sampled_from([None, "a", "b"])), max_size=8), max_size=6)
bounds = times | st.sampled_from([math.inf, -math.inf])


@given(batches, st.tuples(bounds, bounds), st.booleans(), st.sampled_from([None, "a", "c"]))
def test_rows_are_those_of_the_range_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, str | None]]],
    ends: tuple[float, float],
    descending: bool,
    label: str | None,
) -> None:
    first_ns, last_ns = ends
    path = str(tmp_path_factory.mktemp("index") / "index")
    writer, reader = Index(path), Index(path)
    rows: list[tuple[Name, str | None]] = []
    for number, batch in enumerate(batches):
        named = [(Name(when, len(rows) + place), text) for place, (when, text) in enumerate(batch)]
        found = [Found(key_of(name), b"o" * 20, text) for name, text in named]
        rows += named
        writer.load()
        writer.add(found, b"%020d" % number)
        if number % 2:
            reader.load()
    reader.load()

    expected = sorted(
        ((*name, text) for name, text in rows if first_ns <= name.timestamp_ns <= last_ns and label in {None, text}),
        key=lambda row: row[:2],
        reverse=descending,
    )
    for index in (writer, reader):
        actual = list(index.rows(first_ns, last_ns, descending=descending, label=label))
        assert [(row.timestamp_ns, row.label) for row in actual] == [(when, text) for when, _, text in expected]
        assert len(index) == len(rows)


def test_rows_that_were_asked_for_stay_what_they_were() -> None:
    index = Index(None)
    index.add([Found(key_of(Name(1, 0)), b"o" * 20, "a")], b"1" * 20)
    rows = index.rows(-math.inf, math.inf)
    index.clear()
    index.add([Found(key_of(Name(2, 0)), b"o" * 20, "b")], b"2" * 20)

    assert [(row.timestamp_ns, row.label) for row in rows] == [(1, "a")]


def test_who_has_waited_for_the_index_sees_what_came_meanwhile(alone: Path) -> None:
    lock = alone / ".git" / "holdall-timeline" / "index-lock"

    def opened() -> int:
        return [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd")].count(str(lock))

    with Store(alone) as store:
        store.addblob(b"one", 1)
        held = os.open(lock, os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(blobs_of(store)))
        reader.start()
        wait_until(lambda: opened() == 2, "the reader waits for its turn")
        store.addblob(b"two", 2)
        os.close(held)
        reader.join()

    assert found == [b"one", b"two"]


@pytest.mark.parametrize("damage", ["gone", "empty", "foreign", "cut", "flipped"])
def test_a_damaged_index_is_made_anew(alone: Path, damage: str) -> None:
    index = alone / ".git" / "holdall-timeline" / "index"
    with Store(alone) as store:
        for number in range(5):
            store.addblob(b"%d" % number, number)
            assert len(blobs_of(store)) == number + 1
    content = index.read_bytes()
    match damage:
        case "gone":
            index.unlink()
        case "empty":
            index.write_bytes(b"")
        case "foreign":
            index.write_bytes(b"something else" * 100)
        case "cut":
            index.write_bytes(content[:-10])
        case "flipped":
            index.write_bytes(content[:60] + bytes((content[60] ^ 1,)) + content[61:])

    with Store(alone) as store:
        assert blobs_of(store) == [b"0", b"1", b"2", b"3", b"4"]


def test_files_that_git_added_moved_or_removed_are_seen(alone: Path) -> None:
    with Store(alone) as store:
        store.addblobs([b"a", b"b", b"c"], [1, 2, 3])
        assert blobs_of(store) == [b"a", b"b", b"c"]
        first, second, _ = sorted(store.names(), key=lambda row: row.timestamp_ns)
        git(alone, "rm", "--quiet", "--", first.name)
        git(alone, "commit", "--quiet", "--message", "less")
        assert blobs_of(store) == [b"b", b"c"]
        (alone / "2001" / "09" / "09" / "01").mkdir(parents=True)
        git(alone, "mv", "--", second.name, "2001/09/09/01/")
        git(alone, "commit", "--quiet", "--message", "moved")
        assert blobs_of(store) == [b"b", b"c"]
        git(alone, "checkout", "--quiet", "-b", "old", "HEAD~2")
        assert blobs_of(store) == [b"a", b"b", b"c"]


def test_another_process_finds_what_was_added_since(alone: Path) -> None:
    with Store(alone, worktree=False) as store, Store(alone, worktree=False) as other:
        for number in range(4):
            store.addblob(b"%d" % number, -number)
            assert len(blobs_of(other)) == number + 1
        store.addblobs([b"x"] * 5000, range(5000))
        assert len(blobs_of(other)) == 5004
        other.addblob(b"last", 6000)
        assert blobs_of(store)[-1] == b"last"


entries = st.dictionaries(
    st.from_regex(r"[a-c.0-]{1,3}", fullmatch=True), st.tuples(st.booleans(), st.binary(min_size=20, max_size=20))
)


@given(entries, entries)
def test_a_tree_is_sorted_as_git_sorts_it(
    old: dict[str, tuple[bool, bytes]], new: dict[str, tuple[bool, bytes]]
) -> None:
    def listed(rows: dict[str, tuple[bool, bytes]]) -> list[git_tree.Entry]:
        modes = {True: git_tree.DIRECTORY, False: git_tree.FILE}
        return [git_tree.Entry(modes[folder], name.encode(), oid) for name, (folder, oid) in rows.items()]

    tree = git_tree.Tree(git_tree.build(listed(old)))
    tree.put([entry for entry in listed(new) if entry.name.decode() not in old])
    both = new | old

    assert tree.raw() == git_tree.build(listed(both))
    assert {entry.name.decode() for entry in git_tree.parse(tree.raw())} == both.keys()
    assert tree.get(b"zzz") is None


def test_git_takes_trees_as_they_are_built(alone: Path) -> None:
    names = ["a", "a.b", "a-b", "a0", "b", "B"]
    for name in names:
        (alone / name).mkdir()
        (alone / name / "file").write_text(name)
        (alone / f"{name}.txt").write_text(name)
    git(alone, "add", "--all")
    tree = git(alone, "write-tree").strip()
    listed = []
    for line in git(alone, "ls-tree", tree).splitlines():
        mode, _, rest = line.split(" ", 2)
        oid, name = rest.split("\t")
        listed.append(git_tree.Entry(mode.lstrip("0").encode(), name.encode(), bytes.fromhex(oid)))
    (alone / "raw").write_bytes(git_tree.build(reversed(listed)))

    assert git(alone, "hash-object", "-t", "tree", "raw").strip() == tree
