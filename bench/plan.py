"""What a run measures: phases of workloads, the peers in each, and the rows they make. Starts nothing."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.load import wrk
from bench.measure import Row, Workload, short_size
from bench.peers.also import Also
from bench.peers.holdall import Holdall
from bench.peers.nginx import OPEN_FILES, SMALL_FILES, Nginx
from bench.peers.python_servers import PythonServer
from bench.peers.redis import Redis

if TYPE_CHECKING:
    from bench.measure import Operation
    from bench.options import Options
    from bench.peers.base import Peer

SHA256: Final = "one-core-sha256"
"""Not a server: the row that says how fast one core hashes."""
WORKER_COUNTS: Final = (1, 2)

Kind = Literal["put", "get", "stream", "mixed"]


@dataclass(frozen=True)
class Phase:
    """Workloads that are measured together, peer by peer, round by round.

    Args:
        kind: How a measurement of it goes.
        workloads: What is asked; a single measurement of a stream or a mix covers them all.
        peers: Who is asked.
    """

    kind: Kind
    workloads: tuple[Workload, ...]
    peers: tuple[Peer, ...]

    @property
    def name(self) -> str:
        """For directories and progress lines."""
        first = self.workloads[0]
        return {"stream": f"stream-{first.place}", "mixed": "mixed"}.get(
            self.kind, f"{first.operation}-{short_size(first.size_bytes)}"
        )


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    phases: tuple[Phase, ...]
    rows: tuple[Row, ...]
    skipped: dict[str, str]
    """What was left out for want of a program, and how to get it."""


def make(options: Options) -> Plan:
    """Decides what is measured.

    Args:
        options: The run's settings.

    Raises:
        ValueError: An --also is not a URL of a server.
    """
    also = [Also(url) for url in options.also]
    skipped: dict[str, str] = {}
    phases: list[Phase] = []
    rows: list[Row] = []
    for phase in _phases(options, also):
        present: list[Peer] = []
        before = len(rows)
        for peer in phase.peers:
            wanted = [row for row in _rows(phase, peer.name) if _selected(row.name, options.only)]
            reason = _obstacle(phase, peer) if wanted else None
            if reason:
                skipped[f"{phase.name}/{peer.name}"] = reason
            elif wanted:
                present.append(peer)
                rows += wanted
        if phase.kind == "stream":
            rows += [row for row in _rows(phase, SHA256)[:1] if _selected(row.name, options.only)]
        if len(rows) > before:
            phases.append(Phase(phase.kind, phase.workloads, tuple(present)))
    return Plan(tuple(phases), tuple(rows), skipped)


def _obstacle(phase: Phase, peer: Peer) -> str | None:
    """Why the peer cannot be measured in that phase, or None if it can."""
    needs_wrk = peer.speaks == "http" and phase.kind != "stream"
    return peer.missing() or (wrk.missing() if needs_wrk else None)


def _rows(phase: Phase, peer: str) -> list[Row]:
    return [Row(workload, peer) for workload in phase.workloads]


def _selected(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern fits a row's name, either side of its slash, or is a part of it."""
    texts = (name, *name.split("/"))
    return not patterns or any(
        pattern in name or any(fnmatch.fnmatchcase(text, pattern) for text in texts) for pattern in patterns
    )


def _phases(options: Options, also: list[Also]) -> list[Phase]:
    others: list[Peer] = [PythonServer("uvicorn"), PythonServer("granian"), *also]
    nginx, redis_off = Nginx("nginx"), Redis("redis-off", durable=False)
    put_peers = [
        *(
            Holdall(f"holdall-{durability}-w{workers}", workers=workers, durability=durability)
            for durability in ("os", "sync")
            for workers in WORKER_COUNTS
        ),
        nginx,
        Redis("redis-always", durable=True),
        redis_off,
        *others,
    ]
    hot = [Holdall(f"holdall-hot-w{workers}", workers=workers, durability="sync") for workers in WORKER_COUNTS]
    disk = [
        Holdall(f"holdall-disk-w{workers}", workers=workers, durability="sync", cache=False)
        for workers in WORKER_COUNTS
    ]
    asked: list[tuple[Kind, Operation, list[Peer]]] = [
        ("put", "put", put_peers),
        ("get", "get-hot", [*hot, nginx, Nginx("nginx-tuned", OPEN_FILES), redis_off, *others]),
        ("get", "get-disk", [*disk, nginx, Nginx("nginx-tuned", SMALL_FILES), *others]),
    ]
    phases = []
    for size_bytes in options.sizes_bytes:
        for kind, operation, peers in asked:
            workloads = tuple(Workload(operation, size_bytes, connections) for connections in options.connections)
            phases.append(Phase(kind, workloads, tuple(peers)))
    stream_peers = [
        *(Holdall(f"holdall-{durability}-w1", workers=1, durability=durability) for durability in ("os", "sync")),
        nginx,
        *others,
    ]
    for place in ("tmpfs",) if options.tmpfs else ("disk", "tmpfs"):
        size_bytes = options.stream_bytes
        pair = (Workload("put", size_bytes, place=place), Workload("get", size_bytes, place=place))
        phases.append(Phase("stream", pair, tuple(stream_peers)))
    mixed = [Holdall(f"holdall-w{workers}", workers=workers, durability="sync") for workers in WORKER_COUNTS]
    phases.append(Phase("mixed", (Workload("mixed", options.stream_bytes),), tuple(mixed)))
    return phases
