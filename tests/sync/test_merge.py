"""What two sides become: the rules as a table, and random histories of several nodes."""

from __future__ import annotations

import os

import pytest
from simulator import MemoryHistory, Simulation

from holdall.limits.snapshot import NAME_BYTES_MAX
from holdall.sync.merge import EXECUTABLE, FILE, SYMLINK, Entry, copy_author, copy_name, merge, plain_name

LONG = "HOLDALL_TEST_LONG" in os.environ
SEEDS = 6000 if LONG else 300
BATCH = 50

TEXT = b"".join(b"line %d\n" % number for number in range(9))
TOP = TEXT.replace(b"line 0", b"top")
END = TEXT.replace(b"line 8", b"end")
OTHER_TOP = TEXT.replace(b"line 0", b"other")

# Base, earlier side, later side, outcome: each a tree of path and contents; {earlier} is the mark of a copy of the
# earlier side's version, {later} that of the later side's.
CASES = {
    "one side's change is taken": ({"f": b"0"}, {"f": b"1"}, {"f": b"0"}, {"f": b"1"}),
    "the same change is taken once": ({"f": b"0"}, {"f": b"1"}, {"f": b"1"}, {"f": b"1"}),
    "texts changed apart become one": (
        {"f": TEXT},
        {"f": TOP},
        {"f": END},
        {"f": TOP.replace(b"line 8", b"end")},
    ),
    "texts changed in one place lie beside each other": (
        {"f.txt": TEXT},
        {"f.txt": TOP},
        {"f.txt": OTHER_TOP},
        {"f.txt": OTHER_TOP, "f{earlier}.txt": TOP},
    ),
    "what is no text lies beside": (
        {"f": b"\0" + TEXT},
        {"f": b"\0" + TOP},
        {"f": b"\0" + END},
        {"f": b"\0" + END, "f{earlier}": b"\0" + TOP},
    ),
    "two new files of one name lie beside each other": ({}, {"f": b"1"}, {"f": b"2"}, {"f": b"2", "f{earlier}": b"1"}),
    "a change beats a later removal": ({"f": b"0"}, {"f": b"1"}, {}, {"f": b"1"}),
    "a change beats an earlier removal": ({"f": b"0"}, {}, {"f": b"1"}, {"f": b"1"}),
    "removed twice is removed": ({"f": b"0"}, {}, {}, {}),
    "an earlier file gives way to a directory": ({}, {"d": b"1"}, {"d/x": b"2"}, {"d{earlier}": b"1", "d/x": b"2"}),
    "a later file gives way to a directory": ({}, {"d/x": b"1"}, {"d": b"2"}, {"d{later}": b"2", "d/x": b"1"}),
    "a file in the place of a directory that was changed gives way": (
        {"d/x": b"0", "d/y": b"0"},
        {"d/x": b"1", "d/y": b"0"},
        {"d": b"2"},
        {"d{later}": b"2", "d/x": b"1"},
    ),
    "a directory that nobody changed makes room for a file": ({"d/x": b"0"}, {"d/x": b"0"}, {"d": b"1"}, {"d": b"1"}),
}


def history_of(trees: list[dict[str, bytes]], mode: int = FILE) -> tuple[MemoryHistory, list[str]]:
    """A base by `base`, then one side by `alpha` and a later one by `beta`."""
    history = MemoryHistory()
    commits: list[str] = []
    for number, (node, tree) in enumerate(zip(("base", "alpha", "beta"), trees, strict=True)):
        entries = {path.encode(): Entry(mode, history.put(data)) for path, data in tree.items()}
        commits.append(history.add(tuple(commits[:1]), entries, 100 + number, node))
    return history, commits[1:]


@pytest.mark.parametrize("case", CASES)
def test_two_sides_become(case: str) -> None:
    *trees, expected = CASES[case]
    history, sides = history_of(trees)
    merged, _ = merge(history, sides)
    marks = {side: f".conflict-{node}-{{}}" for side, node in (("earlier", "alpha"), ("later", "beta"))}
    named = {
        path.format(**{side: mark.format(history.put(data).hex()[:7]) for side, mark in marks.items()}): data
        for path, data in expected.items()
    }

    assert {path.decode(): history.blobs[entry.blob] for path, entry in history.tree(merged).items()} == named


@pytest.mark.parametrize("case", CASES)
def test_every_node_makes_the_same_commit(case: str) -> None:
    history, sides = history_of(list(CASES[case][:3]))

    assert merge(history, sides) == merge(history, sides[::-1])


def test_a_program_stays_one_when_the_other_side_changes_its_text() -> None:
    history, (earlier, _) = history_of([{"f": TEXT}, {"f": TEXT}, {}])
    base = history.parents(earlier)
    earlier = history.add(tuple(base), {b"f": Entry(EXECUTABLE, history.put(TEXT))}, 101, "alpha")
    later = history.add(tuple(base), {b"f": Entry(FILE, history.put(TOP))}, 102, "beta")
    merged, _ = merge(history, [earlier, later])

    assert history.tree(merged) == {b"f": Entry(EXECUTABLE, history.put(TOP))}


def test_symlinks_are_not_merged_as_text() -> None:
    history, sides = history_of([{"f": TEXT}, {"f": TOP}, {"f": END}], SYMLINK)
    merged, conflicts = merge(history, sides)

    assert history.tree(merged)[b"f"].blob == history.put(END)
    assert [conflict.node for conflict in conflicts] == ["alpha"]


@pytest.mark.parametrize(
    ("path", "copy"),
    [
        (b"f", b"f.conflict-n-abcdefa"),
        (b"d.e/f.txt", b"d.e/f.conflict-n-abcdefa.txt"),
        (b".rc", b".rc.conflict-n-abcdefa"),
        (b"f.conflict-other-1234567.txt", b"f.conflict-n-abcdefa.txt"),
        (b"f.conflict-other-1234567", b"f.conflict-n-abcdefa"),
    ],
)
def test_a_copy_is_named_after_the_file_that_it_is_a_version_of(path: bytes, copy: bytes) -> None:
    assert copy_name(path, "n", bytes.fromhex("abcdefabcd")) == copy
    assert copy_author(copy) == "n"
    assert copy_author(plain_name(copy)) is None


def test_a_copy_of_a_long_name_still_fits() -> None:
    copy = copy_name(b"d/" + ("é" * 125).encode() + b".txt", "n" * 32, bytes(20))

    assert len(copy.rpartition(b"/")[2]) <= NAME_BYTES_MAX
    assert copy.decode().endswith(".txt")


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_random_histories_end_equal_and_complete(first: int) -> None:
    for seed in range(first, first + BATCH):
        try:
            Simulation(seed).run()
        except AssertionError as error:
            pytest.fail(f"{error}; replay it with: python -m tests.sync.simulator --seed {seed}")
