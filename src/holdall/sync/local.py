"""What one node settles for itself: what becomes of its drift where it is read-only, and what runs after an apply.

Drift is what a read-only node changed: no other takes it. It is in the node's own history, whatever the policy; `keep`
leaves it in the folder too, merged with what comes, and `revert` puts a ref on it, `refs/sync-drift/<time>`, and brings
the folder to what the others have.

An overlay is a command that this node's user set up here, or the folder's own `gtfc-overlay.sh`, of which this node's
user approved the very bytes: a copy of those is what runs, and only while the folder has the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from holdall.errors import HoldallError, NotFoundError, TooLargeError, UsageError
from holdall.limits.sync import SYNC_OVERLAY_BYTES_MAX, SYNC_OVERLAY_SECONDS_MAX
from holdall.sync.merge import merge
from holdall.sync.process import TIMED_OUT, locked, run, write_atomically
from holdall.sync.repository import MAIN
from holdall.sync.state import Config, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdall.sync.cluster import Cluster

SCRIPT: Final = "gtfc-overlay.sh"
DRIFT: Final = "refs/sync-drift/"
Policy = Literal["keep", "revert"]

_COPY: Final = "overlay.sh"
_LOG: Final = "overlay.log"


# --- drift ---


def drift(cluster: Cluster) -> list[str]:
    """Paths in which a read-only node differs from what the others have, as far as it knows; of others, nothing."""
    target, repository = _others(cluster), cluster.folder.repository
    if target is None:
        return []
    all_of_it, _ = merge(repository, {target, _head(cluster)})
    return sorted(map(os.fsdecode, repository.changes(target, all_of_it)))


def policy(cluster: Cluster) -> Policy:
    """What becomes of drift."""
    return "revert" if (_config(cluster).policy or {}).get("drift") == "revert" else "keep"


def set_policy(cluster: Cluster, what: Policy) -> None:
    """Settles what becomes of drift."""
    with locked(cluster.own / "config.lock"):
        config = _config(cluster)
        replace(config, policy={**(config.policy or {}), "drift": what}).write(os.fspath(cluster.own / "config.toml"))


def settle_drift(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Brings the folder of a read-only node to what the others have, where that is the policy.

    Args:
        cluster: The folder, reconciled.
        say: Told what was done.

    Raises:
        HoldallError: As `Folder.reconcile`.
    """
    target = _others(cluster) if cluster.me.role == "ro" and policy(cluster) == "revert" else None
    paths = drift(cluster) if target is not None else []
    if target is None or not paths:
        return
    name = f"{DRIFT}{datetime.now(tz=UTC):%Y%m%dT%H%M%S.%fZ}"
    cluster.folder.repository.set_ref(name, _head(cluster))
    cluster.folder.become(target)
    say(f"{len(paths)} files were as no other node has them, and are as the others have them; {name} has them still.")


def _others(cluster: Cluster) -> str | None:
    """What the folder of a read-only node should be; None where it is that, or nothing is known of others."""
    if cluster.me.role != "ro":
        return None
    rw = {entry.node for entry in cluster.roster.members() if entry.role == "rw"}
    waits = State.read(os.fspath(cluster.own / "state")).held_back
    heads = {tip for node, tip in cluster.tips().items() if node in rw - waits.keys() and node != cluster.node}
    if not heads or cluster.folder.repository.ref(MAIN) in heads | {None}:
        return None
    return merge(cluster.folder.repository, heads)[0]


def _head(cluster: Cluster) -> str:
    return cluster.folder.repository.ref(MAIN) or ""


def _config(cluster: Cluster) -> Config:
    return Config.read(os.fspath(cluster.own / "config.toml"))


# --- the overlay ---


