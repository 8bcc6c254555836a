"""What is left out of a tree: `.git`, what ignore files name, and what the command line names.

Ignore files are `.gitignore` and `.holdallignore`, in any directory, for all below it. As in git, the last pattern of a
file that matches decides, a deeper file before a higher one, and below a directory that is left out nothing is looked
at. Patterns of the command line come before all files, the root's `.git/info/exclude` after them. git's settings of a
user or a machine are not heeded, so that the same tree is the same commit everywhere.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from holdall.core.patterns import PatternList, parse, parse_lines
from holdall.core.tree import shown
from holdall.errors import LocalFileError, UsageError
from holdall.limits.snapshot import IGNORE_FILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.core.patterns import Pattern

_GIT: Final = b".git"
_INFO: Final = b".git/info/exclude"
_FILES: Final = (b".gitignore", b".holdallignore")
"""In one directory the second is read after the first, and so has the last word."""
_SPECIAL: Final = frozenset({_GIT, *_FILES})

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


class Rules:
    """What is left out in one directory; false where nothing is.

    Args:
        first: Patterns that come before those of any ignore file.
        rest: Those of ignore files, the deepest first, and what comes after them.
    """

    __slots__ = ("_all", "first", "rest")

    def __init__(self, first: tuple[PatternList, ...], rest: tuple[PatternList, ...]) -> None:
        self.first = first
        self.rest = rest
        self._all = (*first, *rest)

    def __bool__(self) -> bool:
        return bool(self._all)

    def leave_out(self, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Whether an entry of the directory is left out.

        Args:
            path: From the root.
            name: The last name of the path.
            is_directory: Whether it is one; a symlink to one is not.
        """
        for patterns in self._all:
            verdict = patterns.verdict(path, name, is_directory=is_directory)
            if verdict is not None:
                return verdict
        return False


class Ignore:
    """What is left out of one tree.

    Args:
        root: The tree's directory.
        exclude: Patterns of the command line, written as in `.gitignore`, relative to the root.
        take_all: Heed no ignore file, and take `.git` too; what `exclude` names is left out all the same.

    Raises:
        LocalFileError: `.git/info/exclude` cannot be read.
        UsageError: Nothing can match one of `exclude`.
    """

    def __init__(self, root: str | bytes, *, exclude: Sequence[str] = (), take_all: bool = False) -> None:
        self._take_all = take_all
        patterns = [parse(os.fsencode(text)) for text in exclude]
        for text, pattern in zip(exclude, patterns, strict=True):
            if pattern.is_hopeless:
                raise UsageError(
                    f"Nothing can match the pattern {text!r}.",
                    hint="Write it as in .gitignore: relative to the tree, without . and .. in it.",
                )
        info = b"" if take_all else _text_of(os.path.join(os.fsencode(root), _INFO), _INFO)
        self._top = Rules(_lists(patterns), _lists(parse_lines(info)))

    @property
    def top(self) -> Rules:
        """What holds before any ignore file has been read."""
        return self._top

    def enter(self, above: Rules, directory: bytes, fd: int, names: list[bytes]) -> Rules:
        """What is left out in a directory.

        Args:
            above: What is left out in the directory that it lies in; `top` for the root.
            directory: Its path and a slash; nothing for the root.
            fd: The directory, open.
            names: What is in it. `.git`, which is left out whatever it is, is taken from the list.

        Raises:
            LocalFileError: An ignore file cannot be read.
        """
        special = _SPECIAL.intersection(names)
        if not special or self._take_all:
            return above
        if _GIT in special:
            names.remove(_GIT)
        texts = [_text_of(name, directory + name, fd) for name in _FILES if name in special]
        own = _lists([pattern for text in texts for pattern in parse_lines(text)], directory)
        return Rules(above.first, (*own, *above.rest)) if own else above


def _lists(patterns: list[Pattern], directory: bytes = b"") -> tuple[PatternList, ...]:
    """One list of patterns, or none where there are no patterns."""
    return (PatternList(patterns, directory),) if patterns else ()


def _text_of(name: bytes, path: bytes, directory: int | None = None) -> bytes:
    """The contents of an ignore file; nothing where there is no file.

    Like git, it follows no symlink inside the tree.

    Args:
        name: Of the file, in `directory`; or where it is.
        path: What to call it.
        directory: Open.
    """
    try:
        fd = os.open(name, _READ if directory is None else _READ | os.O_NOFOLLOW, dir_fd=directory)
        try:
            text = _read(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NO_FILE:
            return b""
        raise LocalFileError(
            f"What to leave out cannot be read from {shown(path)!r}: {error.strerror or error}.",
            hint="Make it readable, or take everything with --no-ignore.",
        ) from error
    if len(text) > IGNORE_FILE_BYTES_MAX:
        raise LocalFileError(
            f"{shown(path)!r} is longer than an ignore file may be, {IGNORE_FILE_BYTES_MAX:,} bytes.",
            hint="Name what to leave out in fewer patterns, or take everything with --no-ignore.",
        )
    return text


def _read(fd: int) -> bytes:
    """What a file holds, up to a byte more than it may."""
    text = b""
    while len(text) <= IGNORE_FILE_BYTES_MAX and (piece := os.read(fd, IGNORE_FILE_BYTES_MAX + 1 - len(text))):
        text += piece
    return text
