"""The lives of `fleet`, with files that are large among them: also stored, fetched and killed while that is done.

`python tests/sync/fleet_large.py --seed N` replays one; `--count N` goes through many.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import Fleet, contents, main

from holdall.stores.opening import open_store
from holdall.sync.folder import Folder
from holdall.sync.large import FROM_STORE, TO_STORE, configure
from holdall.sync.left_out import waiting
from holdall.sync.transfer import Mover

if TYPE_CHECKING:
    from holdall.stores.base import Store

CAPS_BYTES = (100, 100, 160)
HEAL_ROUNDS_MAX = 25
KILL_SECONDS_MAX = 0.15


async def opened(name: str) -> Store:
    """The store of this name."""
    return await open_store(name, create=False)


def look(folder: Folder) -> set[str]:
    """A reconcile, noted as `holdall sync` notes it; returns why files were left alone."""
    outcome = folder.reconcile()
    assert outcome.held is None, outcome.held
    return set(outcome.skipped.values())


def move(folder: Folder) -> None:
    """Moves what waits."""
    error = Mover(folder, opened, gives=lambda: True, say=lambda _: None, tell=lambda _: None).run()
    assert error == "", error


class LargeFleet(Fleet):
    """A fleet whose nodes share a store, and do not agree on what is large."""

    def __init__(self, seed: int, place: Path) -> None:
        super().__init__(seed, place)
        self.store = place / "store"
        self.store.mkdir()
        for folder in self.folders:
            configure(folder, store=str(self.store), size_max_bytes=self.random.choice(CAPS_BYTES))

    def run(self, steps: int = 30) -> None:
        for _ in range(steps):
            folder, what = self.random.choice(self.folders), self.random.random()
            before = contents(folder)
            if what < 0.5:
                self.edit(Path(folder.worktree))
            elif what < 0.65:
                self.push(folder, self.random.choice(self.folders))
            elif what < 0.7:
                look(folder)
            elif what < 0.8:
                look(folder)
                move(folder)
                look(folder)
                self.seen |= before
            elif what < 0.9:
                self.reconcile_and_kill(folder)
                self.seen |= before - contents(folder)
            else:
                self.move_and_kill(folder)
                look(folder)
        self.heal()
        self.check()

    def edit(self, root: Path) -> None:
        super().edit(root)
        there = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "keep"]
        if there and self.random.random() < 0.6:
            self.words += 1
            self.random.choice(there).write_bytes(b"large %d\n" % self.words * self.random.choice([10, 20, 40]))

    def move_and_kill(self, folder: Folder) -> None:
        self.kill_amid(lambda: move(Folder.open(folder.worktree)), KILL_SECONDS_MAX)

    def heal(self) -> None:
        for _ in range(HEAL_ROUNDS_MAX):
            for folder in self.folders:
                self.seen |= contents(folder)
                look(folder)
                move(folder)
                assert look(folder) <= {TO_STORE, FROM_STORE}
            is_equal = len({folder.head() for folder in self.folders}) == 1
            if is_equal and not any(waiting(folder)[0] for folder in self.folders):
                return
            self.push_all()
        raise AssertionError("the nodes do not end equal")

    def check(self) -> None:
        tree, history = self.checked()
        stored = {path.stem: path.read_bytes() for path in self.store.glob("*.tig")}
        lost = [data for data in self.seen if data not in history and data not in stored.values()]
        assert lost == [], lost
        named = {digest.decode() for digest in re.findall(rb"oid sha256:([0-9a-f]{64})\n", history)}
        assert named <= stored.keys()
        assert not any(b"git-lfs" in data for data in tree.values())


if __name__ == "__main__":
    sys.exit(main(LargeFleet))
