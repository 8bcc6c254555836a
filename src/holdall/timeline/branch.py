"""The branch that is checked out: where it stands, what its objects hold, and how it is moved.

Writers of one clone take turns by a lock of the kernel, which dies with its holder. Git's own programs are kept out by
git's lock files; one that a killed timeline has left is known by the mark that it also left.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import pygit2
from pygit2.enums import ReferenceType, RepositoryOpenFlag

from holdall.limits.timeline import GC_AGAIN_SECONDS, GC_LOOSE_OBJECTS, PACK_WINDOW_BYTES, STALE_LOCK_SECONDS
from holdall.stores.git_objects import sync_together, write_new
from holdall.timeline.exc import RepoDamaged, RepoError, RepoNotFound
from holdall.timeline.sharing import share, shared_bits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.stores.git_objects import Objects

_SIDE: Final = "holdall-timeline"
_LAYOUT: Final = "holdall.layout"
_NOBODY: Final = ("holdall", "holdall@localhost")
_NAP_SECONDS: Final = 0.005


class Head(NamedTuple):
    """What is checked out.

    Attributes:
        ref: The full name of the branch, which may have no commit yet; None where HEAD is detached.
        commit: Its last commit in hex, or None.
        tree: The object name of that commit's tree, or None.
    """

    ref: str | None
    commit: str | None
    tree: bytes | None


class Branch:
    """A repository's HEAD and its objects.

    Args:
        path: The worktree, or the repository itself if that is bare.
        create: Whether to make it if there is none.
        bare: Whether to make it bare.

    Attributes:
        repo: The repository, as libgit2 has it.
        side: A directory in it that is the timeline's own.
        objects: Where its objects are.

    Raises:
        RepoNotFound: There is none.
        RepoError: It cannot be opened.
    """

    def __init__(self, path: str, *, create: bool, bare: bool) -> None:
        self.repo = _open(path, create=create, bare=bare)
        # libgit2 keeps what it reads of packs mapped, by default gigabytes of it.
        pygit2.settings.mwindow_size = PACK_WINDOW_BYTES
        pygit2.settings.mwindow_mapped_limit = 4 * PACK_WINDOW_BYTES
        self._common = _common_folder(self.repo.path)
        self.objects = os.path.join(self._common, "objects")
        self.side = os.path.join(self.repo.path, _SIDE)
        self._shared = shared_bits(self.repo)
        with suppress(OSError):
            os.makedirs(self.side, exist_ok=True)
            self._share()

    @property
    def layout(self) -> str | None:
        """The layout that the repository was made for; it counts as long as nothing is in it."""
        with git_errors():
            config = self.repo.config
            return str(config[_LAYOUT]) if _LAYOUT in config else None

    @layout.setter
    def layout(self, layout: str) -> None:
        """Notes it in the repository's configuration."""
        with git_errors():
            self.repo.config[_LAYOUT] = layout

    def head(self) -> Head:
        """What is checked out now.

        Raises:
            RepoDamaged: Its commit cannot be read.
        """
        with git_errors(RepoDamaged):
            head = self.repo.lookup_reference("HEAD")
            if head.type == ReferenceType.DIRECT:
                return Head(None, *self._commit_and_tree(head.target))
            ref = str(head.target)
            try:
                branch = self.repo.lookup_reference(ref).resolve()
            except KeyError:
                return Head(ref, None, None)
            return Head(branch.name, *self._commit_and_tree(branch.target))

    def _commit_and_tree(self, oid: pygit2.Oid | str) -> tuple[str, bytes]:
        commit = self.repo[oid].peel(pygit2.Commit)
        return str(commit.id), commit.tree_id.raw

    def tree_of(self, commit: str) -> bytes | None:
        """The object name of a commit's tree; None where there is no such commit."""
        try:
            return self._commit_and_tree(commit)[1] if commit else None
        except (KeyError, ValueError, pygit2.GitError):
            return None

    def read(self, oid: bytes) -> bytes:
        """The bytes of an object.

        Raises:
            RepoDamaged: It is not there, or damaged.
        """
        with git_errors(RepoDamaged):
            return bytes(self.repo.odb.read(pygit2.Oid(raw=oid))[1])

    def write_commit(self, objects: Objects, tree: bytes, parents: list[str], message: str) -> str:
        """Makes a commit and all that was added before it durable, and returns its name in hex.

        Args:
            objects: What it is added to.
            tree: The object name of its tree.
            parents: The names of its parents, in hex.
            message: What it says.
        """
        try:
            signature = self.repo.default_signature
            name, email = signature.name, signature.email
        except (KeyError, pygit2.GitError):
            name, email = _NOBODY
        who = f"{name} <{email}> {int(time.time())} +0000"
        lines = [f"tree {tree.hex()}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}"]
        commit = objects.add(b"commit", "\n".join([*lines, "", message, ""]).encode("utf-8", "surrogateescape"))
        objects.keep()
        return commit.hex()

    def move(self, head: Head, commit: str) -> bool:
        """Moves the branch, unless somebody else has moved it; the caller is in `changing`.

        Durability: when it returns, the branch's place survives a power cut.

        Args:
            head: Where it was seen.
            commit: Where it is to be.

        Returns:
            Whether it was still there.

        Raises:
            RepoError: HEAD is detached, or another program keeps the branch locked.
        """
        if head.ref is None:
            raise RepoError("HEAD is detached, so there is no branch to add to.", hint="Check out a branch.")
        path = os.path.join(self._common, head.ref)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        deadline = time.monotonic() + STALE_LOCK_SECONDS
        while True:
            try:
                write_new(f"{path}.lock", (commit.encode() + b"\n",), 0o644)
                sync_together([f"{path}.lock"])
                break
            except FileExistsError:
                if time.monotonic() > deadline:
                    raise RepoError(
                        f"Another program has locked {head.ref}.", hint=f"If none is running, remove {path}.lock."
                    ) from None
                time.sleep(_NAP_SECONDS)
        if self.head() != head:
            os.unlink(f"{path}.lock")
            return False
        os.replace(f"{path}.lock", path)
        sync_together([os.path.dirname(path)])
        return True

    def has_many_loose(self) -> bool:
        """Whether git would pack what is loose, and is not at it; it looks at the same one of 256 directories."""
        try:
            if len(os.listdir(os.path.join(self.objects, "17"))) <= GC_LOOSE_OBJECTS // 256:
                return False
        except OSError:
            return False
        for name in ("gc.pid", "gc.log"):  # it runs, or has failed
            with suppress(OSError):
                if time.time() - os.stat(os.path.join(self._common, name)).st_mtime < GC_AGAIN_SECONDS:
                    return False
        return True

    @property
    def is_partial(self) -> bool:
        """Whether it was cloned without blobs, which git's own commands fetch as they need them."""
        with git_errors():
            return any(name.endswith((".promisor", ".partialclonefilter")) for name in _names(self.repo.config))

    # --- turns ---

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Excludes all others, threads and processes, that lock the same name, as long as the block lasts.

        Raises:
            OSError: The repository cannot be written.
        """
        fd = os.open(os.path.join(self.side, name), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            begun = time.time()
            self._share(begun)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self._share(begun)
        finally:
            os.close(fd)

    def _share(self, since: float = 0.0) -> None:
        if self._shared:
            share(self._shared, (self.side, os.path.join(self._common, "refs", "heads")), self.objects, since=since)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A block in which branch, worktree or git's index may change, alone among timelines.

        Whoever is killed in it leaves a mark; then what it left of locks and of files being made is removed first.
        """
        with self.locked("lock"):
            if self.is_marked:
                self._clean()
            os.close(os.open(self._mark, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            try:
                yield
            finally:
                os.unlink(self._mark)

    @property
    def is_marked(self) -> bool:
        """Whether somebody is in `changing`, or was killed in it."""
        return os.path.exists(self._mark)

    @property
    def _mark(self) -> str:
        return os.path.join(self.side, "changing")

    def _clean(self) -> None:
        """Removes what a killed timeline has left; a lock that a living git holds is gone in a moment by itself."""
        ref = self.head().ref
        left = [os.path.join(self.repo.path, "index.lock")]
        left += [f"{os.path.join(self._common, ref)}.lock"] if ref else []
        deadline = time.monotonic() + STALE_LOCK_SECONDS
        while any(map(os.path.exists, left)) and time.monotonic() < deadline:
            time.sleep(_NAP_SECONDS)
        left += [entry.path for entry in os.scandir(self.side) if entry.name.startswith("making-")]
        for path in left:
            with suppress(FileNotFoundError):
                os.unlink(path)


@contextmanager
def git_errors(kind: type[RepoError] = RepoError) -> Iterator[None]:
    """Turns an error of libgit2 that leaves the block into a `RepoError`, or into another kind of one."""
    try:
        yield
    except (pygit2.GitError, KeyError, ValueError) as error:
        raise kind(
            f"The repository cannot be read: {error}.", hint="See git fsck; another clone may have it."
        ) from error


def _open(path: str, *, create: bool, bare: bool) -> pygit2.Repository:
    try:
        try:
            return pygit2.Repository(path, RepositoryOpenFlag.NO_SEARCH)
        except pygit2.GitError:
            if os.path.exists(os.path.join(path, ".git")) or os.path.exists(os.path.join(path, "HEAD")):
                raise
        if not create:
            raise RepoNotFound(f"There is no git repository at {os.path.abspath(path)}.")
        return pygit2.init_repository(path, bare=bare, initial_head="main")
    except (pygit2.GitError, OSError) as error:
        raise RepoError(f"The repository at {path} cannot be opened: {error}.") from error


def _names(config: pygit2.Config) -> Iterator[str]:
    return (entry.name for entry in config)


def _common_folder(path: str) -> str:
    """Where branches and objects are: elsewhere than the rest, if this is one of several worktrees."""
    try:
        with open(os.path.join(path, "commondir"), encoding="utf-8", errors="surrogateescape") as file:
            return os.path.normpath(os.path.join(path, file.read().strip()))
    except FileNotFoundError:
        return path
