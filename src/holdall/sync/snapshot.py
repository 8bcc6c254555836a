"""What lies in a folder and is not in its history yet.

A scan compares the folder with a tree: all of it, or only where something is said to have happened. It believes no
file that changes while it is read, follows no symlink, and leaves alone what it cannot keep: such a file is neither
taken nor counted as removed. Nothing in the folder is changed.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_ARRIVAL_DEPTH_MAX, SYNC_ENTRY_BYTES_MAX
from holdall.stores.git_objects import Objects
from holdall.sync.ignore import ROSTER, TEMPORARY, Rules, is_reserved
from holdall.sync.large import TO_STORE
from holdall.sync.merge import DIRECTORY, EXECUTABLE, FILE, Entry, copy_author
from holdall.sync.reading import CHANGING, UNKNOWN, contents, identified
from holdall.sync.repository import MAIN
from holdall.sync.state import Signature, entry_of
from holdall.sync.trees import blob_id, translated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from holdall.sync.disk import Disk
    from holdall.sync.large import Large
    from holdall.sync.repository import Repository
    from holdall.sync.state import FileCache

NESTED: Final = "a git repository of its own, which is left alone"
_ROSTERS: Final = "the place is the roster's"

_TOO_DEEP: Final = f"in more than {SYNC_ARRIVAL_DEPTH_MAX} directories, which no other node takes"

_SLASH: Final = ord("/")
_NO_BYTES: Final = blob_id(b"")


class Scan:
    """One look at a folder.

    Args:
        repository: Takes the contents of new and changed files; nothing refers to them yet.
        root: Where the folder is.
        tree: What it is compared with.
        cache: What need not be read again.
        top: What is left out before any ignore file is read.
        large: What is known of large files.
        disk: What the file system does.
        lagging: States of files that count as no edits.
        forced: Paths that no ignore file leaves out, nor what stands in the place of their directories.

    Attributes:
        edits: What is otherwise than in the tree.
        skipped: What is left alone, and why, by path; a directory's ends with a slash.
        removed: How many of the tree's files are gone.
        lost: Files that are otherwise without anybody's doing, and what is there: of the roster, gone; others, cut off.
        stale: Files left over by a crash, which may be deleted.
    """

    def __init__(
        self,
        repository: Repository,
        root: bytes,
        tree: bytes,
        *,
        cache: FileCache,
        top: Rules,
        large: Large,
        disk: Disk,
        lagging: Mapping[bytes, Sequence[Entry | None]],
        forced: Collection[bytes] = (),
    ) -> None:
        self._repository = repository
        self._root = root + b"/"
        self._tree = tree
        self._cache = cache
        self._top = top
        self._large = large
        self._disk = disk
        self._lagging = lagging
        self._forced = {*forced, *(path[:end] for path in forced for end, byte in enumerate(path) if byte == _SLASH)}
        self._waiting: list[tuple[bytes, bytes, Rules, bool]] = []
        self._started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else 0.0
        self._moved = 0.0
        with suppress(OSError):
            self._moved = os.stat(os.path.join(repository.path, MAIN)).st_mtime
        self._to_store: set[int] = set()
        """How long the files are that wait to be stored."""
        # Many new files become one pack: each by itself would cost every push.
        self._objects = Objects(os.path.join(repository.path, "objects"), zlib.Z_DEFAULT_COMPRESSION, lasting=False)
        self.edits: dict[bytes, Entry | None] = {}
        self.skipped: dict[bytes, str] = {}
        self.removed = 0
        self.lost: dict[bytes, Entry | None] = {}
        self.stale: list[bytes] = []

    def all(self) -> None:
        """Looks at everything."""
        self._waiting.append((b"", self._tree, self._top, False))
        self._look_at(())

    def some(self, paths: Iterable[bytes]) -> None:
        """Looks at some paths, and at everything below those that are directories."""
        self._look_at(sorted(set(paths)))

    def _look_at(self, paths: Iterable[bytes]) -> None:
        with self._objects:
            for path in paths:
                self._go_to(path.split(b"/"))
            self._walk()
            with translated("store what is new"):
                self._objects.keep()
        self._spare_moved()

    def _go_to(self, names: list[bytes]) -> None:
        """Goes down to a path as `_walk` would."""
        prefix, tree, rules, only_known = b"", self._tree, self._top, False
        for depth, name in enumerate(names, start=1):
            entered = self._enter(prefix, rules)
            if entered is None:
                return
            rules = entered
            path = prefix + name
            old = self._repository.tree(tree).get(name)
            status = self._look(prefix, name)
            if status is None:
                self._gone(path, old)
                return
            if depth == len(names) or not stat.S_ISDIR(status.st_mode):
                self._child(path, name, status, old, rules, only_known=only_known)
                return
            found = self._folder(path, name, old, rules, only_known=only_known)
            if found is None:
                return
            prefix, tree, rules, only_known = found

    def _walk(self) -> None:
        while self._waiting:
            prefix, tree, above, only_known = self._waiting.pop()
            rules = self._enter(prefix, above)
            if rules is None:
                continue
            try:
                with os.scandir(self._root + prefix) as listing:
                    found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in listing]
            except FileNotFoundError:
                self.skipped[prefix] = CHANGING
                continue
            except OSError as error:
                self.skipped[prefix] = error.strerror or str(error)
                continue
            known = self._repository.tree(tree)
            for name, status in found:
                self._child(prefix + name, name, status, known.get(name), rules, only_known=only_known)
            for name in known.keys() - {name for name, _ in found}:
                self._gone(prefix + name, known[name])

    def _enter(self, prefix: bytes, rules: Rules) -> Rules | None:
        """The rules of a directory; None where it is left alone."""
        if prefix and os.path.lexists(self._root + prefix + b".git"):
            self.skipped[prefix] = NESTED
            return None
        try:
            return rules.enter(self._root, prefix)
        except LocalFileError as error:
            self.skipped[prefix] = error.message
            return None

    def _look(self, prefix: bytes, name: bytes) -> os.stat_result | None:
        try:
            if self._disk.folds and name not in os.listdir(self._root + prefix):
                return None
            return os.lstat(self._root + prefix + name)
        except OSError:
            return None

    def _child(
        self, path: bytes, name: bytes, status: os.stat_result, old: Entry | None, rules: Rules, *, only_known: bool
    ) -> None:
        """Looks at one thing in a directory."""
        if stat.S_ISDIR(status.st_mode):
            below = self._folder(path, name, old, rules, only_known=only_known)
            if below is not None:
                self._waiting.append(below)
            return
        if is_reserved(name):
            if name.startswith(TEMPORARY):
                self.stale.append(path)
            return
        if old is None and path not in self._forced and path not in self._lagging:
            if only_known or rules.leave_out(path, name, is_directory=False):
                return
        elif old is not None and old.mode == DIRECTORY:
            self._gone(path, old)
            old = None
        entry = self._entry(path, status, old)
        if entry is not None and path not in self._lagging and self._was_cut(path, status, old, entry):
            self.lost[path] = entry
        elif entry is not None:
            self._note(path, old, entry)

    def _folder(
        self, path: bytes, name: bytes, old: Entry | None, rules: Rules, *, only_known: bool
    ) -> tuple[bytes, bytes, Rules, bool] | None:
        """What to look for in a directory, as `_walk` takes it; None for nothing."""
        if is_reserved(name):
            if name != b".git":
                self.skipped[path] = "a name that could be taken for .git"
            return None
        is_known = old is not None and old.mode == DIRECTORY
        if not is_known:
            self._gone(path, old)
        below = path + b"/"
        if not any(forced.startswith(below) for forced in self._forced):
            only_known = only_known or rules.leave_out(path, name, is_directory=True)
            if only_known and not is_known:
                return None
        if not is_known and path.count(b"/") >= SYNC_ARRIVAL_DEPTH_MAX:
            self.skipped[path] = _TOO_DEEP
            return None
        return below, old.blob if old is not None and is_known else self._repository.empty, rules, only_known

    def _was_cut(self, path: bytes, status: os.stat_result, old: Entry | None, entry: Entry) -> bool:
        """Whether a loss of power took the end of a file, which it does to new ones, or all that was in it.

        It has been so since before the system started; and, unless it is empty, since before main had more of it.
        """
        files = {FILE, EXECUTABLE}
        if old is None or old.mode not in files or entry.mode not in files or old.blob in {entry.blob, _NO_BYTES}:
            return False
        if status.st_ctime >= self._started or entry.blob == _NO_BYTES:
            return status.st_ctime < self._started
        if status.st_ctime > self._moved or status.st_size >= self._repository.size_bytes(old.blob):
            return False
        with suppress(OSError), open(self._root + path, "rb") as file:  # else it changes just now
            return self._repository.blob(old.blob).startswith(file.read())
        return False

    def _gone(self, path: bytes, old: Entry | None) -> None:
        """Notes that what the tree has at a path is not there."""
        if old is not None and old.mode == DIRECTORY:
            for below, entry in self._repository.files(old.blob, path + b"/"):
                self._note(below, entry, None)
        else:
            self._note(path, old, None)

    def _note(self, path: bytes, old: Entry | None, new: Entry | None) -> None:
        if new == old or new in self._lagging.get(path, ()):
            return
        if path.startswith(ROSTER) and self._is_spared(path, new):
            return
        self.edits[path] = new
        if new is None:
            self.removed += 1
            self._cache.forget(path)

    def _spare_moved(self) -> None:
        """Leaves removals for later of large files that are as long as one that waits to be stored.

        They may have been moved there. Then both become one commit, and no node has to get the bytes anew.
        """
        for path in [path for path, new in self.edits.items() if new is None] if self._to_store else ():
            pointer = self._large.pointer(self._repository.at(self._tree, path))
            if pointer is not None and pointer.size_bytes in self._to_store:
                self.skipped[path] = TO_STORE
                self.removed -= 1
                del self.edits[path]

    def _is_spared(self, path: bytes, new: Entry | None) -> bool:
        """Whether an edit does not count since it would take away entries of the roster."""
        below = path.removeprefix(ROSTER).split(b"/")
        if new is None and below[:2] == [b"", b"nodes"] and len(below) > 2 and copy_author(path) is None:
            self.lost[path] = None
            return True
        if new is not None and (below in ([b""], [b"", b"nodes"]) or (below[:2] == [b"", b"nodes"] and len(below) > 3)):
            self.skipped[path] = _ROSTERS
            return True
        return False

    def _entry(self, path: bytes, status: os.stat_result, old: Entry | None) -> Entry | None:
        """What a file is, its contents kept; None where it is left alone."""
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            self.skipped[path] = "neither a file nor a directory nor a symlink"
            return None
        signature = Signature.of(status)
        blob = self._cache.blob(path, signature)
        if blob is None or ((old is None or old.blob != blob) and not self._repository.has(blob)):
            try:
                blob = self._read(path, signature, old)
            except OSError as error:
                self.skipped[path] = error.strerror or str(error)
                return None
        return None if blob is None else entry_of(status, blob, old, has_modes=self._disk.has_modes)

    def _store(self, data: bytes) -> bytes:
        """Keeps a blob, which is there when the look at the folder has ended; returns its id."""
        with translated("store a file"):
            return self._objects.add(b"blob", data)

    def _read(self, path: bytes, signature: Signature, old: Entry | None) -> bytes | None:
        """The blob that a file is, which is kept; None where it is left alone."""
        pointer = self._large.known(path, signature)
        if pointer is not None:
            return self._store(pointer.text)
        read_ns = time.time_ns()
        found: tuple[bytes, bytes | None] | None
        if path.startswith(ROSTER) and signature.size_bytes <= SYNC_ENTRY_BYTES_MAX:  # never large: it has to be read
            whole = contents(self._root + path, signature)
            found = None if whole is None else (blob_id(whole), whole)
        else:
            found = identified(self._root + path, signature, [old], self._large)
        if found is None or found[0] == UNKNOWN:
            self.skipped[path] = CHANGING if found is None else self._large.reason(signature.size_bytes)
            if self.skipped[path] == TO_STORE:
                self._to_store.add(signature.size_bytes)
            return None
        blob, data = found
        if data is not None and (old is None or old.blob != blob):
            self._store(data)
        self._cache.keep(path, signature, blob, read_ns=read_ns)
        return blob
