"""Carries a plan out: phase by phase, round by round, peer after peer, so that what drifts hits all alike.

A peer runs only while it is measured; nothing that one leaves behind, unwritten pages least of all, is paid by the
next. A row that fails is not tried again, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from bench import single
from bench.ground import TMPFS, Ground, prepared
from bench.load import stream
from bench.measure import Sample
from bench.plan import SHA256
from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measure import Results, Workload
    from bench.options import Options
    from bench.peers.base import Peer
    from bench.plan import Phase, Plan


class Runner:
    """One run of a plan.

    Args:
        options: Its settings.
        plan: What to measure.
        results: Takes the samples.
    """

    def __init__(self, options: Options, plan: Plan, results: Results) -> None:
        self._options = options
        self._plan = plan
        self._results = results

    def run(self, ground: Ground) -> None:
        """Measures everything.

        Args:
            ground: The directory to measure on.
        """
        for phase in self._plan.phases:
            with self._ground_of(phase, ground) as own:
                if own is None:
                    continue
                match phase.kind:
                    case "get":
                        self._reads(phase, own)
                    case "stream":
                        self._streams(phase, own)
                    case "put" | "mixed":
                        self._writes(phase, own)

    @contextlib.contextmanager
    def _ground_of(self, phase: Phase, ground: Ground) -> Iterator[Ground | None]:
        """The run's directory, or one in memory for the streams that are measured there besides."""
        if phase.workloads[0].place != "tmpfs" or ground.kind == "tmpfs":
            yield ground
            return
        with contextlib.ExitStack() as stack:
            try:
                memory = stack.enter_context(prepared(TMPFS, seconds=self._options.seconds))
            except BenchError as error:
                self._fail_all(phase, str(error))
                yield None
                return
            yield memory

    def _writes(self, phase: Phase, ground: Ground) -> None:
        """PUTs, and mixed loads: each measurement on an empty directory, since it leaves many files."""
        for number in range(self._options.rounds):
            for workload in phase.workloads:
                for peer in _rotated(phase.peers, number):
                    with self._measuring(number, (workload,), peer, ground) as samples:
                        if samples is not None:
                            samples[workload] = (
                                single.mixed(peer, ground, self._options)
                                if phase.kind == "mixed"
                                else single.put(workload, peer, ground, self._options.seconds)
                            )

    def _reads(self, phase: Phase, ground: Ground) -> None:
        """GETs: each peer keeps its working set for the whole phase."""
        with contextlib.ExitStack() as stack:
            sets: dict[str, single.WorkingSet] = {}
            for number in range(self._options.rounds):
                for workload in phase.workloads:
                    for peer in _rotated(phase.peers, number):
                        with self._measuring(number, (workload,), peer, ground) as samples:
                            if samples is None:
                                continue
                            if peer.name not in sets:
                                place = stack.enter_context(ground.place(f"{phase.name}-{peer.name}"))
                                sets[peer.name] = single.fill(peer, place, self._count(workload), workload.size_bytes)
                                ground.settle()
                            samples[workload] = single.get(workload, peer, sets[peer.name], self._options.seconds)

    def _count(self, workload: Workload) -> int:
        """How many blobs the workload reads."""
        size_bytes = workload.size_bytes
        hot = workload.operation == "get-hot"
        return self._options.hot_files(size_bytes) if hot else self._options.disk_files(size_bytes)

    def _streams(self, phase: Phase, ground: Ground) -> None:
        """Single large bodies, written and read back, and the hash that bounds the writing."""
        put_workload = phase.workloads[0]
        source = f"{ground.path}/source"
        try:
            stream.write_source(source, self._options.stream_bytes)
        except OSError as error:
            self._fail_all(phase, f"the file to send cannot be written: {error.strerror}")
            return
        for number in range(self._options.rounds):
            stream.stamp_source(source)
            digest, rate = stream.hash_source(source)
            reference = self._results.get(put_workload.name, SHA256)
            if reference:
                reference.add(number, Sample(rate=rate))
                _tell(number, f"{put_workload.name}/{SHA256}", reference.samples[number])
            for peer in _rotated(phase.peers, number):
                with self._measuring(number, phase.workloads, peer, ground) as samples:
                    if samples is not None:
                        samples.update(
                            zip(phase.workloads, single.one_stream(peer, ground, source, digest), strict=True)
                        )
        os.unlink(source)

    @contextlib.contextmanager
    def _measuring(
        self, number: int, workloads: tuple[Workload, ...], peer: Peer, ground: Ground
    ) -> Iterator[dict[Workload, Sample] | None]:
        """One measurement: None if nobody wants it; otherwise takes the samples, or the reason why there are none."""
        wanted = [row for workload in workloads if (row := self._results.get(workload.name, peer.name))]
        wanted = [row for row in wanted if row.failure is None]
        if not wanted:
            yield None
            return
        samples: dict[Workload, Sample] = {}
        ground.settle()
        try:
            yield samples
        except (BenchError, OSError) as error:
            for row in wanted:
                row.failure = str(error)
                print(f"round {number + 1}  {row.name:<40} FAILED: {row.failure}", file=sys.stderr)
            return
        for row in wanted:
            row.add(number, samples[row.workload])
            _tell(number, row.name, samples[row.workload])

    def _fail_all(self, phase: Phase, reason: str) -> None:
        for workload in phase.workloads:
            for row in self._results.of(workload):
                row.failure = reason


def _rotated(peers: tuple[Peer, ...], number: int) -> tuple[Peer, ...]:
    """The peers, each round beginning with another, so that none always runs first."""
    at = number % len(peers)
    return peers[at:] + peers[:at]


def _tell(number: int, name: str, sample: Sample) -> None:
    if sample.rate is None:
        figure = "done"
    else:
        figure = f"{sample.rate / 1e9:.2f} GB/s" if sample.p50_ms is None else f"{sample.rate:,.0f}/s"
    print(f"round {number + 1}  {name:<40} {figure}", file=sys.stderr)
