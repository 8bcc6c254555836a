"""One round: what is new in a folder is committed, what other nodes sent is merged, the folder is brought to that.

Files may lag behind the history: while they are written, and where they cannot be. `State.lagging` says which, and what
may be in their place without being taken for an edit. It is written down before files change and after, so that a round
may be killed anywhere: the next one sees what is an edit and what is its own unfinished work.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_KEEP_REFS_MAX, SYNC_ROUNDS_MAX, SYNC_WRITTEN_SECONDS
from holdall.sync.apply import Applier, Step
from holdall.sync.brake import Brake, Root, release_message
from holdall.sync.disk import probe, secure
from holdall.sync.ignore import Rules
from holdall.sync.large import Large
from holdall.sync.merge import DIRECTORY, merge
from holdall.sync.outcome import Outcome
from holdall.sync.repository import MAIN, Repository
from holdall.sync.snapshot import Scan
from holdall.sync.state import Config, FileCache, Lag, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from holdall.sync.merge import Changes, Entry

SYNC: Final = "refs/sync/"
KEEP: Final = "refs/sync-keep/"
_IN_PLACE: Final = "something that is not synced is in its place"
_NOTHING: Final = "0" * 40
"""Stands for the commit before the first: what lagged since then was not there at all."""

Edit: TypeAlias = "Callable[[str | None], Changes]"
"""Gives what a person wants changed, for the commit that it will come after."""


class Engine:
    """What turns rounds, and what it remembers between them.

    Args:
        worktree: Where the files are.
        git_dir: Where their history is.
        config: What the folder was set up as.

    Raises:
        StoreError: The repository cannot be opened.
    """

    def __init__(self, worktree: str, git_dir: str, config: Config) -> None:
        self.repository = Repository(git_dir)
        self._root = os.fsencode(worktree)
        self._config = config
        self._exclude = os.path.join(git_dir, "info", "exclude")
        self._state_path = os.path.join(git_dir, "holdall", "state")
        self._large = Large(git_dir)
        self._cache = FileCache(os.path.join(git_dir, "holdall", "files"), self._large)
        self._has_modes, self._folds = True, False
        self._probed: int | None = None
        self.vet: Callable[[], Mapping[str, str]] | None = None
        """Says, while the lock is held, what of other nodes may be merged: commits by node. Without it, all may."""
        self.mend: Callable[[str | None, str], Changes] | None = None
        """Says, of what main was and is to become, which files of the latter are to be otherwise."""
        self._contained: set[str] = set()
        """Tips that main has, so that this is not found out again."""
        self._refs: dict[str, str] = {}
        self._opened = time.monotonic()
        self._fresh: set[bytes] = set()
        """Blobs taken from the folder since then, that a power cut may still take."""

    def run(self, hints: Collection[bytes] | None, edit: Edit | None = None) -> Outcome:
        """One round. The caller holds the lock.

        Args:
            hints: Where something may have happened; None for anywhere.
            edit: What to change on top.
        """
        outcome = Outcome(self.repository.ref(MAIN))
        state = State.read(self._state_path)
        config = Config.read(os.path.join(self.repository.path, "holdall", "config.toml"))
        if config != self._config:  # what was left out may be taken now
            self._config, hints = config, None
        self._large.refresh(config)
        try:
            root = Root.of(self._root)
        except OSError as error:
            outcome.held = f"The folder cannot be read: {error.strerror or error}; is a disk not mounted?"
            return outcome
        if self._probed != root.device and not (root.is_empty and outcome.head is not None):
            with suppress(LocalFileError):  # where nothing can be written, nothing has to be known
                (self._has_modes, self._folds), self._probed = probe(self._root), root.device
        outcome.held = state.held or None
        if outcome.held is None:
            self._run(outcome, state, root, hints if state.device in {0, root.device} else None, edit)
            if state.released:
                state.end_release()
                state.write(self._state_path, lasting=False)
        return outcome

    def _run(
        self, outcome: Outcome, state: State, root: Root, hints: Collection[bytes] | None, edit: Edit | None
    ) -> None:
        tips, brake = self._new_tips(outcome), Brake(self.repository, state)
        begun, undone = outcome.head, set[bytes]()
        for attempt in range(1, SYNC_ROUNDS_MAX + 1):
            scan = self._scan(outcome.head, state, hints, forced=undone)
            if attempt == 1 and not self._passes(outcome, brake, scan, root, tips):
                return
            branches = self._commit(outcome, state, scan)
            heads = {*tips.values(), *branches.values(), *([outcome.head] if outcome.head is not None else ())}
            target, conflicts = merge(self.repository, heads) if heads else (None, ())
            if edit is not None:
                target = self._committed(target, edit(target))
            if target is None:
                return
            if self.mend is not None and (mended := self.mend(begun, target)):
                target = self._committed(target, mended) or target
                outcome.put_back = sorted({*outcome.put_back, *map(os.fsdecode, mended)})
            if state.released and state.tells:
                target = self._made(self.repository.tree_of(target), target, release_message(self._config.node))
            brake.note(outcome.head, self.repository.tree_of(target))
            if brake.changed:
                state.write(self._state_path, lasting=False)
            # What a second look does not explain is not looked at a third time.
            last = attempt == SYNC_ROUNDS_MAX or (attempt > 1 and not scan.edits)
            undone = self._apply(outcome, target, state, branches, last=last)
            if not undone:
                break
            hints = undone
        outcome.merged = sorted(tips)
        outcome.conflicts = list(conflicts)
        self._contained = set(tips.values())

    def _new_tips(self, outcome: Outcome) -> dict[str, str]:
        """The commits of other nodes that are not in this node's, by node."""
        tips = {}
        vetted = None if self.vet is None else self.vet()
        there = self.tips()
        for node, tip in (there if vetted is None else vetted).items():
            if tip == outcome.head or tip in self._contained:
                continue
            if not self.repository.known(tip):
                outcome.skipped[f"{SYNC}{node}/main"] = "a commit that cannot be read"
            elif outcome.head is None or not self.repository.contains(outcome.head, tip):
                tips[node] = tip
        return tips

    def tips(self) -> dict[str, str]:
        """What each node has, as far as this one was told."""
        self._refs = self.repository.refs(SYNC)
        return {node: self._refs[f"{SYNC}{node}/main"] for node in self._nodes()}

    def _nodes(self) -> list[str]:
        return [name.split("/")[2] for name in self._refs if name.count("/") == 3 and name.endswith("/main")]

    # --- what is in the folder ---

    def _scan(
        self, head: str | None, state: State, hints: Collection[bytes] | None, *, forced: Collection[bytes]
    ) -> Scan:
        scan = Scan(
            self.repository,
            self._root,
            self.repository.tree_of(head),
            cache=self._cache,
            top=Rules.top(self._exclude),
            large=self._large,
            has_modes=self._has_modes,
            folds=self._folds,
            lagging={path: lag.states for path, lag in state.lagging.items()},
            forced=forced,
        )
        if hints is None:
            scan.all()
            self._cache.save()
        else:
            scan.some({*hints, *state.lagging})
        for path in scan.stale:
            with suppress(OSError):
                os.unlink(os.path.join(self._root, path))
        return scan

    def _passes(self, outcome: Outcome, brake: Brake, scan: Scan, root: Root, tips: dict[str, str]) -> bool:
        """Whether what a scan found is believed; then what came and is not believed is taken out of the tips."""
        state = brake.state
        outcome.skip(scan.skipped)
        if outcome.head is not None and not state.released:
            outcome.held = brake.why_held(outcome.head, scan.edits, root)
            if outcome.held is None:
                outcome.held_back = brake.held_back(outcome.head, tips)
                for node in outcome.held_back:
                    del tips[node]
        if outcome.held is None:
            state.device = root.device
        if brake.changed:
            state.write(self._state_path, lasting=False)
        if outcome.held is not None:
            return False
        outcome.put_back = sorted(map(os.fsdecode, scan.lost))
        state.lagging |= {path: Lag([None], outcome.head) for path in scan.lost}
        return True

    def _commit(self, outcome: Outcome, state: State, scan: Scan) -> dict[bytes, str]:
        """Commits what a scan found.

        An edit of a file that lagged was made without knowledge of what the file should have become. It is committed
        where it branched off, so that the two are merged and neither replaces the other.

        Returns:
            Those commits, by path.
        """
        based: dict[str | None, dict[bytes, Entry | None]] = {}
        for path, entry in scan.edits.items():
            lag = state.lagging.get(path)
            based.setdefault(outcome.head if lag is None or lag.base is None else lag.base, {})[path] = entry
            if entry is not None:
                self._fresh.add(entry.blob)
        head, branches = outcome.head, dict[bytes, str]()
        for base, edits in based.items():
            made = self._committed(base, edits)
            if made is None or made == base:
                continue
            outcome.committed = True
            if base == head:
                outcome.head = made
                self._move(made)
            else:
                self._keep(made)  # until the merge has it
                branches |= dict.fromkeys(edits, made)
        return branches

    def _committed(self, parent: str | None, edits: Changes) -> str | None:
        """A commit of this node with some files changed; the parent where nothing is."""
        parent = None if parent == _NOTHING else parent
        before = self.repository.tree_of(parent)
        tree = self.repository.edited(before, edits)
        if tree == before:
            return parent
        one = min(edits).decode(errors="replace").replace("\n", "?")
        return self._made(tree, parent, one if len(edits) == 1 else f"{len(edits)} files")

    def _made(self, tree: bytes, parent: str | None, message: str) -> str:
        parents = [] if parent is None else [parent]
        return self.repository.commit(tree, parents, author=self._config.node, time=int(time.time()), message=message)

    # --- what the folder becomes ---

    def _apply(
        self, outcome: Outcome, target: str, state: State, branches: dict[bytes, str], *, last: bool
    ) -> set[bytes]:
        """Brings the folder to a commit, and main with it.

        Returns:
            Paths where something new was found, for which main stays; none if this is the `last` time.
        """
        steps = self._steps(outcome.head, target, state, branches)
        was = state.lagging
        if len(steps) > 1:  # one alone is done or not begun
            begun = {path: was.get(path) or Lag([], None) for path in steps}
            begun = {path: Lag([*lag.states, steps[path].wanted], lag.base) for path, lag in begun.items()}
            waiting = {path: lag for path, lag in was.items() if not self._may_come(steps[path].wanted)}
            self._save(state, begun | waiting)
        if target != outcome.head and outcome.head is not None:
            self._keep(outcome.head)
        self._secure(steps.values())
        applied = Applier(
            self.repository,
            self._root,
            cache=self._cache,
            large=self._large,
            has_modes=self._has_modes,
            folds=self._folds,
        ).apply(steps)
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
            base = branches.get(path) or (was[path].base if path in was else None) or outcome.head or _NOTHING
            lags[path] = Lag([self._file(base, path)], base)
        if lags:
            self._save(state, state.lagging | lags, lasting=True)
        outcome.head = target
        self._move(target)
        self._save(state, lags, lasting=bool(lags))
        return set()

    def _save(self, state: State, lagging: dict[bytes, Lag], *, lasting: bool = False) -> None:
        """Notes which files lag."""
        if state.lagging != lagging:
            state.lagging = lagging
            state.write(self._state_path, lasting=lasting)

    def _may_come(self, wanted: Entry | None) -> bool:
        """Whether nothing has to come from a store first."""
        pointer = self._large.pointer(wanted)
        return pointer is None or self._large.has(pointer)

    def _file(self, commit: str | None, path: bytes) -> Entry | None:
        found = self.repository.entry(None if commit == _NOTHING else commit, path)
        return found if found is not None and found.mode != DIRECTORY else None

    def _steps(self, head: str | None, target: str, state: State, branches: dict[bytes, str]) -> dict[bytes, Step]:
        """What has to be done to the folder: what the commit changes, and what lags."""
        wanted = {} if head == target else dict(self.repository.changes(head, target))
        for path in state.lagging:
            wanted.setdefault(path, self._file(target, path))
        steps = {}
        for path, entry in wanted.items():
            states = [self._file(head, path), *(state.lagging[path].states if path in state.lagging else ())]
            if path in branches:
                states.append(self._file(branches[path], path))
            steps[path] = Step(list(dict.fromkeys(states)), entry)
        return steps

    def _secure(self, steps: Iterable[Step]) -> None:
        """Lets what is about to be replaced survive a power cut, where it was taken from the folder just now."""
        replaced = {state.blob for step in steps for state in step.states if state is not None}
        if time.monotonic() - self._opened > SYNC_WRITTEN_SECONDS:
            replaced &= self._fresh
        secure(self.repository.path, replaced)
        self._fresh -= replaced

    def _move(self, commit: str) -> None:
        """Lets this node's refs name a commit, and tells other nodes that it is here."""
        wanted = {MAIN: commit, f"{SYNC}{self._config.node}/main": commit}
        wanted |= {f"{SYNC}{node}/seen": commit for node in self._nodes() if node != self._config.node}
        for name, target in wanted.items():
            if self._refs.get(name) != target:
                self.repository.set_ref(name, target)
                self._refs[name] = target

    def _keep(self, commit: str) -> None:
        """Gives what this node had a ref of its own, and lets the oldest such refs go."""
        now = datetime.now(tz=UTC)
        self.repository.set_ref(f"{KEEP}{now:%Y%m%dT%H%M%S.%fZ}", commit)
        for name in self.repository.names(KEEP)[:-SYNC_KEEP_REFS_MAX]:
            self.repository.delete_ref(name)
