"""The git repository under a synced folder: blobs, trees, commits and refs, read and written without a worktree.

It is an ordinary bare repository that git's own commands understand. pygit2 reads and writes it in this process; git's
index, its filters and its idea of a worktree are not used, so that what is committed is what lies on the disk, byte for
byte. Trees are edited by path: a change costs the directories on its way, not the whole folder.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import ObjectType, SortMode

from holdall.errors import DamageError, OutOfSpaceError, StoreError
from holdall.limits.sync import SYNC_PACKS_OPEN_MAX, SYNC_TEXT_BYTES_MAX, SYNC_TREES_CACHED
from holdall.sync.merge import DIRECTORY, EXECUTABLE, FILE, SYMLINK, Entry
from holdall.sync.pointer import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.sync.merge import Changes

MAIN: Final = "refs/heads/main"
MERGER: Final = "merge"
"""Stands where a node's name would in commits, and in names of conflict copies, that no single node made."""

NODE: Final = re.compile(r"[a-z0-9-]{1,32}")
"""What a node may be called."""

_RECORD: Final = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_MODES: Final = {b"%o" % mode: mode for mode in (DIRECTORY, FILE, EXECUTABLE, SYMLINK)}
_ONE: Final = b"text"
_SETTINGS: Final = {
    "core.autocrlf": "false",
    "core.attributesFile": "/dev/null",
    "core.logAllRefUpdates": "false",
    "gc.auto": "0",
    "receive.autogc": "false",
    "receive.denyCurrentBranch": "refuse",
}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the errors of pygit2 into ours; `doing` is what failed, as the end of a sentence."""
    try:
        yield
    except KeyError as error:
        raise DamageError(
            f"An object is missing from the repository: {error}; it was needed to {doing}.",
            hint="Look at it with git fsck; another node has what is missing.",
        ) from error
    except (pygit2.GitError, OSError, ValueError) as error:
        full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error)
        if full:
            raise OutOfSpaceError(f"git could not {doing}: {error}.", hint="Free some space.") from error
        raise StoreError(f"git could not {doing}: {error}.") from error


def blob_id(data: bytes) -> bytes:
    """The id that a blob of these bytes has."""
    return bytes(pygit2.hash(data).raw)


class Repository:
    """One repository. It satisfies `merge.History`.

    Args:
        path: Of the git directory.

    Raises:
        StoreError: There is none, or it cannot be read.
    """

    def __init__(self, path: str) -> None:
        pygit2.settings.mwindow_file_limit = SYNC_PACKS_OPEN_MAX
        with translated(f"open the repository {path}"):
            self._git = pygit2.Repository(path)
        self.path = path
        self._trees: dict[bytes, dict[bytes, Entry]] = {}
        self.empty = self.put_tree({})

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

    # --- objects ---

    def put_blob(self, data: bytes) -> bytes:
        """Stores a blob and returns its id."""
        with translated("store a file"):
            return bytes(self._git.create_blob(data).raw)

    def blob(self, blob: bytes) -> bytes:
        """The bytes of a blob."""
        return self._read(blob, ObjectType.BLOB)

    def has(self, blob: bytes) -> bool:
        """Whether an object is kept."""
        return pygit2.Oid(raw=blob) in self._git

    def put_tree(self, entries: dict[bytes, Entry]) -> bytes:
        """Stores one directory and returns its id; the entries must not change any more."""
        ordered = sorted(entries.items(), key=lambda item: item[0] + b"/" * (item[1].mode == DIRECTORY))
        text = b"".join(b"%o %b\0%b" % (entry.mode, name, entry.blob) for name, entry in ordered)
        with translated("store a directory"):
            made = bytes(self._git.write(ObjectType.TREE, text).raw)
        self._remember(made, entries)
        return made

    def tree(self, tree: bytes) -> dict[bytes, Entry]:
        """The entries of a tree by name; they must not be changed."""
        found = self._trees.get(tree)
        if found is None:
            rows = _RECORD.findall(self._read(tree, ObjectType.TREE))
            found = self._remember(
                tree, {name: Entry(_MODES.get(mode) or int(mode, 8), blob) for mode, name, blob in rows}
            )
        return found

    def _remember(self, tree: bytes, entries: dict[bytes, Entry]) -> dict[bytes, Entry]:
        if len(self._trees) >= SYNC_TREES_CACHED:
            self._trees.pop(next(iter(self._trees), b""), None)
        self._trees[tree] = entries
        return entries

    def _read(self, raw: bytes, kind: ObjectType) -> bytes:
        with translated("read what is kept"):
            found, data = self._git.read(pygit2.Oid(raw=raw))
        if found != kind:
            raise DamageError(f"The object {raw.hex()} is not a {kind.name.lower()}.")
        return data

    # --- trees ---

    def at(self, tree: bytes, path: bytes) -> Entry | None:
        """What a tree has at a path, directories included; the empty path is the tree itself."""
        entry: Entry | None = Entry(DIRECTORY, tree)
        for name in path.split(b"/") if path else ():
            if entry is None or entry.mode != DIRECTORY:
                return None
            entry = self.tree(entry.blob).get(name)
        return entry

    def files(self, tree: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """Every file of a tree with its path, before which comes the prefix."""
        waiting = [(prefix, tree)]
        while waiting:
            prefix, tree = waiting.pop()
            for name, entry in self.tree(tree).items():
                if entry.mode == DIRECTORY:
                    waiting.append((prefix + name + b"/", entry.blob))
                else:
                    yield prefix + name, entry

    def differences(self, old: bytes, new: bytes) -> dict[bytes, Entry | None]:
        """What one tree has otherwise than another; it looks only at directories that differ."""
        found: dict[bytes, Entry | None] = {}
        waiting = [(b"", old, new)]
        while waiting:
            prefix, old, new = waiting.pop()
            was, now = self.tree(old), self.tree(new)
            for name in {name for name, _ in was.items() ^ now.items()}:
                before, after, path = was.get(name), now.get(name), prefix + name
                folder_was = before is not None and before.mode == DIRECTORY
                folder_is = after is not None and after.mode == DIRECTORY
                if folder_was or folder_is:
                    tree_was = before.blob if before and folder_was else self.empty
                    waiting.append((path + b"/", tree_was, after.blob if after and folder_is else self.empty))
                if before is not None and not folder_was:
                    found[path] = None
                if after is not None and not folder_is:
                    found[path] = after
        return found

    def edited(self, tree: bytes, edits: Changes) -> bytes:
        """The tree with some files changed; emptied directories go, and removing what is no file does nothing."""
        return self._edited(tree, edits) or self.empty

    def _edited(self, tree: bytes, edits: Changes) -> bytes | None:
        entries = dict(self.tree(tree))
        below: dict[bytes, dict[bytes, Entry | None]] = {}
        for path, entry in edits.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = entry
            elif entry is not None:
                entries[name] = entry
            elif name in entries and entries[name].mode != DIRECTORY:
                del entries[name]
        for name, inner in below.items():
            had = entries.get(name)
            is_folder = had is not None and had.mode == DIRECTORY
            made = self._edited(had.blob if had and is_folder else self.empty, inner)
            if made is not None:
                entries[name] = Entry(DIRECTORY, made)
            elif is_folder:
                del entries[name]
        return self.put_tree(entries) if entries else None

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
        return str(self._commit(commit).message).partition("\n")[0]

    def newest_first(self, start: str) -> Iterator[str]:
        """A commit and all that came before it."""
        with translated("read the history"):
            for commit in self._git.walk(start, SortMode.TOPOLOGICAL | SortMode.TIME):
                yield str(commit.id)

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
