"""How a folder fares: what its daemon says, what each peer has, and what is amiss.

A daemon is asked on `<git dir>/holdall/daemon.sock`, a line for a line: `poke` is answered by `ok`, `status` by a JSON
document. Where none answers, the peers themselves are asked, so that what is said is true without one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from holdall.limits.sync import SYNC_DAEMON_SECONDS_MAX
from holdall.sync import left_out, transport
from holdall.sync.brake import Brake, Root
from holdall.sync.large import FROM_STORE, TO_STORE
from holdall.sync.local import drift
from holdall.sync.repository import MAIN
from holdall.sync.rescue import last_rescue
from holdall.sync.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.sync.cluster import Cluster
    from holdall.sync.roster import Entry

_SOCKET: Final = "daemon.sock"
_REQUEST_BYTES_MAX: Final = 16
_SECOND_NS: Final = 1_000_000_000


# --- the daemon, and those who ask it ---


@dataclass(slots=True)
class Facts:
    """What a daemon says of itself.

    Attributes:
        pid: Its process.
        blind: Why not all changes are told of; empty where they are.
        held: Why the folder is held; empty where it is not.
        error: Why the last round failed; empty if it did not.
        rounds: How many there were.
        sent: For each peer, the newest commit of this node's that it is known to have.
    """

    pid: int
    blind: str = ""
    held: str = ""
    error: str = ""
    rounds: int = 0
    sent: dict[str, str] = field(default_factory=dict)


class Listener:
    """Answers those who ask a daemon, on a thread of its own.

    Args:
        cluster: The folder.
        facts: What to answer.
        on_poke: Called on that thread.

    Raises:
        OSError: The socket cannot be made.
    """

    def __init__(self, cluster: Cluster, facts: Facts, on_poke: Callable[[], None]) -> None:
        self._path = cluster.own / _SOCKET
        self._facts = facts
        self._on_poke = on_poke
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._path.unlink(missing_ok=True)  # of one that was killed: who is here has the daemon's lock
            self._socket.bind(os.fspath(self._path))
            self._path.chmod(0o600)
            self._socket.listen(64)
        except OSError:
            self._socket.close()
            raise
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answers nobody any more."""
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            with link, suppress(OSError):
                link.settimeout(SYNC_DAEMON_SECONDS_MAX)
                asked = link.recv(_REQUEST_BYTES_MAX)
                if asked == b"poke\n":
                    self._on_poke()
                    link.sendall(b"ok\n")
                elif asked == b"status\n":
                    link.sendall(json.dumps(asdict(self._facts)).encode() + b"\n")


def ask_daemon(cluster: Cluster) -> Facts | None:
    """What the daemon of a folder says of itself; None where none answers."""
    try:
        return Facts(**json.loads(_asked(cluster, b"status\n")))
    except (OSError, ValueError, TypeError):
        return None


def poke_daemon(cluster: Cluster) -> bool:
    """Tells the daemon of a folder that there is something to be done; whether there is one."""
    try:
        return _asked(cluster, b"poke\n") == b"ok\n"
    except OSError:
        return False


