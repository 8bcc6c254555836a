"""Pushing to other nodes and fetching from them, all at once, each over a connection that is kept open.

A push moves one ref there, `refs/sync/<this node>/main`; a fetch one ref here, `refs/sync/<that node>/main`. So no two
nodes ever write the same ref, nothing can be lost by being late, and any node that has merged another's commits relays
them. What came is for `Cluster.reconcile` to look at and to merge. How each peer fared is kept in `peers.json`.
"""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from holdall.errors import PeerError
from holdall.limits.sync import (
    SYNC_BACKOFF_SECONDS_MAX,
    SYNC_BACKOFF_SECONDS_MIN,
    SYNC_CONNECT_SECONDS_MAX,
    SYNC_JOBS,
    SYNC_PATIENCE_DOUBLINGS_MAX,
    SYNC_SILENCE_SECONDS_MAX,
    SYNC_TRANSFER_SECONDS_MAX,
)
from holdall.sync.keys import ALIVE_PROBES
from holdall.sync.process import TIMED_OUT, Done, Line, git_over_ssh, locked, run, write_atomically
from holdall.sync.refs import SYNC
from holdall.sync.repository import MAIN
from holdall.sync.upkeep import drop_drafts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from holdall.sync.cluster import Cluster
    from holdall.sync.roster import Entry

_ATTEMPTS: Final = 4
"""Several processes of one node, or a push and a fetch, may meet on one ref; the later one goes again."""
_MET: Final = ("cannot lock ref", "failed to update ref", "incorrect old value", "reference already exists")
_BEHIND: Final = ("non-fast-forward", "fetch first")

DENIED: Final = "does not let this node in"
"""What is said of a peer that has no key of this node's, or has it no more."""

