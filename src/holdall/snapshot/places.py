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
            self._path = None
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
        if same < len(self._names):
            same = min(same, DIRECTORIES_OPEN_MAX - 1)
            while len(self._fds) > same:
                os.close(self._fds.pop())
            del self._names[same:]
        for name in names[same:]:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=self._fds[-1] if self._fds else self._root)
            if len(self._fds) == DIRECTORIES_OPEN_MAX:
                os.close(self._fds.pop())
            self._fds.append(fd)
            self._names.append(name)


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
