"""One round: what is new in a folder is committed, what other nodes sent is merged, the folder is brought to that.

A round may be killed anywhere, and the next one goes on: `checkout` says how.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_ROUNDS_MAX
from holdall.sync.brake import Brake, Root, release_message
from holdall.sync.checkout import NOTHING, Checkout
from holdall.sync.disk import Disk, probe
from holdall.sync.ignore import Rules
from holdall.sync.large import Large
from holdall.sync.merge import merge
from holdall.sync.outcome import Outcome
from holdall.sync.refs import SYNC, Refs
from holdall.sync.repository import MAIN, Repository
from holdall.sync.snapshot import Scan
from holdall.sync.sound import keep_look
from holdall.sync.state import Config, FileCache, Lag, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from holdall.sync.merge import Changes, Entry

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
        self._refs = Refs(self.repository, config.node)
        self._large = Large(self.repository)
        self._cache = FileCache(os.path.join(git_dir, "holdall", "files"), self._large)
        self._checkout = Checkout(
            self.repository, self._refs, self._root, self._state_path, cache=self._cache, large=self._large
        )
        self._disk = Disk()
        self._probed: int | None = None
        self.vet: Callable[[], Mapping[str, str]] | None = None
        """Says, while the lock is held, what of other nodes may be merged: commits by node. Without it, all may."""
        self.mend: Callable[[str | None, str], Changes] | None = None
        """Says, of what main was and is to become, which files of the latter are to be otherwise."""
        self._contained: set[str] = set()
        """Tips that main has, so that this is not found out again."""
        self._left_at: str | None = None
        """What main was after the last round."""

    def run(self, hints: Collection[bytes] | None, edit: Edit | None = None) -> Outcome:
        """One round. The caller holds the lock.

        Args:
            hints: Where something may have happened; None for anywhere.
            edit: What to change on top.
        """
        keep_look(Path(self.repository.path))
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
                self._disk, self._probed = probe(self._root), root.device
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
        self._recall(outcome.head, tips, state)
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
            undone = self._checkout.run(outcome, target, state, branches=branches, disk=self._disk, last=last)
            if not undone:
                break
            hints = undone
        outcome.merged = sorted(tips)
        outcome.conflicts = list(conflicts)
        self._contained, self._left_at = set(tips.values()), outcome.head

    def _recall(self, head: str | None, tips: Mapping[str, str], state: State) -> None:
        """After a rescue, notes what may be in the folder by a merge that was lost: it is no edit of this node's."""
        if not state.recalls:
            return
        if tips:
            target, _ = merge(self.repository, {*tips.values(), *([head] if head is not None else ())})
            came = self.repository.changes(head, target)
            state.lagging = {path: Lag([entry], None) for path, entry in came.items()} | state.lagging
        state.recalls = False
        state.write(self._state_path)

    def _new_tips(self, outcome: Outcome) -> dict[str, str]:
        """The commits of other nodes that are not in this node's, by node."""
        tips = {}
        if outcome.head != self._left_at:  # another process moved main, maybe back
            self._contained.clear()
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
        return self._refs.tips()

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
            disk=self._disk,
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
        state.lagging |= {path: Lag([there], outcome.head) for path, there in scan.lost.items()}
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
                self._checkout.taken.add(entry.blob)
        head, branches = outcome.head, dict[bytes, str]()
        for base, edits in based.items():
            made = self._committed(base, edits)
            if made is None or made == base:
                continue
            outcome.committed = True
            if base == head:
                outcome.head = made
                self._refs.move(made)
            else:
                self._refs.keep(made)  # until the merge has it
                branches |= dict.fromkeys(edits, made)
        return branches

    def _committed(self, parent: str | None, edits: Changes) -> str | None:
        """A commit of this node with some files changed; the parent where nothing is."""
        parent = None if parent == NOTHING else parent
        before = self.repository.tree_of(parent)
        tree = self.repository.edited(before, edits)
        if tree == before:
            return parent
        one = min(edits).decode(errors="replace").replace("\n", "?")
        return self._made(tree, parent, one if len(edits) == 1 else f"{len(edits)} files")

    def _made(self, tree: bytes, parent: str | None, message: str) -> str:
        parents = [] if parent is None else [parent]
        return self.repository.commit(tree, parents, author=self._config.node, time=int(time.time()), message=message)
