"""Comparing the entries of a commit with what a directory has in their places, without following a symlink."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.core.tree import EXECUTABLE, Type
from holdall.limits import CHUNK_BYTES
from holdall.snapshot.places import Cursor, temporary_name, told
from holdall.snapshot.writing import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.core.address import Address
    from holdall.core.tree import Entry

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTHING: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What a path is answered with that is not there, or would lead through a symlink or a file."""


class Looker:
    """Looks at one directory; any number of threads may call it.

    Args:
        root: The open directory; it stays open.
        commit: The address of the commit that is compared with it.

    Attributes:
        leftovers: Paths of second names that files got from a run which was killed between two system calls.
    """

    def __init__(self, root: int, commit: Address) -> None:
        self.leftovers: list[bytes] = []
        self._root = root
        self._commit = commit
        self._local = threading.local()
        self._cursors: list[Cursor] = []

    def close(self) -> None:
        """Lets go, once no thread calls it any more."""
        for cursor in self._cursors:
            cursor.close()

    def look(self, entries: Sequence[Entry]) -> list[tuple[Action, bool]]:
        """What is to be done with each entry, and whether a directory is in the way.

        Raises:
            LocalFileError: Something cannot be looked at.
        """
        cursor = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = Cursor(self._root)
            self._cursors.append(cursor)
        return [self._compare(cursor, entry) for entry in entries]

    def directory_holds(self, path: bytes) -> int:
        """How many entries there are in a directory, at all depths."""
        found = 0
        cursor = Cursor(self._root)
        try:
            for _, directories, files, _ in os.fwalk(b".", dir_fd=cursor.directory(path)):
                found += len(directories) + len(files)
        finally:
            cursor.close()
        return found

    def _compare(self, cursor: Cursor, entry: Entry) -> tuple[Action, bool]:
        try:
            above = cursor.directory(entry.parent)
            found = os.stat(entry.name, dir_fd=above, follow_symlinks=False)
            is_directory = stat.S_ISDIR(found.st_mode)
            if entry.type is Type.DIRECTORY:
                return (Action.LEAVE if is_directory else Action.REPLACE), False
            if is_directory:
                return Action.REPLACE, True
            if entry.type is Type.SYMLINK:
                same = stat.S_ISLNK(found.st_mode) and os.readlink(entry.name, dir_fd=above) == entry.target
                return (Action.LEAVE if same else Action.REPLACE), False
            if entry.type is Type.HARD_LINK:
                return _compare_link(cursor, entry, found), False
            if found.st_nlink > 1:
                self._note_leftover(entry, found, above)
            return _compare_file(entry, found, above), False
        except OSError as error:
            if error.errno in _NOTHING:
                return Action.MAKE, False
            raise told(error, entry.path, "compared") from error

    def _note_leftover(self, entry: Entry, found: os.stat_result, above: int) -> None:
        name = temporary_name(entry.name, self._commit)
        with suppress(OSError):
            if os.path.samestat(found, os.stat(name, dir_fd=above, follow_symlinks=False)):
                self.leftovers.append(entry.path.removesuffix(entry.name) + name)


def _compare_link(cursor: Cursor, entry: Entry, found: os.stat_result) -> Action:
    parent, _, name = entry.target.rpartition(b"/")
    try:
        file = os.stat(name, dir_fd=cursor.directory(parent), follow_symlinks=False)
    except OSError as error:
        if error.errno in _NOTHING:
            return Action.REPLACE
        raise
    return Action.LEAVE if os.path.samestat(file, found) else Action.REPLACE


def _compare_file(entry: Entry, found: os.stat_result, above: int) -> Action:
    if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size_bytes or not _has_content(entry, above):
        return Action.REPLACE
    if entry.metadata is not None:
        return Action.LEAVE if stat.S_IMODE(found.st_mode) == entry.mode else Action.SETTLE
    return Action.LEAVE if (found.st_mode ^ entry.mode) & EXECUTABLE == 0 else Action.SETTLE


def _has_content(entry: Entry, above: int) -> bool:
    try:
        fd = os.open(entry.name, _FLAGS, dir_fd=above)
    except PermissionError:
        return False  # what cannot be read cannot be known to be the same
    try:
        digest, left = hashlib.sha256(), entry.size_bytes
        while left and (piece := os.read(fd, min(left, CHUNK_BYTES))):
            digest.update(piece)
            left -= len(piece)
        return not left and digest.digest() == entry.content
    finally:
        os.close(fd)
