"""Reading the files of a tree that may change while it is read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.address import Address
from holdall.core.chunking import cut
from holdall.core.tree import EXECUTABLE
from holdall.errors import ChangedError, UsageError
from holdall.limits.snapshot import LARGE_FILE_BYTES_MIN
from holdall.snapshot.walk import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.core.tree import Entry
    from holdall.snapshot.walk import Found

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE: Final = {errno.ELOOP, errno.ENXIO}
_STAT_BLOCK_BYTES: Final = 512
"""What `st_blocks` counts, on every file system."""
_PATH_BYTES_MAX: Final = 4000
"""The system takes no more than 4095 bytes at once; a longer path is walked in steps."""


class Read(NamedTuple):
    """A small file that was read.

    Attributes:
        entry: With the length and mode that it had then, and its contents' hash.
        data: Its contents.
        signature: Of the file that was read, or None if it changed meanwhile.
        read_ns: When reading began, nanoseconds since 1970.
    """

    entry: Entry
    data: bytes
    signature: Signature | None
    read_ns: int


class Sources:
    """The files of one tree.

    Args:
        root: The tree's directory.

    Raises:
        UsageError: It is none, or cannot be read.
    """

    def __init__(self, root: str) -> None:
        try:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{root} cannot be read as a directory: {error.strerror}.") from error

    def close(self) -> None:
        """Lets go of the tree. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self, found: Found) -> int | None:
        """Opens a file for reading; None if it is gone, or is no file any more.

        Raises:
            OSError: It cannot be read.
        """
        try:
            fd = _open_beneath(self._fd, found.entry.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise
        status = os.fstat(fd)
        same_tree = found.signature is None or status.st_dev == found.signature.device
        if not stat.S_ISREG(status.st_mode) or not same_tree:
            os.close(fd)
            return None
        return fd

    def read_small(self, found: Found) -> Read | None:
        """Reads a small file whole, as it is now; None if it is gone.

        Raises:
            ChangedError: It has grown large.
            OSError: It cannot be read.
        """
        read_ns = time.time_ns()
        fd = self.open(found)
        if fd is None:
            return None
        try:
            before = os.fstat(fd)
            data = os.read(fd, LARGE_FILE_BYTES_MIN)
            if len(data) != before.st_size:  # it changes under our eyes, or lies in /proc: what came is what it is
                while len(data) < LARGE_FILE_BYTES_MIN and (piece := os.read(fd, LARGE_FILE_BYTES_MIN - len(data))):
                    data += piece
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if len(data) >= LARGE_FILE_BYTES_MIN:
            raise ChangedError(f"{os.fsdecode(found.entry.path)!r} has grown while the tree was read.")
        signature = signature_of(before)
        settled = signature == signature_of(after) and len(data) == before.st_size
        entry = found.entry.read(Address.of(data), len(data), _mode(found.entry, before))
        return Read(entry, data, signature if settled else None, read_ns)


class LargeFile:
    """A large file as it is read: exactly as long as its entry says, its holes not at all, and hashed on the way.

    Args:
        fd: Open; closed by `close`.
        entry: The file's entry.
    """

    def __init__(self, fd: int, entry: Entry) -> None:
        self._fd = fd
        self._entry = entry
        self._at = 0
        self._hash = hashlib.sha256()
        self.read_ns = time.time_ns()
        status = os.fstat(fd)
        self._before = signature_of(status)
        has_holes = status.st_blocks * _STAT_BLOCK_BYTES < status.st_size
        self._data_until = 0 if has_holes else entry.size_bytes
        """Up to here there is no hole that `hole_bytes` has not told of."""

    def chunks(self) -> Iterator[bytes]:
        """Yields the file's chunks in order.

        Raises:
            ChangedError: The file has become shorter.
            OSError: It cannot be read.
        """
        for chunk in cut(self, self._entry.size_bytes, self.hole_bytes):
            self._hash.update(chunk)
            yield chunk

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the buffer with what comes next; errors as `chunks`."""
        view = memoryview(buffer)[: self._entry.size_bytes - self._at]
        size = os.preadv(self._fd, [view], self._at) if view else 0
        if view and not size:
            raise self._shorter()
        self._at += size
        return size

    def seek(self, offset: int, /) -> None:
        """Goes on from there."""
        self._at = offset

    def hole_bytes(self, at: int) -> int:
        """How many bytes from `at` on the file system keeps nothing of, so that they are zeros; errors as `chunks`."""
        size = self._entry.size_bytes
        if at < self._data_until or at >= size:
            return 0
        try:
            data = os.lseek(self._fd, at, os.SEEK_DATA)
            if data == at:
                self._data_until = os.lseek(self._fd, at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a file system that cannot tell
                self._data_until = size
                return 0
            if os.fstat(self._fd).st_size < size:
                raise self._shorter() from None
            data = size  # nothing but a hole up to the end
        return min(data, size) - at

    def _shorter(self) -> ChangedError:
        return ChangedError(f"{os.fsdecode(self._entry.path)!r} has become shorter while it was read.")

    @property
    def content(self) -> Address:
        """The hash of the chunks so far."""
        return Address(self._hash.digest())

    @property
    def signature(self) -> Signature | None:
        """Of the file, or None if it changed while it was read."""
        after = signature_of(os.fstat(self._fd))
        return after if after == self._before and after.size_bytes == self._entry.size_bytes else None

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)


def signature_of(status: os.stat_result) -> Signature:
    """What tells the file from another, or from itself at another time."""
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _mode(entry: Entry, status: os.stat_result) -> int:
    if entry.metadata is not None:
        return stat.S_IMODE(status.st_mode)
    return 0o755 if status.st_mode & EXECUTABLE else 0o644


def _open_beneath(root: int, path: bytes) -> int:
    if len(path) <= _PATH_BYTES_MAX:
        return os.open(path, _FLAGS, dir_fd=root)
    names = path.split(b"/")
    at = os.dup(root)
    try:
        for name in names[:-1]:
            deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = deeper
        return os.open(names[-1], _FLAGS, dir_fd=at)
    finally:
        os.close(at)
