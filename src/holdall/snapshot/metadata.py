"""What is kept of a file besides its contents: times, owners, extended attributes."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import TYPE_CHECKING, Final

from holdall.core.tree import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: Final = (b"user.", b"system.posix_acl_")
_KEPT_WHOLE: Final = b"security.capability"


class MetadataReader:
    """Makes `Metadata` of what the system says; looks up each owner's name once."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def read(self, status: os.stat_result, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> Metadata:
        """The metadata of a file.

        Args:
            status: Its status.
            xattrs: Its extended attributes.
        """
        uid, gid = status.st_uid, status.st_gid
        if uid not in self._users:
            self._users[uid] = _plain(lambda: pwd.getpwuid(uid).pw_name)
        if gid not in self._groups:
            self._groups[gid] = _plain(lambda: grp.getgrgid(gid).gr_name)
        return Metadata(status.st_mtime_ns, uid, gid, self._users[uid], self._groups[gid], xattrs)


def xattrs_of(fd: int, on_lost: Callable[[bytes], None]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes of an open file that mean the same elsewhere, in the order of their names.

    These are the user's own, access control lists and capabilities. Others, such as SELinux's labels, are given by the
    system that the file is restored to; and what cannot be read is nothing that can be kept.

    Args:
        fd: The file.
        on_lost: Told the name of each that would be kept, but has a name that no archive takes.
    """
    if sys.platform != "linux":
        return ()
    found = []
    try:
        names = sorted(map(os.fsencode, os.listxattr(fd)))
    except OSError:  # the file system has none
        return ()
    for name in names:
        if not name.startswith(_KEPT) and name != _KEPT_WHOLE:
            continue
        if b"=" in name:
            on_lost(name)
            continue
        try:
            found.append((name, os.getxattr(fd, name)))
        except OSError:  # gone meanwhile, or not for us to read
            continue
    return tuple(found)


def _plain(look_up: Callable[[], str]) -> str:
    """A name, or nothing where there is none that can be written down."""
    try:
        name = look_up()
    except KeyError:
        return ""
    return name if name.isprintable() else ""
