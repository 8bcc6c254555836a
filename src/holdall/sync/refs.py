"""The refs of a synced folder: what this node has, what others have, and what was here before files changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from holdall.limits.sync import SYNC_KEEP_REFS_MAX
from holdall.sync.repository import MAIN

if TYPE_CHECKING:
    from holdall.sync.repository import Repository

SYNC: Final = "refs/sync/"
_KEEP: Final = "refs/sync-keep/"


class Refs:
    """The refs of one folder, as they are called in `folder`.

    Args:
        repository: The folder's.
        node: This node.
    """

    def __init__(self, repository: Repository, node: str) -> None:
        self._repository = repository
        self._node = node
        self._known: dict[str, str] = {}

    def tips(self) -> dict[str, str]:
        """What each node has, as far as this one was told."""
        self._known = self._repository.refs(SYNC)
        return {node: self._known[f"{SYNC}{node}/main"] for node in self._nodes()}

    def _nodes(self) -> list[str]:
        return [name.split("/")[2] for name in self._known if name.count("/") == 3 and name.endswith("/main")]

    def move(self, commit: str) -> None:
        """Lets this node's refs name a commit, and tells other nodes that it is here."""
        wanted = {MAIN: commit, f"{SYNC}{self._node}/main": commit}
        wanted |= {f"{SYNC}{node}/seen": commit for node in self._nodes() if node != self._node}
        for name, target in wanted.items():
            if self._known.get(name) != target:
                self._repository.set_ref(name, target)
                self._known[name] = target

    def keep(self, commit: str) -> None:
        """Gives what this node had a ref of its own, and lets the oldest such refs go."""
        now = datetime.now(tz=UTC)
        self._repository.set_ref(f"{_KEEP}{now:%Y%m%dT%H%M%S.%fZ}", commit)
        for name in self._repository.names(_KEEP)[:-SYNC_KEEP_REFS_MAX]:
            self._repository.delete_ref(name)
