"""A synced folder as a node among others: its identity, whom it knows, and what of them may touch it.

Beside what the folder itself keeps, `<git dir>/holdall/` has `cluster.json` (the cluster's id), `roster.json` (accepted
entries), `keys/`, `ssh/`, `invites/`, `vetted.json` and `peers.json`. Outside of it there are the marked lines of
authorized_keys and, for the shell behind them, `~/.config/holdall/sync/<id>`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdall.errors import LocalFileError, NotFoundError, PeerError, RosterError, UsageError
from holdall.limits.sync import SYNC_PUSH_BYTES_MAX
from holdall.sync import keys, upkeep
from holdall.sync.folder import Folder
from holdall.sync.process import locked, write_atomically, write_if_other
from holdall.sync.roster import Entry, Role, Roster, Signed, sign
from holdall.sync.roster_tree import NODES, entries_in, lacking, put_back, write_entries
from holdall.sync.vetting import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdall.sync.folder import Outcome
    from holdall.sync.merge import Changes

_LEFT: Final = "This node has left the cluster; the folder stays as it is."


class Cluster:
    """One folder of this user's that takes part in a cluster.

    Args:
        folder: The folder.

    Raises:
        NotFoundError: It takes part in none.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.node: str = folder.node
        self.git_dir = Path(folder.git_dir)
        self.worktree = Path(folder.worktree)
        self.own = self.git_dir / "holdall"
        try:
            self.repository = str(json.loads((self.own / "cluster.json").read_text(encoding="utf-8"))["repository"])
        except FileNotFoundError:
            raise NotFoundError(
                f"{self.worktree} takes part in no cluster.", hint="See holdall sync bootstrap and holdall sync join."
            ) from None
        self.roster = Roster(self.own / "roster.json", self.repository)
        if self.node not in self.roster.entries:
            raise RosterError(
                f"The roster of {self.worktree} has lost this node.", hint="Unjoin it elsewhere; join anew."
            )
        self._considered: tuple[dict[str, Signed], dict[str, Entry], dict[str, str]] = ({}, {}, {})
        """The roster of the tree when it was last looked at, what was accepted then, and what was not."""
        self.refused: dict[str, str] = {}
        """Nodes of which something must not be merged, as it was last looked at, and why."""
        self._unshown: list[str] = []
        """Nodes whose accepted entries the tree did not have when it was last looked at."""
        folder.merge_only(self.vet, self.mend)

    @classmethod
    def open(cls, path: str | Path) -> Cluster:
        """The cluster that a folder takes part in.

        Raises:
            NotFoundError: It takes part in none.
        """
        return cls(Folder.open(os.fspath(path)))

    @classmethod
    def found(cls, folder: Folder, *, address: str, port: int, user: str) -> Cluster:
        """Makes a cluster of which this folder is the first node.

        Args:
            folder: The folder.
            address: Where this host's sshd is reached, at `port`; an empty one for nowhere.
            port: See `address`.
            user: This user, whom others log in as.
        """
        repository, place = secrets.token_hex(8), keys.own_place(address, port, user)
        key = Path(folder.git_dir, "holdall", "keys", "id_ed25519")

        def first() -> list[Signed]:
            public = keys.make_key(key, f"holdall:{folder.node}")
            me = {"node": folder.node, "key": public, "signer": folder.node, **place}
            return [sign(Entry(repository=repository, serial=1, role="rw", **me), key)]

        cluster = cls.begin(folder, repository, first)
        write_entries(cluster.worktree, cluster.roster, [folder.node])
        return cluster

    @classmethod
    def begin(cls, folder: Folder, repository: str, rows: Callable[[], list[Signed]]) -> Cluster:
        """Makes a folder take part in a cluster.

        Args:
            folder: The folder.
            repository: The cluster's id.
            rows: Gives the entries, its own among them, which are trusted; called once nobody else can begin.

        Raises:
            UsageError: It takes part in one, or this user has another folder of that cluster.
        """
        own = Path(folder.git_dir, "holdall")
        with locked(own / "roster.lock"):
            if (own / "cluster.json").exists():
                raise UsageError(f"{folder.worktree} takes part in a cluster already.")
            keys.check_new(repository, folder.git_dir)
            _forget(folder)  # what one that it left was ended in the middle of
            Roster(own / "roster.json", repository).trust(rows())
            write_atomically(own / "cluster.json", json.dumps({"repository": repository}).encode(), mode=0o600)
            cluster = cls(folder)
            cluster._install()
        return cluster

    # --- who ---

    @property
    def me(self) -> Entry:
        """This node's own entry."""
        return self.roster.entries[self.node]

    @property
    def key(self) -> Path:
        """This node's private key."""
        return self.own / "keys" / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        """What ssh connects to peers by."""
        return self.own / "ssh" / "config"

    def peers(self, nodes: Iterable[str] | None = None) -> list[Entry]:
        """The nodes that this one can connect to, or these of them.

        Raises:
            PeerError: One is none of them.
        """
        there = {entry.node: entry for entry in self.roster.members() if entry.node != self.node and entry.address}
        if nodes is None:
            return list(there.values())
        missing = [node for node in nodes if node not in there]
        if missing:
            raise PeerError(f"{missing[0][:40]!a} is no node that this one can connect to.")
        return [there[node] for node in nodes]

    # --- rounds ---

    def reconcile(self, *, changed: Iterable[str] | None = None) -> Outcome:
        """Merges what has come, as far as `vet` lets it, and follows what it says of the roster.

        Args:
            changed: As for `Folder.reconcile`.

        Raises:
            PeerError: This node was unjoined.
            HoldallError: As `Folder.reconcile`.
        """
        outcome = self.folder.reconcile(changed=changed)
        self.refresh()
        unshown, self._unshown = self._unshown, []
        if unshown and outcome.held is None:  # whoever accepted them was ended before they were in the tree
            self.show(unshown)
        upkeep.begin(self.git_dir)
        return outcome

    def vet(self) -> dict[str, str]:
        """The commits that may be merged, by node, whatever is pushed meanwhile; see `Arrival.sift` and `refused`."""
        path = self.own / "vetted.json"
        vetted = _read_json(path)
        refs = self.folder.repository.refs("refs/sync/")
        self.roster.load()  # after that: another process may just have let somebody in
        try:
            status = os.statvfs(self.worktree)
        except OSError:
            return {}  # where there is no folder, nothing is merged
        arrival = Arrival(self.folder.repository, status.f_bavail * status.f_frsize)
        now, self.refused = arrival.sift(refs, self.roster.entries, self.node, vetted)
        if now != vetted:
            write_atomically(path, json.dumps(now).encode(), mode=0o600, lasting=False)
        return now

    def mend(self, head: str | None, target: str) -> Changes:
        """Entries of the roster that would be lost where main goes from one commit to another; see `put_back`."""
        return put_back(self.folder.repository, self.roster, head, target) if self.me.role == "rw" else {}

    def tips(self) -> dict[str, str]:
        """The commit that each other node has, of those that may be merged, by node."""
        return _read_json(self.own / "vetted.json")

    def refresh(self) -> dict[str, str]:
        """Accepts what the tree has of the roster, as far as it counts, and brings ssh's files to that.

        Returns:
            Why entries do not count, by the name of their files.

        Raises:
            PeerError: This node has left, or was unjoined.
        """
        with self._alone():
            candidates, refused = entries_in(self.folder.repository, self.folder.head())
            if (candidates, self.roster.entries) == self._considered[:2]:
                return self._considered[2]
            refused |= self.roster.consider(candidates)
            if self.me.role == "gone":
                if self.me.signer == self.node:  # what says so to the others has yet to connect, and then leaves
                    raise PeerError(_LEFT)
                self._leave()
                raise PeerError(f"This node was unjoined by {self.me.signer}; the folder stays as it is.")
            self._install()
            self._unshown = [entry.node for entry, _ in lacking(self.roster, candidates) if self.me.role == "rw"]
            self._considered = (candidates, self.roster.entries, refused)
        return refused

    def publish(self, make: Callable[[], Entry]) -> str:
        """Signs an entry, accepts it and has it in the tree; returns what `show` does.

        Args:
            make: Gives the entry; called once nobody else can change the roster.

        Raises:
            PeerError: This node may not sign.
        """
        with self._alone():
            if self.me.role == "gone":
                raise PeerError(_LEFT)
            if self.me.role != "rw":
                raise PeerError(f"{self.node} is a read-only node: it cannot change the roster.")
            entry = make()
            self.roster.trust([sign(entry, self.key)])
            self._install()
        return self.show([entry.node])

    def show(self, nodes: Iterable[str]) -> str:
        """Has the accepted entries of these nodes in the tree, where the others find them.

        Returns:
            Why they are not there yet, where the folder is held; else nothing.
        """
        write_entries(self.worktree, self.roster, nodes)
        return self.folder.reconcile(changed=[NODES]).held or ""

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lets no other process touch the roster for the length of the block, which begins with it as it is now."""
        with locked(self.own / "roster.lock"):
            self.check()
            self.roster.load()
            yield

    def check(self) -> None:
        """Makes sure that the folder is where it was, and still takes part.

        Raises:
            NotFoundError: It is not there.
            PeerError: This node has left.
        """
        if not self.own.is_dir():
            raise NotFoundError(f"{self.git_dir} is gone.", hint="If the folder was moved, name it where it is now.")
        if _read_json(self.own / "cluster.json").get("repository") != self.repository:
            raise PeerError(_LEFT)

    def changed(self, node: str, *, role: Role | None = None, place: dict[str, Any] | None = None) -> Entry:
        """The next entry of a node, with another role or place, for this node to sign.

        Raises:
            PeerError: There is no such node.
        """
        entry = self.roster.entries.get(node)
        if entry is None or entry.role == "gone":
            raise PeerError(f"There is no node {node[:40]!a} in this cluster.")
        return replace(entry, serial=entry.serial + 1, role=role or entry.role, signer=self.node, **(place or {}))

    # --- what is outside the tree ---

    def install(self) -> None:
        """Writes ssh's files, the lines of authorized_keys and the shell's file as the accepted roster has it."""
        with self._alone():
            self._install()

    def _install(self) -> None:
        keys.check_path(self.git_dir)
        keys.check_new(self.repository, os.fspath(self.git_dir))
        registry = keys.registry_path(self.repository)
        registry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = shutil.which("git")
        if program is None:
            raise LocalFileError("There is no git.", hint="Install git.")
        others = [peer for peer in self.roster.members() if peer.node != self.node]
        rows = [str(self.git_dir), str(self.worktree), os.path.abspath(program), str(SYNC_PUSH_BYTES_MAX)]
        rows += [f"{peer.node} {peer.role} {keys.mark(peer.key)}" for peer in others]
        write_if_other(registry, os.fsencode("\n".join(rows)), mode=0o600)
        keys.write_ssh_files(self.own / "ssh", self.key, self.peers(), scope=f"{self.git_dir}\0{self.me.key}")
        lines = []
        for peer in others:
            rights = ("--mode", peer.role, "--key", keys.mark(peer.key))
            options = ("--node", peer.node, "--repo", self.repository, *rights)
            lines.append(keys.forced_line(options, peer.key, f"holdall:{peer.node}"))
        lines += [
            keys.forced_line(("--invite", name, "--repo", self.repository), invite.key, f"holdall-invite:{name}")
            for name, invite in keys.open_invites(self.own / "invites").items()
        ]
        keys.write_authorized_keys(keys.authorized_keys(), self.repository, lines)
        for entry in self.roster.entries.values():
            if entry.role == "gone" and entry.node != self.node:
                for name in self.folder.repository.refs(f"refs/sync/{entry.node}/"):
                    self.folder.repository.delete_ref(name)

    def leave(self) -> None:
        """Takes away what makes this folder take part; its files and its history stay."""
        with contextlib.suppress(PeerError), self._alone():
            self._leave()

    def _leave(self) -> None:
        keys.write_authorized_keys(keys.authorized_keys(), self.repository, [])
        keys.registry_path(self.repository).unlink(missing_ok=True)
        for name in ("ssh", "keys"):
            shutil.rmtree(self.own / name, ignore_errors=True)
        (self.own / "cluster.json").unlink(missing_ok=True)
        _forget(self.folder)


def _forget(folder: Folder) -> None:
    """Drops what a folder has of others' in a cluster that it has left."""
    own = Path(folder.git_dir, "holdall")
    for name in folder.repository.refs("refs/sync/"):
        if not name.startswith(f"refs/sync/{folder.node}/"):
            folder.repository.delete_ref(name)
    shutil.rmtree(own / "invites", ignore_errors=True)
    for file in ("roster.json", "vetted.json", "peers.json"):
        (own / file).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError, ValueError):  # it only saves looking again
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}