class Overlay:
    """What runs after an apply.

    Args:
        cluster: The folder.

    Attributes:
        command: The words that this node's user set up; empty for none.
        approved: The SHA-256 of the script that was approved; empty for none.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._worktree = cluster.worktree
        self._own = cluster.own
        try:
            found: dict[str, Any] = json.loads((self._own / "overlay.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            found = {}
        self.command: list[str] = list(found.get("command", ()))
        self.approved: str = str(found.get("approved", ""))

    def script(self) -> bytes | None:
        """The folder's own script; None where there is none.

        Raises:
            TooLargeError: It is too long.
        """
        path = self._worktree / SCRIPT
        if path.is_symlink() or not path.is_file():
            return None
        with open(path, "rb") as file:
            data = file.read(SYNC_OVERLAY_BYTES_MAX + 1)
        if len(data) > SYNC_OVERLAY_BYTES_MAX:
            raise TooLargeError(f"{path} is longer than {SYNC_OVERLAY_BYTES_MAX:,} bytes.")
        return data

    def script_hash(self) -> str:
        """The SHA-256 of the folder's own script; empty where there is none."""
        data = self.script()
        return "" if data is None else hashlib.sha256(data).hexdigest()

    def use(self, words: Sequence[str]) -> None:
        """Runs this from now on.

        Raises:
            UsageError: There are no words.
        """
        if not words:
            raise UsageError("An overlay is a command and its words.")
        self._write(command=list(words))

    def approve(self) -> str:
        """Runs the folder's script from now on, as it is now; returns its SHA-256.

        Raises:
            NotFoundError: There is none.
        """
        data = self.script()
        if data is None:
            raise NotFoundError(f"There is no {self._worktree / SCRIPT}.", hint="Write it, then approve it.")
        write_atomically(self._own / _COPY, data, mode=0o700)
        found = hashlib.sha256(data).hexdigest()
        self._write(approved=found)
        return found

    def off(self) -> None:
        """Runs nothing from now on."""
        for name in ("overlay.json", _COPY):
            (self._own / name).unlink(missing_ok=True)

    def run(self, say: Callable[[str], None]) -> None:
        """Runs it, and says how that went; what it writes goes to `overlay.log` beside the history."""
        words = self.command or self._script_words(say)
        if not words:
            return
        begun = time.monotonic()
        try:
            done = run(
                words,
                seconds=SYNC_OVERLAY_SECONDS_MAX,
                output_bytes_max=SYNC_OVERLAY_BYTES_MAX,
                cwd=self._worktree,
            )
            log = self._own / _LOG
            write_atomically(log, done.output + done.words.encode(), mode=0o600, lasting=False)
        except HoldallError as error:
            say(f"The overlay cannot be run: {error.message}")
            return
        took = f"{time.monotonic() - begun:.1f} s"
        if done.code == TIMED_OUT:
            say(f"The overlay took or wrote too much, and was ended after {took}; see {log}.")
        elif done.code:
            say(f"The overlay failed after {took}: {done.last_words()}; see {log}.")
        else:
            say(f"The overlay ran for {took}.")

    def _script_words(self, say: Callable[[str], None]) -> list[str]:
        there = self.script_hash() if self.approved else ""
        if not there:
            return []
        if there != self.approved:
            say(f"{SCRIPT} is not the one that was approved, so it was not run: holdall sync overlay approve.")
            return []
        return [str(self._own / _COPY)]

    def _write(self, **what: Any) -> None:
        write_atomically(self._own / "overlay.json", json.dumps(what).encode(), mode=0o600)


class OverlayRunner:
    """Runs the overlay beside the daemon: one at a time, and once more where there was an apply meanwhile.

    Args:
        cluster: The folder.
        say: Told how it went.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say
        self._lock = threading.Lock()
        self._wanted = False
        self._running = False

    def start(self) -> None:
        """Has it run, now or after the one that runs."""
        with self._lock:
            self._wanted = True
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._running, self._wanted = self._wanted, False
                if not self._running:
                    return
            try:
                Overlay(self._cluster).run(self._say)
            except (HoldallError, OSError) as error:
                self._say(f"The overlay cannot be run: {error}")


def after_apply(cluster: Cluster, say: Callable[[str], None], *, applied: bool) -> None:
    """What follows a reconcile outside of the daemon.

    Raises:
        HoldallError: As `Folder.reconcile`.
    """
    settle_drift(cluster, say)
    if applied:
        Overlay(cluster).run(say)
