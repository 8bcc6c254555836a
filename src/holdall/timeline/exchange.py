"""What a branch has in common with a remote: pushed, pulled, and united where both have gone on."""

from __future__ import annotations

import time
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import pygit2

from holdall.core import git_tree
from holdall.limits.stores import CLIENT_BACKOFF_SECONDS
from holdall.limits.timeline import PUSH_TRIES_MAX
from holdall.stores.disk import translated
from holdall.stores.git_objects import Objects
from holdall.timeline.branch import git_errors
from holdall.timeline.exc import RepoNoRemote, RepoPullError, RepoPushError
from holdall.timeline.remote import Remote
from holdall.timeline.scan import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.timeline.branch import Branch, Head

_LEVEL: Final = 1
_UNITED: Final = "Unite with the remote"
_LOCKED: Final = "cannot lock ref"
"""How git says that a branch is being moved just then, or was moved since it was looked at."""
_random: Final = SystemRandom()


class Exchange:
    """A branch and its remote.

    Args:
        branch: The branch.
        before: Called with the commit that it is about to leave, if any, and the one that it is about to be at.
        after: Called with the one that it has come to.
    """

    def __init__(self, branch: Branch, before: Callable[[str | None, str], None], after: Callable[[str], None]) -> None:
        self._branch, self._before, self._after = branch, before, after

    def pull(self) -> None:
        """Fetches what the remote has, and moves the branch to it, or to the union of both.

        Raises:
            RepoNoRemote: There is no remote.
            RepoPullError: It could not be fetched.
        """
        remote = self._remote()
        with translated(), self._branch.locked("remote-lock"):
            if remote.fetch():
                self._unite(remote)

    def push(self, *, sure: bool) -> None:
        """Pushes the branch; what others have pushed meanwhile is fetched and united with it first.

        Args:
            sure: Whether the remote is asked even if it had all when it was last heard of; it may have been made anew.

        Raises:
            RepoNoRemote: There is no remote.
            RepoPushError: The remote did not take it, or could not be reached.
        """
        remote = self._remote()
        with translated(), self._branch.locked("remote-lock"):
            for tried in range(PUSH_TRIES_MAX):
                head = self._branch.head()
                if head.commit is None or (self._at(remote) == head.commit and not sure):
                    return
                try:
                    remote.push()
                except RepoPushError as error:
                    if tried + 1 == PUSH_TRIES_MAX:
                        raise
                    # Before the fetch, not after it: what is fetched and then waited with is old again.
                    time.sleep(_random.uniform(0, CLIENT_BACKOFF_SECONDS * min(2**tried - 1, 31)))
                    # Somebody else was quicker, if there is something to fetch, or is at it, if it is locked there.
                    if not (self._fetched(remote, error) or tried < 2 or _LOCKED in error.message):
                        raise
                else:
                    return

    def _fetched(self, remote: Remote, error: RepoPushError) -> bool:
        """Whether the remote had anything new, which is now united with what is here."""
        try:
            return remote.fetch() and self._unite(remote)
        except RepoPullError:
            raise error from None

    def _remote(self) -> Remote:
        with git_errors():
            ref = self._branch.head().ref
            if ref is None:
                raise RepoNoRemote("HEAD is detached, so there is nothing to push or pull.", hint="Check out a branch.")
            return Remote(self._branch.repo, ref)

    def _at(self, remote: Remote) -> str | None:
        """The commit that the remote is known to have."""
        with git_errors():
            found = self._branch.repo.references.get(remote.tracking)
            return None if found is None else str(found.resolve().target)

    def _unite(self, remote: Remote) -> bool:
        """Takes in what was fetched; returns whether there was anything."""
        theirs = self._at(remote)
        if theirs is None:
            return False
        with git_errors(), Objects(self._branch.objects, _LEVEL) as objects, self._branch.changing():
            while True:
                head = self._branch.head()
                new = self._united(objects, head, theirs)
                if new is None:
                    return False
                self._before(head.commit, new)
                if self._branch.move(head, new):
                    self._after(new)
                    return True

    def _united(self, objects: Objects, head: Head, theirs: str) -> str | None:
        """The commit to move to, or None if all is here."""
        if head.commit is None:
            return theirs
        base = str(self._branch.repo.merge_base(pygit2.Oid(hex=head.commit), pygit2.Oid(hex=theirs)) or "")
        if base == theirs:
            return None
        if base == head.commit:
            return theirs
        trees = self._branch.tree_of(base), self._branch.tree_of(head.commit), self._branch.tree_of(theirs)
        union = git_tree.Union(self._branch.read, lambda raw: objects.add(b"tree", raw, level=_LEVEL), is_ours)
        return self._branch.write_commit(objects, union.of(*trees), [head.commit, theirs], _UNITED)
