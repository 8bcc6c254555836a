"""Names on disk: directories opened one from the other, never through a symlink, and files that take their names."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, Final

from holdall.core.tree import shown
from holdall.errors import ConflictError, LocalFileError, OutOfSpaceError
from holdall.limits.snapshot import DIRECTORIES_OPEN_MAX

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.errors import HoldallError

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""How file systems say that they have no hard links, or no more of them."""


class Cursor:
    """Where somebody is in a tree. One who goes through it in order opens each directory about once.

    It belongs to one thread.

    Args:
        root: The tree's open directory; it stays open.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: bytes | None = b""
        self._names: list[bytes] = []
        self._identities: dict[int, tuple[int, int]] = {}
        """Device and inode, by its depth, of each directory on the way that was closed for a deeper one."""
        self._fds: list[int] = []
        """Of the directories on the way the outer ones, and last the innermost."""

    def directory(self, path: bytes) -> int:
        """The descriptor of a directory; it is valid until the next call.

        Args:
            path: From the root; empty is the root itself.

        Raises:
            OSError: There is none, or something on the way is a symlink or no directory.
        """
        if path != self._path:
            before, self._path = self._path, None
            if before and path.startswith(before + b"/"):
                self._down(path[len(before) + 1 :].split(b"/"))
            elif before and path and before.startswith(path + b"/"):
                self._up(path.count(b"/") + 1)
            else:
                self._go(path.split(b"/") if path else [])
            self._path = path
        return self._fds[-1] if self._fds else self._root

    def close(self) -> None:
        """Goes back to the root. Closing twice is harmless."""
        self.directory(b"")

    def _go(self, names: list[bytes]) -> None:
        same = 0
        for here, there in zip(self._names, names, strict=False):
            if here != there:
                break
            same += 1
        self._up(same)
        self._down(names[same:])

    def _down(self, names: list[bytes]) -> None:
        for name in names:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._fds[-1] if self._fds else self._root)
            if len(self._fds) == DIRECTORIES_OPEN_MAX:
                self._identities[len(self._names)] = _identity(self._fds[-1])
                os.close(self._fds.pop())
            self._fds.append(fd)
            self._names.append(name)

    def _up(self, depth: int) -> None:
        """Goes back to a directory on the way: one that was closed is reached from below, or else from above."""
        kept = min(depth, DIRECTORIES_OPEN_MAX - 1)
        steps = len(self._names) - depth
        if not steps or (steps < depth - kept and self._rise(depth)):
            return
        again = self._names[kept:depth]
        while len(self._fds) > kept:
            os.close(self._fds.pop())
        del self._names[kept:]
        self._down(again)

    def _rise(self, depth: int) -> bool:
        """Goes up from the innermost directory; False where that does not lead to the one that was closed."""
        at, risen = self._fds.pop(), False
        try:
            for _ in range(len(self._names) - depth):
                above = os.open(b"..", DIRECTORY_FLAGS, dir_fd=at)
                os.close(at)
                at = above
            risen = _identity(at) == self._identities.get(depth)
        except OSError:
            pass  # the way from above says why
        finally:
            if not risen:
                os.close(at)
        if risen:
            self._fds.append(at)
            del self._names[depth:]
        return risen


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def told(error: OSError, path: bytes, what: str = "restored") -> HoldallError:
    """What an error of the operating system means to somebody who restores a tree.

    Args:
        error: The error.
        path: Of the entry that it happened to, from the root of the tree.
        what: What could not be done to it.
    """
    reason, where = error.strerror or str(error), shown(path) or "."
    if error.errno in _FULL:
        return OutOfSpaceError(
            f"The disk is full: {where!r} could not be written.",
            hint="Free some space and run the same command again; it goes on where this one stopped.",
        )
    if isinstance(error, FileExistsError):
        return ConflictError(f"{where!r} came to be there meanwhile.", hint="Run the same command again.")
    return LocalFileError(f"{where!r} could not be {what}: {reason}.")


def temporary_name(name: bytes, commit: Address) -> bytes:
    """What a file is called until it is whole, in its directory.

    It is always the same, so that the next run finds it, and no name in the commit itself, whose address it depends on.
    """
    return b".holdall-%b" % hashlib.sha256(commit + name).hexdigest()[:24].encode()


def name_first(temporary: bytes, name: bytes, above: int) -> None:
    """Gives a file its name, if nothing has it.

    Raises:
        FileExistsError: Something has.
        OSError: It cannot be done.
    """
    try:
        os.link(temporary, name, src_dir_fd=above, dst_dir_fd=above, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        return
    os.unlink(temporary, dir_fd=above)


def rename_over(temporary: bytes, name: bytes, above: int) -> None:
    """Gives a file its name, whatever has it, unless that is a directory with something in it.

    Raises:
        OSError: It cannot be done.
    """
    try:
        os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
    except IsADirectoryError:  # it was found to be empty but for what has been removed
        os.rmdir(name, dir_fd=above)
        os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)


def remove(name: bytes, above: int) -> None:
    """Removes a file, or a directory with nothing in it.

    Raises:
        OSError: It cannot be done.
    """
    try:
        os.unlink(name, dir_fd=above)
    except (IsADirectoryError, PermissionError):
        os.rmdir(name, dir_fd=above)
