"""What holdall is held to, and whether a run's figures meet it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.plan import SHA256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.measure import Results, Row

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Goal:
    """One line of the goals section.

    Args:
        text: What is asked, as a sentence fragment.
        bound: The number it is compared with.
        direction: Whether the measured value must be at least, above or below the bound.
        measured: The value, or None if the run did not measure it.
        unit: What stands after the number.
        worst: The row that gave the value, where it is the worst of many.
    """

    text: str
    bound: float
    direction: Literal[">=", ">", "<"]
    measured: float | None
    unit: str = ""
    worst: str = ""

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.measured is None:
            return None
        return {
            ">=": self.measured >= self.bound,
            ">": self.measured > self.bound,
            "<": self.measured < self.bound,
        }[self.direction]


def judge(results: Results, stream_name: str) -> list[Goal]:
    """The goals, with what the run measured.

    Args:
        results: The run's rows.
        stream_name: The streams' size as in row names, `512m`.
    """

    def ratio(workload: str, peer: str, base: str) -> float | None:
        return results.ratio(workload, peer, base)

    read = ratio(f"get-{stream_name}-disk", "holdall-sync-w1", "nginx")
    if read is None:
        read = ratio(f"get-{stream_name}-tmpfs", "holdall-sync-w1", "nginx")
    written = ratio(f"put-{stream_name}-tmpfs", "holdall-sync-w1", SHA256)
    ours = [row for row in results.rows if row.peer.startswith("holdall-") and row.failure is None]
    short = [row for row in ours if row.workload.name.endswith("-1k-c16") and row.peer.endswith("-w1")]
    p99_ms, slowest = _worst((row.p99_ms, row) for row in short)
    memory_bytes, largest = _worst((row.resident_bytes_max, row) for row in ours)
    return [
        Goal(
            "GET 1 KiB, 16 connections, from disk / nginx",
            0.9,
            ">=",
            ratio("get-disk-1k-c16", "holdall-disk-w1", "nginx"),
        ),
        Goal("GET 1 KiB, 16 connections, hot / nginx", 1.0, ">", ratio("get-hot-1k-c16", "holdall-hot-w1", "nginx")),
        Goal("PUT 1 KiB, 16 connections, os / nginx DAV", 0.95, ">=", ratio("put-1k-c16", "holdall-os-w1", "nginx")),
        Goal(
            "durable PUT 1 KiB, 64 connections, 1 worker / redis always",
            0.7,
            ">=",
            ratio("put-1k-c64", "holdall-sync-w1", "redis-always"),
        ),
        Goal(
            "durable PUT 1 KiB, 64 connections, 2 workers / redis always",
            1.0,
            ">=",
            ratio("put-1k-c64", "holdall-sync-w2", "redis-always"),
        ),
        Goal("PUT of one large body on tmpfs / SHA-256 on one core", 0.75, ">=", written),
        Goal("GET of one large body / nginx", 0.9, ">=", read),
        Goal(
            "resident memory of any process",
            64,
            "<",
            None if memory_bytes is None else memory_bytes / MIB,
            "MiB",
            largest,
        ),
        Goal("p99 of 1 KiB, 16 connections, 1 worker", 3, "<", p99_ms, "ms", slowest),
    ]


def _worst(candidates: Iterable[tuple[float | None, Row]]) -> tuple[float | None, str]:
    known = [(value, row.name) for value, row in candidates if value is not None]
    return max(known) if known else (None, "")
