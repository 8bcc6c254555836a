"""What becomes of one folder that several nodes changed: decided here, from values alone.

A tree is a set of files, each an `Entry` under its path. The rules, in which `earlier` and `later` are the two sides in
the order of (time, commit), so that every node decides alike:

1. What one side changed is taken; what both changed alike is taken once.
2. A change beats a removal.
3. Two texts changed in different places become one. No text ever holds conflict markers.
4. Otherwise the later side keeps the path, and the other version lies beside it as `name.conflict-<node>-<blob7>.ext`.
   The name says all of it, so that the same conflict, met again anywhere, makes the same file; and a copy of a copy
   takes the name that a copy of the first file would have.
5. Where one side has a file and the other a directory, the file is the one that lies beside.
6. Of two versions of what a node signed for the roster the later stays, alone and as it is: which of them counts is
   for the roster to say, and whoever accepted the other puts it back.

No rule drops a version that is not in the history of the commit that follows.
"""

from __future__ import annotations

import heapq
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from holdall.limits.snapshot import NAME_BYTES_MAX
from holdall.limits.sync import SYNC_BASES_DEPTH_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DIRECTORY: Final = 0o040000
FILE: Final = 0o100644
EXECUTABLE: Final = 0o100755
SYMLINK: Final = 0o120000

_BOTH: Final = 3
_STALE: Final = 4
_FILES: Final = frozenset({FILE, EXECUTABLE})
_ROSTER: Final = b".gitcluster/nodes/"
_COPY: Final = re.compile(rb"\.conflict-(?P<node>[a-z0-9-]{1,32})-(?P<blob>[0-9a-f]{7})(?=\.[^.]*\Z|\Z)")


class Entry(NamedTuple):
    """What a name in a tree stands for.

    Attributes:
        mode: One of the modes above, as git writes them; another node may send others.
        blob: The object's id, 20 bytes; a directory's is that of its tree.
    """

    mode: int
    blob: bytes


Changes: TypeAlias = "Mapping[bytes, Entry | None]"
"""Files that differ from another tree, by path; None where there is none any more. Never a directory."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two versions of which neither could be dropped.

    Attributes:
        path: What both were called; the one that is there now came later.
        copy: Where the other one lies.
        node: Who wrote the copy.
    """

    path: str
    copy: str
    node: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a merge does.

    Attributes:
        edits: Changes to the tree of the later side.
        conflicts: What came to lie beside.
    """

    edits: dict[bytes, Entry | None]
    conflicts: tuple[Conflict, ...]


class Sides(Protocol):
    """What `plan` has to ask about the two sides."""

    def base(self, path: bytes) -> Entry | None:
        """What the tree that both come from has at a path."""

    def in_later(self, path: bytes) -> Entry | None:
        """What the later side's tree has at a path, directories included."""

    def united(self, base: bytes, earlier: bytes, later: bytes) -> bytes | None:
        """The blob of two texts made one, or None where they overlap or are no texts."""

    def author(self, path: bytes, *, later: bool) -> str:
        """The node that wrote one side's version of a path."""


def plan(earlier: Changes, later: Changes, sides: Sides) -> Plan:
    """What two sides become.

    Args:
        earlier: What the earlier side changed since the base.
        later: What the later side changed.
        sides: What else has to be known.
    """
    edits: dict[bytes, Entry | None] = {}
    beside: list[tuple[bytes, Entry, bool]] = []
    for path, entry in earlier.items():
        if path not in later or later[path] is None:
            edits[path] = entry
            continue
        other = later[path]
        if other is None or entry is None or entry == other or path.startswith(_ROSTER):
            continue
        one = _united(sides, sides.base(path), entry, other)
        if one is None:
            beside.append((path, entry, False))
        elif one != other:
            edits[path] = one
    for path in _in_the_way(edits, later):
        from_later = edits.get(path) is None
        entry = later[path] if from_later else edits[path]
        edits[path] = None
        if entry is not None:
            beside.append((path, entry, from_later))
    conflicts = []
    for path, entry, from_later in sorted(beside):
        node = sides.author(path, later=from_later)
        copy = copy_name(path, node, entry.blob)
        if (edits[copy] if copy in edits else sides.in_later(copy)) is None:
            edits[copy] = entry
        conflicts.append(Conflict(os.fsdecode(path), os.fsdecode(copy), node))
    return Plan(edits, tuple(conflicts))


def _united(sides: Sides, base: Entry | None, earlier: Entry, later: Entry) -> Entry | None:
    """Two different versions of a file made one; None where they cannot be."""
    if earlier.mode not in _FILES or later.mode not in _FILES:
        return None
    if base is not None and base.mode not in _FILES:
        base = None
    blob: bytes | None = later.blob
    if earlier.blob != later.blob:
        if base is None:
            return None
        if base.blob == later.blob:
            blob = earlier.blob
        elif base.blob != earlier.blob:
            blob = sides.united(base.blob, earlier.blob, later.blob)
    if blob is None:
        return None
    return Entry(earlier.mode if base is not None and base.mode == later.mode else later.mode, blob)


def _in_the_way(edits: Changes, later: Changes) -> list[bytes]:
    """Files that would have other files below them.

    Only changed files can be: a file that neither side touched had nothing below it, and still has nothing.
    """
    there = {path for path in edits.keys() | later.keys() if (edits[path] if path in edits else later[path])}
    found = set()
    for path in there:
        end = path.rfind(b"/")
        while end > 0:
            if path[:end] in there:
                found.add(path[:end])
            end = path.rfind(b"/", 0, end)
    return sorted(found)


