"""What a folder's repository keeps by id: blobs and trees, read and written by path, without an index or a worktree.

It is here that pygit2 opens the repository. Trees are edited by path: a change costs the directories on its way, not
the whole folder.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

import pygit2
from pygit2.enums import ConfigLevel, ObjectType

from holdall.errors import DamageError, OutOfSpaceError, StoreError
from holdall.limits.sync import SYNC_PACKS_OPEN_MAX, SYNC_TREES_CACHED
from holdall.sync.merge import DIRECTORY, EXECUTABLE, FILE, SYMLINK, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.sync.merge import Changes

for _level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
    pygit2.settings.search_path[_level] = ""  # what a user tells git is not meant for this

_DAMAGE: Final = re.compile("corrupt|parse loose|mismatch|inflate|invalid (header|pack)|packfile")
"""What libgit2 says of objects and refs that are not what was written."""

_RECORD: Final = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_MODES: Final = {b"%o" % mode: mode for mode in (DIRECTORY, FILE, EXECUTABLE, SYMLINK)}


class translated:  # noqa: N801 - a context manager, and for 10,000 files one of contextlib's takes 30 ms
    """Turns the errors of pygit2 into ours.

    Args:
        doing: What failed, as the end of a sentence.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, KeyError):
            raise DamageError(
                f"An object is missing from the repository: {error}; it was needed to {self._doing}.",
                hint="Look at it with git fsck; another node has what is missing.",
            ) from error
        if isinstance(error, (pygit2.GitError, OSError, ValueError)):
            full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error)
            if full:
                raise OutOfSpaceError(f"git could not {self._doing}: {error}.", hint="Free some space.") from error
            if _DAMAGE.search(str(error)):
                raise DamageError(f"The repository is damaged; git could not {self._doing}: {error}.") from error
            raise StoreError(f"git could not {self._doing}: {error}.") from error


def blob_id(data: bytes) -> bytes:
    """The id that a blob of these bytes has."""
    return bytes(pygit2.hash(data).raw)


class Trees:
    """The blobs and trees of one repository.

    Args:
        path: Of the git directory.

    Raises:
        StoreError: There is none, or it cannot be read.
    """

    def __init__(self, path: str) -> None:
        pygit2.settings.mwindow_file_limit = SYNC_PACKS_OPEN_MAX
        with translated(f"open the repository {path}"):
            self._git = pygit2.Repository(path)
            self._objects = self._git.odb
        self.path = path
        self._trees: dict[bytes, dict[bytes, Entry]] = {}
        self.empty = self.put_tree({})

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

    def size_bytes(self, object_id: bytes) -> int:
        """How long an object is; it is not read for that.

        Raises:
            DamageError: It is missing.
        """
        with translated("look at what is kept"):
            return self._objects.read_header(pygit2.Oid(raw=object_id))[1]

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
            found, data = self._objects.read(pygit2.Oid(raw=raw))
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

    def differences(self, old: bytes, new: bytes) -> Changes:
        """What one tree has otherwise than another."""
        return {path: after for path, (_, after) in self.both(old, new).items()}

    def both(self, old: bytes, new: bytes) -> dict[bytes, tuple[Entry | None, Entry | None]]:
        """The files that differ between two trees, with what each has; it looks only at directories that differ."""
        found: dict[bytes, tuple[Entry | None, Entry | None]] = {}
        waiting = [(b"", old, new)]
        while waiting:
            prefix, old, new = waiting.pop()
            was, now = self.tree(old), self.tree(new)
            for name in {name for name, _ in was.items() ^ now.items()}:
                before, after, path = was.get(name), now.get(name), prefix + name
                tree_was = tree_is = self.empty
                if before is not None and before.mode == DIRECTORY:
                    tree_was, before = before.blob, None
                if after is not None and after.mode == DIRECTORY:
                    tree_is, after = after.blob, None
                if tree_was != tree_is:
                    waiting.append((path + b"/", tree_was, tree_is))
                if before is not None or after is not None:
                    found[path] = before, after
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