def _asked(cluster: Cluster, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(SYNC_DAEMON_SECONDS_MAX)
        link.connect(os.fspath(cluster.own / _SOCKET))
        link.sendall(words)
        with link.makefile("rb") as answer:
            return answer.readline()


# --- how a folder fares ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How a node fares, as far as this one knows.

    Attributes:
        node: Its name.
        role: What it may do.
        link: `this` one; `up` or `down`, whether it answered last; `in`, where it does the connecting.
        head: The commit that it has; empty if that is not known.
        ahead: How many commits it lacks that this node has; None if that is not known.
        behind: How many it has that are not here; None if that is not known.
        synced_ns: When it was last in touch, in nanoseconds since 1970; 0 for never or not known.
        latency_ms: How long the last exchange took.
        conflicts: Open conflicts, of this node alone.
        drift: Files that only this node has so, of this node alone.
        error: What is amiss; empty if nothing is.
        stale: Whether it has been out of touch, or without something, for too long.
    """

    node: str
    role: str
    link: str
    head: str = ""
    ahead: int | None = None
    behind: int | None = None
    synced_ns: int = 0
    latency_ms: float = 0.0
    conflicts: int = 0
    drift: int = 0
    error: str = ""
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a folder fares.

    Attributes:
        rows: This node, then the others by name.
        held: Why nothing is committed or merged; empty where it is.
        held_back: Nodes whose commits are not merged until somebody releases them, and why.
        daemon: What its daemon says; None where none answers.
        waiting: Large files that wait to be stored, or for their bytes, and why, by path.
        store_error: Why the store of large files could not be used the last time; empty if it could.
        left_out: Files that are here and are not synced, and why, by path.
        rescued: What was done about a damaged history, as long as what was put aside is there; else empty.
    """

    rows: list[Row]
    held: str
    held_back: dict[str, str]
    daemon: Facts | None
    waiting: dict[str, str]
    store_error: str
    left_out: dict[str, str]
    rescued: str

    @property
    def is_well(self) -> bool:
        """Whether nobody need do anything; what waits for a store that answers comes by itself."""
        waits = self.held or self.held_back or self.store_error or set(self.waiting.values()) - {TO_STORE, FROM_STORE}
        return not waits and not any(row.stale or row.conflicts for row in self.rows) and not self.rows[0].error


def examine(cluster: Cluster, *, stale_seconds: float) -> Report:
    """Looks at a folder.

    Args:
        cluster: It.
        stale_seconds: After how long without touch, or with something lacking, a node is stale.
    """
    daemon = ask_daemon(cluster)
    heads = transport.hello(cluster) if daemon is None else dict(daemon.sent)
    held = daemon.held if daemon is not None else _held(cluster)
    repository = cluster.folder.repository
    head = repository.ref(MAIN) or ""
    mine = Row(
        node=cluster.node,
        role=cluster.me.role,
        link="this",
        head=head,
        conflicts=len(cluster.folder.conflicts()),
        drift=len(drift(cluster)),
        error=daemon.error if daemon is not None else "",
    )
    tips = cluster.folder.tips()
    known = transport.read_peers(cluster.own / "peers.json")
    view = _View(cluster, head, stale_seconds)
    rows = [
        view.row(entry, heads.get(entry.node, ""), tips.get(entry.node, ""), known.get(entry.node, transport.Peer()))
        for entry in cluster.roster.members()
        if entry.node != cluster.node
    ]
    waiting, store_error = left_out.waiting(cluster.folder)
    return Report(
        rows=[mine, *rows],
        held=held,
        held_back=State.read(os.fspath(cluster.own / "state")).held_back,
        daemon=daemon,
        waiting=waiting,
        store_error=store_error,
        left_out=left_out.left_out(cluster.own, cluster.worktree),
        rescued=last_rescue(cluster.git_dir),
    )


def _held(cluster: Cluster) -> str:
    """Why the folder is held, as far as that can be told without a reconcile."""
    try:
        root = Root.of(os.fspath(cluster.worktree))
    except OSError as error:
        return f"The folder cannot be read: {error.strerror or error}; is a disk not mounted?"
    state = State.read(os.fspath(cluster.own / "state"))
    if state.held or state.released:
        return state.held
    if state.braked and state.device not in {0, root.device}:
        return state.braked
    place, repository, head = os.fsencode(cluster.worktree), cluster.folder.repository, cluster.folder.head()
    # What vanished is looked for only where a reconcile found that it did: it may have been moved.
    paths = [path for path, _ in repository.files(repository.tree_of(head))] if state.braked else []
    gone = dict.fromkeys(path for path in paths if not os.path.lexists(os.path.join(place, path)))
    return "" if head is None else Brake(repository, state).why_held(head, gone, root) or ""


class _View:
    """What one node sees of others.

    Args:
        cluster: Its folder.
        head: Its main.
        stale_seconds: As for `examine`.
    """

    def __init__(self, cluster: Cluster, head: str, stale_seconds: float) -> None:
        self._repository = cluster.folder.repository
        self._role = cluster.me.role
        self._head = head
        self._stale_ns = stale_seconds * _SECOND_NS

    def row(self, entry: Entry, said: str, tip: str, known: transport.Peer) -> Row:
        """How a peer fares.

        Args:
            entry: It.
            said: The commit that it said it has, or took; empty or a dash for none.
            tip: The commit that it pushed.
            known: How exchanges with it have gone.
        """
        theirs = self._newest([commit for commit in (said, tip) if commit not in {"", "-"}])
        ahead, behind = self._apart(theirs)
        now_ns = time.time_ns()
        link = "in" if not entry.address else "down" if known.error or not known.synced_ns else "up"
        silent = bool(entry.address) and abs(now_ns - known.synced_ns) > self._stale_ns  # a clock may be put back
        lacks = self._role == "rw" and bool(ahead) and now_ns - self._waits_since_ns() > self._stale_ns
        return Row(
            node=entry.node,
            role=entry.role,
            link=link,
            head=theirs,
            ahead=ahead,
            behind=behind,
            synced_ns=known.synced_ns,
            latency_ms=known.latency_ms,
            error=known.error,
            stale=silent or lacks,
        )

    def _newest(self, commits: list[str]) -> str:
        """Of what is known of a peer, what contains the rest; what is not here is newer than all that is."""
        unknown = [commit for commit in commits if not self._repository.known(commit)]
        if unknown or len(commits) < 2:
            return (unknown or commits or [""])[0]
        first, second = commits
        return second if self._repository.contains(second, first) else first

    def _apart(self, theirs: str) -> tuple[int | None, int | None]:
        if not theirs or not self._head or not self._repository.known(theirs):
            return None, None
        return self._repository.apart(self._head, theirs)

    def _waits_since_ns(self) -> int:
        """When main moved last, by the clock of this host; that of the commit's node may be another."""
        with suppress(FileNotFoundError):  # where refs were packed
            return os.stat(os.path.join(self._repository.path, MAIN)).st_mtime_ns
        return self._repository.time(self._head) * _SECOND_NS


def tell_systemd(address: str, words: str) -> None:
    """Tells systemd how a service fares.

    Args:
        address: NOTIFY_SOCKET; empty where nobody listens.
        words: As for sd_notify.
    """
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            link.send(words.encode())
