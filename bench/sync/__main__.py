"""`python -m bench.sync`: three hosts; an edit becomes visible, many new files, idle daemons; ratios first."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import machine
from bench.ground import prepared
from bench.process import BenchError
from bench.sync.trio import EDIT_SECONDS_MAX, stopped, trio, used
from bench.sync.ways import WAYS
from holdall.errors import HoldallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.ground import Ground
    from bench.sync.trio import Daemons, Trio
    from bench.sync.ways import Way

EDITS: Final = 200
EDITS_MIN: Final = 20
EDITING_SECONDS_MAX: Final = 90.0
"""Whoever is slow makes fewer edits than `EDITS`, but not fewer than `EDITS_MIN`."""
PAUSE_SECONDS: Final = 0.1
SIZES: Final = (10, 10_000)
NEW_FILES: Final = 10_000
IDLE_SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 3.0
IMAGE_SECONDS: Final = 10
MIB: Final = 1 << 20
OURS: Final = "holdall"

Figures = dict[str, dict[str, float]]


class Bench:
    """Measures the ways, each time on three fresh hosts.

    Args:
        ground: Where.
        scale: All numbers of files and edits are multiplied by this.
        ways: Those that are measured.
    """

    def __init__(self, ground: Ground, scale: float, ways: list[Way]) -> None:
        self._ground = ground
        self._scale = scale
        self._ways = ways
        self.figures: Figures = {}
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        """Measures everything."""
        for way in self._ways:
            if reason := way.missing():
                self.failures[way.name] = reason
        for size in SIZES:
            self._each("watches", partial(self._edits, size=self._of(size)))
        self._each("once", self._bring)

    def _each(self, can: str, work: Callable[[Way, Trio], None]) -> None:
        for way in self._ways:
            if not getattr(way, can) or way.name in self.failures:
                continue
            self._ground.settle()
            place = Path(tempfile.mkdtemp(prefix="sync-", dir=self._ground.path))
            try:
                with trio(place) as made:
                    work(way, made)
            except (BenchError, HoldallError) as error:
                self.failures[way.name] = str(error)
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _edits(self, way: Way, made: Trio, size: int) -> None:
        """Single edits with so many files there, then what the daemon on alpha takes while nothing happens."""
        made.fill(size, "first")
        way.join(made)
        daemons = way.start(made)
        every: Daemons = [daemon for found in daemons.values() for daemon in found]
        try:
            made.wait_ready(every)
            seconds = self._edited(made, size)
            if lost := sum(took >= EDIT_SECONDS_MAX for took in seconds):
                self._note(f"edits of {len(seconds)} that did not come within {EDIT_SECONDS_MAX:g} s", way, lost)
            self._note(f"edit to visible, {size:,} files, median, ms", way, 1000 * statistics.median(seconds))
            self._note(f"edit to visible, {size:,} files, p99, ms", way, 1000 * _p99(seconds))
            if size == self._of(min(SIZES)):
                count = self._of(NEW_FILES)
                self._note(f"{count:,} new files to two peers, by daemons, s", way, made.drop(count))
            if size == self._of(max(SIZES)):
                time.sleep(SETTLE_SECONDS)
                before, _ = used(daemons["alpha"])
                time.sleep(IDLE_SECONDS)
                after, memory = used(daemons["alpha"])
                self._note(f"idle, {size:,} files, CPU, % of a core", way, 100 * (after - before) / IDLE_SECONDS)
                self._note(f"idle, {size:,} files, memory, MiB", way, memory / MIB)
        finally:
            stopped(every)

    def _edited(self, made: Trio, size: int) -> list[float]:
        chance = random.Random(2)
        paths = sorted(path for path in made.files("alpha") if path.startswith("first"))
        seconds: list[float] = []
        deadline = time.monotonic() + EDITING_SECONDS_MAX
        wanted = max(EDITS_MIN, int(EDITS * min(1.0, self._scale * 10)))
        for number in range(wanted):
            if number >= EDITS_MIN and time.monotonic() > deadline:
                break
            seconds.append(made.edit(paths[chance.randrange(size)], number))
            time.sleep(PAUSE_SECONDS * (0.5 + chance.random()))
        return seconds

    def _bring(self, way: Way, made: Trio) -> None:
        """Many new files at once, after the hosts know each other."""
        made.fill(10, "first")
        way.join(made)
        way.bring(made)
        count = self._of(NEW_FILES)
        made.fill(count, "new")
        os.sync()
        time.sleep(0.1)  # a file younger than its clock's tick is read again by whoever is careful
        began = time.perf_counter()
        way.bring(made)
        seconds = time.perf_counter() - began
        made.check()
        self._note(f"{count:,} new files to two peers, by one command, s", way, seconds)

    def _of(self, count: int) -> int:
        return max(10, int(count * self._scale))

    def _note(self, what: str, way: Way, value: float) -> None:
        self.figures.setdefault(what, {})[way.name] = value
        print(f"  {way.name:18}{value:12.3f}  {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measures and prints; returns 1 if something failed that is installed."""
    parser = argparse.ArgumentParser(prog="python -m bench.sync", description=__doc__)
    parser.add_argument("--only", action="append", help="only programs of this name; may be given again")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of files, for a short try (1)")
    parser.add_argument("--dir", default="/var/tmp", help="where to measure")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    ways = [way for way in WAYS if not options.only or way.name in options.only]
    with prepared(options.dir, seconds=IMAGE_SECONDS) as prepared_ground:
        # Memory that this process once touched would count as that of each program it starts.
        bench = Bench(replace(prepared_ground, touched_bytes=0), options.scale, ways)
        bench.run()
        looked = machine.look()
        filesystem = prepared_ground.filesystem
    print(
        f"{looked.cpu}, {looked.cores} usable; {filesystem}; three hosts on this machine; files of 1 kB; at most "
        f"{EDITS} edits, each until both peers have it"
    )
    _report(bench.figures)
    for name, reason in bench.failures.items():
        print(f"{name}: {reason}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(bench.figures, file, indent=1)
    return int(any("not installed" not in reason for reason in bench.failures.values()))


def _report(figures: Figures) -> None:
    names = [way.name for way in WAYS if any(way.name in found for found in figures.values())]
    head = "".join(f"{name:>20}" for name in names)
    print(f"\ntimes holdall's\n{head}")
    for what, found in figures.items():
        if OURS in found and len(found) > 1:
            cells = [
                f"{found[name] / max(found[OURS], 1e-9):20.2f}" if name in found else f"{'-':>20}" for name in names
            ]
            print(f"{''.join(cells)}  {what.rpartition(',')[0]}")
    print(f"\n{head}")
    for what, found in figures.items():
        cells = [f"{found[name]:20.3f}" if name in found else f"{'-':>20}" for name in names]
        print(f"{''.join(cells)}  {what}")
    _report_goals(figures)


def _report_goals(figures: Figures) -> None:
    """What was aimed at, and whether it was reached."""
    print()
    goals = (("edit to visible, 10,000 files, median, ms", 100.0), ("edit to visible, 10,000 files, p99, ms", 300.0))
    for what, limit in goals:
        found = figures.get(what, {}).get(OURS)
        if found is not None:
            print(f"{what}: {found:.1f}, at most {limit:g}: {'met' if found <= limit else 'NOT MET'}")
    for what, row in figures.items():
        if "by one command" in what and OURS in row and "rsync + git commit" in row:
            ratio = row[OURS] / row["rsync + git commit"]
            print(f"{what[:-3]}, of rsync and a commit: {ratio:.2f}, at most 1: {'met' if ratio <= 1 else 'NOT MET'}")


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[max(0, -(-len(seconds) * 99 // 100) - 1)]


if __name__ == "__main__":
    sys.exit(main())
