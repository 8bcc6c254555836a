"""Walking a directory tree: its entries in the order of an archive, found step by step, never through a symlink.

Each directory is opened by its name in the one above, so a directory that is swapped for a symlink meanwhile leads
nowhere, and a path may be longer than a system call takes. What is held are the names still to come in the directories
on the way down.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.tree import EXECUTABLE, Entry, Type, shown
from holdall.errors import BusyError, LocalFileError
from holdall.limits.snapshot import FILE_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX
from holdall.snapshot.descent import EXHAUSTED, FOLDER_FLAGS, Descent, Level
from holdall.snapshot.metadata import MetadataReader, xattrs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdall.snapshot.ignore import Ignore

_KIND: Final = 0o170000
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REPLACED: Final = {errno.ENOTDIR, errno.ELOOP, errno.EINVAL}
_OTHERS: Final = {
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFIFO: "it is a named pipe",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


class Signature(msgspec.Struct, frozen=True, gc=False):
    """What tells whether a file was changed.

    Attributes:
        device: The file system it is on.
        inode: Its number there.
        size_bytes: Its length.
        mtime_ns: When its contents were changed, nanoseconds since 1970.
        ctime_ns: When anything of it was changed; unlike the other it cannot be set.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class Found(msgspec.Struct, frozen=True, gc=False):
    """An entry of a tree.

    Attributes:
        entry: All of it but a file's contents.
        signature: Of a file; None for everything else, further names of a file included.
    """

    entry: Entry
    signature: Signature | None


class Skipped(msgspec.Struct, frozen=True):
    """What was left out although nobody asked for that.

    Attributes:
        path: From the root.
        reason: Why, as it is said after a colon.
    """

    path: bytes
    reason: str


def walk(
    root: str | bytes,
    *,
    ignore: Ignore,
    preserve: bool = False,
    one_file_system: bool = False,
    on_skip: Callable[[Skipped], None],
) -> Iterator[Found]:
    """Yields the entries of a tree in the order of `holdall.core.tree.order`; the root itself is none.

    What vanishes while the tree is read is taken as if it had never been there. Memory: the names in the directories on
    the way down, and with `preserve` a path for each file of which further names are to come.

    Args:
        root: The directory, or a symlink to one.
        ignore: What to leave out.
        preserve: Keep all mode bits and the metadata of each entry, and tell hard links: the first name of a file is
            the file, each further one a link to it, without the extended attributes, as tar has it.
        one_file_system: Leave out what is on another file system than the root; a directory on which one is mounted
            is kept, empty.
        on_skip: Told of what is left out against one's will: what cannot be read, and what no archive takes.

    Raises:
        LocalFileError: The root, or an ignore file, cannot be read.
        BusyError: The process has run out of descriptors or memory.
    """
    return _Walk(ignore, on_skip, preserve=preserve, one_file_system=one_file_system).run(root)


