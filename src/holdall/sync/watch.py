"""What the system tells of changes in a synced folder: hints of where to look, and whether they can be all.

On Linux this is inotify itself. The package watchdog, which is used elsewhere, holds a rename back there for half a
second, which is how editors save, and says nothing of directories for which no watch was left.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_HINTS_MAX
from holdall.sync.ignore import FILES, Rules, is_reserved
from holdall.sync.merge import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

    from holdall.sync.repository import Repository

_MODIFY: Final = 0x2
_ATTRIB: Final = 0x4
_CLOSE_WRITE: Final = 0x8
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_UNMOUNT: Final = 0x2000
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_IS_DIRECTORY: Final = 0x40000000
_ONLY_DIRECTORIES: Final = 0x01000000
_NO_SYMLINKS: Final = 0x02000000
_NOT_OF_UNLINKED: Final = 0x04000000
_WANTED: Final = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
) | (_ONLY_DIRECTORIES | _NO_SYMLINKS | _NOT_OF_UNLINKED)
_CAME: Final = _CREATE | _MOVED_TO
_WENT: Final = _DELETE | _MOVED_FROM
_HEADER: Final = struct.Struct("iIII")
_READ_BYTES: Final = 256 * 1024
_READS_MAX: Final = 64
"""Then it is somebody else's turn, however fast changes come."""
_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class Inotify:
    """The watching of one folder, without directories of which nothing is taken: ignored ones, those in repositories.

    Args:
        root: The folder.
        repository: Tells which directories are synced although they are ignored.
        exclude: Where this node's own ignore patterns are.

    Attributes:
        why_blind: Why changes may go untold; empty where none do.
        writing: Files that were written to and not closed yet; whoever has looked at the folder empties it.
    """

    def __init__(self, root: str, repository: Repository, exclude: str) -> None:
        self._root = os.fsencode(root) + b"/"
        self._repository = repository
        self._exclude = exclude
        self._paths: dict[int, bytes] = {}
        self.writing: set[bytes] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.why_blind = "" if self._fd >= 0 else _reason(ctypes.get_errno())

    def fileno(self) -> int | None:
        """What can be read when there is news; None where there will not be any."""
        return self._fd if self._fd >= 0 else None

    def close(self) -> None:
        """Ends it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def refresh(self, tree: bytes) -> None:
        """Watches whatever is not watched and should be.

        Args:
            tree: What is synced, as of now.
        """
        self._tree = tree
        if self._fd >= 0:
            self.why_blind = ""
            self._add(b"")

    def read(self) -> set[str] | None:
        """Paths, relative to the folder, where something may have happened since the last call; None for anywhere."""
        hints: set[bytes] = set()
        anywhere = False
        for _ in range(_READS_MAX if self._fd >= 0 else 0):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            for watch, mask, name in _events(data):
                anywhere |= self._take(watch, mask, name, hints)
            if len(hints) > SYNC_HINTS_MAX:
                anywhere = True
                hints.clear()
                self.writing.clear()
        return None if anywhere else {os.fsdecode(hint) for hint in hints}

    def _take(self, watch: int, mask: int, name: bytes, hints: set[bytes]) -> bool:
        """Takes one event in; says whether something may have happened anywhere."""
        if mask & _OVERFLOW:
            return True
        if mask & _IGNORED:
            self._paths.pop(watch, None)
            return False
        folder = self._paths.get(watch)
        if folder and name == b".git" and mask & _WENT:
            self._add(folder)
            hints.add(folder)
        if folder is None or is_reserved(name):
            return folder == b"" and bool(mask & (_DELETE_SELF | _MOVE_SELF | _UNMOUNT))
        path = folder + b"/" + name if folder else name
        self._note_writing(mask, path)
        if mask & _IS_DIRECTORY:
            if not mask & (_CAME | _WENT):
                return False
            if mask & _MOVED_FROM:
                self._forget(path)
            if mask & _CAME:
                self._add(path)
        hints.add(path)
        if name in FILES:
            self._add(b"")
            return True
        return False

    def _note_writing(self, mask: int, path: bytes) -> None:
        if mask & _MODIFY:
            self.writing.add(path)
        elif mask & (_CLOSE_WRITE | _WENT | _MOVED_TO):
            self.writing.discard(path)

    def _forget(self, path: bytes) -> None:
        """Ends the watching of a directory that went elsewhere, and of what is in it."""
        for watch, known in list(self._paths.items()):
            if known == path or known.startswith(path + b"/"):
                del self._paths[watch]
                self._libc.inotify_rm_watch(self._fd, watch)

    def _add(self, path: bytes) -> None:
        """Watches a directory and those in it."""
        try:
            rules = Rules.top(self._exclude)
            names = path.split(b"/") if path else []
            for depth in range(len(names)):
                above = b"".join(name + b"/" for name in names[:depth])
                if above and os.path.lexists(self._root + above + b".git"):
                    return
                rules = rules.enter(self._root, above)
            if path and self._is_left_out(path, rules):
                return
        except LocalFileError:
            return  # as the scan does, which also says so
        waiting = [(path, rules)]
        while waiting:
            path, rules = waiting.pop()
            is_nested = path != b"" and os.path.lexists(self._root + path + b"/.git")
            watch = self._libc.inotify_add_watch(self._fd, self._root + path, _WANTED)
            if watch < 0:
                code = ctypes.get_errno()
                if code not in _GONE:
                    self.why_blind = _reason(code)
                if code == errno.ENOSPC:
                    return
                continue
            self._paths[watch] = path
            if not is_nested:  # of a repository, only the end is of interest
                waiting += self._below(path, rules)

    def _below(self, path: bytes, rules: Rules) -> Iterator[tuple[bytes, Rules]]:
        """The directories in a directory that are to be watched."""
        prefix = path + b"/" if path else b""
        try:
            rules = rules.enter(self._root, prefix)
            with os.scandir(self._root + prefix) as listing:
                found = [prefix + entry.name for entry in listing if entry.is_dir(follow_symlinks=False)]
        except (OSError, LocalFileError):
            return
        yield from ((child, rules) for child in found if not self._is_left_out(child, rules))

    def _is_left_out(self, path: bytes, rules: Rules) -> bool:
        name = path.rpartition(b"/")[2]
        if is_reserved(name):
            return True
        if not rules.leave_out(path, name, is_directory=True):
            return False
        there = self._repository.at(self._tree, path)
        return there is None or there.mode != DIRECTORY


class Elsewhere:
    """As `Inotify`, by the package watchdog, for systems that have no inotify; it watches all directories.

    Args:
        root: The folder.

    Attributes:
        why_blind: As there.
        writing: As there; it is never told.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self.writing: set[bytes] = set()
        self._hints: set[str] = set()
        self._anywhere = False
        self._observer: BaseObserver | None = None
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self.why_blind = ""

    def fileno(self) -> int | None:
        """As there."""
        return self._read_end

    def close(self) -> None:
        """As there."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        os.close(self._read_end)
        os.close(self._write_end)

    def refresh(self, tree: bytes) -> None:
        """As there."""
        del tree
        if self._observer is not None and self._observer.is_alive():
            return
        from watchdog.events import FileSystemEventHandler  # noqa: PLC0415 - slow to import, and not for Linux
        from watchdog.observers import Observer  # noqa: PLC0415 - as above

        handler = FileSystemEventHandler()
        handler.dispatch = self._hear  # type: ignore[method-assign]
        observer = Observer()
        try:
            observer.schedule(handler, self._root, recursive=True)
            observer.start()
        except OSError as error:
            self.why_blind = _reason(error.errno)
            return
        self._observer, self.why_blind = observer, ""

    def read(self) -> set[str] | None:
        """As there."""
        with suppress(BlockingIOError):
            os.read(self._read_end, _READ_BYTES)
        with self._lock:
            hints, self._hints = self._hints, set()
            anywhere, self._anywhere = self._anywhere, False
        return None if anywhere else hints

    def _hear(self, event: FileSystemEvent) -> None:
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        names = {os.fsencode(path).rpartition(b"/")[2] for path in paths}
        if event.event_type in {"opened", "closed_no_write"} or all(map(is_reserved, names)):
            return
        if event.is_directory and event.event_type == "modified":
            return
        with self._lock:
            self._hints.update(os.path.relpath(path, self._root) for path in paths)
            if not names.isdisjoint(FILES) or len(self._hints) > SYNC_HINTS_MAX:
                self._anywhere = True
                self._hints.clear()
        with suppress(OSError):  # full is as good, and closed means that nobody asks any more
            os.write(self._write_end, b"!")


def watcher(root: str, repository: Repository, exclude: str) -> Inotify | Elsewhere:
    """What this system has; arguments as for `Inotify`."""
    return Inotify(root, repository, exclude) if sys.platform == "linux" else Elsewhere(root)


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What was read, as watch, mask and name."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size + length
        yield watch, mask, data[at - length : at].rstrip(b"\0")


def _reason(code: int | None) -> str:
    if code == errno.ENOSPC:
        return "the system's inotify watches are used up (sysctl fs.inotify.max_user_watches)"
    if code in {errno.EMFILE, errno.ENFILE}:
        return "the system's inotify instances are used up (sysctl fs.inotify.max_user_instances)"
    return os.strerror(code or errno.EIO)