def copy_name(path: bytes, node: str, blob: bytes) -> bytes:
    """Where a version lies that had to give way."""
    folder, slash, name = plain_name(path).rpartition(b"/")
    stem, extension = os.path.splitext(name)
    mark = f".conflict-{node}-{blob.hex()[:7]}".encode()
    room = NAME_BYTES_MAX - len(mark)
    extension = extension if len(extension) < room else b""
    if len(stem) + len(extension) > room:
        stem = stem[: room - len(extension)].decode(errors="ignore").encode()
    return folder + slash + stem + mark + extension


def plain_name(path: bytes) -> bytes:
    """The path without the mark of a conflict copy."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + _COPY.sub(b"", name)


def copy_author(path: bytes) -> str | None:
    """The node that a conflict copy's name tells; None for any other path."""
    found = _COPY.search(path.rpartition(b"/")[2])
    return found["node"].decode() if found else None


class History(Protocol):
    """Commits, as far as a merge has to know them. A commit is named by its id; None is the empty tree."""

    def time(self, commit: str) -> int:
        """When it was made, seconds since 1970, as its maker's clock had it."""

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether one is the other or comes after it."""

    def parents(self, commit: str) -> list[str]:
        """What a commit comes after."""

    def node(self, commit: str) -> str:
        """The node that made a commit."""

    def changes(self, old: str | None, new: str) -> Changes:
        """What a commit changed since another."""

    def entry(self, commit: str | None, path: bytes) -> Entry | None:
        """What a commit has at a path, directories included."""

    def united(self, base: bytes, earlier: bytes, later: bytes) -> bytes | None:
        """As in `Sides`."""

    def merge_commit(self, earlier: str, later: str, edits: Changes) -> str:
        """Commits a merge.

        The same arguments make the same commit, whoever asks: no clock and no name enters it.

        Args:
            earlier: The first parent.
            later: The second parent; the commit has its time, and its tree but for `edits`.
            edits: What differs from that tree.
        """


@dataclass(frozen=True, slots=True)
class _Sides:
    """The two sides of a merge, in a history."""

    history: History
    ground: str | None
    earlier: str
    later: str

    def base(self, path: bytes) -> Entry | None:
        return self.history.entry(self.ground, path)

    def in_later(self, path: bytes) -> Entry | None:
        return self.history.entry(self.later, path)

    def united(self, base: bytes, earlier: bytes, later: bytes) -> bytes | None:
        return self.history.united(base, earlier, later)

    def author(self, path: bytes, *, later: bool) -> str:
        return author(self.history, self.later if later else self.earlier, path)


def merge(history: History, tips: Iterable[str]) -> tuple[str, tuple[Conflict, ...]]:
    """The commit that has all of several commits in it, made where there is none yet.

    Args:
        history: Where they are.
        tips: One at least.

    Returns:
        The commit, and the conflicts met on the way from `tips` to it.
    """
    heads: list[str] = []
    for tip in sorted(set(tips), key=lambda commit: (history.time(commit), commit)):
        if not any(history.contains(head, tip) for head in heads):
            heads = [*(head for head in heads if not history.contains(tip, head)), tip]
    return _fold(lambda one, other: _merged(history, one, other, 0), heads)


def _fold(
    pair: Callable[[str, str], tuple[str, tuple[Conflict, ...]]], commits: list[str]
) -> tuple[str, tuple[Conflict, ...]]:
    one, *others = commits
    conflicts: tuple[Conflict, ...] = ()
    for other in others:
        one, met = pair(one, other)
        conflicts += met
    return one, conflicts


def _merged(history: History, one: str, other: str, depth: int) -> tuple[str, tuple[Conflict, ...]]:
    """Two commits made one.

    Where several commits are last in both histories, they are made one first, by these same rules, and that is the
    base: what git's recursive strategy does.
    """
    earlier, later = sorted((one, other), key=lambda commit: (history.time(commit), commit))
    bases = sorted(last_common(history, earlier, later), key=lambda commit: (history.time(commit), commit))
    if earlier in bases or later in bases:
        return (later if earlier in bases else earlier), ()
    if depth >= SYNC_BASES_DEPTH_MAX:
        bases = bases[-1:]
    ground = _fold(lambda a, b: _merged(history, a, b, depth + 1), bases)[0] if bases else None
    planned = plan(
        history.changes(ground, earlier), history.changes(ground, later), _Sides(history, ground, earlier, later)
    )
    return history.merge_commit(earlier, later, planned.edits), planned.conflicts


def last_common(history: History, one: str, other: str) -> list[str]:
    """The commits that are in both histories and come before no other such commit: the bases of a merge.

    The method is that of git's commit-reach.c: both histories are painted, newest first, until all that is left comes
    before something that has both colours.
    """
    paint = {one: 1, other: 2} if one != other else {one: _BOTH}
    waiting = [(-history.time(commit), commit) for commit in paint]
    heapq.heapify(waiting)
    common = set()
    while any(not paint[commit] & _STALE for _, commit in waiting):
        commit = heapq.heappop(waiting)[1]
        colours = paint[commit]
        if colours & _BOTH == _BOTH:
            common.add(commit)
            colours |= _STALE
        for parent in history.parents(commit):
            had = paint.get(parent, 0)
            if had & colours != colours:
                paint[parent] = had | colours
                heapq.heappush(waiting, (-history.time(parent), parent))
    best = [commit for commit in common if not paint[commit] & _STALE]
    return [base for base in best if not any(base != late and history.contains(late, base) for late in best)]


def author(history: History, commit: str, path: bytes) -> str:
    """The node that wrote what a commit has at a path.

    It goes back only to where the version came from, so that all commits that have it tell the same.
    """
    wanted = history.entry(commit, path)
    while True:
        before = [parent for parent in history.parents(commit) if history.entry(parent, path) == wanted]
        if not before:
            return history.node(commit)
        commit = before[0]
