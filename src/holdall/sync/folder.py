"""A synced folder on one host: its files, their history, and what other nodes sent.

Nothing here needs a network: other nodes' commits come and go as refs, by push and fetch.

* `refs/heads/main` and `refs/sync/<this node>/main` are what this node has; the second is what others are sent.
* `refs/sync/<node>/main` is what another node has, written by that node.
* `refs/sync/<node>/seen` tells that node, when it pushes, what is here already.
* `refs/sync-keep/<time>` is what this node had before it changed files, the last 16 times; main has it all.

The git directory lies beside the folder, so that a repository in the folder itself is the user's own affair.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from holdall.errors import ConflictError, DamageError, LocalFileError, NotFoundError, UsageError
from holdall.limits.sync import SYNC_FILE_BYTES_MAX
from holdall.sync import left_out
from holdall.sync.ignore import FILES
from holdall.sync.lock import locked
from holdall.sync.merge import DIRECTORY, Conflict, copy_author, plain_name
from holdall.sync.outcome import Outcome, Version
from holdall.sync.repository import MAIN, Repository
from holdall.sync.rescue import is_suspect, rescue
from holdall.sync.round import Engine
from holdall.sync.state import Config, State, places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdall.sync.merge import Changes, Entry

__all__ = ["Folder", "Outcome", "Version"]

_ID: Final = re.compile(r"[0-9a-f]{4,40}")


class Folder:
    """A folder that is kept the same on several nodes.

    Concurrency: any number of processes and threads may use one folder; they take turns.

    Args:
        worktree: Where the files are, absolute.
        git_dir: Where their history is.

    Raises:
        SettingError: It is not set up readably.
        StoreError: Its repository cannot be opened.
    """

    def __init__(self, worktree: str, git_dir: str) -> None:
        self.worktree = worktree
        self.git_dir = git_dir
        self.config = Config.read(os.path.join(git_dir, "holdall", "config.toml"))
        self.node = self.config.node
        self._in_vain = False  # to make whole what is damaged: then not all is read again with each round
        self._engine = Engine(worktree, git_dir, self.config)
        self.repository = self._engine.repository

    @classmethod
    def create(
        cls, worktree: str, *, node: str, name: str | None = None, size_max_bytes: int = SYNC_FILE_BYTES_MAX
    ) -> Folder:
        """Begins to keep a folder's history, beside it, and takes what is in it.

        Args:
            worktree: The folder; it is made if there is none.
            node: This host's name among the nodes.
            name: What to call the folder; its own name where that is not told.
            size_max_bytes: Larger files are left out.

        Raises:
            ConflictError: It has a history already.
            SettingError: The node's name is none.
            LocalFileError: It cannot be made.
        """
        worktree, git_dir = places(worktree)
        config = Config(node, name or os.path.basename(worktree), size_max_bytes)
        settings = os.path.join(git_dir, "holdall", "config.toml")
        if os.path.exists(settings):
            raise ConflictError(f"{worktree} is synced already.")
        try:
            os.makedirs(worktree, exist_ok=True)
            for place in (git_dir, os.path.dirname(settings)):
                os.makedirs(place, mode=0o700, exist_ok=True)
        except OSError as error:
            raise LocalFileError(f"{error.filename} cannot be made: {error.strerror or error}.") from error
        Repository.create(git_dir)
        config.write(settings)
        folder = cls(worktree, git_dir)
        folder.reconcile()
        return folder

    @classmethod
    def open(cls, worktree_or_gitdir: str) -> Folder:
        """Opens a folder that `create` made.

        Args:
            worktree_or_gitdir: Where its files are, or its history.

        Raises:
            NotFoundError: It is not synced.
            SettingError: It is not set up readably.
        """
        worktree, git_dir = places(worktree_or_gitdir)
        if not os.path.exists(os.path.join(git_dir, "holdall", "config.toml")):
            raise NotFoundError(f"{worktree} is not a synced folder.", hint="Set it up with holdall sync bootstrap.")
        folder = cls(worktree, git_dir)
        if is_suspect(folder.repository, folder.node):
            with locked(git_dir, folder.node):
                folder._rescue()
        return folder

    def _rescue(self) -> bool:
        """Makes the history whole where something of it was lost; says whether there was anything to do."""
        self._in_vain = self._in_vain or not rescue(self.git_dir, self.node)
        if self._in_vain:
            return False
        before, self._engine = self._engine, Engine(self.worktree, self.git_dir, self.config)
        self._engine.vet, self._engine.mend = before.vet, before.mend
        self.repository = self._engine.repository
        return True

    # --- keeping it the same ---

    def reconcile(self, *, changed: Iterable[str] | None = None) -> Outcome:
        """Takes what is new in the folder, merges what other nodes sent, and brings the folder to that.

        Whatever the moment at which it is killed, the next one goes on; no bytes are replaced that are not in the
        history.

        Args:
            changed: Paths where something may have happened, relative to the folder or absolute, a directory for
                everything below it; None looks at everything.

        Raises:
            BusyError: Another process works on the folder, and does not come to an end.
            DamageError: An object is missing from the history.
            LocalFileError: What the folder has beside its history cannot be read or written.
            OutOfSpaceError: What is new cannot be kept; nothing in the folder was changed.
            StoreError: git cannot do what is needed.
        """
        with locked(self.git_dir, self.node):
            try:
                outcome = self._engine.run(None if changed is None else self._hints(changed))
                self._in_vain = False
            except DamageError:
                if not self._rescue():
                    raise
                outcome, changed = self._engine.run(None), None
            left_out.note(self.git_dir, outcome, seen=changed)
            return outcome

    def _hints(self, changed: Iterable[str]) -> set[bytes] | None:
        """The paths as the engine takes them; None where everything has to be looked at."""
        hints = set()
        for path in changed:
            relative = os.path.normpath(os.path.relpath(path, self.worktree) if os.path.isabs(path) else path)
            name = os.fsencode(relative)
            if name == b"." or name.rpartition(b"/")[2] in FILES:
                return None
            if not name.startswith((b"../", b"/")) and name != b"..":
                hints.add(name)
        return hints

    def merge_only(self, vet: Callable[[], Mapping[str, str]], mend: Callable[[str | None, str], Changes]) -> None:
        """From now on merges only what `vet` returns, and changes what `mend` says; see `Engine`."""
        self._engine.vet, self._engine.mend = vet, mend

    def hold(self, reason: str) -> None:
        """Lets every reconcile do nothing but tell this reason, until `release`."""
        self._hold(reason, released=False)

    def release(self, *, tells: bool = True) -> None:
        """Ends a hold: the next reconcile believes what it finds and what came; if it `tells`, so do other nodes."""
        self._hold("", released=True, tells=tells)

    def _hold(self, reason: str, *, released: bool, tells: bool = True) -> None:
        with locked(self.git_dir, self.node):
            path = os.path.join(self.git_dir, "holdall", "state")
            state = State.read(path)
            state.held, state.released, state.tells = reason, released, tells
            state.write(path)

    def head(self) -> str | None:
        """The commit that this node has; None before the first."""
        return self.repository.ref(MAIN)

    def tips(self) -> dict[str, str]:
        """The commit that each node has, as far as this one was told, by node."""
        return self._engine.tips()

    # --- conflicts ---

    def conflicts(self) -> list[Conflict]:
        """Every conflict copy in the history's last state."""
        return self._conflicts(self.head())

    def _conflicts(self, head: str | None) -> list[Conflict]:
        paths = sorted(path for path, _ in self.repository.files(self.repository.tree_of(head)))
        named = [(path, node) for path in paths if (node := copy_author(path)) is not None]
        return [Conflict(os.fsdecode(plain_name(path)), os.fsdecode(path), node) for path, node in named]

    def resolve(self, path: str, take: Literal["mine", "theirs", "both"] = "mine") -> Outcome:
        """Ends the conflicts of a file.

        Args:
            path: The file, or one of its copies: then that copy alone is meant.
            take: Whose version stays: this node's, the other's, or both, the copy then under an ordinary name.

        Raises:
            NotFoundError: There is no such conflict.
            ConflictError: A directory has the file's place.
            UsageError: There are several versions that could be meant.
        """
        wanted = os.path.normpath(path)

        def choose(head: str | None) -> Changes:
            copies = [found for found in self._conflicts(head) if wanted in {found.path, found.copy}]
            if not copies:
                raise NotFoundError(f"{path} has no conflict.", hint="List them with holdall sync conflicts.")
            return self._chosen(head, copies, take)

        with locked(self.git_dir, self.node):
            return self._engine.run(None, choose)

    def _chosen(self, head: str | None, copies: list[Conflict], take: str) -> Changes:
        edits: dict[bytes, Entry | None] = {os.fsencode(conflict.copy): None for conflict in copies}
        place = os.fsencode(copies[0].path)
        if take == "both":
            for conflict in copies:
                copy = os.fsencode(conflict.copy)
                edits[self._free_name(head, place, conflict.node, edits)] = self.repository.entry(head, copy)
            return edits
        mine = [conflict for conflict in copies if conflict.node == self.node]
        # Where no copy is this node's, what keeps the path is, or came later than it.
        chosen = mine if take == "mine" else [] if mine else copies
        if len(chosen) > 1:
            raise UsageError(f"{copies[0].path} has several such versions.", hint="Name the copy to take.")
        if chosen:
            self._check_place(head, place)
            edits[place] = self.repository.entry(head, os.fsencode(chosen[0].copy))
        return edits

    def _free_name(self, head: str | None, place: bytes, node: str, edits: Changes) -> bytes:
        stem, extension = os.path.splitext(place)
        name, number = b"%b.%b%b" % (stem, node.encode(), extension), 1
        while name in edits or self.repository.entry(head, name) is not None:
            number += 1
            name = b"%b.%b-%d%b" % (stem, node.encode(), number, extension)
        return name

    # --- history ---

    def log(self, path: str | None = None, limit: int = 100) -> list[Version]:
        """The newest commits.

        Args:
            path: Only those that changed this file, or something below this directory.
            limit: How many at most.
        """
        found: list[Version] = []
        name = None if path is None else os.fsencode(os.path.normpath(path))
        head = self.head()
        for commit in self.repository.newest_first(head) if head is not None else ():
            if len(found) >= limit:
                break
            if name is not None:
                now = self.repository.entry(commit, name)
                before = [self.repository.entry(parent, name) for parent in self.repository.parents(commit)]
                if now in (before or [None]):
                    continue
            kept = self.repository
            found.append(Version(commit, kept.time(commit), kept.node(commit), kept.message(commit)))
        return found

    def show(self, at: str, path: str) -> bytes:
        """What a file held.

        Args:
            at: A commit's id or its beginning, or a time such as 2026-03-01T12:00.
            path: The file.

        Raises:
            NotFoundError: There was no such file.
            UsageError: `at` is neither.
        """
        entry = self.repository.entry(self._commit_at(at), os.fsencode(os.path.normpath(path)))
        if entry is None or entry.mode == DIRECTORY:
            raise NotFoundError(f"There was no file {path} at {at}.", hint="holdall sync log lists what there was.")
        return self.repository.blob(entry.blob)

    def restore(self, at: str, path: str) -> Outcome:
        """Lets a file, or what was in a directory, be as it was; what is there now stays in the history.

        Args:
            at: As for `show`.
            path: The file or the directory. Files that came into the directory later stay.

        Raises:
            NotFoundError: There was nothing.
            ConflictError: A file stands where a directory was, or a directory where a file was.
            UsageError: `at` is neither an id nor a time.
        """
        name = b"" if os.path.normpath(path) == "." else os.fsencode(os.path.normpath(path))
        old = self.repository.entry(self._commit_at(at), name)
        if old is None:
            raise NotFoundError(f"There was no {path} at {at}.", hint="holdall sync log lists what there was.")
        below = self.repository.files(old.blob, name + b"/" if name else b"")
        files = dict(below) if old.mode == DIRECTORY else {name: old}

        def put_back(head: str | None) -> Changes:
            for file in files:
                self._check_place(head, file)
            return files

        with locked(self.git_dir, self.node):
            return self._engine.run(None, put_back)

    def become(self, commit: str) -> Outcome:
        """Lets the folder have what the commit of this id has, and nothing else; what it had stays in the history."""
        with locked(self.git_dir, self.node):
            return self._engine.run(None, lambda head: self.repository.changes(head, commit))

    def _check_place(self, head: str | None, path: bytes) -> None:
        """Refuses to put a file where a directory is, or below another file."""
        names = path.split(b"/")
        above = [self.repository.entry(head, b"/".join(names[:depth])) for depth in range(1, len(names))]
        now = self.repository.entry(head, path)
        if any(entry and entry.mode != DIRECTORY for entry in above) or (now and now.mode == DIRECTORY):
            raise ConflictError(f"{os.fsdecode(path)} has something else in its place.", hint="Move that away.")

    def _commit_at(self, at: str) -> str:
        """The commit that a word means: by its id, or the newest that is not younger than a time."""
        if _ID.fullmatch(at) and (found := self.repository.find(at)) is not None:
            return found
        try:
            seconds = datetime.fromisoformat(at).timestamp()
        except ValueError:
            raise UsageError(f"{at!r} is neither a commit nor a time.", hint="Write 2026-03-01T12:00.") from None
        head = self.head()
        commits = self.repository.newest_first(head) if head is not None else ()
        if past := [commit for commit in commits if self.repository.time(commit) <= seconds]:
            return max(past, key=self.repository.time)
        raise NotFoundError(f"The folder has no history from before {at}.", hint="holdall sync log lists it.")
