"""The folder brought to a commit: which files have to change for that, and which may lag behind it.

A file lags while it is written, and where it cannot be. `State.lagging` says which, and what may be in their place
without being taken for an edit. It is written down before files change and after, so that this may be killed anywhere:
the next round sees what is an edit and what is its own unfinished work. What is replaced is on the disk by then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_WRITTEN_SECONDS
from holdall.sync.apply import Applier, Step
from holdall.sync.disk import secure
from holdall.sync.merge import DIRECTORY
from holdall.sync.state import Lag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdall.sync.disk import Disk
    from holdall.sync.large import Large
    from holdall.sync.merge import Entry
    from holdall.sync.outcome import Outcome
    from holdall.sync.refs import Refs
    from holdall.sync.repository import Repository
    from holdall.sync.state import FileCache, State

NOTHING: Final = "0" * 40
"""Stands for the commit before the first: what lagged since then was not there at all."""
_IN_PLACE: Final = "something that is not synced is in its place"


class Checkout:
    """What brings a folder to commits.

    Args:
        repository: The folder's.
        refs: Its refs.
        root: Where the folder is.
        state_path: Where is written down what lags.
        cache: Of what was hashed in it.
        large: What is known of large files.

    Attributes:
        taken: Blobs that were taken from the folder by this object's owner, and that a power cut may still take.
    """

    def __init__(
        self, repository: Repository, refs: Refs, root: bytes, state_path: str, *, cache: FileCache, large: Large
    ) -> None:
        self._repository = repository
        self._refs = refs
        self._root = root
        self._state_path = state_path
        self._cache = cache
        self._large = large
        self._begun = time.monotonic()
        self.taken: set[bytes] = set()

    def run(
        self,
        outcome: Outcome,
        target: str,
        state: State,
        *,
        branches: Mapping[bytes, str],
        disk: Disk,
        last: bool,
    ) -> set[bytes]:
        """Brings the folder from `outcome.head` to a commit, and main with it.

        Args:
            outcome: Told what became of it.
            target: The commit.
            state: What lags; it is changed, and written down.
            branches: Commits of edits that were made without knowledge of what the file should have become, by path.
            disk: What the file system under the folder can do.
            last: Whether main moves even where something new was found.

        Returns:
            Paths where something new was found, for which main stays; none if this is the `last` time.

        Raises:
            HoldallError: As `Folder.reconcile`.
        """
        head, was = outcome.head, state.lagging
        steps = self._steps(head, target, was, branches)
        if len(steps) > 1:  # one alone is done or not begun
            self._save(state, self._begun_lags(steps, was))
        if target != head and head is not None:
            self._refs.keep(head)
        self._secure(steps.values())
        applied = Applier(self._repository, self._root, cache=self._cache, large=self._large, disk=disk).apply(steps)
        if applied.placed:
            with suppress(LocalFileError):  # then they are read once more
                self._large.keep(applied.placed)
        outcome.applied += [os.fsdecode(path) for path in applied.done]
        if applied.changed and not last:
            return applied.changed
        failed = dict.fromkeys(applied.changed, _IN_PLACE) | applied.failed
        outcome.skip({path: reason for path, reason in failed.items() if os.fsdecode(path) not in outcome.skipped})
        lags = {}
        for path in failed:
            base = branches.get(path) or (was[path].base if path in was else None) or head or NOTHING
            lags[path] = Lag([self._file(base, path)], base)
        outcome.lags = bool(lags)
        if lags:
            self._save(state, state.lagging | lags, lasting=True)
        outcome.head = target
        self._refs.move(target)
        self._save(state, lags, lasting=bool(lags))
        return set()

    def _steps(
        self, head: str | None, target: str, lagging: Mapping[bytes, Lag], branches: Mapping[bytes, str]
    ) -> dict[bytes, Step]:
        """What has to be done to the folder: what the commit changes, and what lags."""
        changed = self._repository.both(self._repository.tree_of(head), self._repository.tree_of(target))
        for path in lagging.keys() - changed.keys():
            changed[path] = (self._file(target, path),) * 2
        steps = {}
        for path, (before, wanted) in changed.items():
            states = [before]
            if path in lagging:
                states += lagging[path].states
            if path in branches:
                states.append(self._file(branches[path], path))
            steps[path] = Step(list(dict.fromkeys(states)), wanted)
        return steps

    def _begun_lags(self, steps: Mapping[bytes, Step], was: Mapping[bytes, Lag]) -> dict[bytes, Lag]:
        """What lags while the steps are done: all of them, since each may be done or not."""
        begun = {path: Lag([step.wanted], None) for path, step in steps.items()}
        for path, lag in was.items():
            begun[path] = Lag([*lag.states, steps[path].wanted], lag.base)
            if not self._may_come(steps[path].wanted):
                begun[path] = lag
        return begun

    def _save(self, state: State, lagging: dict[bytes, Lag], *, lasting: bool = False) -> None:
        """Notes which files lag."""
        if state.lagging != lagging:
            state.lagging = lagging
            state.write(self._state_path, lasting=lasting)

    def _may_come(self, wanted: Entry | None) -> bool:
        """Whether nothing has to come from a store first."""
        pointer = self._large.pointer(wanted)
        return pointer is None or self._large.has(pointer)

    def _file(self, commit: str, path: bytes) -> Entry | None:
        found = self._repository.entry(None if commit == NOTHING else commit, path)
        return found if found is not None and found.mode != DIRECTORY else None

    def _secure(self, steps: Iterable[Step]) -> None:
        """Lets what is about to be replaced survive a power cut, where it was taken from the folder just now."""
        replaced = {state.blob for step in steps for state in step.states if state is not None}
        secure(self._repository.path, replaced & self.taken, are_new=True)
        if time.monotonic() - self._begun <= SYNC_WRITTEN_SECONDS:
            secure(self._repository.path, replaced - self.taken, are_new=False)
        self.taken -= replaced
