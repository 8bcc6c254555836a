"""Random lives of real folders on one host: files, `git push` between git directories, and kill -9 at any moment.

`python -m tests.sync.fleet --seed N` replays one; `--count N` goes through many. What must hold at the end: every
node has the same commit and the same files, and all bytes that a node began to take are in the history.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from holdall.sync.folder import Folder
from holdall.sync.merge import copy_author, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["a.txt", "b.txt", "d", "d/x", "d/y.txt", "d/e/z", "d/e", "deep/er/file", ".rc", "caf\udce9"]
HEAL_ROUNDS_MAX = 15
KILL_SECONDS_MAX = 0.03


def git(git_dir: str, *words: str) -> bytes:
    """What a git command prints."""
    command = ["git", f"--git-dir={git_dir}", *words]
    return subprocess.run(command, check=True, capture_output=True).stdout


class Fleet:
    """Folders on one disk and what happens to them, from one seed."""

    def __init__(self, seed: int, place: Path) -> None:
        self.random = random.Random(seed)
        self.words = 0
        self.seen: set[bytes] = set()
        self.folders = []
        for number in range(self.random.randint(2, 3)):
            root = place / f"n{number}" / "tree"
            root.mkdir(parents=True)
            (root / "keep").write_bytes(b"always here\n")
            self.folders.append(Folder.create(str(root), node=f"n{number}"))

    def run(self, steps: int = 30) -> None:
        for _ in range(steps):
            folder = self.random.choice(self.folders)
            what = self.random.random()
            if what < 0.5:
                self.edit(Path(folder.worktree))
            elif what < 0.65:
                self.push(folder, self.random.choice(self.folders))
            elif what < 0.8:
                self.seen |= contents(folder)
                folder.reconcile()
            else:
                before = contents(folder)
                self.reconcile_and_kill(folder)
                self.seen |= before - contents(folder)
        self.heal()
        self.check()

    def edit(self, root: Path) -> None:
        path = root / self.random.choice(NAMES)
        there = [other for other in root.rglob("*") if not other.is_dir() and other.name != "keep"]
        what = self.random.random()
        if there and what < 0.25:
            self.random.choice(there).unlink()
            return
        if there and what < 0.35:
            old = self.random.choice(there)
            old.rename(old.with_name(f"{plain_name(os.fsencode(old.name)).decode(errors='replace')}-moved"))
            return
        for above in [path, *path.parents]:
            if above != root and root in above.parents and (above.is_symlink() or above.is_file()):
                above.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.words += 1
        if what < 0.45:
            path.symlink_to(f"nowhere-{self.words}")
            return
        data = b"".join(b"line %d\n" % number for number in range(6)) + b"word %d\n" % self.words
        path.write_bytes(b"\0" * (what < 0.5) + data)
        path.chmod(0o755 if what < 0.6 else 0o644)

    def push(self, folder: Folder, other: Folder) -> None:
        if folder is not other and folder.node in folder.tips():
            ref = f"refs/sync/{folder.node}/main"
            git(folder.git_dir, "push", "--quiet", other.git_dir, f"{ref}:{ref}")

    def reconcile_and_kill(self, folder: Folder) -> None:
        self.kill_amid(lambda: Folder.open(folder.worktree).reconcile(), KILL_SECONDS_MAX)

    def kill_amid(self, work: Callable[[], object], seconds_max: float) -> None:
        """Does the work in a process that is killed at any moment."""
        seconds = self.random.uniform(0.0005, seconds_max)
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, seconds)
                work()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"

    def heal(self) -> None:
        for _ in range(HEAL_ROUNDS_MAX):
            for folder in self.folders:
                self.seen |= contents(folder)
                outcome = folder.reconcile()
                assert outcome.held is None, outcome.held
                assert not outcome.skipped, outcome.skipped
            if len({folder.head() for folder in self.folders}) == 1:
                return
            self.push_all()
        raise AssertionError("the nodes do not end equal")

    def push_all(self) -> None:
        for folder in self.folders:
            for other in self.folders:
                self.push(folder, other)

    def check(self) -> None:
        tree, history = self.checked()
        lost = [data for data in self.seen if data not in history]
        assert lost == [], lost
        assert not any(b"<<<<<<<" in data for data in tree.values())
        copies = [path for path in tree if copy_author(path) is not None]
        assert all(copy_author(plain_name(path)) is None for path in copies), copies

    def checked(self) -> tuple[dict[bytes, bytes], bytes]:
        """What all nodes have, the same and sound, and all bytes of its history."""
        trees = [listing(Path(folder.worktree)) for folder in self.folders]
        assert all(tree == trees[0] for tree in trees), trees
        git_dir = self.folders[0].git_dir
        git(git_dir, "fsck", "--strict", "--no-dangling")
        names = git(git_dir, "rev-list", "--objects", "--no-object-names", "main")
        command = ["git", f"--git-dir={git_dir}", "cat-file", "--batch"]
        return trees[0], subprocess.run(command, input=names, capture_output=True, check=True).stdout


def contents(folder: Folder) -> set[bytes]:
    """All that lies in a folder."""
    return {
        data[data.index(b" ") + 1 :]
        for name, data in listing(Path(folder.worktree)).items()
        if b".holdall-new-" not in name
    }


def listing(root: Path) -> dict[bytes, bytes]:
    """Every file of a folder with its contents and what kind it is."""
    found = {}
    for path in root.rglob("*"):
        name = os.fsencode(path.relative_to(root))
        if path.is_symlink():
            found[name] = b"l " + os.fsencode(path.readlink())
        elif path.is_file():
            found[name] = (b"x " if path.stat().st_mode & 0o100 else b"- ") + path.read_bytes()
    return found


def main(kind: type[Fleet] = Fleet) -> int:
    """Replays one seed, or goes through many until one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    for seed in range(asked.seed, asked.seed + asked.count):
        with tempfile.TemporaryDirectory() as place:
            try:
                kind(seed, Path(place)).run()
            except BaseException:
                sys.stderr.write(f"seed {seed} fails\n")
                raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
