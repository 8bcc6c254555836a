"""The timeline's files in a worktree and in git's own index, kept as the branch has them.

They are a copy: what counts is in the commits. So nothing here is synced, a failure is made good at the next chance,
and a note says up to which commit they are complete. Files of others are left alone, staged or not.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import pygit2
from pygit2.enums import CheckoutStrategy
from pygit2.errors import check_error
from pygit2.ffi import C, ffi

from holdall.limits.timeline import GIT_INDEX_DELAY_SECONDS, GIT_INDEX_NOW_BYTES_MAX
from holdall.stores.git_objects import write_new
from holdall.timeline.scan import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FILE_MODE: Final = 0o100644
_LOW: Final = 0xFFFFFFFF


class _Pending(NamedTuple):
    oid: bytes
    is_written: bool
    """Whether we wrote the file; then it is known to be what the commit has."""


class Worktree:
    """The files of one worktree.

    Args:
        repo: Its repository.
        side: The directory that the timeline has for itself beside it.
    """

    def __init__(self, repo: pygit2.Repository, side: str) -> None:
        self._repo = repo
        self._root = repo.workdir
        self._side = side
        self._note = os.path.join(side, "worktree")
        self._git_index = os.path.join(repo.path, "index")
        self._pending: dict[str, _Pending] = {}
        self._pending_commit = ""
        self._written_at = 0.0

    def complete_at(self) -> str:
        """The commit up to which files and git's index were complete; empty if that is not known."""
        if self._pending_commit:
            return self._pending_commit
        try:
            with open(self._note, encoding="ascii") as file:
                return file.read()
        except (OSError, ValueError):
            return ""

    def place(self, files: Iterable[tuple[str, bytes]], commit: str, read: Callable[[bytes], bytes]) -> None:
        """Puts files into the worktree where they are not, and sees that git's index gets them.

        Args:
            files: Path and object name of each that came since `complete_at`.
            commit: That makes them complete.
            read: The bytes of a blob by its object name.

        Raises:
            OSError: The worktree cannot be written; nothing is noted as complete.
        """
        checked: set[str] = set()
        for path, oid in files:
            folder, _, name = path.rpartition("/")
            if folder not in checked:
                self._make_folder(folder)
                checked.add(folder)
            place = self._root + path
            is_new = not os.path.lexists(place)
            if is_new:
                self._make_file(f"{self._side}/making-{name}", place, read(oid))
            self._pending[path] = _Pending(oid, is_new)
        self._pending_commit = commit

    def _make_file(self, making: str, place: str, content: bytes) -> None:
        write_new(making, (content,), 0o666)
        try:
            self._rename(making, place)
        except OSError:
            os.unlink(making)
            raise

    def _rename(self, making: str, place: str) -> None:
        try:
            os.rename(making, place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.move(making, place)  # the repository is on another file system than its worktree

    def _make_folder(self, path: str) -> None:
        """Makes the directories of a file, none of which may be a symlink that leads elsewhere."""
        place = self._root
        for part in filter(None, path.split("/")):
            place = os.path.join(place, part)
            with suppress(FileExistsError):
                os.mkdir(place)
            if os.path.islink(place):
                raise NotADirectoryError(f"{place} is a symlink")

    @property
    def is_late(self) -> bool:
        """Whether git's index is behind."""
        return bool(self._pending_commit)

    def may_wait(self) -> bool:
        """Whether git's index is so large, and was written so lately, that it is better brought up to date later."""
        try:
            large = os.stat(self._git_index).st_size > GIT_INDEX_NOW_BYTES_MAX
        except FileNotFoundError:
            return False
        return large and time.monotonic() - self._written_at < GIT_INDEX_DELAY_SECONDS

    def finish(self) -> None:
        """Brings git's index up to date, and notes that all is complete; the caller holds the timeline's lock.

        Raises:
            OSError: It cannot be written, or another program has it locked.
            pygit2.GitError: The same, or it is of a kind that libgit2 does not know.
        """
        if not self._pending_commit:
            return
        if self._pending:
            index = self._repo.index
            index.read(force=False)
            for path, one in self._pending.items():
                _index_file(index, self._root, path, one)
            index.write()
        making = f"{self._note}.new"
        with open(making, "w", encoding="ascii") as file:
            file.write(self._pending_commit)
        os.replace(making, self._note)
        self._pending.clear()
        self._pending_commit = ""
        self._written_at = time.monotonic()

    def carry(self, old: str | None, new: str) -> None:
        """Brings other people's files, which a pull changes, into the worktree, where nobody has changed them here.

        Args:
            old: The commit that HEAD is at, if any.
            new: The one that it is about to be at.

        Raises:
            pygit2.GitError: Git's index cannot be written.
        """
        after = self._repo[new].peel(pygit2.Tree)
        before = None if old is None else self._repo[old].peel(pygit2.Tree)
        difference = after.diff_to_tree(swap=True) if before is None else before.diff_to_tree(after)
        paths = {file.path for delta in difference.deltas for file in (delta.old_file, delta.new_file)}
        foreign = [path for path in paths if not is_ours(os.fsencode(os.path.basename(path)))]
        if foreign:
            strategy = CheckoutStrategy.SAFE | CheckoutStrategy.ALLOW_CONFLICTS
            strategy |= CheckoutStrategy.DISABLE_PATHSPEC_MATCH
            self._repo.checkout_tree(after, strategy=strategy, paths=foreign)  # type: ignore[no-untyped-call]


class Later:
    """Calls a function once, some time from now, unless it was called meanwhile.

    Args:
        act: What to call, on a thread of its own.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._timer: threading.Timer | None = None

    def plan(self) -> None:
        """Sees that the function will be called."""
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(GIT_INDEX_DELAY_SECONDS, self._act)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Lets it be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _index_file(index: pygit2.Index, root: str, path: str, one: _Pending) -> None:
    """Puts a file into git's index with what `git status` compares, so that it need not be read again.

    pygit2's own entries have no times and no length. A file that was there is left for git to read.
    """
    if not one.is_written and path in index and index[path].id.raw == one.oid:
        return
    entry = ffi.new("git_index_entry *")
    name = ffi.new("char[]", os.fsencode(path))
    entry.path, entry.mode = name, _FILE_MODE
    ffi.buffer(ffi.addressof(entry, "id"))[:] = one.oid
    with suppress(FileNotFoundError):
        status = os.lstat(root + path)
        for times, moment_ns in ((entry.ctime, status.st_ctime_ns), (entry.mtime, status.st_mtime_ns)):
            times.seconds, times.nanoseconds = divmod(moment_ns if one.is_written else 0, 1_000_000_000)
        entry.dev, entry.ino = status.st_dev & _LOW, status.st_ino & _LOW
        entry.uid, entry.gid, entry.file_size = status.st_uid, status.st_gid, status.st_size & _LOW
    check_error(C.git_index_add(index._index, entry), io=True)  # noqa: SLF001 - see above
