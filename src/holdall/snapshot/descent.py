"""The directories on the way down a tree, of which only a few are open at once.

The deepest are open, and the root; one in between is closed when too many would be, and opened again on the way back:
from the one below it, or step by step from the root, and only if it is the same directory still.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.limits.snapshot import WALK_DESCRIPTORS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.snapshot.ignore import Rules

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory itself, not what a symlink names."""

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say nothing of a file."""


class Level(msgspec.Struct):
    """A directory on the way down.

    Attributes:
        path: From the root; empty for the root.
        fd: Open, or -1 while it is closed.
        names: What is still to come in it, the last first.
        rules: What is left out in it.
        identity: Its device and inode, once it was closed.
    """

    path: bytes
    fd: int
    names: list[bytes]
    rules: Rules
    identity: tuple[int, int] = (0, 0)


class Descent:
    """The way down from the root to the directory that is being read."""

    def __init__(self) -> None:
        self._levels: list[Level] = []

    @property
    def deepest(self) -> Level | None:
        """The directory that is being read, open; None when there is none any more."""
        return self._levels[-1] if self._levels else None

    def enter(self, level: Level) -> None:
        """Goes down into a directory; from here on its descriptor is closed by `leave` or `close`."""
        self._levels.append(level)
        shallow = self._levels[max(0, len(self._levels) - 1 - WALK_DESCRIPTORS_MAX)]
        if shallow.path and shallow.fd >= 0:  # not the root: from there all others can be reached
            shallow.identity = _identity(shallow.fd)
            os.close(shallow.fd)
            shallow.fd = -1

    def leave(self) -> list[Level]:
        """Goes back up, to the next directory that is still where it was.

        Returns:
            Those on the way that are not.

        Raises:
            OSError: The process has run out of descriptors or memory.
        """
        lost = []
        done = self._levels.pop()
        try:
            while self._levels and self._levels[-1].fd < 0:
                above = self._levels[-1]
                above.fd = _opened(above, done.fd, [b".."])
                if above.fd < 0:
                    above.fd = _opened(above, self._levels[0].fd, above.path.split(b"/"))
                if above.fd < 0:
                    lost.append(self._levels.pop())
        finally:
            os.close(done.fd)
        return lost

    def close(self) -> None:
        """Lets go of every directory."""
        while self._levels:
            level = self._levels.pop()
            if level.fd >= 0:
                os.close(level.fd)


def _opened(level: Level, start: int, names: Iterable[bytes]) -> int:
    """Opens a level again, name after name; -1 where these do not lead to it."""
    at = os.dup(start)
    found = False
    try:
        for name in names:
            next_fd = os.open(name, FOLDER_FLAGS, dir_fd=at)
            os.close(at)
            at = next_fd
        found = _identity(at) == level.identity
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
    finally:
        if not found:
            os.close(at)
    return at if found else -1


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