_REASONS: Final = (
    ("HOST IDENTIFICATION HAS CHANGED", "shows another host key than the roster has; nothing was sent"),
    ("Host key verification failed", "shows another host key than the roster has; nothing was sent"),
    ("Could not resolve hostname", "cannot be found: {address} is no name that this host can look up"),
    ("Connection refused", "refuses connections at {address} port {port}: its sshd does not run"),
    ("timed out", "does not answer at {address} port {port}"),
    ("No route to host", "cannot be reached at {address} port {port}"),
    ("Network is unreachable", "cannot be reached at {address} port {port}"),
    ("Permission denied", f"{DENIED}: it has not heard of it yet, or has unjoined it"),
    (
        "invalid index-pack output",
        "sent what git does not take: objects that are none, or more than there may be or is room for",
    ),
    ("non-fast-forward", "has newer commits of this node than this node itself: {remedy}"),
    ("fetch first", "has newer commits of this node than this node itself: {remedy}"),
)
_CHANGED: Final = "connect again"
_BROKEN: Final = 255
"""What ssh ends with when it was not the other side's command that did."""
_LINE_OF_OURS: Final = re.compile(r"(?:^|\n)(?:remote: )?holdall(?:-shell)?: ([^\n]{1,400})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How exchanges with a peer have gone.

    Attributes:
        synced_ns: When the last one succeeded, in nanoseconds since 1970; 0 for never.
        latency_ms: How long that took.
        error: Why the last one failed; empty if it did not.
        failures: How many failed since then.
        retry_ns: Before this moment there is no point in another.
    """

    synced_ns: int = 0
    latency_ms: float = 0.0
    error: str = ""
    failures: int = 0
    retry_ns: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one push or fetch went.

    Attributes:
        node: With whom.
        error: Why it failed, as a sentence; empty if it did not.
        changed: Whether it moved anything.
    """

    node: str
    error: str
    changed: bool = False


def backoff_seconds(failures: int, chance: float) -> float:
    """How long to leave a peer alone that failed: longer each time, and not all nodes the same.

    Args:
        failures: How often in a row, from 1.
        chance: A random number from 0 to 1.
    """
    most = min(SYNC_BACKOFF_SECONDS_MAX, SYNC_BACKOFF_SECONDS_MIN * float(1 << min(failures, 16)))
    return max(SYNC_BACKOFF_SECONDS_MIN, most * (0.5 + chance / 2))


def read_peers(path: Path) -> dict[str, Peer]:
    """What `peers.json` has; nothing if there is none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {node: Peer(**row) for node, row in rows.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):  # it is only remembered for show
        return {}


def noted(cluster: Cluster, node: str) -> Peer:
    """How exchanges with a peer have gone."""
    return read_peers(cluster.own / "peers.json").get(node, Peer())


def push(cluster: Cluster, nodes: Iterable[str] | None = None) -> list[Exchange]:
    """Brings this node's main to its peers, to all at the same time.

    Args:
        cluster: The folder.
        nodes: To these only.

    Raises:
        PeerError: This node is read-only, or one of the nodes is none that it can connect to.
    """
    if cluster.me.role != "rw":
        raise PeerError(
            f"{cluster.node} is a read-only node: what changes here stays here.",
            hint="A node that is not can change that: holdall sync nodes --read-write.",
        )
    return push_to(cluster, cluster.peers(nodes))


def line_to(cluster: Cluster, peer: Entry) -> Line:
    """Begins a push to a peer before there is anything to push, so that it then takes half as long.

    Raises:
        LocalFileError: There is no ssh.
    """
    return Line((*_ssh(cluster, peer), peer.node, f"git-receive-pack '{cluster.repository}'"))


def push_to(cluster: Cluster, peers: list[Entry], line: Line | None = None) -> list[Exchange]:
    """As `push`, whatever the roster says of this node by now; `line` was begun to the only peer, and is used up."""
    refspec = f"refs/heads/main:refs/sync/{cluster.node}/main"

    def work(peer: Entry) -> Done:
        words = ("push", "--porcelain", "--no-verify", f"{peer.node}:{cluster.repository}", refspec)
        nonlocal line
        begun, line = line, None
        if begun is not None:
            done = _over_ssh(cluster, peer, *words, fetches=False, line=begun)
            if not done.code:
                return done
        return _over_ssh(cluster, peer, *words, fetches=False)

    return _with_all(cluster, peers, work, lambda _: MAIN)


def fetch(cluster: Cluster, nodes: Iterable[str] | None = None) -> list[Exchange]:
    """Brings the main of each peer here, from all at the same time; read-only ones have nothing to give.

    Args:
        cluster: The folder.
        nodes: From these only.

    Raises:
        PeerError: One of the nodes is none that it can connect to.
    """

    def work(peer: Entry) -> Done:
        ref = f"{SYNC}{peer.node}/main"
        # A peer that lost its last commits has them back from the others that give. From a read-only node it takes
        # nothing, so that one follows it; what it took before, its own main has.
        may_go_back = cluster.me.role == "ro" and _is_merged(cluster, ref)
        refspec = f"{'+' if may_go_back else ''}refs/heads/main:{ref}"
        drop_drafts(cluster.git_dir)
        words = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=")
        return _over_ssh(cluster, peer, "fetch", *words, f"{peer.node}:{cluster.repository}", refspec, fetches=True)

    givers = [peer for peer in cluster.peers(nodes) if peer.role == "rw"]
    return _with_all(cluster, givers, work, lambda peer: f"{SYNC}{peer.node}/main")


def _is_merged(cluster: Cluster, ref: str) -> bool:
    head, tip = cluster.folder.head(), cluster.folder.repository.ref(ref)
    return head is not None and tip is not None and cluster.folder.repository.contains(head, tip)


def poke(cluster: Cluster, nodes: Iterable[str] | None = None) -> list[Exchange]:
    """Asks peers to reconcile."""
    return _with_all(cluster, cluster.peers(nodes), lambda peer: _ask(cluster, peer, "poke"))


def hello(cluster: Cluster, nodes: Iterable[str] | None = None) -> dict[str, str]:
    """Asks peers for the commit that their main is at; those that answer are in what is returned."""
    heads: dict[str, str] = {}

    def work(peer: Entry) -> Done:
        done = _ask(cluster, peer, "hello")
        if not done.code:
            heads[peer.node] = done.output.decode("ascii", "replace").strip()[:40]
        return done

    _with_all(cluster, cluster.peers(nodes), work)
    return heads


def hang_up(cluster: Cluster, peer: str) -> None:
    """Ends the connection to a peer that is kept open, so that the next exchange begins with a new one."""
    run(("ssh", "-F", cluster.ssh_config, "-O", "exit", peer), seconds=SYNC_CONNECT_SECONDS_MAX)


def sentence(peer: Entry, done: Done) -> str:
    """Why an exchange failed, in words."""
    if done.code == _BROKEN and not done.words.strip():
        return f"The connection to {peer.node} broke."
    return _reason(peer, done) or f"{peer.node}: {done.last_words()}."


def _reason(peer: Entry, done: Done) -> str | None:
    """Why an exchange failed, where that is known."""
    if done.code == TIMED_OUT:
        return f"{peer.node} did not finish in time."
    ours = _LINE_OF_OURS.search(done.words)
    if ours is not None:
        text = "".join(letter if letter.isprintable() else "?" for letter in ours[1])
        return f"{peer.node} says: {text}"
    for words, reason in _REASONS:
        if words in done.words or words.encode() in done.output:
            remedy = "pull first" if peer.role == "rw" else "it follows this one as soon as it pulls"
            return f"{peer.node} {reason.format(address=peer.address, port=peer.port, remedy=remedy)}."
    return None


def _ask(cluster: Cluster, peer: Entry, word: str) -> Done:
    seconds = SYNC_CONNECT_SECONDS_MAX + SYNC_SILENCE_SECONDS_MAX
    return run(("ssh", "-F", cluster.ssh_config, peer.node, word), seconds=seconds, output_bytes_max=4096)


def _ssh(cluster: Cluster, peer: Entry) -> tuple[str | Path, ...]:
    """What reaches a peer, up to its name."""
    doublings = max(0, min(noted(cluster, peer.node).failures - 1, SYNC_PATIENCE_DOUBLINGS_MAX))
    probes = ((ALIVE_PROBES + 1) << doublings) - 1
    return ("ssh", "-F", cluster.ssh_config, "-o", f"ServerAliveCountMax={probes}")


def _over_ssh(cluster: Cluster, peer: Entry, *words: str, fetches: bool, line: Line | None = None) -> Done:
    seconds = SYNC_TRANSFER_SECONDS_MAX
    return git_over_ssh(cluster.git_dir, _ssh(cluster, peer), *words, seconds=seconds, fetches=fetches, line=line)


def _with_all(
    cluster: Cluster, peers: list[Entry], work: Callable[[Entry], Done], ref: Callable[[Entry], str] | None = None
) -> list[Exchange]:
    """Does the work for each peer, at the same time, and notes how it went.

    Args:
        cluster: The folder.
        peers: Whom with.
        work: What is done with one.
        ref: The ref here that it sends or moves. Where that moved meanwhile, what it was is no news, and it goes again.
    """
    if not peers:
        return []

    def one(peer: Entry) -> tuple[Exchange, float]:
        begun = time.monotonic()
        for attempt in range(1, _ATTEMPTS + 1):
            before = cluster.folder.repository.ref(ref(peer)) if ref is not None else None
            done = work(peer)
            moved = ref is not None and cluster.folder.repository.ref(ref(peer)) != before
            meeting = (*_MET, *_BEHIND) if moved else _MET
            met = done.code and any(words in done.words or words.encode() in done.output for words in meeting)
            # Without a reason: another process may have ended the connection that is kept open for all of them.
            broke = done.code and attempt == 1 and not met and _reason(peer, done) is None
            if broke or (done.code and _CHANGED in done.words):
                hang_up(cluster, peer.node)
            elif not met:
                break
            if attempt == _ATTEMPTS:
                break
            time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - only to go apart
        if not done.code:
            changed = b"[up to date]" not in done.output and bool(done.output or done.words)
            return Exchange(peer.node, "", changed), time.monotonic() - begun
        hang_up(cluster, peer.node)
        return Exchange(peer.node, sentence(peer, done)), time.monotonic() - begun

    with ThreadPoolExecutor(min(SYNC_JOBS, len(peers))) as pool:
        results = list(pool.map(one, peers))
    _note(cluster, results)
    return [exchange for exchange, _ in results]


def _note(cluster: Cluster, results: list[tuple[Exchange, float]]) -> None:
    """Writes down how exchanges went."""
    path, now = cluster.own / "peers.json", time.time_ns()
    with locked(cluster.own / "peers.lock"):
        known = read_peers(path)
        members = {entry.node for entry in cluster.roster.members()}
        for exchange, seconds in results:
            peer = known.get(exchange.node, Peer())
            if exchange.error:
                wait = backoff_seconds(peer.failures + 1, random.random())  # noqa: S311 - only to go apart
                peer = replace(
                    peer, error=exchange.error, failures=peer.failures + 1, retry_ns=now + int(wait * 1_000_000_000)
                )
            else:
                peer = Peer(synced_ns=now, latency_ms=round(seconds * 1000, 1))
            known[exchange.node] = peer
        rows = {node: asdict(peer) for node, peer in sorted(known.items()) if node in members}
        write_atomically(path, json.dumps(rows, indent=1).encode(), mode=0o600, lasting=False)
