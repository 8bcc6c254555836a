"""How a node leaves its cluster, or is made to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from holdall.errors import ConflictError
from holdall.sync import transport

if TYPE_CHECKING:
    from holdall.sync.cluster import Cluster
    from holdall.sync.transport import Exchange


def unjoin(cluster: Cluster, node: str) -> list[Exchange]:
    """Makes a node leave, this one or another; every node that hears of it takes its key and its refs away.

    Whatever the moment at which this is ended, it can be done again.

    Returns:
        How telling the others went.

    Raises:
        ConflictError: The folder is held. Another node is let in here no more; nothing else was done.
        PeerError: There is no such node, or this one may not sign.
    """
    gone = {entry.node for entry in cluster.roster.entries.values() if entry.role == "gone"}
    held = ""
    if node in gone:  # an unjoin before was ended half-way
        held = cluster.show([node])
    elif node != cluster.node or (cluster.me.role == "rw" and len(cluster.roster.members()) > 1):
        held = cluster.publish(lambda: cluster.changed(node, role="gone"))
    if held:
        raise ConflictError(
            f"No other node hears that {node} leaves, since the folder is held. {held}",
            hint="Bring the files back, or run holdall sync release; then unjoin again.",
        )
    if node != cluster.node:
        return transport.push(cluster)
    told: list[Exchange] = []
    if cluster.me.role == "gone":
        told = [_without_denial(cluster, row) for row in transport.push_to(cluster, cluster.peers())]
    for peer in cluster.peers():
        transport.hang_up(cluster, peer.node)
    cluster.leave()
    return told


def _without_denial(cluster: Cluster, row: Exchange) -> Exchange:
    """How telling a node of this one's leaving went: one that let it in before, and does not now, has heard already."""
    if transport.DENIED in row.error and transport.noted(cluster, row.node).synced_ns:
        return replace(row, error="")
    return row