class _Walk:
    """One walk."""

    def __init__(
        self, ignore: Ignore, on_skip: Callable[[Skipped], None], *, preserve: bool, one_file_system: bool
    ) -> None:
        self._ignore = ignore
        self._on_skip = on_skip
        self._one_file_system = one_file_system
        self._device: int | None = None
        self._reader = MetadataReader() if preserve else None
        self._descent = Descent()
        self._links: dict[tuple[int, int], tuple[bytes, int]] = {}
        """The first path of a file that has several names, and how many of them are still to come."""

    def run(self, root: str | bytes) -> Iterator[Found]:
        """Yields the entries."""
        try:
            self._begin(root)
            while (level := self._descent.deepest) is not None:
                fd, names = level.fd, level.names
                prefix = level.path and level.path + b"/"
                leave_out = level.rules.leave_out if level.rules else None
                while names:
                    name = names.pop()
                    path = prefix + name
                    try:
                        status = os.lstat(name, dir_fd=fd)
                    except OSError as error:
                        self._missed(path, error)
                        continue
                    is_directory = status.st_mode & _KIND == stat.S_IFDIR
                    if leave_out is not None and leave_out(path, name, is_directory=is_directory):
                        continue
                    found = self._found(level, name, path, status)
                    if found is not None:
                        yield found
                        if is_directory:
                            break
                else:
                    self._leave()
        finally:
            self._descent.close()

    def _found(self, level: Level, name: bytes, path: bytes, status: os.stat_result) -> Found | None:
        kind = status.st_mode & _KIND
        if kind == stat.S_IFDIR:
            return self._directory(level, name, path, status)
        if self._device is not None and status.st_dev != self._device:
            return None
        if kind == stat.S_IFREG:
            return self._file(level.fd, name, path, status)
        if kind == stat.S_IFLNK:
            return self._symlink(level.fd, name, path, status)
        self._on_skip(Skipped(path, _OTHERS.get(kind, "no archive takes what it is")))
        return None

    # --- directories ---

    def _begin(self, root: str | bytes) -> None:
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            level = Level(b"", fd, [], self._ignore.top)
            self._descent.enter(level)
            level.names = self._names(fd, b"")
            level.rules = self._ignore.enter(level.rules, b"", fd, level.names)
            if self._one_file_system:
                self._device = os.fstat(fd).st_dev
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise _exhausted(error) from error
            raise LocalFileError(f"Cannot read the directory {shown(os.fsencode(root))!r}: {reason}.") from error

    def _directory(self, above: Level, name: bytes, path: bytes, status: os.stat_result) -> Found | None:
        """Goes down into a directory; None where that cannot be."""
        if self._device is not None and status.st_dev != self._device:
            return self._plain(path, Type.DIRECTORY, status)
        fd = -1
        try:
            fd = os.open(name, FOLDER_FLAGS, dir_fd=above.fd)
            names = self._names(fd, path + b"/")
            rules = self._ignore.enter(above.rules, path + b"/", fd, names)
            if self._reader is not None:
                status = os.fstat(fd)
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            if not isinstance(error, OSError):
                raise
            self._missed(path, error)
            return None
        self._descent.enter(Level(path, fd, names, rules))
        return self._plain(path, Type.DIRECTORY, status, fd)

    def _names(self, fd: int, prefix: bytes) -> list[bytes]:
        """The names in a directory, the last first, without those that no archive takes."""
        with os.scandir(fd) as entries:
            names = [entry.name.encode(_ENCODING, _ERRORS) for entry in entries]
        longest = min(NAME_BYTES_MAX, PATH_BYTES_MAX - len(prefix))
        if names and len(max(names, key=len)) > longest:
            for name in names:
                if len(name) > longest:
                    self._on_skip(Skipped(prefix + name, "its path is longer than an archive takes"))
            names = [name for name in names if len(name) <= longest]
        names.sort(reverse=True)
        return names

    def _leave(self) -> None:
        try:
            lost = self._descent.leave()
        except OSError as error:
            raise _exhausted(error) from error
        for level in lost:
            if level.names:
                self._on_skip(Skipped(level.path, "it was moved while it was read, so part of it is missing"))

    # --- what is in them ---

    def _file(self, folder: int, name: bytes, path: bytes, status: os.stat_result) -> Found | None:
        mode, size = status.st_mode, status.st_size
        if size > FILE_BYTES_MAX:
            self._on_skip(Skipped(path, "it is larger than an archive takes"))
            return None
        signature = Signature(status.st_dev, status.st_ino, size, status.st_mtime_ns, status.st_ctime_ns)
        if self._reader is None:
            return Found(Entry(path, Type.FILE, 0o755 if mode & EXECUTABLE else 0o644, size), signature)
        if status.st_nlink > 1 and (first := self._first_path(path, status)) is not None:
            metadata = self._reader.read(status)
            return Found(Entry(path, Type.HARD_LINK, stat.S_IMODE(mode), 0, None, first, metadata), None)
        try:
            xattrs = self._xattrs(folder, name, path)
        except OSError as error:
            if status.st_nlink > 1:  # the next of its names that can be read is the file
                self._links.pop((status.st_dev, status.st_ino), None)
                self._missed(path, error)
                return None
            xattrs = ()  # whoever reads its contents will tell why
        metadata = self._reader.read(status, xattrs)
        return Found(Entry(path, Type.FILE, stat.S_IMODE(mode), size, metadata=metadata), signature)

    def _symlink(self, folder: int, name: bytes, path: bytes, status: os.stat_result) -> Found | None:
        try:
            target = os.readlink(name, dir_fd=folder)
        except OSError as error:
            self._missed(path, error)
            return None
        return self._plain(path, Type.SYMLINK, status, target=target)

    def _plain(
        self, path: bytes, kind: Type, status: os.stat_result, fd: int | None = None, target: bytes = b""
    ) -> Found:
        """A directory, or a symlink: nothing that is kept of those is in extended attributes."""
        if self._reader is None:
            return Found(Entry(path, kind, 0o755 if kind is Type.DIRECTORY else 0o777, 0, None, target), None)
        xattrs = () if fd is None else xattrs_of(fd, self._lost_xattr(path))
        metadata = self._reader.read(status, xattrs)
        return Found(Entry(path, kind, stat.S_IMODE(status.st_mode), 0, None, target, metadata), None)

    def _first_path(self, path: bytes, status: os.stat_result) -> bytes | None:
        """The path by which a file was found before; None if this is the first."""
        inode = status.st_dev, status.st_ino
        first, left = self._links.pop(inode, (None, status.st_nlink))
        if left > 1:
            self._links[inode] = first or path, left - 1
        return first

    def _xattrs(self, folder: int, name: bytes, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise _exhausted(error) from error
            raise
        try:
            return xattrs_of(fd, self._lost_xattr(path))
        finally:
            os.close(fd)

    def _lost_xattr(self, path: bytes) -> Callable[[bytes], None]:
        return lambda name: self._on_skip(
            Skipped(path, f"only its attribute {shown(name)!r}, whose name no archive takes")
        )

    def _missed(self, path: bytes, error: OSError) -> None:
        """Tells of what cannot be read; of what has vanished there is nothing to tell."""
        if error.errno in EXHAUSTED:
            raise _exhausted(error) from error
        if error.errno in _REPLACED:
            self._on_skip(Skipped(path, "it was replaced while the tree was read"))
        elif error.errno != errno.ENOENT:
            self._on_skip(Skipped(path, error.strerror or str(error)))


def _exhausted(error: OSError) -> BusyError:
    return BusyError(f"The tree cannot be read on: {error.strerror or error}.")
