"""What of a folder is not synced: names that are never taken, and what ignore files say of what is not yet synced.

Ignore files are `.gitignore` and `.holdallignore`, in any directory, for all below it, and `info/exclude` of the git
directory, which is this node's own. As in git, the last pattern of a file that matches decides, a deeper file before a
higher one, and what is synced already stays so.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from functools import lru_cache
from typing import Final

from holdall.core.patterns import PatternList, parse_lines
from holdall.errors import LocalFileError
from holdall.limits.snapshot import IGNORE_FILE_BYTES_MAX

FILES: Final = (b".gitignore", b".holdallignore")
"""In one directory the second has the last word."""

ROSTER: Final = b".gitcluster"
"""What the cluster has in the folder for itself; no ignore file leaves that out."""

TEMPORARY: Final = b".holdall-new-"
"""How the names of files begin that are being written; one that is found when none is, was left by a crash."""

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_ODD: Final = re.compile(rb"[/\\\0]")
_UNSEEN: Final = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""What HFS+ does not see in a name."""


def is_reserved(name: bytes) -> bool:
    """Whether a name is never synced: git's own, however a file system may spell it, and what is no name."""
    if name.isascii() and name[:1] not in {b".", b"g", b"G", b""} and not _ODD.search(name):
        return False
    if name in {b"", b".", b".."} or b"/" in name or b"\0" in name or name.startswith(TEMPORARY):
        return True
    text = _UNSEEN.sub("", name.decode(errors="replace")).lower()
    return any(part.partition(":")[0].rstrip(" .") in {".git", "git~1"} for part in text.split("\\"))


class Rules:
    """What is left out in one directory.

    Args:
        lists: The patterns of ignore files, those of the deepest first.
    """

    __slots__ = ("_lists",)

    def __init__(self, lists: tuple[PatternList, ...]) -> None:
        self._lists = lists

    @classmethod
    def top(cls, exclude: str) -> Rules:
        """What holds before any ignore file of the folder.

        Args:
            exclude: Where this node's own patterns are.

        Raises:
            LocalFileError: They cannot be read.
        """
        return cls(()).with_texts(b"", [_text_of(os.fsencode(exclude))])

    def leave_out(self, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Whether an entry of the directory is left out.

        Args:
            path: From the root.
            name: The last name of the path.
            is_directory: Whether it is one; a symlink to one is not.
        """
        if path == ROSTER or path.startswith(ROSTER + b"/"):
            return False
        for patterns in self._lists:
            verdict = patterns.verdict(path, name, is_directory=is_directory)
            if verdict is not None:
                return verdict
        return False

    def enter(self, root: bytes, prefix: bytes) -> Rules:
        """What is left out in a directory below, or in the root.

        Args:
            root: Where the folder is, and a slash.
            prefix: The directory's path from there and a slash; nothing for the root.

        Raises:
            LocalFileError: An ignore file cannot be read.
        """
        return self.with_texts(prefix, [_text_of(root + prefix + name) for name in FILES])

    def with_texts(self, prefix: bytes, texts: list[bytes]) -> Rules:
        """What is left out where these ignore files are.

        Args:
            prefix: The directory's path and a slash; nothing for the root.
            texts: What the files hold.
        """
        return Rules((_compiled(prefix, tuple(texts)), *self._lists)) if any(texts) else self


@lru_cache(256)
def _compiled(prefix: bytes, texts: tuple[bytes, ...]) -> PatternList:
    return PatternList([pattern for text in texts for pattern in parse_lines(text)], prefix)


def _text_of(path: bytes) -> bytes:
    """The contents of an ignore file; nothing where there is no file. It is not read through a symlink."""
    try:
        fd = os.open(path, _READ)
        try:
            text = b""
            if stat.S_ISREG(os.fstat(fd).st_mode):
                while len(text) <= IGNORE_FILE_BYTES_MAX and (piece := os.read(fd, IGNORE_FILE_BYTES_MAX + 1)):
                    text += piece
        finally:
            with suppress(OSError):
                os.close(fd)
    except OSError as error:
        if error.errno in _NO_FILE:
            return b""
        raise LocalFileError(f"{os.fsdecode(path)} cannot be read: {error.strerror or error}.") from error
    if len(text) > IGNORE_FILE_BYTES_MAX:
        raise LocalFileError(f"{os.fsdecode(path)} is longer than {IGNORE_FILE_BYTES_MAX:,} bytes.")
    return text
