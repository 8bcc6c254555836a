"""A timeline in a git repository: blobs become files of a branch, one commit for each add, and are united with others'.

Order of an add: its objects are made durable, then the branch is moved, then the worktree follows. Whoever is killed
between two of these leaves either nothing or a worktree that is behind, which the next one to open it brings up.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import pygit2

from holdall.core import git_tree, instant
from holdall.limits.timeline import BLOBS_REMEMBERED_BYTES_MAX, REPACK_BYTES, THIN_TREE_BYTES_MAX
from holdall.stores.disk import translated
from holdall.stores.git_objects import Objects
from holdall.timeline.branch import Branch, Head, git_errors
from holdall.timeline.exc import BlobUnreadable, RepoError, SettingInvalid
from holdall.timeline.exchange import Exchange
from holdall.timeline.index import Index
from holdall.timeline.remote import collect_garbage, pack_loose
from holdall.timeline.scan import LABELS, GoneError, found, label_folder, seen
from holdall.timeline.worktree import Later, Worktree

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOB_LEVEL: Final = 1
_NOTHING: Final[dict[bytes, bytes]] = {}


class New(NamedTuple):
    """A blob to be added.

    Attributes:
        name: Its file's.
        timestamp_ns: Its time.
        content: The bytes of its file.
    """

    name: str
    timestamp_ns: int
    content: bytes


class Placed(NamedTuple):
    """A file to be made.

    Attributes:
        path: From the directory that is spoken of.
        oid: The object name of its blob.
    """

    path: tuple[str, ...]
    oid: bytes


class Repository:
    """A git repository that holds a timeline.

    Args:
        path: Its worktree, or the repository itself if that is bare.
        layout: `flat`, `hour`, or None for the one that it has.
        worktree: Whether its worktree, if it has one, gets the files.
        create: Whether to make it if there is none.
        dense: Whether the bytes that are added cannot be compressed.

    Raises:
        RepoNotFound: There is none.
        RepoError: It cannot be opened.
        SettingInvalid: It is to be made with a layout, and has blobs in another.
    """

    def __init__(self, path: str, *, layout: str | None, worktree: bool, create: bool, dense: bool) -> None:
        self._branch = Branch(path, create=create, bare=not worktree)
        self._layout, self._level = layout, 0 if dense else _BLOB_LEVEL
        if create and layout:
            self._be_made_for(layout)
        self._trees: dict[tuple[str, ...], tuple[bytes, git_tree.Tree]] = {}
        side = self._branch.side
        self._index = Index(os.path.join(side, "index"))
        has_worktree = worktree and bool(self._branch.repo.workdir)
        self._worktree = Worktree(self._branch.repo, side) if has_worktree else None
        self._later = Later(self.catch_up)
        self._exchange = Exchange(self._branch, self._before_move, self._after_move)
        self._unpacked_bytes = 0
        self.catch_up()

    def close(self) -> None:
        """Brings git's index up to date and lets go of the repository."""
        self._later.cancel()
        self.catch_up()
        self._branch.repo.free()

    # --- reading ---

    def index(self) -> Index:
        """The index of what the branch holds now.

        Raises:
            BlobVersionUnsupported: A file is of a later version of the format.
            RepoDamaged: The repository is.
        """
        if self._index.state != (self._branch.head().tree or b""):
            try:
                with self._branch.locked("index-lock"), self._index.turn:
                    self._refresh(keep=True)
            except OSError:  # it cannot be written; then it is held in memory
                with self._index.turn:
                    self._refresh(keep=False)
        return self._index

    def read(self, oid: bytes, name: str) -> bytes:
        """The bytes of a blob's file.

        Args:
            oid: The object's name.
            name: The file's, for the error.

        Raises:
            BlobUnreadable: They are damaged, or not there.
        """
        try:
            return self._branch.read(oid)
        except RepoError as error:
            hint = "See git fsck; another clone may have it."
            if self._branch.is_partial:
                hint = "It is a partial clone: git fetch --refetch --no-filter brings all, or make a full clone."
            raise BlobUnreadable(f"{name} cannot be read. {error.message}", hint=hint) from error

    def size(self, oid: bytes) -> int:
        """How long the file of a blob is, in bytes."""
        with git_errors():
            return self._branch.repo.odb.read_header(pygit2.Oid(raw=oid))[1]

    def _refresh(self, *, keep: bool) -> None:
        tree = self._branch.head().tree or b""  # now that nobody else is at it, or the rows would go back in time
        self._index.load()
        if self._index.state == tree:
            return
        old, new = self._index.state or None, tree or None
        try:
            self._index.add(found(self._branch.read, old, new), tree, keep=keep)
        except (RepoError, GoneError):  # the tree that the rows are of has gone, or files have
            self._index.clear()
            self._index.add(found(self._branch.read, None, new), tree, keep=keep)

    # --- adding ---

    def add(self, blobs: Iterable[New], label: str | None) -> int:
        """Adds blobs in one commit, or none of them if anything fails; returns how many.

        Durability: when it returns, they survive a power cut.

        Args:
            blobs: What to add; not all are held in memory.
            label: Of all of them.

        Raises:
            BlobTypeInvalid: The label is none.
            RepoError: HEAD is detached, or a file is where a directory has to be.
            StoreError: The disk is full or cannot be written.
        """
        folder = None if label is None else label_folder(label)
        with translated(), Objects(self._branch.objects, self._level) as objects:
            files, recent, recent_bytes = [], {}, 0
            for blob in blobs:
                oid = objects.add(b"blob", blob.content)
                files.append((blob.name, blob.timestamp_ns, oid))
                recent_bytes += len(blob.content)
                if recent_bytes <= BLOBS_REMEMBERED_BYTES_MAX:
                    recent[oid] = blob.content
            if not files:
                return 0
            empty = objects.add(b"blob", b"") if folder is not None else b""
            with self._branch.changing():
                head = self._branch.head()
                by_hour = (self._layout or self._layout_of(head)) == "hour"
                placed = [Placed((*(instant.folder(when) if by_hour else ()), name), oid) for name, when, oid in files]
                if folder is not None:
                    placed += [Placed((LABELS.rstrip("/"), folder, *one.path), empty) for one in placed]
                self._commit(objects, head, placed, f"Add {len(files)} blob{'s' * (len(files) > 1)}", recent)
        if self._unpacked_bytes > REPACK_BYTES:
            self._unpacked_bytes = 0
            pack_loose(self._branch.repo)
        elif self._branch.has_many_loose():
            collect_garbage(self._branch.repo)
        return len(files)

    def _be_made_for(self, layout: str) -> None:
        """Notes the layout that the repository is to have.

        Raises:
            SettingInvalid: It has blobs in another.
        """
        there = self._layout_there(self._branch.head())
        if there not in {None, layout}:
            raise SettingInvalid(
                f"The repository has blobs in the layout {there}, which stays as it is.",
                hint="Make another repository for the other layout.",
            )
        self._branch.layout = layout

    def _layout_of(self, head: Head) -> str:
        """The layout that a repository has; a new one is flat, so that gitblobts can read it."""
        self._layout = self._layout_there(head) or ("hour" if self._branch.layout == "hour" else "flat")
        return self._layout

    def _layout_there(self, head: Head) -> str | None:
        """The layout of the blobs that there are; flat where there are both; None where there are none."""
        entries = git_tree.parse(self._branch.read(head.tree)) if head.tree else []
        names = (instant.decode(entry.name.decode("utf-8", "replace")) for entry in entries)
        if any(name is not None and instant.folder(name.timestamp_ns) for name in names):
            return "flat"
        years = any(entry.is_directory and len(entry.name) == 4 and entry.name.isdigit() for entry in entries)
        return "hour" if years else None

    def _commit(
        self, objects: Objects, head: Head, placed: list[Placed], message: str, recent: dict[bytes, bytes]
    ) -> None:
        while True:
            trees: dict[tuple[str, ...], tuple[bytes, git_tree.Tree]] = {}
            tree = self._grown(objects, (), head.tree, placed, trees)
            commit = self._branch.write_commit(objects, tree, [head.commit] if head.commit else [], message)
            if self._branch.move(head, commit):
                break
            head = self._branch.head()
        self._trees = trees
        self._follow(head.commit, commit, [("/".join(one.path), one.oid) for one in placed], recent)

    def _grown(
        self,
        objects: Objects,
        path: tuple[str, ...],
        old: bytes | None,
        placed: list[Placed],
        trees: dict[tuple[str, ...], tuple[bytes, git_tree.Tree]],
    ) -> bytes:
        """The object name of a directory's tree with files added."""
        known, tree = self._trees.pop(path, (None, git_tree.Tree()))
        if known is None or known != old:
            tree = git_tree.Tree(self._branch.read(old) if old else b"")
        here = [git_tree.Entry(git_tree.FILE, one.path[0].encode(), one.oid) for one in placed if len(one.path) == 1]
        below: dict[str, list[Placed]] = {}
        for one in placed:
            if len(one.path) > 1:
                below.setdefault(one.path[0], []).append(Placed(one.path[1:], one.oid))
        for name, inside in below.items():
            there = tree.get(name.encode())
            if there is not None and not there.is_directory:
                raise RepoError(f"{'/'.join((*path, name))} has to be a directory, but is a file.")
            grown = self._grown(objects, (*path, name), there.oid if there else None, inside, trees)
            here.append(git_tree.Entry(git_tree.DIRECTORY, name.encode(), grown))
        tree.put(here)
        raw = tree.raw()
        is_thin = len(raw) <= THIN_TREE_BYTES_MAX
        self._unpacked_bytes += 0 if is_thin else len(raw)
        oid = objects.add(b"tree", raw, level=1 if is_thin else 0)
        trees[path] = (oid, tree)
        return oid

    # --- the worktree ---

    def catch_up(self) -> None:
        """Brings worktree and git's index up to the branch; what cannot be done now is done at the next chance.

        What a killed writer left, its locks among it, is removed first.
        """
        with suppress(OSError, RepoError):
            if self._branch.is_marked:
                with self._branch.changing():
                    pass
            if self._worktree is None:
                return
            commit = self._branch.head().commit
            if commit and (self._worktree.is_late or self._worktree.complete_at() != commit):
                with self._branch.changing():
                    self._follow(None, self._branch.head().commit or "", [], now=True)

    def _follow(
        self,
        old: str | None,
        new: str,
        files: Iterable[tuple[str, bytes]],
        recent: dict[bytes, bytes] = _NOTHING,
        *,
        now: bool = False,
    ) -> None:
        """Lets the worktree follow the branch; `files` are what came between the commits `old` and `new`."""
        if self._worktree is None:
            return
        with suppress(OSError, RepoError, pygit2.GitError):
            complete = self._worktree.complete_at()
            if complete != new and (not old or complete != old):
                trees = self._branch.tree_of(complete), self._branch.tree_of(new)
                since = seen(self._branch.read, *trees)
                files = [(one.path, one.oid) for one in since if one.is_new]
            self._worktree.place(files, new, lambda oid: recent.get(oid) or self._branch.read(oid))
            if not now and self._worktree.may_wait():
                self._later.plan()
            else:
                self._worktree.finish()

    # --- the remote ---

    def has_remote(self) -> bool:
        """Whether there is anywhere to push to."""
        return any(self._branch.repo.remotes.names())

    def pull(self) -> None:
        """Fetches what the remote has, and moves the branch to it, or to the union of both; see `Exchange.pull`."""
        self._exchange.pull()

    def push(self, *, sure: bool) -> None:
        """Pushes the branch, united with what others have pushed meanwhile; see `Exchange.push`."""
        self._exchange.push(sure=sure)

    def _before_move(self, old: str | None, new: str) -> None:
        if self._worktree is not None:
            self._worktree.carry(old, new)

    def _after_move(self, new: str) -> None:
        self._follow(None, new, [])
