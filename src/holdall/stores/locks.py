"""Locks on bytes of one file that exclude processes and threads alike, and die with their holder.

They are open-file-description locks: the kernel lets go of them when the descriptor that took them is closed, by its
process's death too. What each byte stands for is its caller's business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Locks:
    """Locks on bytes of one file, each held by the descriptor that took it, so threads exclude each other too."""

    def __init__(self, path: str) -> None:
        self._path = path

    def descriptor(self) -> int:
        """Opens a further holder of locks; closing it lets go of them all."""
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)

    @contextmanager
    def held(self, offset: int) -> Iterator[None]:
        """Holds one byte alone for the length of the block, waiting for it as long as needed."""
        fd = self.descriptor()
        try:
            take(fd, offset)
            yield
        finally:
            os.close(fd)


def take(fd: int, offset: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Takes (or converts) a lock on one byte for `fd`; without `wait`, returns False if another holds it."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        _lock(fd, offset, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, command)
    except OSError as error:
        if not wait and error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def let_go(fd: int, offset: int) -> None:
    """Lets go of a lock on one byte that `fd` holds."""
    _lock(fd, offset, fcntl.F_UNLCK, fcntl.F_OFD_SETLK)


@contextmanager
def holding(fd: int, offset: int) -> Iterator[None]:
    """Holds one byte through a descriptor kept for it, where opening one each time would cost or could fail."""
    take(fd, offset)
    try:
        yield
    finally:
        let_go(fd, offset)


def _lock(fd: int, offset: int, kind: int, command: int) -> None:
    if sys.platform == "darwin":
        request = struct.pack("@qqihh", offset, 1, 0, kind, os.SEEK_SET)
    else:
        request = struct.pack("@hhqqi4x", kind, os.SEEK_SET, offset, 1, 0)
    fcntl.fcntl(fd, command, request)
