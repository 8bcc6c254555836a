"""The pattern language of `.gitignore`, matched as git matches it: bytes against bytes.

A pattern without a slash is compared with names, any other with the path from the directory it is written for; `*`,
`?` and `[...]` never match a slash, `**` between slashes matches any number of names. Of several patterns the last that
matches decides. The reference is git's dir.c and wildmatch.c, their corners included: what git keeps is kept here. A
pattern becomes a regular expression that looks at each way to match no more than once, so none can take for ever.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.wildcard import QUOTE, SLASH, SPECIAL, STAR, expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()


class Pattern(NamedTuple):
    """One pattern.

    Attributes:
        glob: Without what the other attributes say.
        takes_back: Whether it was written with `!`, and takes in again what earlier ones left out.
        only_directories: Whether it ended with a slash.
        by_name: Whether it is compared with names, not with paths.
    """

    glob: bytes
    takes_back: bool
    only_directories: bool
    by_name: bool

    @property
    def is_hopeless(self) -> bool:
        """Whether it can match nothing at all, and so was hardly meant."""
        if not self.glob or any(name in {b"", b".", b".."} for name in self.glob.split(SLASH)):
            return True
        return expression(self.glob) is None


def parse(text: bytes) -> Pattern:
    """The pattern that a text writes; every text writes one."""
    takes_back = text.startswith(b"!")
    glob = text[takes_back:]
    only_directories = glob.endswith(SLASH)
    if only_directories:
        glob = glob[:-1]
    by_name = SLASH not in glob
    if not by_name:
        glob = glob.removeprefix(SLASH)
        if glob.startswith(b"**/") and SLASH not in glob[3:]:  # any directory, and then a name: just the name
            glob, by_name = glob[3:], True
    return Pattern(glob, takes_back, only_directories, by_name)


def parse_lines(text: bytes) -> list[Pattern]:
    """The patterns of an ignore file, in order, without comments and empty lines."""
    patterns = []
    for line in text.removeprefix(_MARK).split(b"\n"):
        if line and not line.startswith(b"#"):
            # What git reads ends at a zero byte.
            pattern = parse(_without_spaces(line.removesuffix(b"\r").partition(b"\0")[0]))
            if pattern.glob:
                patterns.append(pattern)
    return patterns


class PatternList:
    """The patterns of one directory, ready to be compared.

    Args:
        patterns: In order; the last that matches decides.
        directory: The path of the directory and a slash, or nothing for the root.
    """

    __slots__ = ("_cut", "_for_directories", "_for_files")

    def __init__(self, patterns: Iterable[Pattern], directory: bytes = b"") -> None:
        patterns = list(patterns)
        self._cut = len(directory)
        self._for_directories = _runs(patterns)
        self._for_files = _runs(pattern for pattern in patterns if not pattern.only_directories)

    def verdict(self, path: bytes, name: bytes, *, is_directory: bool) -> bool | None:
        """Whether an entry is left out; None where no pattern says anything of it.

        Args:
            path: From the root; it lies in the list's directory.
            name: The last name of the path.
            is_directory: Whether it is one; a symlink to one is not.
        """
        path = path[self._cut :]
        for run in self._for_directories if is_directory else self._for_files:
            if (
                name in run.names
                or name.endswith(run.ends)
                or name.startswith(run.starts)
                or path in run.paths
                or (run.name_matches is not None and run.name_matches(name))
                or (run.path_matches is not None and run.path_matches(path))
            ):
                return run.leaves_out
        return None


class _Run:
    """Patterns that say the same and follow each other, so that their order does not matter.

    Most that people write are plain names or ends of names; compared as such they cost next to nothing.
    """

    __slots__ = ("ends", "leaves_out", "name_matches", "names", "path_matches", "paths", "starts")

    def __init__(self, patterns: Iterable[Pattern], *, leaves_out: bool) -> None:
        self.leaves_out = leaves_out
        names, paths, name_globs, path_globs = set[bytes](), set[bytes](), set[bytes](), set[bytes]()
        ends, starts = set[bytes](), set[bytes]()
        for pattern in patterns:
            glob = pattern.glob
            if not SPECIAL.search(glob):
                (names if pattern.by_name else paths).add(glob)
            elif not pattern.by_name:
                path_globs.add(glob)
            elif glob.startswith(STAR) and not SPECIAL.search(glob, 1):
                ends.add(glob[1:])
            elif glob.endswith(STAR) and not SPECIAL.search(glob[:-1]):
                starts.add(glob[:-1])
            else:
                name_globs.add(glob)
        self.names, self.paths = frozenset(names), frozenset(paths)
        self.ends, self.starts = tuple(ends), tuple(starts)
        self.name_matches, self.path_matches = _matcher(name_globs), _matcher(path_globs)


def _runs(patterns: Iterable[Pattern]) -> tuple[_Run, ...]:
    """The runs of a list, last first."""
    runs = [_Run(same, leaves_out=not takes_back) for takes_back, same in groupby(patterns, lambda p: p.takes_back)]
    return tuple(reversed(runs))


def _matcher(globs: Iterable[bytes]) -> Callable[[bytes], object] | None:
    texts = [text for glob in sorted(globs) if (text := expression(glob)) is not None]
    return re.compile(b"|".join(texts), re.DOTALL).fullmatch if texts else None


def _without_spaces(line: bytes) -> bytes:
    """The line without the spaces at its end, except one that is quoted."""
    kept = line.rstrip(b" ")
    quotes = len(kept) - len(kept.rstrip(QUOTE))
    return line[: len(kept) + 1] if quotes % 2 else kept
