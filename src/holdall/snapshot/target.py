"""The directory that a commit is restored into: one of its own beside the place it will take, or the one that is there.

What is not there yet, or is empty, is built under another name and takes its own when it is whole. A run that was
interrupted leaves the directory it was building, and the next run of the same commit goes on in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from holdall.errors import ConflictError, LocalFileError
from holdall.snapshot.places import DIRECTORY_FLAGS, told
from holdall.stores.disk import sync_file_system

if TYPE_CHECKING:
    from types import TracebackType

    from holdall.core.address import Address
    from holdall.snapshot.selection import Selection

_NAME_BYTES_MAX: Final = 200
"""What of a directory's name goes into that of the one it is built as, which adds 22 bytes."""
_TAKEN: Final = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


class Target:
    """Where a commit is restored. A context manager: on its way out it lets go, whatever has happened.

    Args:
        directory: What was asked for; symlinks on the way to it are followed.

    Attributes:
        path: The directory, without symlinks.
        root: The descriptor of the directory to write into, or None where there is nothing yet.
        fresh: Whether that belongs to this restore alone.
        is_empty: Whether there is nothing in it.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.realpath(directory)
        self.root: int | None = None
        self.fresh = False
        self.is_empty = True
        self._building: str | None = None
        self._like: os.stat_result | None = None
        """Of the empty directory that will be replaced: its owner and mode are kept."""

    def open(self, commit: Address, selection: Selection, *, make: bool) -> None:
        """Finds out what is there, and makes what is needed.

        Args:
            commit: The commit that is restored.
            selection: What of it.
            make: Whether anything may be made.

        Raises:
            ConflictError: It is no directory, or another checkout is at work in it.
            LocalFileError: It cannot be used.
        """
        try:
            self._open(commit, selection, make=make)
        except OSError as error:
            raise LocalFileError(f"{self.path!r} cannot be restored into: {error.strerror or error}.") from error

    def _open(self, commit: Address, selection: Selection, *, make: bool) -> None:
        try:
            root = os.open(self.path, DIRECTORY_FLAGS)
        except FileNotFoundError:
            root = None
        except NotADirectoryError:
            raise ConflictError(f"{self.path!r} is not a directory.", hint="Name another.") from None
        if root is not None:
            with os.scandir(root) as names:
                self.is_empty = next(names, None) is None
        if root is not None and not (self.is_empty and _may_be_renamed_over(self.path, root)):
            self.root = root
            if make:
                self._lock(root)
            return
        if make:
            self._build(commit, selection, root)
        if root is not None:
            os.close(root)

    def _build(self, commit: Address, selection: Selection, empty: int | None) -> None:
        """Makes the directory to build in, or finds the one that an interrupted run has left."""
        parent, name = os.path.split(self.path)
        os.makedirs(parent, exist_ok=True)
        key = hashlib.sha256(commit + selection.key).digest() if selection.key else commit
        if len(os.fsencode(name)) > _NAME_BYTES_MAX:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()
        building = os.path.join(parent, f".{name}.holdall-{key.hex()[:12]}")
        with suppress(FileExistsError):
            os.mkdir(building)
        self.root = os.open(building, DIRECTORY_FLAGS)
        if os.fstat(self.root).st_uid != os.geteuid():
            raise ConflictError(f"{building!r} is not yours.", hint="Remove it, or name another directory.")
        self._lock(self.root)
        if not _is_at(building, self.root):  # whoever held the lock has renamed it
            raise ConflictError(f"Another checkout was at work in {self.path!r}.", hint="Run the same command again.")
        self._building = building
        self._like = None if empty is None else os.fstat(empty)
        self.fresh = True
        with os.scandir(self.root) as names:
            self.is_empty = next(names, None) is None

    def _lock(self, root: int) -> None:
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"Another checkout is at work in {self.path!r}.", hint="Wait until it is done."
            ) from None
        except OSError:
            return  # a file system without locks

    def flush(self) -> None:
        """Makes durable what was written so far, so that `complete` has less to wait for; what fails, fails there."""
        if self.root is not None:
            with suppress(OSError):
                sync_file_system(self.root)

    def complete(self) -> None:
        """Makes durable what was written, and gives the directory its name.

        Raises:
            ConflictError: Something else has got that name meanwhile.
            LocalFileError: It cannot be done.
            OutOfSpaceError: The disk is full.
        """
        assert self.root is not None  # noqa: S101 - something was written
        try:
            sync_file_system(self.root)
            if self._building is None:
                return
            if self._like is not None:
                with suppress(PermissionError):
                    os.chown(self.root, self._like.st_uid, self._like.st_gid)
                os.chmod(self.root, stat.S_IMODE(self._like.st_mode))
            os.rename(self._building, self.path)
            self._building = None
            parent = os.open(os.path.dirname(self.path), DIRECTORY_FLAGS)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        except OSError as error:
            if error.errno in _TAKEN:
                raise ConflictError(
                    f"Something else is in {self.path!r} now.", hint=f"All files are in {self._building!r}."
                ) from error
            raise told(error, b"") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._building is not None:
            with suppress(OSError):
                os.rmdir(self._building)  # where nothing was written; what was is gone on from
        if self.root is not None:
            os.close(self.root)
            self.root = None


def _may_be_renamed_over(path: str, root: int) -> bool:
    """Whether an empty directory can be replaced by another one, and nobody is in it who would be left outside."""
    parent, status = os.stat(os.path.dirname(path)), os.fstat(root)
    with suppress(OSError):
        if os.path.samestat(os.stat("."), status):
            return False
    if parent.st_mode & stat.S_ISVTX and os.geteuid() not in {0, parent.st_uid, status.st_uid}:
        return False
    return parent.st_dev == status.st_dev and os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def _is_at(path: str, root: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(root))
    except FileNotFoundError:
        return False
