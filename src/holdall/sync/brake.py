"""The brake: removals so large that somebody is asked whether they were meant.

A file has vanished if its path is gone and its contents came to no other path: what was moved has not. More than half
of a folder's files are too many to vanish at once, and so they are within a minute: `rm -rf` of a large directory is
seen in several rounds. What main was before each such round is kept, so that the last of them is compared with what was
there before the first.

* What vanished from the folder is held: nothing is committed or merged until it is back or somebody releases it.
* What another node sent that would let so much vanish is held back: it alone is not merged. Unless it was asked for
  where it came from: such removals are looked for in what came, each commit compared with those that its node made in
  the minute before. So a node that was away for a month takes what became of the folder, a little at a time, in one go.

A release is a commit whose message has the line `Released-by: NODE`. All that came before it counts as meant on every
node. It is no signature: a node that may write could put it there itself. The brake is for accidents.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdall.limits.sync import SYNC_BRAKE_FILES_MIN, SYNC_BRAKE_SECONDS
from holdall.sync.merge import merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdall.sync.merge import Changes
    from holdall.sync.repository import Repository
    from holdall.sync.state import State

_RELEASE: Final = "release\n\nReleased-by: "
_MARKS: Final = 12
"""States of main that are kept of a minute."""
_TICK_SECONDS: Final = 2
"""A commit's time is that of the look before it, to a second or two."""


@dataclass(frozen=True, slots=True)
class Root:
    """What is known of the folder before it is looked into.

    Attributes:
        device: The number of its file system.
        is_empty: Whether nothing is in it.
    """

    device: int
    is_empty: bool

    @classmethod
    def of(cls, path: str | bytes) -> Root:
        """That of the folder at a path.

        Raises:
            OSError: It cannot be read.
        """
        with os.scandir(path) as listing:
            return cls(os.stat(path).st_dev, is_empty=next(listing, None) is None)


