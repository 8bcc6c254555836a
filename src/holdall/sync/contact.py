"""What a daemon knows of a peer, and its dealings with it, one at a time.

A peer that failed is left alone for a while, longer each time. But once a second it is knocked at: where nothing could
connect and now something can, the network has healed, and the exchange is made up for at once.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdall.errors import HoldallError
from holdall.limits.sync import SYNC_LINE_SECONDS, SYNC_PROBE_SECONDS, SYNC_RELAY_SECONDS, SYNC_RELAY_SECONDS_MIN
from holdall.sync.transport import fetch, hello, line_to, noted, push_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdall.sync.cluster import Cluster
    from holdall.sync.process import Line
    from holdall.sync.roster import Entry

_SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Contact:
    """What a daemon knows of a peer, from exchange to exchange.

    Attributes:
        sent: The commit of this node's that it is known to have; a dash for none, empty where it was not asked yet.
        asked: The commit that this node had when it asked it last.
        lacked: Whether it did not have that.
        behind: Whether it has something that is not here.
        due: When it is to be asked, or, after a failure, knocked at; by the monotonic clock.
        retry: After a failure: when it is to be tried again although nothing has changed; by the same clock.
        cut: Whether nothing can connect to it, as far as is known: then its first answer is news.
        busy: Whether an exchange is under way.
        error: Why the last one failed; empty if it did not.
        line: A push to it that was begun ahead.
        line_until: How long that one waits.
    """

    sent: str = ""
    asked: str = ""
    lacked: bool = False
    behind: bool = False
    due: float = 0.0
    retry: float = 0.0
    cut: bool = False
    busy: bool = False
    error: str = ""
    line: Line | None = None
    line_until: float = 0.0

    def prepare(self, cluster: Cluster, peer: Entry) -> None:
        """Begins the next push ahead."""
        if self.line is None and not self.busy and not self.error:
            self.line_until = time.monotonic() + SYNC_LINE_SECONDS
            with suppress(HoldallError):
                self.line = line_to(cluster, peer)

    def settle(self, *, at_once: bool = False) -> None:
        """Ends a push that was begun ahead, if it has waited long or broken off."""
        line = self.line
        if line is not None and not self.busy and (at_once or time.monotonic() > self.line_until or not line.is_open):
            self.line = None
            line.end()

    def wants(self, head: str, tips: Mapping[str, str], node: str) -> bool:
        """Whether a commit is to be pushed to it now.

        A commit that came from another node is on its way from there to all the others. So a peer is asked for it a
        little later, and sent it only if it did not get it: else every node would push each edit to every other.

        Args:
            head: The commit that this node is at.
            tips: The commits that other nodes are known to have, by node.
            node: The peer.
        """
        if tips.get(node) == head:
            self.sent = head
        if self.sent == head:
            return False
        if self.asked == head or head not in tips.values():
            return True
        wait_seconds = SYNC_RELAY_SECONDS_MIN if self.lacked else SYNC_RELAY_SECONDS
        self.due = min(self.due, time.monotonic() + wait_seconds)
        return False

    def exchange(self, cluster: Cluster, peer: Entry, *, pushes: bool) -> tuple[str, bool]:
        """One exchange, with as little as will do: a knock, a question, a fetch or a push.

        Returns:
            The commit that the peer is at, or that it took, empty if that is not known; and whether something came.
        """
        if self.error and time.monotonic() < self.retry:
            was_cut, self.cut = self.cut, not _answers(peer)
            if self.cut or not was_cut:  # it is away, or has answered all along, and yet failed
                return "", False
        self.cut = False
        head = cluster.folder.head() or ""
        tip, changed = "", False
        try:
            if pushes and self.sent and not self.behind:
                line, self.line = self.line, None
                error = push_to(cluster, [peer], line)[0].error
                tip = "" if error else head
            else:
                fetched = fetch(cluster, [peer.node]) if self.behind or not self.sent else []
                error, changed = next(((row.error, row.changed) for row in fetched), ("", False))
                tip = "" if error else hello(cluster, [peer.node]).get(peer.node, "")
                self.lacked = tip != head
                if not tip and not error:
                    error = noted(cluster, peer.node).error or f"{peer.node} does not answer."
            self.error = error
            if error:
                known = noted(cluster, peer.node)
                self.retry = time.monotonic() + (known.retry_ns - time.time_ns()) / _SECOND_NS
                # The first failure may be that of a connection which was kept open: a new one may do.
                self.cut = known.failures == 1 or not _answers(peer)
        except HoldallError as failure:  # it left meanwhile, or there is no ssh
            self.error = failure.message
        return tip, changed


def _answers(peer: Entry) -> bool:
    """Whether anything accepts connections where a peer is."""
    try:
        socket.create_connection((peer.address, peer.port), SYNC_PROBE_SECONDS).close()
    except (OSError, UnicodeError):
        return False
    return True
