"""Writing a tree, entry by entry, into a directory that may hold traps.

Everything is reached from the root by descriptors, one name at a time and never through a symlink, and nothing is
written over but by a rename. One thread does it all: on a local disk creating small files from several is slower than
from one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from holdall.core.tree import EXECUTABLE, Type, shown
from holdall.errors import ConflictError, DamageError
from holdall.snapshot.holes import write
from holdall.snapshot.places import Cursor, name_first, remove, rename_over, temporary_name, told
from holdall.snapshot.settling import Settler

if TYPE_CHECKING:
    from hashlib import _Hash

    from holdall.core.address import Address
    from holdall.core.tree import Entry
    from holdall.snapshot.layout import Batch, Step

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Action(IntEnum):
    """What is to be done with an entry."""

    PASS = 0
    """It is not wanted."""
    LEAVE = 1
    """It is there as it should be."""
    MAKE = 2
    """It is not there."""
    REPLACE = 3
    """Something else is there."""
    SETTLE = 4
    """Its contents are there; its mode is another."""


class Wanted(NamedTuple):
    """An entry, and what is to be done with it.

    Attributes:
        entry: The entry.
        action: What is to be done.
        early: Whether it comes before its directory, which then has to be made.
    """

    entry: Entry
    action: Action
    early: bool = False


class _Open(msgspec.Struct):
    """A file that is being written.

    Attributes:
        fd: Open for writing.
        entry: Its entry.
        action: Whether something is there that it replaces.
        temporary: The name it has until it is whole; None where it has its own from the first.
        digest: Of what was written so far.
    """

    fd: int
    entry: Entry
    action: Action
    temporary: bytes | None
    digest: _Hash


class TreeWriter:
    """Writes the entries of one tree; all calls come from one thread at a time.

    Args:
        root: The open directory; it stays open.
        commit: The address of the commit that they are of.
        fresh: It belongs to this restore alone, so that files may have their names before they are whole.

    Attributes:
        files: Files written so far.
        files_bytes: Their length together.
        written_bytes: What of it is no hole, also of files that are not whole yet.
        settler: What gave back metadata.
    """

    def __init__(self, root: int, commit: Address, *, fresh: bool) -> None:
        self.files = 0
        self.files_bytes = 0
        self.written_bytes = 0
        self.settler = Settler()
        self._commit = commit
        self._fresh = fresh
        self._here = Cursor(root)
        self._there = Cursor(root)
        self._large: _Open | None = None
        self._blank: bytes | None = None
        """The last chunk that was nothing but zeros: a reader gives those that follow one another as one object."""

    def close(self) -> None:
        """Lets go; a file that is not whole is removed unless the next run may go on from it."""
        large, self._large = self._large, None
        if large is not None:
            os.close(large.fd)
            if large.temporary is not None:
                with suppress(OSError):
                    os.unlink(large.temporary, dir_fd=self._here.directory(large.entry.parent))
        self._here.close()
        self._there.close()

    def run(self, batch: Batch[Wanted], data: bytes) -> None:
        """Does what a batch says.

        Args:
            batch: In the order of the tree; of small files the contents have been checked.
            data: Its chunk.

        Raises:
            DamageError: The contents of a large file do not hash to what the index says.
            ConflictError: Something is in the way that was not there before.
            OutOfSpaceError: The disk is full.
            LocalFileError: Something cannot be written.
        """
        for step in batch.steps:
            entry, action, early = step.item
            try:
                if early:
                    self._make_above(entry.path)
                if entry.type is Type.DIRECTORY:
                    self._directory(entry, action)
                elif action in {Action.LEAVE, Action.SETTLE}:
                    self._settle(entry, action)
                elif step.stop - step.start == entry.size_bytes:
                    self._small(step, data)
                else:
                    self._part(step, data)
            except OSError as error:
                raise told(error, entry.path) from error

    # --- directories ---

    def _directory(self, entry: Entry, action: Action) -> None:
        above = self._here.directory(entry.parent)
        if action is Action.REPLACE:
            with suppress(FileNotFoundError):
                os.unlink(entry.name, dir_fd=above)
        try:
            os.mkdir(entry.name, 0o700 if entry.metadata else 0o755, dir_fd=above)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(entry.name, dir_fd=above, follow_symlinks=False).st_mode):
                raise

    def _make_above(self, path: bytes) -> None:
        names = path.split(b"/")[:-1]
        for depth, name in enumerate(names):
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self._here.directory(b"/".join(names[:depth])))

    # --- files ---

    def _small(self, step: Step[Wanted], data: bytes) -> None:
        entry, action, _ = step.item
        fd, temporary = self._create(entry, action)
        try:
            written = write(fd, data, step.start, step.stop, 0)
            self.written_bytes += written
            if written < entry.size_bytes:
                os.ftruncate(fd, entry.size_bytes)
            self.settler.settle(entry, fd)
        except BaseException:
            if temporary is not None:
                os.unlink(temporary, dir_fd=self._here.directory(entry.parent))
            raise
        finally:
            os.close(fd)
        self._publish(entry, action, temporary)

    def _part(self, step: Step[Wanted], data: bytes) -> None:
        entry, action, _ = step.item
        if step.offset == 0:
            fd, temporary = self._create(entry, action)
            self._large = _Open(fd, entry, action, temporary, hashlib.sha256())
            os.ftruncate(fd, entry.size_bytes)
        large = self._large
        assert large is not None  # noqa: S101 - parts come in order
        large.digest.update(memoryview(data)[step.start : step.stop])
        if data is not self._blank:
            written = write(large.fd, data, step.start, step.stop, step.offset)
            self.written_bytes += written
            if not written and step.stop - step.start == len(data):
                self._blank = data
        if step.offset + step.stop - step.start == entry.size_bytes:
            check_content(entry, large.digest.digest())
            self.settler.settle(entry, large.fd)
            self._large = None
            os.close(large.fd)
            self._publish(entry, large.action, large.temporary)

    def _create(self, entry: Entry, action: Action) -> tuple[int, bytes | None]:
        """Opens a new file; the descriptor, and its name if that is not the entry's."""
        above = self._here.directory(entry.parent)
        mode = 0o600 if entry.metadata else 0o755 if entry.mode & EXECUTABLE else 0o644
        if self._fresh:
            if action is Action.REPLACE:
                remove(entry.name, above)
            return os.open(entry.name, _CREATE, mode, dir_fd=above), None
        temporary = temporary_name(entry.name, self._commit)
        try:
            return os.open(temporary, _CREATE, mode, dir_fd=above), temporary
        except FileExistsError:  # of a run that was killed: no other is at work here
            os.unlink(temporary, dir_fd=above)
            return os.open(temporary, _CREATE, mode, dir_fd=above), temporary

    def _publish(self, entry: Entry, action: Action, temporary: bytes | None) -> None:
        """Gives a file that is whole its name."""
        self.files += 1
        self.files_bytes += entry.size_bytes
        if temporary is None:
            return
        above = self._here.directory(entry.parent)
        try:
            if action is Action.MAKE:
                name_first(temporary, entry.name, above)
            else:
                rename_over(temporary, entry.name, above)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=above)
            raise

    def _settle(self, entry: Entry, action: Action) -> None:
        """Gives a file that is left alone its mode and metadata."""
        fd = os.open(entry.name, _OPEN, dir_fd=self._here.directory(entry.parent))
        try:
            found = os.fstat(fd).st_mode
            if not stat.S_ISREG(found):
                raise ConflictError(f"{shown(entry.path)!r} is no file any more.", hint="Run the same command again.")
            if entry.metadata is None and action is Action.SETTLE:
                readable = found & 0o444
                os.fchmod(fd, found & 0o666 | (readable >> 2 if entry.mode & EXECUTABLE else 0))
            self.settler.settle(entry, fd)
        finally:
            os.close(fd)

    # --- what comes last ---

    def finish(self, entry: Entry, action: Action) -> None:
        """Makes a symlink or a hard link, or gives a directory its metadata; errors as `run`."""
        try:
            above = self._here.directory(entry.parent)
            if entry.type is Type.SYMLINK:
                if action in {Action.MAKE, Action.REPLACE}:
                    self._link(entry, action, above)
                self.settler.settle_link(entry, above)
            elif entry.type is Type.HARD_LINK:
                self._hard_link(entry, action, above)
            else:
                self.settler.settle(entry, self._here.directory(entry.path))
        except OSError as error:
            raise told(error, entry.path) from error

    def _link(self, entry: Entry, action: Action, above: int) -> None:
        if action is Action.MAKE:
            os.symlink(entry.target, entry.name, dir_fd=above)
            return
        temporary = temporary_name(entry.name, self._commit)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=above)
        os.symlink(entry.target, temporary, dir_fd=above)
        rename_over(temporary, entry.name, above)

    def _hard_link(self, entry: Entry, action: Action, above: int) -> None:
        parent, _, name = entry.target.rpartition(b"/")
        source = self._there.directory(parent)
        file = os.stat(name, dir_fd=source, follow_symlinks=False)
        if not stat.S_ISREG(file.st_mode):
            raise ConflictError(f"{shown(entry.target)!r} is no file any more.", hint="Run the same command again.")
        new = entry.name
        if action is not Action.MAKE:
            with suppress(FileNotFoundError):
                if os.path.samestat(file, os.stat(new, dir_fd=above, follow_symlinks=False)):
                    return
            new = temporary_name(new, self._commit)
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=above)
        os.link(name, new, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)
        if new != entry.name:
            rename_over(new, entry.name, above)

    def remove(self, path: bytes, *, directory: bool) -> bool:
        """Removes an entry that the commit does not have; a directory only if it is empty.

        Returns:
            Whether it is gone.

        Raises:
            LocalFileError: It cannot be removed.
        """
        parent, _, name = path.rpartition(b"/")
        try:
            above = self._here.directory(parent)
            if directory:
                os.rmdir(name, dir_fd=above)
            else:
                os.unlink(name, dir_fd=above)
        except FileNotFoundError:
            return True
        except OSError as error:
            if directory and error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise told(error, path) from error
        return True


def check_content(entry: Entry, digest: bytes) -> None:
    """Holds the contents of a file to what the index says of them.

    Raises:
        DamageError: They are others.
    """
    if digest != entry.content:
        raise DamageError(f"The contents of {shown(entry.path)!r} are not those that the commit's index names.")
