"""The git repository beside a synced folder: to blobs and trees come commits and refs, and what a merge asks of them.

It is an ordinary bare repository that git's own commands understand. pygit2 reads and writes it in this process; git's
index, its filters and its idea of a worktree are not used, so that what is committed is what lies on the disk, byte for
byte.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import SortMode

from holdall.errors import DamageError, StoreError
from holdall.limits.sync import SYNC_TEXT_BYTES_MAX
from holdall.sync.merge import FILE, Entry
from holdall.sync.pointer import parse
from holdall.sync.trees import Trees, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.sync.merge import Changes

MAIN: Final = "refs/heads/main"
MERGER: Final = "merge"
"""Stands where a node's name would in commits, and in names of conflict copies, that no single node made."""

NODE: Final = re.compile(r"[a-z0-9-]{1,32}")
"""What a node may be called."""

_ONE: Final = b"text"
_SETTINGS: Final = {
    "core.autocrlf": "false",
    "core.attributesFile": "/dev/null",
    "core.logAllRefUpdates": "false",
    "gc.auto": "0",
    "receive.autogc": "false",
    "receive.denyCurrentBranch": "refuse",
}


class Repository(Trees):
    """One repository. It satisfies `merge.History`.

    Args:
        path: Of the git directory.

    Raises:
        StoreError: There is none, or it cannot be read.
    """

    @classmethod
    def create(cls, path: str) -> Repository:
        """Makes an empty one, or opens and sets up one that was begun.

        Raises:
            StoreError: It cannot be made.
        """
        with translated(f"make the repository {path}"):
            made = pygit2.init_repository(path, bare=True, initial_head="main", mode=0o700)
            for name, value in _SETTINGS.items():
                made.config[name] = value
        return cls(path)

    # --- commits ---

    def commit(self, tree: bytes, parents: list[str], *, author: str, time: int, message: str) -> str:
        """Makes a commit, at a time in seconds since 1970, and moves no ref."""
        with translated("commit"):
            who = pygit2.Signature(author, f"{author}@holdall", time, 0)
            git_parents: list[pygit2.Oid | str] = list(parents)
            return str(self._git.create_commit(None, who, who, message + "\n", pygit2.Oid(raw=tree), git_parents))

    def merge_commit(self, earlier: str, later: str, edits: Changes) -> str:
        """See `merge.History`."""
        tree = self.edited(self.tree_of(later), edits)
        return self.commit(tree, [earlier, later], author=MERGER, time=self.time(later), message="merge")

    def known(self, commit: str) -> bool:
        """Whether there is such a commit, with its tree."""
        try:
            self.tree(self.tree_of(commit))
        except (DamageError, StoreError):
            return False
        return True

    def find(self, start: str) -> str | None:
        """The commit whose id starts so; None where there is none, or several."""
        try:
            return str(self._git[start].peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            return None

    def tree_of(self, commit: str | None) -> bytes:
        """The tree of a commit; the empty one for None."""
        return self.empty if commit is None else bytes(self._commit(commit).tree_id.raw)

    def time(self, commit: str) -> int:
        """See `merge.History`."""
        return int(self._commit(commit).commit_time)

    def parents(self, commit: str) -> list[str]:
        """What a commit comes after."""
        return [str(parent) for parent in self._commit(commit).parent_ids]

    def node(self, commit: str) -> str:
        """The node that made a commit; `MERGER` for a merge, and where what stands there is no node's name."""
        name = str(self._commit(commit).author.name)
        return name if NODE.fullmatch(name) else MERGER

    def message(self, commit: str) -> str:
        """The first line of its message."""
        return self.whole_message(commit).partition("\n")[0]

    def whole_message(self, commit: str) -> str:
        """All of its message."""
        return self._commit(commit).raw_message.decode(errors="replace")

    def newest_first(self, start: str, *, beyond: str | None = None) -> Iterator[str]:
        """A commit and all that came before it, but for another and what came before that."""
        with translated("read the history"):
            walk = self._git.walk(start, SortMode.TOPOLOGICAL | SortMode.TIME)
            if beyond is not None:
                walk.hide(pygit2.Oid(hex=beyond))
            for commit in walk:
                yield str(commit.id)

    def apart(self, commit: str, other: str) -> tuple[int, int]:
        """How many commits one has beyond another, and the other beyond it."""
        with translated("compare two commits"):
            return self._git.ahead_behind(pygit2.Oid(hex=commit), pygit2.Oid(hex=other))

    def _commit(self, commit: str) -> pygit2.Commit:
        with translated("read a commit"):
            found: object = self._git[commit]
        if not isinstance(found, pygit2.Commit):
            raise DamageError(f"The object {commit} is not a commit.")
        return found

    # --- refs ---

    def ref(self, name: str) -> str | None:
        """The commit that a ref names, or None."""
        with translated("read a ref"):
            return self._target(name)

    def names(self, prefix: str) -> list[str]:
        """The refs below a directory of refs, such as refs/heads/, in the order of their names."""
        found = set()
        for folder, _, names in os.walk(os.path.join(self.path, prefix)):
            above = os.path.relpath(folder, self.path)
            found |= {f"{above}/{name}" for name in names if not name.endswith(".lock")}
        packed = os.path.join(self.path, "packed-refs")
        with (
            translated("read the refs"),
            suppress(FileNotFoundError),
            open(packed, encoding="utf-8", errors="replace") as lines,
        ):
            found |= {name for line in lines if (name := line.rstrip("\n")[41:]).startswith(prefix)}
        return sorted(found)

    def refs(self, prefix: str) -> dict[str, str]:
        """As `names`, with the commits that they name."""
        names = self.names(prefix)
        with translated("read a ref"):
            return {name: target for name in names if (target := self._target(name)) is not None}

    def _target(self, name: str) -> str | None:
        try:
            target = self._git.lookup_reference(name).target
        except KeyError:  # removed meanwhile
            return None
        return str(target) if isinstance(target, pygit2.Oid) else None

    def set_ref(self, name: str, commit: str) -> None:
        """Lets a ref name a commit."""
        with translated(f"set {name}"):
            self._git.references.create(name, commit, force=True)

    def delete_ref(self, name: str) -> None:
        """Removes a ref, if there is one."""
        with translated(f"remove {name}"), suppress(KeyError):
            self._git.references.delete(name)

    # --- what a merge asks ---

    def contains(self, commit: str, ancestor: str) -> bool:
        """See `merge.History`."""
        with translated("compare two commits"):
            return commit == ancestor or self._git.descendant_of(commit, ancestor)

    def changes(self, old: str | None, new: str) -> Changes:
        """See `merge.History`."""
        return self.differences(self.tree_of(old), self.tree_of(new))

    def entry(self, commit: str | None, path: bytes) -> Entry | None:
        """See `merge.History`."""
        return self.at(self.tree_of(commit), path)

    def united(self, base: bytes, earlier: bytes, later: bytes) -> bytes | None:
        """See `merge.History`."""
        texts = [self.blob(blob) for blob in (base, earlier, later)]
        if any(b"\0" in text or len(text) > SYNC_TEXT_BYTES_MAX or parse(text) is not None for text in texts):
            return None
        old, one, other = (pygit2.Oid(raw=self.put_tree({_ONE: Entry(FILE, blob)})) for blob in (base, earlier, later))
        with translated("merge a file"):
            merged = self._git.merge_trees(old, one, other)
            made = None if merged.conflicts is not None else bytes(merged[_ONE.decode()].id.raw)
        return None if made is None or parse(self.blob(made)) is not None else made
