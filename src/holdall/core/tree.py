"""A directory tree as values: its entries, their order, and which of them may be restored.

A path is the bytes of the names from the root down, joined by slashes, and never empty: the root itself is no entry.
Entries are ordered by their paths name by name, so that what is in a directory follows it directly.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address  # noqa: TC001 - so that whoever asks for the types of an entry gets them
from holdall.errors import TreeError, UnsafeTreeError
from holdall.limits.snapshot import NAME_BYTES_MAX, PATH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXECUTABLE: Final = 0o100
_NO_NAMES: Final = frozenset({b"", b".", b".."})


class Type(Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hardlink"
    """Another name of a file that came before; only with metadata preserved."""

    __hash__ = object.__hash__


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an entry besides its contents when asked to.

    Attributes:
        mtime_ns: Last modification, nanoseconds since 1970.
        uid: Owner's number.
        gid: Group's number.
        user: Owner's name, empty where there is none.
        group: Group's name.
        xattrs: Extended attributes in the order of their names.
    """

    mtime_ns: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Entry(msgspec.Struct, frozen=True, gc=False):  # made by the million, at a tenth of a dataclass's cost
    """One entry of a tree.

    Attributes:
        path: See the module.
        type: What it is.
        mode: Permission bits: 0o644 or 0o755 for a file, or all twelve with metadata.
        size_bytes: Of a file's contents; 0 for everything else.
        content: The SHA-256 of a file's contents, once known.
        target: Of a symlink as it is written, of a hard link the path of the file.
        metadata: If it is kept.
    """

    path: bytes
    type: Type
    mode: int
    size_bytes: int = 0
    content: Address | None = None
    target: bytes = b""
    metadata: Metadata | None = None

    def read(self, content: Address, size_bytes: int, mode: int) -> Entry:
        """The same file, its contents known."""
        return Entry(self.path, self.type, mode, size_bytes, content, self.target, self.metadata)

    @property
    def name(self) -> bytes:
        """The last name of the path."""
        return self.path.rpartition(b"/")[2]

    @property
    def parent(self) -> bytes:
        """The path of its directory; empty for the root."""
        return self.path.rpartition(b"/")[0]

    @property
    def padding_bytes(self) -> int:
        """How many zero bytes follow a file's contents in the archive."""
        return -self.size_bytes % 512


def order(path: bytes) -> list[bytes]:
    """What paths are sorted by."""
    return path.split(b"/")


def shown(path: bytes) -> str:
    """A path for a message: as it is where it is plain text, with escapes where not."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class Checker:
    """Tells whether the entries of a stranger's tree, one after the other, are safe to restore.

    Safe is what stays inside whatever directory it is restored into: plain names, in order, each in a directory that
    came before, hard links to files that came before. So a path never leads through a symlink.
    """

    def __init__(self) -> None:
        self._previous: list[bytes] = []
        self._above = [b""]
        """The directories on the way to the last entry; only these can still get entries."""
        self._files: set[int] = set()
        """Hashes of the paths that hard links may name; the paths themselves would take too much memory."""

    def check(self, entry: Entry) -> Entry:
        """Takes the next entry.

        Raises:
            UnsafeTreeError: It is not safe.
        """
        path, names = entry.path, order(entry.path)
        _check_names(path, names, UnsafeTreeError)
        if names <= self._previous:
            raise UnsafeTreeError(f"{shown(path)!r} is out of order in the commit, or twice in it.")
        while self._above[-1] and not path.startswith(self._above[-1] + b"/"):
            self._above.pop()
        if entry.parent != self._above[-1]:
            raise UnsafeTreeError(f"{shown(path)!r} lies in no directory of the commit.")
        self._previous = names
        if entry.type is Type.DIRECTORY:
            self._above.append(path)
        elif entry.type is Type.FILE:
            if entry.metadata is not None:
                self._files.add(hash(path))
        elif entry.type is Type.HARD_LINK and hash(entry.target) not in self._files:
            raise UnsafeTreeError(f"{shown(path)!r} is a link to no file that came before it.")
        elif entry.type is Type.SYMLINK and (not entry.target or b"\0" in entry.target):
            raise UnsafeTreeError(f"{shown(path)!r} is a symlink to nothing.")
        return entry


def check(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Passes the entries of a stranger's tree on, each once it is known to be safe to restore; see `Checker`.

    Raises:
        UnsafeTreeError: One is not.
    """
    return map(Checker().check, entries)


def check_path(path: bytes) -> None:
    """Refuses a path that could lead out of the tree, or that no file system takes.

    Raises:
        TreeError: It does.
    """
    _check_names(path, order(path), TreeError)


def _check_names(path: bytes, names: list[bytes], kind: type[TreeError]) -> None:
    if len(path) > PATH_BYTES_MAX or max(map(len, names)) > NAME_BYTES_MAX:
        raise kind(f"{shown(path[:80])!r}... is too long for a path.")
    if b"\0" in path or not _NO_NAMES.isdisjoint(names):
        raise kind(f"{shown(path)!r} is not a path inside a tree.")
