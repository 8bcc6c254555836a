"""Which entries of a commit are wanted: pure, and the same whether a tree is listed or restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.tree import Type, shown
from holdall.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.core.tree import Entry

_NAMED_MAX = 3


class Selection:
    """The entries that were named, what is in them, and the directories that they are in.

    Args:
        paths: From the root of the tree; without any, everything is wanted.

    Raises:
        UsageError: A path leads out of the tree.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._wanted = {_plain(path) for path in paths}
        if b"" in self._wanted:
            self._wanted.clear()
        self._above = {path[:at] for path in self._wanted for at in range(1, len(path)) if path[at : at + 1] == b"/"}
        self._missing = set(self._wanted)

    @property
    def is_all(self) -> bool:
        """Whether everything is wanted."""
        return not self._wanted

    @property
    def key(self) -> bytes:
        """What tells this selection from others; empty where everything is wanted."""
        return b"\0".join(sorted(self._wanted))

    def takes(self, entry: Entry) -> bool:
        """Whether an entry is wanted; it is remembered which paths were met."""
        if not self._wanted:
            return True
        if entry.path in self._missing:
            self._missing.remove(entry.path)
        return self.covers(entry.path) or (entry.type is Type.DIRECTORY and entry.path in self._above)

    def covers(self, path: bytes) -> bool:
        """Whether a path is one of those named, or in one."""
        if not self._wanted:
            return True
        at = len(path)
        while at > 0:
            if path[:at] in self._wanted:
                return True
            at = path.rfind(b"/", 0, at)
        return False

    def check(self) -> None:
        """Makes sure that each path was met.

        Raises:
            NotFoundError: One was not.
        """
        if self._missing:
            raise NotFoundError(
                f"The commit does not have {named(sorted(self._missing))}.", hint="See holdall ls ADDRESS."
            )


def named(paths: list[bytes], count: int | None = None) -> str:
    """The first few of some paths, for a sentence.

    Args:
        paths: Some of them, at least one.
        count: How many there are, where they are more.
    """
    count = len(paths) if count is None else count
    words = ", ".join(repr(shown(path)) for path in paths[:_NAMED_MAX])
    return words if count <= _NAMED_MAX else f"{words} and {count - _NAMED_MAX:,} more"


def _plain(path: bytes) -> bytes:
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise UsageError(f"{shown(path)!r} is not a path inside a commit.")
    return b"/".join(names)
