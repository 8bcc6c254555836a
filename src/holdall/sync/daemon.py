"""The daemon of one folder: it reconciles whenever something changed, and exchanges what is new with all peers.

One thread does all that touches the folder, round after round. What waits for a peer runs beside it, one thread for
each, so that a peer that hangs holds up nothing; so do large files on their way to the store and from it. Another
thread answers on `<git dir>/holdall/daemon.sock`: `poke`, by which the shell tells of a push, and `status`.

Whatever it is told of changes are hints. The reconcile is the truth: it runs over everything at the start, from time to
time, when hints were lost, and every few seconds where the system does not tell of all. What the daemon wrote itself
comes back to it as hints too; since contents are compared, nothing follows from them. State is in refs alone, so it can
be killed at any moment.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from holdall.errors import BusyError, HoldallError, PeerError
from holdall.limits.sync import (
    SYNC_ASK_SECONDS,
    SYNC_BACKOFF_SECONDS_MAX,
    SYNC_BLIND_SECONDS,
    SYNC_HINTS_MAX,
    SYNC_JOBS,
    SYNC_LAG_SECONDS,
    SYNC_LINE_DELAY_SECONDS,
    SYNC_LOOK_SECONDS,
    SYNC_POLL_SECONDS,
    SYNC_PROBE_SECONDS,
    SYNC_RECONCILE_SECONDS,
    SYNC_SETTLE_SECONDS,
    SYNC_SETTLE_SECONDS_MAX,
    SYNC_WRITING_SECONDS,
)
from holdall.stores.locks import take
from holdall.sync import local
from holdall.sync.background import Runner
from holdall.sync.contact import Contact
from holdall.sync.growing import Growing
from holdall.sync.process import end_all
from holdall.sync.status import Facts, Listener, tell_systemd
from holdall.sync.telling import Teller
from holdall.sync.watch import watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.sync.cluster import Cluster
    from holdall.sync.roster import Entry
    from holdall.sync.transfer import Opener
    from holdall.sync.watch import Elsewhere, Inotify

_BLIND_SHARE: Final = 20
_NEVER: Final = float("inf")


class Daemon:
    """The daemon of one folder.

    Args:
        cluster: The folder.
        open_store: Opens the store of its large files.
        say: Told in a line what happens.
        notify: The address of systemd's socket; empty where there is none.
        ask_seconds: How often each peer is asked for what it has.
    """

    def __init__(
        self,
        cluster: Cluster,
        open_store: Opener,
        *,
        say: Callable[[str], None],
        notify: str = "",
        ask_seconds: float = SYNC_ASK_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._say = say
        self._notify = notify
        self._ask_seconds = ask_seconds
        self._facts = Facts(os.getpid())
        self._peers: dict[str, Contact] = {}
        self._done: SimpleQueue[tuple[Contact, str, bool]] = SimpleQueue()
        self._wake_end, self._woken_end = socket.socketpair()
        self._wake_end.setblocking(False)
        self._woken_end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken_end, selectors.EVENT_READ)
        self._watch: Inotify | Elsewhere | None = None
        self._identity: tuple[int, int] | None = None
        self._stopping = False
        self._poked = False
        self._hints: set[str] = set()
        self._growing = Growing(cluster.folder.worktree)
        self._first = self._last = _NEVER
        """When the first and the last change came that no round has seen."""
        self._full_due = self._look_due = 0.0
        self._full_seconds = 0.0
        """How long the last look at everything took."""
        self._failures = 0
        self._teller = Teller(say, notify, cluster.folder.git_dir)
        self._overlay = local.OverlayRunner(cluster, say)
        self._large = Runner(
            cluster.folder, open_store, gives=lambda: cluster.me.role == "rw", say=say, wake=self._wake
        )

    def stop(self) -> None:
        """Ends it after the round that is under way; may be called from a signal handler."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Works until `stop` is called.

        Raises:
            BusyError: The folder has a daemon.
            PeerError: This node has left, or was unjoined.
        """
        lock = os.open(self._cluster.own / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not take(lock, 0, wait=False):
                raise BusyError(
                    f"{self._cluster.worktree} is watched already.",
                    hint="See holdall sync status; stop that one first.",
                )
            listener = self._listen()
            try:
                self._say(f"Watching {self._cluster.worktree} as {self._cluster.node}.")
                self._turn()
                tell_systemd(self._notify, "READY=1")
                while not self._stopping:
                    self._wait()
                    self._turn()
                self._say("Stopped.")
            finally:
                tell_systemd(self._notify, "STOPPING=1")
                if listener is not None:
                    listener.close()
                self._large.stop()
                end_all()
                self._end_watch()
        finally:
            os.close(lock)

    def _listen(self) -> Listener | None:
        try:
            return Listener(self._cluster, self._facts, self._on_poke)
        except OSError as error:
            self._say(f"Nobody can poke this daemon: {error}. What others push is merged by their connections.")
            return None

    def _on_poke(self) -> None:
        self._poked = True
        self._wake()

    # --- the loop ---

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._wake_end.send(b"!")

    def _wait(self) -> None:
        """Waits until something is to be done."""
        idle = [peer.due for peer in self._peers.values() if not peer.busy]
        due = [self._round_due(), self._look_due, *(idle if len(self._peers) - len(idle) < SYNC_JOBS else ())]
        self._selector.select(max(0.0, min(due) - time.monotonic()))
        with suppress(BlockingIOError):
            self._woken_end.recv(4096)

    def _round_due(self) -> float:
        """When the next round is to begin."""
        if self._failures or self._facts.held:
            return self._full_due
        writing = self._watch is not None and self._watch.writing
        settle_seconds = SYNC_WRITING_SECONDS if writing else SYNC_SETTLE_SECONDS
        still = min(self._last + settle_seconds, self._first + SYNC_SETTLE_SECONDS_MAX)
        return min(self._full_due, self._growing.due, still)

    def _turn(self) -> None:
        """Does whatever is due."""
        self._take_hints()
        self._finish_exchanges()
        if time.monotonic() >= self._look_due:
            self._look()
        if self._poked:
            self._poked = False
            self._first = 0.0
            if self._facts.held:
                self._full_due = 0.0
        if time.monotonic() >= self._round_due():
            self._round()
        self._begin_exchanges()
        tell_systemd(self._notify, "WATCHDOG=1")

    def _take_hints(self) -> None:
        hints = self._watch.read() if self._watch is not None else set()
        self._hints |= (moved := self._large.moved())
        if hints is None or len(self._hints) + len(hints) > SYNC_HINTS_MAX:
            self._full_due = min(self._full_due, time.monotonic() + SYNC_SETTLE_SECONDS_MAX + self._full_seconds)
        elif (hints := self._growing.untold(hints, self._watch.writing) if self._watch else hints) or moved:
            self._hints |= hints
            self._last = time.monotonic()
            self._first = min(self._first, self._last)

    def _look(self) -> None:
        """Looks whether the folder is where it was, and whether another process moved main."""
        self._look_due = time.monotonic() + SYNC_LOOK_SECONDS
        for peer in self._peers.values():
            peer.settle()
        self._cluster.check()
        identity = None
        with suppress(OSError):
            status = os.stat(self._cluster.worktree)
            identity = (status.st_dev, status.st_ino)
        if identity != self._identity:
            self._identity = identity
            self._end_watch()
            self._full_due = 0.0

    # --- the folder ---

    def _end_watch(self) -> None:
        if self._watch is not None:
            if (number := self._watch.fileno()) is not None:
                self._selector.unregister(number)
            self._watch.close()
            self._watch = None

    def _see_to_watch(self) -> None:
        """Watches the folder, if it is there; then all that is in it."""
        folder = self._cluster.folder
        if self._identity is None:
            return
        if self._watch is None:
            exclude = os.path.join(folder.git_dir, "info", "exclude")
            self._watch = watcher(folder.worktree, folder.repository, exclude)
            if (number := self._watch.fileno()) is not None:
                self._selector.register(number, selectors.EVENT_READ)
        self._watch.refresh(folder.repository.tree_of(folder.head()))
        if self._watch.why_blind and not self._facts.blind:
            self._say(f"Not all changes are told of, since {self._watch.why_blind}: looking at everything instead.")
        self._facts.blind = self._watch.why_blind

    def _round(self) -> None:
        """One reconcile, over everything or where something may have happened."""
        begun = time.monotonic()
        is_full = begun >= self._full_due
        if is_full:
            self._see_to_watch()
        hints, self._hints = self._hints, set()
        self._first = self._last = _NEVER
        if self._watch is not None:
            hints = self._growing.spare(hints, self._watch.writing)
        try:
            outcome = self._cluster.reconcile(changed=None if is_full else hints)
            local.settle_drift(self._cluster, self._say)
        except PeerError:
            raise
        except HoldallError as error:
            self._failed(error)
            return
        self._facts.rounds += 1
        self._failures, self._facts.error = 0, ""
        self._facts.held = outcome.held or ""
        self._teller.tell(outcome, self._cluster.refused)
        self._large.take(outcome.skipped)
        if is_full:
            self._full_seconds = time.monotonic() - begun
            self._full_due = begun + SYNC_RECONCILE_SECONDS
        wait = SYNC_BLIND_SECONDS if outcome.held or self._facts.blind else SYNC_LAG_SECONDS if outcome.lags else _NEVER
        self._full_due = min(self._full_due, begun + max(wait, _BLIND_SHARE * self._full_seconds))
        if outcome.applied:
            self._overlay.start()

    def _failed(self, error: HoldallError) -> None:
        if self._facts.error != error.message:
            self._say(f"{error.sentence()} Trying again until it works.")
        self._facts.error = error.message
        self._failures += 1
        self._full_due = time.monotonic() + min(SYNC_BACKOFF_SECONDS_MAX, float(1 << min(self._failures - 1, 16)))

    # --- peers ---

    def _begin_exchanges(self) -> None:
        """Begins what is due with each peer that nothing is under way with."""
        head = self._cluster.folder.head()
        may_push = self._cluster.me.role == "rw"
        there = {entry.node: entry for entry in self._cluster.peers()}
        tips = self._cluster.tips()
        for node in self._peers.keys() - there.keys():
            self._peers.pop(node).settle(at_once=True)
        now = time.monotonic()
        free = SYNC_JOBS - sum(peer.busy for peer in self._peers.values())
        for node, entry in there.items():
            peer = self._peers.setdefault(node, Contact())
            pushes = may_push and head is not None and peer.wants(head, tips, node)
            is_due = now >= peer.due or (not peer.error and (pushes or peer.behind))
            if is_due and not peer.busy and free > 0:
                peer.busy, free = True, free - 1
                peer.due = now + SYNC_PROBE_SECONDS  # if it fails
                peer.asked = head or ""
                threading.Thread(target=self._exchange, args=(entry, peer, pushes), daemon=True).start()

    def _exchange(self, entry: Entry, peer: Contact, pushes: bool) -> None:
        """One exchange with a peer; on a thread of its own."""
        before, tip, changed = peer.error, "", False
        try:
            tip, changed = peer.exchange(self._cluster, entry, pushes=pushes)
            if peer.error != before and not self._stopping:
                self._say(peer.error or f"{entry.node} answers again.")
        finally:
            self._done.put((peer, tip, changed))
            self._wake()
        if pushes and not peer.error and not self._stopping:
            time.sleep(SYNC_LINE_DELAY_SECONDS)
            peer.prepare(self._cluster, entry)

    def _finish_exchanges(self) -> None:
        """Takes in how exchanges ended."""
        while not self._done.empty():
            peer, tip, changed = self._done.get()
            now = time.monotonic()
            peer.busy = False
            if changed:
                self._first = 0.0
            if peer.error:
                continue
            poll_seconds = SYNC_ASK_SECONDS if self._cluster.me.address else SYNC_POLL_SECONDS
            peer.due = now + min(self._ask_seconds, poll_seconds)
            self._take_tip(peer, tip)
            self._facts.sent = {name: one.sent for name, one in self._peers.items()}

    def _take_tip(self, peer: Contact, tip: str) -> None:
        """Notes what a peer has; what is not here is fetched next, and if that did not help, later."""
        repository, head = self._cluster.folder.repository, self._cluster.folder.head()
        is_known = tip in {"", "-"} or repository.known(tip)
        if tip not in {"", "-"} and is_known and head is not None and repository.contains(head, tip):
            peer.sent = tip
        peer.sent = peer.sent or "-"
        if peer.behind and not is_known:
            peer.due = time.monotonic() + SYNC_PROBE_SECONDS
        peer.behind = not is_known and not peer.behind
