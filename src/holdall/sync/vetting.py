"""What came from another node, looked at before it is merged: may it be a tree at all, and is there room for it?

git has checked each object by then (`fsckObjects`): no name is `..` or any spelling of `.git`. What it does not check
is how much a tree stands for. Ten trees of ten rows each, the last of which name one file, take a kilobyte and are ten
billion files; so each tree is counted once, however often it is named, and what is here already is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdall.errors import DamageError, StoreError, TooLargeError, TreeError, UsageError
from holdall.limits import MIB
from holdall.limits.sync import SYNC_ARRIVAL_DEPTH_MAX, SYNC_ARRIVAL_FILE_BYTES_MAX, SYNC_ARRIVAL_PATHS_MAX
from holdall.sync.merge import DIRECTORY, EXECUTABLE, FILE, SYMLINK
from holdall.sync.repository import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdall.sync.repository import Repository
    from holdall.sync.roster import Entry

_TREE_BYTES_MAX: Final = 64 * MIB
"""Longest single tree: half a million files in one directory."""


class Arrival:
    """The counting of what one tree has beyond another.

    Args:
        repository: Where both are.
        room_bytes: How much the files may take.
    """

    def __init__(self, repository: Repository, room_bytes: int) -> None:
        self._repository = repository
        self._room_bytes = room_bytes
        self._counted: dict[bytes, tuple[int, int]] = {}

    def sift(
        self, refs: Mapping[str, str], members: Mapping[str, Entry], this: str, vetted: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Takes away refs of those who may not give anything, and what came that must not be merged.

        Args:
            refs: What is below refs/sync/, with the commits.
            members: Whose refs these may be, by node.
            this: This node, whose refs are its own affair.
            vetted: What was looked at before, by node.

        Returns:
            The commits that may be merged, by node; and the nodes of which something must not be, and why.
        """
        repository = self._repository
        refused, now = dict[str, str](), dict[str, str]()
        for name, tip in refs.items():
            node, _, kind = name.removeprefix("refs/sync/").partition("/")
            entry = members.get(node)
            if node != this and (entry is None or entry.role != "rw" or kind not in {"main", "seen"}):
                repository.delete_ref(name)
            if node == this or entry is None or entry.role != "rw" or kind != "main":
                continue
            try:
                if vetted.get(node) != tip:
                    self.check(repository.tree_of(repository.ref(MAIN)), repository.tree_of(tip))
                now[node] = tip
            except (DamageError, StoreError, UsageError) as error:
                refused[node] = error.message
                if node in vetted:
                    repository.set_ref(name, vetted[node])
                    now[node] = vetted[node]
                else:
                    repository.delete_ref(name)
        return now, refused

    def check(self, old: bytes, new: bytes) -> None:
        """Looks at everything that the new tree has and the old one does not.

        Raises:
            TreeError: It holds something that is neither file, symlink nor directory.
            TooLargeError: It is more than is taken at once, or than there is room for.
        """
        paths, size_bytes = self._beyond(old, new, 0)
        if paths > SYNC_ARRIVAL_PATHS_MAX:
            raise TooLargeError(f"What came would change more than {SYNC_ARRIVAL_PATHS_MAX:,} files at once.")
        room = self._room_bytes
        if size_bytes > room:
            raise TooLargeError(f"What came would take {size_bytes:,} bytes, and there is room for {room:,}.")

    def _beyond(self, old: bytes | None, new: bytes, depth: int) -> tuple[int, int]:
        """How many paths, and bytes in them, a tree has that another in its place has not."""
        if old == new:
            return 0, 0
        if old is None and new in self._counted:
            return self._counted[new]
        if depth > SYNC_ARRIVAL_DEPTH_MAX:
            raise TooLargeError(f"What came has more than {SYNC_ARRIVAL_DEPTH_MAX} directories in one another.")
        if self._size_bytes(new) > _TREE_BYTES_MAX:
            raise TooLargeError(f"What came has a directory of more than {_TREE_BYTES_MAX:,} bytes.")
        before = self._repository.tree(old) if old is not None else {}
        paths = size_bytes = 0
        for name, entry in self._repository.tree(new).items():
            was = before.get(name)
            if was == entry:
                continue
            if entry.mode == DIRECTORY:
                inner = was.blob if was is not None and was.mode == DIRECTORY else None
                more = self._beyond(inner, entry.blob, depth + 1)
            else:
                more = 1, self._file_bytes(name, entry.mode, entry.blob)
            paths += more[0]
            size_bytes += more[1]
        if old is None:
            self._counted[new] = paths, size_bytes
        return paths, size_bytes

    def _file_bytes(self, name: bytes, mode: int, blob: bytes) -> int:
        if mode not in {FILE, EXECUTABLE, SYMLINK}:
            raise TreeError(f"What came has {name[:60]!a}, which is neither file, symlink nor directory.")
        size_bytes = self._size_bytes(blob)
        if size_bytes > SYNC_ARRIVAL_FILE_BYTES_MAX:
            raise TooLargeError(f"What came has a file of {size_bytes:,} bytes, {name[:60]!a}.")
        return size_bytes

    def _size_bytes(self, object_id: bytes) -> int:
        try:
            return self._repository.size_bytes(object_id)
        except (DamageError, StoreError) as error:
            raise DamageError(f"What came lacks the object {object_id.hex()}.") from error
