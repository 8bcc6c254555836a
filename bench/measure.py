"""Samples, rows, medians and ratios: pure values, no processes and no files."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Operation = Literal["put", "get-hot", "get-disk", "get", "mixed"]


@dataclass(frozen=True)
class Workload:
    """What is asked of a server.

    Args:
        operation: `put`; `get-hot` and `get-disk`, which differ in the working set and in holdall's cache; `get` for
            a single stream; `mixed` for a bit of everything in one server's life.
        size_bytes: Of each body.
        connections: How many ask at once.
        place: For single streams, the kind of directory: `disk` or `tmpfs`.
    """

    operation: Operation
    size_bytes: int
    connections: int = 1
    place: str = ""

    @property
    def name(self) -> str:
        """Short and unique: put-1k-c16, get-512m-disk."""
        if self.operation == "mixed":
            return "mixed"
        return f"{self.operation}-{short_size(self.size_bytes)}-{self.place or f'c{self.connections}'}"

    @property
    def stream(self) -> bool:
        """Whether it is one large body, measured in GB/s instead of requests a second."""
        return bool(self.place)


@dataclass(frozen=True)
class Sample:
    """What one round measured.

    Args:
        rate: Requests a second, or bytes a second for a stream; None where only memory counts.
        p50_ms: Median latency in milliseconds, where there is one.
        p99_ms: 99th percentile of latency in milliseconds.
        errors: Requests that failed or were answered other than 2xx.
        resident_bytes: VmHWM of each process of the server.
    """

    rate: float | None
    p50_ms: float | None = None
    p99_ms: float | None = None
    errors: int = 0
    resident_bytes: tuple[int, ...] = ()


@dataclass
class Row:
    """One peer under one workload, over all rounds."""

    workload: Workload
    peer: str
    samples: dict[int, Sample] = field(default_factory=dict)
    """By round, so that peers of the same round can be paired."""
    failure: str | None = None

    @property
    def name(self) -> str:
        """What --only matches and --list prints."""
        return f"{self.workload.name}/{self.peer}"

    def add(self, number: int, sample: Sample) -> None:
        """Takes a round's sample; errors in it fail the whole row.

        Args:
            number: The round.
            sample: Its figures.
        """
        self.samples[number] = sample
        if sample.errors:
            self.failure = f"{sample.errors} requests failed or were not answered 2xx"

    @property
    def rate(self) -> float | None:
        """Median over the rounds."""
        return _median(sample.rate for sample in self.samples.values())

    @property
    def p50_ms(self) -> float | None:
        """Median over the rounds."""
        return _median(sample.p50_ms for sample in self.samples.values())

    @property
    def p99_ms(self) -> float | None:
        """Median over the rounds."""
        return _median(sample.p99_ms for sample in self.samples.values())

    @property
    def errors(self) -> int:
        """Over all rounds."""
        return sum(sample.errors for sample in self.samples.values())

    @property
    def resident_bytes_max(self) -> int | None:
        """The largest process in any round."""
        return max((size for sample in self.samples.values() for size in sample.resident_bytes), default=None)

    def ratio_to(self, base: Row | None) -> float | None:
        """How many times as fast as another peer: the median of the rounds' own ratios.

        Pairing the rounds cancels what drifts during a run; the quotient of the two medians may differ a little.

        Args:
            base: The row of the same workload to compare with.
        """
        if base is None or self.failure or base.failure:
            return None
        pairs = ((sample.rate, base.samples.get(number)) for number, sample in self.samples.items())
        return _median(rate / other.rate for rate, other in pairs if rate and other and other.rate)


class Results:
    """All rows of a run, in their order."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self._by_name = {row.name: row for row in rows}

    def get(self, workload: str, peer: str) -> Row | None:
        """The row of that name, if it was part of the run.

        Args:
            workload: The workload's name.
            peer: The peer's name.
        """
        return self._by_name.get(f"{workload}/{peer}")

    def ratio(self, workload: str, peer: str, base: str) -> float | None:
        """How many times as fast one peer is as another under the same workload, if both were measured."""
        row = self.get(workload, peer)
        return row.ratio_to(self.get(workload, base)) if row else None

    def workloads(self) -> list[Workload]:
        """Each workload once, in order."""
        return list(dict.fromkeys(row.workload for row in self.rows))

    def of(self, workload: Workload) -> list[Row]:
        """The workload's rows."""
        return [row for row in self.rows if row.workload == workload]


def short_size(size_bytes: int) -> str:
    """1k, 64k, 512m."""
    return f"{size_bytes >> 20}m" if size_bytes >= 1 << 20 else f"{size_bytes >> 10}k"


def long_size(size_bytes: int) -> str:
    """1 KiB, 64 KiB, 512 MiB."""
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
