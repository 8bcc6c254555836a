"""The seam between a data directory and the operating system.

Every change that a directory store makes to its files passes through one `Disk`, so that a test can record the
changes in order and rebuild what a power cut might leave. Names are relative to the directory; nothing here knows
what they mean. Errors of the operating system are translated once, by `translate`.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from holdall.errors import BusyError, OutOfSpaceError, ReadOnlyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Never through a symlink, and never waiting on a FIFO that somebody put there."""

_NOATIME: Final = getattr(os, "O_NOATIME", 0)
_TMPFILE: Final = getattr(os, "O_TMPFILE", 0)
_NO_TMPFILE_ERRNOS: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}

_OUT_OF_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY: Final = {errno.EROFS, errno.EACCES, errno.EPERM}
_BUSY: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def translate(error: OSError) -> NoReturn:
    """Raises the `StoreError` that says what `error` means to the user of a store."""
    number, reason = error.errno, error.strerror or str(error)
    if number in _OUT_OF_SPACE:
        raise OutOfSpaceError("The store's disk or quota is full; nothing was kept.") from error
    if number in _READ_ONLY:
        raise ReadOnlyError(
            f"The store cannot be written: {reason}.", hint="Check the directory's owner, mode and mount."
        ) from error
    if number in _BUSY:
        raise BusyError(f"The store has run out of a resource: {reason}.") from error
    raise StoreError(f"The store's disk failed: {reason}.", hint="See the kernel's log.") from error


@contextmanager
def translated() -> Iterator[None]:
    """Turns an `OSError` that leaves the block into the `StoreError` it means."""
    try:
        yield
    except OSError as error:
        translate(error)


@contextmanager
def unless_read_only() -> Iterator[None]:
    """Lets go what a read-only disk, or a file of another owner, does not allow to write down."""
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise


def open_regular(path: str, flags: int) -> int:
    """An opener for `open` that does not wait for the writer of a named pipe, nor takes anything but a plain file.

    Raises:
        OSError: As open(2), or it is no plain file.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is no plain file")


class Disk:
    """The calls that change one directory, each a single system call where the system has one.

    Durability: nothing is durable until `sync_data` (contents of one file), `sync_file` (its mode and times too),
    `sync_names` (names in the directory) or `sync_all` (the file system) has returned.

    Args:
        path: The directory; it must exist.

    Attributes:
        frozen: Whether every change is refused as on a read-only disk, whatever the disk itself would do.
    """

    def __init__(self, path: str) -> None:
        self.path = os.fspath(path)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.frozen = False
        self.unnamed = bool(_TMPFILE) and self._probe_unnamed()
        self.volatile = _is_in_memory(self.fd)
        self.masked = bool(_umask() & 0o444)
        self._read_flags = READ_FLAGS | _NOATIME

    def close(self) -> None:
        """Lets go of the directory."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # --- looking ---

    def open_read(self, name: str) -> int:
        """Opens a file for reading without following a link, and without moving its access time if it is ours.

        Raises:
            OSError: As open(2); ELOOP for a symlink.
        """
        try:
            return os.open(name, self._read_flags, dir_fd=self.fd)
        except PermissionError:
            if self._read_flags == READ_FLAGS:
                raise
            self._read_flags = READ_FLAGS  # O_NOATIME is for a file's owner alone
            return os.open(name, READ_FLAGS, dir_fd=self.fd)

    def look(self, name: str) -> os.stat_result:
        """The status of a name itself, never of what a link points to."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether there is anything by that name."""
        try:
            self.look(name)
        except FileNotFoundError:
            return False
        return True

    # --- contents ---

    def create_unnamed(self, mode: int) -> int:
        """Opens a new file that has no name; it vanishes with its descriptor unless `link` gives it one."""
        self._check_frozen()
        return os.open(".", _TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def create(self, name: str, mode: int) -> int:
        """Opens a new file under `name`, which must not exist."""
        self._check_frozen()
        return os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def open_write(self, name: str) -> int:
        """Opens an existing file for reading and writing without following a link."""
        self._check_frozen()
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Writes all of `data` at `offset`, or raises with part of it written."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):  # a full disk or a signal may cut a write short; the next call says which
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def truncate(self, fd: int, size_bytes: int) -> None:
        """Sets the length of an open file."""
        os.ftruncate(fd, size_bytes)

    def set_mode(self, fd: int, mode: int) -> None:
        """Sets the permission bits of an open file."""
        self._check_frozen()
        os.fchmod(fd, mode)

    def set_times(self, fd: int, accessed_ns: int, modified_ns: int) -> None:
        """Sets both times of an open file."""
        self._check_frozen()
        os.utime(fd, ns=(accessed_ns, modified_ns))

    # --- names ---

    def link(self, fd: int, name: str) -> None:
        """Gives an unnamed file its name, if that name is free.

        Raises:
            FileExistsError: The name is taken.
        """
        # Without src_dir_fd Python calls link(2), which does not follow /proc's link and fails with EXDEV.
        os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=True)

    def link_name(self, source: str, name: str) -> None:
        """Gives a file a further name, if that name is free.

        Raises:
            FileExistsError: The name is taken.
        """
        os.link(source, name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, source: str, name: str) -> None:
        """Moves a file over `name`, whatever was there."""
        self._check_frozen()
        os.rename(source, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Removes a name."""
        self._check_frozen()
        os.unlink(name, dir_fd=self.fd)

    # --- durability ---

    def sync_data(self, fd: int) -> None:
        """Returns when the contents and length of an open file survive a power cut."""
        getattr(os, "fdatasync", os.fsync)(fd)

    def sync_file(self, fd: int) -> None:
        """Returns when an open file survives a power cut, its mode and times included."""
        os.fsync(fd)

    def sync_names(self) -> None:
        """Returns when the directory's names survive a power cut."""
        os.fsync(self.fd)

    def sync_all(self) -> None:
        """Returns when everything written to the file system so far survives a power cut."""
        sync_file_system(self.fd)

    # --- room ---

    def free_bytes(self) -> int:
        """Bytes an unprivileged writer may still write; none where the disk is, or has become, read-only."""
        status = os.fstatvfs(self.fd)
        return 0 if status.f_flag & os.ST_RDONLY else status.f_bavail * status.f_frsize

    def _check_frozen(self) -> None:
        if self.frozen:
            raise OSError(errno.EROFS, "it was read-only when it was opened; open it again")

    def _probe_unnamed(self) -> bool:
        """Whether the file system has unnamed files (ext4, xfs, btrfs, tmpfs do; overlays and NFS may not)."""
        try:
            os.close(self.create_unnamed(0o600))
        except OSError as error:
            if error.errno in _NO_TMPFILE_ERRNOS or error.errno in _READ_ONLY:
                return False
            raise
        return True


def _is_in_memory(fd: int) -> bool:
    """Whether the directory's file system is RAM, which no sync can save from a power cut."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0] in {"tmpfs", "ramfs"}
    return False


def _umask() -> int:
    """The process's umask, read without changing it where the system can tell."""
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@cache
def _syncfs() -> Callable[[int], None] | None:
    """syncfs(2), which Python does not wrap; ctypes releases the GIL while it waits. None where there is none."""
    import ctypes  # noqa: PLC0415 - slow to import, and small writes do without

    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return None

    def sync(fd: int) -> None:
        if call(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync


def sync_file_system(fd: int) -> None:
    """Returns when everything written so far to the file system that `fd` is on survives a power cut."""
    sync = _syncfs()
    if sync is None:
        os.sync()
    else:
        sync(fd)
