"""Owner, extended attributes, mode and times: what a commit with metadata gives back to what it restores.

What the system does not allow is told afterwards and keeps nothing from being restored.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from functools import cache
from typing import TYPE_CHECKING, Final

from holdall.core.tree import Type, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.core.tree import Entry, Metadata

_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID


class Settler:
    """Gives entries their metadata, and remembers what could not be given."""

    def __init__(self) -> None:
        self._may_give = os.geteuid() == 0
        self._troubles: dict[str, tuple[int, bytes, str]] = {}

    @property
    def troubles(self) -> list[str]:
        """A sentence for each kind of thing that could not be given back."""
        return [
            f"{count} {'entry' if count == 1 else 'entries'} could not be given back {what}, first "
            f"{shown(path)!r}: {reason}."
            for what, (count, path, reason) in self._troubles.items()
        ]

    def settle(self, entry: Entry, fd: int) -> None:
        """Gives an open file or directory what its entry says, if that has metadata.

        Bits that lend out the owner's rights are given only to what has the owner that it had when it was kept.
        """
        meta = entry.metadata
        if meta is None:
            return
        if self._may_give:
            self._try("the owner", entry, lambda: os.chown(fd, _uid(meta), _gid(meta)))
        self._attributes(entry, meta, fd)
        mode = entry.mode
        if mode & _SET_IDS and entry.type is Type.FILE:
            found = os.fstat(fd)
            if (found.st_uid, found.st_gid) != (_uid(meta), _gid(meta)):
                mode &= ~_SET_IDS
                self._note("the set-id bits", entry, "it has another owner here")
        self._try("the mode", entry, lambda: os.fchmod(fd, mode))
        self._try("the time", entry, lambda: os.utime(fd, ns=(meta.mtime_ns, meta.mtime_ns)))

    def settle_link(self, entry: Entry, directory: int) -> None:
        """The same for a symlink, which has no mode of its own.

        Args:
            entry: The symlink.
            directory: The descriptor of the directory it is in.
        """
        meta, name = entry.metadata, entry.name
        if meta is None:
            return
        if self._may_give:
            uid, gid = _uid(meta), _gid(meta)
            self._try("the owner", entry, lambda: os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False))
        times = (meta.mtime_ns, meta.mtime_ns)
        self._try("the time", entry, lambda: os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False))

    def _attributes(self, entry: Entry, meta: Metadata, fd: int) -> None:
        for name, value in meta.xattrs:
            if not hasattr(os, "setxattr"):
                self._note("extended attributes", entry, "this system's Python cannot write them")
                return
            self._try("extended attributes", entry, lambda name=name, value=value: os.setxattr(fd, name, value))  # type: ignore[misc]

    def _try(self, what: str, entry: Entry, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError as error:
            self._note(what, entry, error.strerror or str(error))
        except (OverflowError, ValueError) as error:
            self._note(what, entry, str(error))

    def _note(self, what: str, entry: Entry, reason: str) -> None:
        count, path, first = self._troubles.get(what, (0, entry.path, reason))
        self._troubles[what] = (count + 1, path, first)


def _uid(meta: Metadata) -> int:
    """The owner here: by name, as tar has it, else by number."""
    number = _user(meta.user) if meta.user else None
    return meta.uid if number is None else number


def _gid(meta: Metadata) -> int:
    number = _group(meta.group) if meta.group else None
    return meta.gid if number is None else number


@cache
def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


@cache
def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
