"""Large files that a program keeps open and writes to, such as a download: each look at one makes a version of it all.

Small ones are looked at as they change. A large one is, once it is closed or another is renamed to its place; before
that, the more seldom the larger, and with every look at the whole folder: none waits longer than until then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.limits.sync import SYNC_GROWING_BYTES_MIN, SYNC_GROWING_BYTES_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Collection


class Growing:
    """The large files of a folder that are being written.

    Args:
        root: The folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._due: dict[str, float] = {}

    @property
    def due(self) -> float:
        """When one of them is to be looked at, by the monotonic clock."""
        return min(self._due.values(), default=float("inf"))

    def untold(self, hints: set[str], writing: set[bytes]) -> set[str]:
        """Of places where something happened, those that nothing is known of yet: so that others need not wait."""
        known = {path for path in hints & self._due.keys() if os.fsencode(path) in writing}
        writing.difference_update(map(os.fsencode, known))
        return hints - known

    def spare(self, hints: Collection[str], writing: set[bytes]) -> set[str]:
        """Which paths are to be looked at now.

        Args:
            hints: Where something happened.
            writing: Files that were written to and not closed; it is emptied.
        """
        now = time.monotonic()
        wanted = {path for path, due in self._due.items() if due <= now}
        for path in wanted:
            del self._due[path]
        for path in hints:
            size_bytes = 0
            if path not in wanted and os.fsencode(path) in writing:
                with suppress(OSError):
                    size_bytes = os.lstat(os.path.join(self._root, path)).st_size
            if size_bytes < SYNC_GROWING_BYTES_MIN:
                self._due.pop(path, None)
                wanted.add(path)
            else:
                self._due.setdefault(path, now + size_bytes / SYNC_GROWING_BYTES_PER_SECOND)
        writing.clear()
        return wanted
