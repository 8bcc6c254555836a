"""Random histories of several nodes, in memory, through the planner that real folders use.

`python -m tests.sync.simulator --seed N` replays one; `--count N` looks at many. What must hold is at the end of
`History`'s life: every node has the same commit, every commit that a person made is in it, every version that no
person replaced lies in the tree, no file has conflict markers, and no copy is a copy of a copy.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from holdall.sync.merge import EXECUTABLE, FILE, SYMLINK, Conflict, Entry, copy_author, merge, plain_name
from holdall.sync.repository import MERGER, Repository

if TYPE_CHECKING:
    from holdall.sync.merge import Changes

PATHS = [b"a.txt", b"b.txt", b"d", b"d/x", b"d/y.txt", b"d/e/z", b"d/e", b"n.tar.gz", b".rc"]
HEAL_ROUNDS_MAX = 12


@cache
def _texts() -> Repository:
    """A real repository that merges texts."""
    place = tempfile.mkdtemp(prefix="holdall-simulator-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Repository.create(place)


@dataclass(frozen=True)
class Commit:
    parents: tuple[str, ...]
    tree: dict[bytes, Entry]
    time: int
    node: str


@dataclass
class MemoryHistory:
    """Commits as values, shared by all nodes: sending one is telling its id."""

    commits: dict[str, Commit] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    ancestors: dict[str, frozenset[str]] = field(default_factory=dict)
    united_blobs: set[bytes] = field(default_factory=set)
    united_before: dict[tuple[bytes, bytes, bytes], bytes | None] = field(default_factory=dict)

    def put(self, data: bytes) -> bytes:
        blob = hashlib.sha1(data).digest()
        self.blobs[blob] = data
        return blob

    def add(self, parents: tuple[str, ...], tree: dict[bytes, Entry], time: int, node: str) -> str:
        for path in tree:
            parts = path.split(b"/")
            assert not any(b"/".join(parts[:depth]) in tree for depth in range(1, len(parts))), f"{path!r} below a file"
        commit = hashlib.sha1(repr((parents, sorted(tree.items()), time, node)).encode()).hexdigest()
        self.commits[commit] = Commit(parents, tree, time, node)
        self.ancestors[commit] = frozenset({commit}).union(*(self.ancestors[parent] for parent in parents))
        return commit

    def time(self, commit: str) -> int:
        return self.commits[commit].time

    def node(self, commit: str) -> str:
        return self.commits[commit].node

    def parents(self, commit: str) -> list[str]:
        return list(self.commits[commit].parents)

    def contains(self, commit: str, ancestor: str) -> bool:
        return ancestor in self.ancestors[commit]

    def tree(self, commit: str | None) -> dict[bytes, Entry]:
        return {} if commit is None else self.commits[commit].tree

    def changes(self, old: str | None, new: str) -> dict[bytes, Entry | None]:
        was, now = self.tree(old), self.tree(new)
        return {path: now.get(path) for path in was.keys() | now.keys() if was.get(path) != now.get(path)}

    def entry(self, commit: str | None, path: bytes) -> Entry | None:
        tree = self.tree(commit)
        if any(below.startswith(path + b"/") for below in tree):
            return Entry(0o040000, b"")
        return tree.get(path)

    def united(self, base: bytes, earlier: bytes, later: bytes) -> bytes | None:
        key = (base, earlier, later)
        if key not in self.united_before:
            git = _texts()
            merged = git.united(*(git.put_blob(self.blobs[blob]) for blob in key))
            self.united_before[key] = None if merged is None else self.put(git.blob(merged))
        if self.united_before[key] is not None:
            self.united_blobs |= {earlier, later}
        return self.united_before[key]

    def merge_commit(self, earlier: str, later: str, edits: Changes) -> str:
        tree = dict(self.tree(later))
        for path, entry in edits.items():
            if entry is None:
                tree.pop(path, None)
        tree |= {path: entry for path, entry in edits.items() if entry is not None}
        return self.add((earlier, later), tree, self.time(later), MERGER)


@dataclass
class Node:
    name: str
    skew: int
    main: str | None = None
    tips: dict[str, str] = field(default_factory=dict)


class Simulation:
    """One history from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.history = MemoryHistory()
        self.now = 1_000
        self.words = 0
        self.nodes = [Node(f"n{i}", self.random.choice((0, 0, 0, -50, 50))) for i in range(self.random.randint(2, 4))]
        self.edits: list[tuple[str, bytes, Entry]] = []
        self.conflicts: list[Conflict] = []

    def run(self) -> None:
        cut: set[frozenset[str]] = set()
        for _ in range(self.random.randint(10, 45)):
            node = self.random.choice(self.nodes)
            what = self.random.random()
            self.now += self.random.choice((0, 0, 1, 3))
            if what < 0.45:
                self.edit(node)
            elif what < 0.75:
                other = self.random.choice(self.nodes)
                if frozenset((node.name, other.name)) not in cut:
                    self.send(node, other)
            elif what < 0.92:
                self.reconcile(node)
            else:
                pair = frozenset(other.name for other in self.random.sample(self.nodes, 2))
                cut ^= {pair}
        self.heal()
        self.check()

    def content(self, old: bytes | None) -> bytes:
        """New text: of its own, or an old one with a line changed, put in or taken out; at times not text at all."""
        self.words += 1
        word = b"word %d\n" % self.words
        if old is None or self.random.random() < 0.15:
            lines = [b"line %d of %d\n" % (number, self.words) for number in range(8)]
            return b"\0" * (self.random.random() < 0.15) + b"".join(lines) + word
        lines = old.splitlines(keepends=True)
        place = self.random.randrange(len(lines) + 1)
        return b"".join([*lines[:place], word, *lines[place + self.random.randint(0, 1) :]])

    def edit(self, node: Node) -> None:
        before = self.history.tree(node.main)
        tree = dict(before)
        for _ in range(self.random.randint(1, 3)):
            path = self.random.choice(PATHS + sorted(tree))
            had = tree.get(path)
            what = self.random.random()
            if had is not None and what < 0.25:
                del tree[path]
            elif had is not None and what < 0.35:
                del tree[path]
                self.write(tree, plain_name(path) + b"-moved", had)
            else:
                mode = self.random.choice((FILE, FILE, FILE, EXECUTABLE, SYMLINK))
                self.write(
                    tree, path, Entry(mode, self.history.put(self.content(had and self.history.blobs[had.blob])))
                )
        if tree != before:
            node.main = self.history.add(
                () if node.main is None else (node.main,), tree, self.now + node.skew, node.name
            )
            changed = [(path, entry) for path, entry in tree.items() if before.get(path) != entry]
            self.edits += [(node.main, path, entry) for path, entry in changed]

    def write(self, tree: dict[bytes, Entry], path: bytes, entry: Entry) -> None:
        """Puts a file into a tree; what is in its way goes, as a person would have it."""
        for other in list(tree):
            if other.startswith(path + b"/") or path.startswith(other + b"/"):
                del tree[other]
        tree[path] = entry

    def send(self, node: Node, other: Node) -> None:
        if node.main is not None and node is not other:
            other.tips[node.name] = node.main

    def reconcile(self, node: Node) -> None:
        heads = {*node.tips.values(), *filter(None, [node.main])}
        if heads:
            node.main, met = merge(self.history, heads)
            self.conflicts += met

    def heal(self) -> None:
        for _ in range(HEAL_ROUNDS_MAX):
            for node in self.random.sample(self.nodes, len(self.nodes)):
                for other in self.random.sample(self.nodes, len(self.nodes)):
                    self.send(node, other)
                if self.random.random() < 0.5:
                    self.reconcile(node)
            if len({node.main for node in self.nodes}) == 1:
                return
            for node in self.nodes:
                self.reconcile(node)
        raise AssertionError("the nodes do not end equal")

    def check(self) -> None:
        head = self.nodes[0].main
        tree = self.history.tree(head)
        assert head is None or all(self.history.contains(head, commit) for commit, _, _ in self.edits), "history lost"
        assert not any(b"<<<<<<<" in self.history.blobs[entry.blob] for entry in tree.values()), "markers"
        copies = [path for path in tree if copy_author(path) is not None]
        assert all(copy_author(plain_name(path)) is None for path in copies), "a copy of a copy"
        same = [(plain_name(path), tree[path]) for path in copies]
        assert len(same) == len(set(same)), f"one version lies beside twice: {sorted(copies)}"
        there = {entry.blob for entry in tree.values()} | self.history.united_blobs
        for commit, path, entry in self.edits:
            assert entry.blob in there or self.replaced(commit, path, entry), f"{path!r} of {commit} is gone"

    def replaced(self, commit: str, path: bytes, entry: Entry) -> bool:
        """Whether a person who had a version changed it, or what became of it, or put something in its place."""
        plain = plain_name(path)
        for later, made in self.history.commits.items():
            knew = later != commit and commit in self.history.ancestors[later]
            for parent in made.parents if made.node != MERGER else ():
                for changed in self.history.changes(parent, later):
                    had = self.history.tree(parent).get(changed)
                    if had is not None and had.blob == entry.blob:
                        return True
                    near = plain_name(changed) == plain or changed.startswith(path + b"/")
                    if knew and (near or plain.startswith(changed + b"/")):
                        return True
        return False


def main() -> int:
    """Replays one seed, or looks for one that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    for seed in range(asked.seed, asked.seed + asked.count):
        try:
            Simulation(seed).run()
        except Exception:
            sys.stderr.write(f"seed {seed} fails\n")
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