class Brake:
    """The brake of one folder, for one round.

    Args:
        repository: The folder's.
        state: What is remembered of the rounds before; it is changed, and written by the caller.

    Attributes:
        state: The same.
    """

    def __init__(self, repository: Repository, state: State) -> None:
        self._repository = repository
        self.state = state
        self._now = int(time.time())
        self._counted: dict[tuple[bytes, bytes], int] = {}
        self._was = state.noted()
        if not state.braked:
            young = [mark for mark in state.marks if abs(self._now - mark[0]) <= SYNC_BRAKE_SECONDS]
            state.marks = [mark for mark in young if repository.known(mark[1])]

    @property
    def changed(self) -> bool:
        """Whether what is remembered is to be written down."""
        return self.state.noted() != self._was

    def why_held(self, head: str, edits: Changes, root: Root) -> str | None:
        """Why what was found in the folder is not believed without asking; None where it is.

        Args:
            head: What main is.
            edits: What is otherwise in the folder.
            root: The folder.
        """
        why = self._why_held(head, edits, root)
        self.state.braked = why or ""
        return why

    def _why_held(self, head: str, edits: Changes, root: Root) -> str | None:
        before = self._repository.tree_of(head)
        if before == self._repository.empty:
            return None
        if root.is_empty and any(path not in self.state.lagging for path, _ in self._repository.files(before)):
            return "The folder is empty, but its history has files: is a disk not mounted?"
        if edits and self.state.device not in {0, root.device}:
            return "The folder is on another file system than before, and its files differ: is the right disk mounted?"
        if None not in edits.values():
            return None
        now = self._repository.edited(before, edits)
        for base in self._bases(head):
            lost = self._too_many(self._repository.tree_of(base), now)
            if lost is not None:
                when = "at once" if base == head else f"within {SYNC_BRAKE_SECONDS} seconds"
                return f"{lost[0]} of {lost[1]} files vanished {when}."
        self.note(head, now)
        return None

    def held_back(self, head: str, tips: Mapping[str, str]) -> dict[str, str]:
        """Nodes whose commits are not merged without asking, and why.

        Args:
            head: What main is.
            tips: The commits that came, by node.
        """
        bases = self._bases(head)
        if self.state.held_back and self._repository.known(self.state.held_base):
            bases.append(self.state.held_base)
        found: dict[str, str] = {}
        taken = {head}
        if tips and self._slipped(bases, {head, *tips.values()}) is not None:
            for node, tip in sorted(tips.items()):
                slipped = self._slipped(bases, taken | {tip})
                if slipped is None:
                    taken.add(tip)
                else:
                    found[node], base = slipped
                    self.state.held_base = self.state.held_base if self.state.held_back else base
        self.state.held_back = found
        return found

    def note(self, head: str | None, tree: bytes) -> None:
        """Notes what main is, if files are about to vanish from it; where these are too many, that was meant.

        Args:
            head: It; None where it is nothing yet.
            tree: What it is about to become.
        """
        before, marks = self._repository.tree_of(head), self.state.marks
        if head is None:
            return
        if self._too_many(before, tree) is not None:
            self.state.marks = []
        elif marks and self._now - marks[-1][0] < SYNC_BRAKE_SECONDS // _MARKS:
            return
        elif self._vanished(before, tree):
            self.state.marks = [*marks, (self._now, head)]

    def _bases(self, head: str) -> list[str]:
        """What the folder is compared with: what main is, and what it was when the minute began."""
        return list(dict.fromkeys([head, *(commit for _, commit in self.state.marks[:1])]))

    def _slipped(self, bases: Iterable[str], heads: set[str]) -> tuple[str, str] | None:
        """Why the merge of some commits needs asking, and compared with what; None where it does not."""
        target, _ = merge(self._repository, heads)
        for base in bases:
            lost = self._too_many(self._repository.tree_of(base), self._repository.tree_of(target))
            if lost is None:
                continue
            if self._has_slip(base, target):
                return f"It would remove {lost[0]} of {lost[1]} files.", base
            self.state.marks = []  # what it comes to from here on is counted from here on
        return None

    def _has_slip(self, base: str, target: str) -> bool:
        """Whether a removal is new in a commit that the brake of its node should have held, and nobody released."""
        repository = self._repository
        runs: dict[str, deque[tuple[int, bytes]]] = {}
        for commit in self._not_released(base, target):
            parents, tree = repository.parents(commit), repository.tree_of(commit)
            befores = [repository.tree_of(parent) for parent in parents]
            if len(parents) == 1 and self._vanished(befores[0], tree):
                run = runs.setdefault(repository.node(commit), deque())
                run.append((repository.time(commit), befores[0]))
                while run[-1][0] - run[0][0] > SYNC_BRAKE_SECONDS - _TICK_SECONDS:
                    run.popleft()
                if self._too_many(run[0][1], tree) is not None:
                    return True
            if befores and all(self._too_many(before, tree) is not None for before in befores):
                return True
        return False

    def _too_many(self, old: bytes, new: bytes) -> tuple[int, int] | None:
        """How many files vanish from a tree, and how many it has, if these are too many; None where they are not."""
        lost = self._vanished(old, new)
        if lost <= SYNC_BRAKE_FILES_MIN:
            return None
        files = sum(1 for _ in self._repository.files(old))
        return (lost, files) if lost * 2 > files else None

    def _vanished(self, old: bytes, new: bytes) -> int:
        if old == new:
            return 0
        if (old, new) not in self._counted:
            self._counted[old, new] = vanished(self._repository, old, new)
        return self._counted[old, new]

    def _not_released(self, base: str, target: str) -> list[str]:
        """The commits that one has beyond another, but for those before a release, oldest first."""
        meant: set[str] = set()
        found = []
        for commit in self._repository.newest_first(target, beyond=base):
            if commit in meant or self._repository.whole_message(commit).startswith(_RELEASE):
                meant.update(self._repository.parents(commit))
            else:
                found.append(commit)
        return found[::-1]


def vanished(repository: Repository, old: bytes, new: bytes) -> int:
    """How many files of one tree are neither in another, nor anywhere else in it under another name."""
    gone: Counter[bytes] = Counter()
    came: Counter[bytes] = Counter()
    for before, after in repository.both(old, new).values():
        if after is not None:
            came[after.blob] += 1
        elif before is not None:
            gone[before.blob] += 1
    return (gone - came).total()


def release_message(node: str) -> str:
    """The message of a commit by which somebody at a node says that all before it was meant."""
    return _RELEASE + node
