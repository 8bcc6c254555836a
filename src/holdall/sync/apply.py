"""A merge's changes, carried into the folder.

Only the paths that changed are touched, each through directories that were opened one by one, so that no symlink leads
out of the folder. Each is looked at just before it is replaced: what is there must be what the history has, or it stays
and is reported. A file is written beside its place and renamed over it; what cannot be written is reported and the rest
goes on.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.sync.disk import cleared, has_name
from holdall.sync.ignore import TEMPORARY, is_reserved
from holdall.sync.large import permissions
from holdall.sync.merge import SYMLINK, Entry
from holdall.sync.pointer import Pointer, parse
from holdall.sync.reading import READ, UNKNOWN, identified
from holdall.sync.snapshot import NESTED
from holdall.sync.state import Signature, entry_of
from holdall.sync.trees import blob_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdall.sync.disk import Disk
    from holdall.sync.large import Large
    from holdall.sync.repository import Repository
    from holdall.sync.state import FileCache

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SAME_NAME: Final = "this file system takes its name for another one, as it may do with case, accents and final dots"
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


@dataclass(frozen=True, slots=True)
class Step:
    """One path that has to become otherwise.

    Attributes:
        states: What may be there now.
        wanted: What has to be there.
    """

    states: Sequence[Entry | None]
    wanted: Entry | None


@dataclass(slots=True)
class Applied:
    """What became of the steps.

    Attributes:
        done: Paths that are as wanted, and were not before.
        changed: Paths where something else was: it was left.
        failed: Paths that could not be made as wanted, and why.
        placed: Large files that were put in place, what each is now, and its SHA-256.
    """

    done: list[bytes] = field(default_factory=list)
    changed: set[bytes] = field(default_factory=set)
    failed: dict[bytes, str] = field(default_factory=dict)
    placed: dict[bytes, tuple[Signature, bytes]] = field(default_factory=dict)


class _Refused(Exception):  # noqa: N818 - it ends a step, not the program
    """A step that must not be done; says why."""


class Applier:
    """Writes into a folder.

    Args:
        repository: Has what is written.
        root: Where the folder is.
        cache: Of what was hashed in it.
        large: What is known of large files, and those that have come.
        disk: What the file system does.
    """

    def __init__(
        self,
        repository: Repository,
        root: bytes,
        *,
        cache: FileCache,
        large: Large,
        disk: Disk,
    ) -> None:
        self._repository = repository
        self._root = root
        self._cache = cache
        self._large = large
        self._disk = disk
        self._open: list[tuple[bytes, int]] = []
        self._wanted: set[bytes] = set()
        self._making = TEMPORARY + secrets.token_hex(6).encode()
        self._numbers = count()

    def apply(self, steps: Mapping[bytes, Step]) -> Applied:
        """Does the steps: removals first, so that a file can take the place of a directory, and the other way round.

        Raises:
            LocalFileError: The folder itself cannot be opened.
        """
        applied = Applied()
        self._wanted = {step.wanted.blob for step in steps.values() if step.wanted is not None}
        try:
            self._open = [(b"", os.open(self._root, _FOLDER))]
        except OSError as error:
            raise LocalFileError(f"The folder cannot be opened: {error.strerror or error}.") from error
        try:
            removals = sorted((path for path, step in steps.items() if step.wanted is None), reverse=True)
            writes = sorted(path for path, step in steps.items() if step.wanted is not None)
            for path in (*removals, *writes):
                self._try(path, steps[path], applied)
        finally:
            while self._open:
                os.close(self._open.pop()[1])
        return applied

    def _try(self, path: bytes, step: Step, applied: Applied) -> None:
        folder, slash, name = path.rpartition(b"/")
        if is_reserved(name) or _has_reserved(folder + slash):
            applied.failed[path] = "a name that is never synced"
            return
        try:
            self._step(path, step, applied)
        except _Refused as refused:
            applied.failed[path] = str(refused)
        except OSError as error:
            why = error.strerror or str(error)
            applied.failed[path] = f"this file system does not take it: {why}" if self._disk.folds else why

    def _step(self, path: bytes, step: Step, applied: Applied) -> None:
        folder, _, name = path.rpartition(b"/")
        try:
            fd = self._enter(folder, make=step.wanted is not None)
        except NotADirectoryError:
            applied.changed.add(path)
            return
        status = None if fd is None else _status(fd, name)
        if fd is not None and self._disk.folds and status is not None and not has_name(fd, name):
            raise _Refused(_SAME_NAME)
        if status is not None and stat.S_ISDIR(status.st_mode) and None in step.states:
            if step.wanted is None:
                return
            if fd is None or not cleared(fd, name):
                raise _Refused("a directory with files that are not synced is in its place")
            status = None
        now = None if fd is None or status is None else self._entry(fd, path, name, status, step)
        if now == step.wanted:
            return
        if now not in step.states:
            applied.changed.add(path)
            return
        if step.wanted is None:
            self._remove(path, name, status, applied)
        elif fd is not None and self._write(fd, path, status, step.wanted, applied):
            applied.done.append(path)
        else:
            applied.changed.add(path)

    def _enter(self, folder: bytes, *, make: bool) -> int | None:
        """The directory, open, which stays so for the paths that follow; None where there is none and none is made."""
        if folder == self._open[-1][0]:
            return self._open[-1][1]
        while self._open[-1][0] and not (folder + b"/").startswith(self._open[-1][0] + b"/"):
            os.close(self._open.pop()[1])
        here, fd = self._open[-1]
        for name in folder[len(here) :].strip(b"/").split(b"/") if folder != here else ():
            below = self._opened(fd, name, make=make)
            if below is None:
                return None
            here, fd = here + b"/" + name if here else name, below
            self._open.append((here, fd))
        return fd

    def _opened(self, fd: int, name: bytes, *, make: bool) -> int | None:
        """A directory in another one, open; None where there is none and none is made."""
        made = False
        try:
            below = os.open(name, _FOLDER, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                return None
            os.mkdir(name, dir_fd=fd)
            made = True
            below = os.open(name, _FOLDER, dir_fd=fd)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            if not make:
                return None
            raise NotADirectoryError(errno.ENOTDIR, "not a directory") from error
        why = _SAME_NAME if self._disk.folds and not has_name(fd, name) else None
        if why is None and _status(below, b".git") is not None:
            why = f"it lies in {NESTED}"
        if why is not None:
            os.close(below)
            if made:
                os.rmdir(name, dir_fd=fd)
            raise _Refused(why)
        return below

    def _entry(self, fd: int, path: bytes, name: bytes, status: os.stat_result, step: Step) -> Entry | None:
        """What is in the place of a file."""
        signature = Signature.of(status)
        blob = self._cache.blob(path, signature)
        if blob is None:
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                return Entry(0, UNKNOWN)
            found = identified(name, signature, [step.wanted, *step.states], self._large, within=fd)
            blob = UNKNOWN if found is None else found[0]
        before = step.wanted or next((state for state in step.states if state is not None), None)
        return entry_of(status, blob, before, has_modes=self._disk.has_modes)

    def _remove(self, path: bytes, name: bytes, status: os.stat_result | None, applied: Applied) -> None:
        fd = self._open[-1][1]
        if status is None or not _is_still(fd, name, status):
            applied.changed.add(path)
            return
        moved = self._large.known(path, Signature.of(status))
        if moved is None or blob_id(moved.text) not in self._wanted or not self._large.take(moved, name, fd):
            os.unlink(name, dir_fd=fd)
        self._cache.forget(path)
        applied.done.append(path)
        while len(self._open) > 1:
            here = self._open[-1][0]
            try:
                os.rmdir(here.rpartition(b"/")[2], dir_fd=self._open[-2][1])
            except OSError:
                return
            os.close(self._open.pop()[1])

    def _write(self, fd: int, path: bytes, status: os.stat_result | None, wanted: Entry, applied: Applied) -> bool:
        """Puts a file in its place; False where something else came there meanwhile."""
        making, name = b"%b-%d" % (self._making, next(self._numbers)), path.rpartition(b"/")[2]
        data = self._repository.blob(wanted.blob)
        pointer = parse(data) if stat.S_ISREG(wanted.mode) else None
        if pointer is not None and status is not None and self._large.known(path, Signature.of(status)) == pointer:
            self._set_mode(fd, name, wanted)
            self._note(fd, path, pointer, applied)
            return True
        placed = False
        try:
            if wanted.mode == SYMLINK:
                os.symlink(data, making, dir_fd=fd)
            elif stat.S_ISREG(wanted.mode):
                self._fill(fd, making, status, wanted, pointer or data)
            else:
                raise _Refused("a submodule or something else that this version does not know")
            placed = _placed(fd, making, name, status)
        finally:
            if not placed or status is None:
                with suppress(FileNotFoundError):
                    os.unlink(making, dir_fd=fd)
        if not placed:
            return False
        if status is None and self._disk.folds and not has_name(fd, name):
            os.unlink(name, dir_fd=fd)
            raise _Refused(_SAME_NAME)
        self._cache.forget(path)
        if pointer is not None:
            self._note(fd, path, pointer, applied)
        return True

    def _fill(self, fd: int, making: bytes, status: os.stat_result | None, wanted: Entry, of: Pointer | bytes) -> None:
        """Writes a file beside its place, with the permissions of the one it replaces."""
        if isinstance(of, Pointer) and not self._large.has(of):
            raise _Refused(self._large.lacks())
        runs = bool(wanted.mode & stat.S_IXUSR)
        replaces = status is not None and stat.S_ISREG(status.st_mode)
        made = os.open(making, _NEW, 0o600 if replaces else 0o777 if runs else 0o666, dir_fd=fd)
        try:
            left = memoryview(of if isinstance(of, bytes) else b"")
            while left:
                left = left[os.write(made, left) :]
            if status is not None and replaces and self._disk.has_modes:
                os.fchmod(made, permissions(status.st_mode, runs=runs))
            if isinstance(of, Pointer):
                self._large.give(of, made, making, fd)
        finally:
            os.close(made)

    def _set_mode(self, fd: int, name: bytes, wanted: Entry) -> None:
        """Makes a large file, which has the right bytes, a program or none."""
        file = os.open(name, READ, dir_fd=fd)
        try:
            os.fchmod(file, permissions(os.fstat(file).st_mode, runs=bool(wanted.mode & stat.S_IXUSR)))
        finally:
            os.close(file)

    def _note(self, fd: int, path: bytes, pointer: Pointer, applied: Applied) -> None:
        """Notes what a large file is that is in its place now, so that it need not be read."""
        signature = self._large.placed(path.rpartition(b"/")[2], fd)
        if signature is not None:
            applied.placed[path] = signature, pointer.address


@lru_cache(64)
def _has_reserved(folders: bytes) -> bool:
    """Whether one of the directories on the way to a file, each with its slash, is never synced."""
    return any(is_reserved(name) for name in folders.split(b"/")[:-1])


def _status(fd: int, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return None


def _is_still(fd: int, name: bytes, status: os.stat_result | None) -> bool:
    now = _status(fd, name)
    if now is None or status is None:
        return now is status
    return Signature.of(now) == Signature.of(status)


def _placed(fd: int, making: bytes, name: bytes, status: os.stat_result | None) -> bool:
    """Gives a file its name in the place of what was there, nothing or a file; False where that has changed."""
    if status is None:
        try:
            os.link(making, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return True
    if not _is_still(fd, name, status):
        return False
    os.rename(making, name, src_dir_fd=fd, dst_dir_fd=fd)
    return True
