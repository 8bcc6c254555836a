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
from typing import TYPE_CHECKING, Any

from holdall.errors import DamageError, LocalFileError, NotFoundError, PeerError, RosterError, StoreError, UsageError
from holdall.limits.sync import SYNC_PUSH_BYTES_MAX
from holdall.sync import keys, left_out, upkeep
from holdall.sync.folder import Folder
from holdall.sync.process import locked, write_atomically
from holdall.sync.repository import MAIN
from holdall.sync.roster import Entry, Role, Roster, Signed, sign
from holdall.sync.roster_tree import NODES, entries_in, put_back, write_entries
from holdall.sync.vetting import Arrival

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.sync.folder import Outcome
    from holdall.sync.merge import Changes


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
        repository = secrets.token_hex(8)
        own = Path(folder.git_dir, "holdall")
        entry = Entry(
            repository=repository,
            node=folder.node,
            serial=1,
            role="rw",
            **keys.own_place(address, port, user),
            key=keys.make_key(own / "keys" / "id_ed25519", f"holdall:{folder.node}"),
            signer=folder.node,
        )
        cluster = cls.begin(folder, repository, [sign(entry, own / "keys" / "id_ed25519")])
        write_entries(cluster.worktree, cluster.roster, [folder.node])
        return cluster

    @classmethod
    def begin(cls, folder: Folder, repository: str, rows: list[Signed]) -> Cluster:
        """Makes a folder take part in a cluster with these entries, its own among them, which are trusted.

        Raises:
            UsageError: This user has a folder of that cluster already.
        """
        keys.check_new(repository, folder.git_dir)
        own = Path(folder.git_dir, "holdall")
        Roster(own / "roster.json", repository).trust(rows)
        write_atomically(own / "cluster.json", json.dumps({"repository": repository}).encode(), mode=0o600)
        cluster = cls(folder)
        cluster.install()
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
        if outcome.held is None:
            left_out.note(self.own, outcome.skipped, seen=changed)
        self.refresh()
        upkeep.begin(self.git_dir)
        return outcome

    def vet(self) -> dict[str, str]:
        """Takes away refs of those who may not give anything, and what came that must not be merged: see `refused`.

        The folder asks this while it holds its lock, and merges what it is told, whatever is pushed meanwhile.

        Returns:
            The commits that may be merged, by node.
        """
        path = self.own / "vetted.json"
        vetted = _read_json(path)
        repository = self.folder.repository
        try:
            status = os.statvfs(self.worktree)
        except OSError:
            return {}  # where there is no folder, nothing is merged
        arrival = Arrival(repository, status.f_bavail * status.f_frsize)
        refused, now = dict[str, str](), dict[str, str]()
        for name, tip in repository.refs("refs/sync/").items():
            node, _, kind = name.removeprefix("refs/sync/").partition("/")
            if node not in self.roster.entries:
                self.roster.load()  # another process may just have let it in
            entry = self.roster.entries.get(node)
            if node != self.node and (entry is None or entry.role != "rw" or kind not in {"main", "seen"}):
                repository.delete_ref(name)
            if node == self.node or entry is None or entry.role != "rw" or kind != "main":
                continue
            try:
                if vetted.get(node) != tip:
                    arrival.check(repository.tree_of(repository.ref(MAIN)), repository.tree_of(tip))
                now[node] = tip
            except (DamageError, StoreError, UsageError) as error:
                refused[node] = error.message
                if node in vetted:
                    repository.set_ref(name, vetted[node])
                    now[node] = vetted[node]
                else:
                    repository.delete_ref(name)
        if now != vetted:
            write_atomically(path, json.dumps(now).encode(), mode=0o600, lasting=False)
        self.refused = refused
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
            PeerError: This node was unjoined.
        """
        with locked(self.own / "roster.lock"):
            self.roster.load()
            before = dict(self.roster.entries)
            candidates, refused = entries_in(self.folder.repository, self.folder.head())
            if (candidates, before) == self._considered[:2]:
                return self._considered[2]
            refused |= self.roster.consider(candidates)
            self._considered = (candidates, dict(self.roster.entries), refused)
            if self.me.role == "gone":
                signer = self.me.signer
                if signer == self.node:  # what says so to the others has yet to connect, and then leaves
                    raise PeerError("This node has left the cluster; the folder stays as it is.")
                self.leave()
                raise PeerError(f"This node was unjoined by {signer}; the folder stays as it is.")
            if self.roster.entries != before:
                self.install()
        return refused

    def publish(self, entries: list[Entry]) -> None:
        """Signs entries, accepts them and has them in the tree.

        Raises:
            PeerError: This node may not sign.
        """
        if self.me.role != "rw":
            raise PeerError(f"{self.node} is a read-only node: it cannot change the roster.")
        with locked(self.own / "roster.lock"):
            self.roster.load()
            self.roster.trust([sign(entry, self.key) for entry in entries])
            self.install()
        self.show([entry.node for entry in entries])

    def show(self, nodes: Iterable[str]) -> None:
        """Has the accepted entries of these nodes in the tree, where the others find them."""
        write_entries(self.worktree, self.roster, nodes)
        self.folder.reconcile(changed=[NODES])

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
        keys.check_path(self.git_dir)
        registry = keys.registry_path(self.repository)
        registry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = shutil.which("git")
        if program is None:
            raise LocalFileError("There is no git.", hint="Install git.")
        others = [peer for peer in self.roster.members() if peer.node != self.node]
        rows = [str(self.git_dir), str(self.worktree), os.path.abspath(program), str(SYNC_PUSH_BYTES_MAX)]
        rows += [f"{peer.node} {peer.role} {keys.mark(peer.key)}" for peer in others]
        write_atomically(registry, os.fsencode("\n".join(rows)), mode=0o600)
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
        keys.write_authorized_keys(keys.authorized_keys(), self.repository, [])
        keys.registry_path(self.repository).unlink(missing_ok=True)
        for name in ("ssh", "keys", "invites"):
            shutil.rmtree(self.own / name, ignore_errors=True)
        for name in self.folder.repository.refs("refs/sync/"):
            if not name.startswith(f"refs/sync/{self.node}/"):
                self.folder.repository.delete_ref(name)
        for name in ("cluster.json", "roster.json", "vetted.json", "peers.json"):
            (self.own / name).unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError, ValueError):  # it only saves looking again
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}
