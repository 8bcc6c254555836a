"""`python -m bench.timeline`: adding and reading blobs by time, pushed to a bare repository; ratios first."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench import machine
from bench.ground import prepared
from bench.process import BenchError
from bench.timeline.processes import ORIGINAL, OURS, clones, git_environment, original_python, package, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.ground import Ground
    from bench.timeline.processes import Package

FIRST: Final = 1_600_000_000
"""The time of the first blob in seconds; the others follow a second apart."""
SINGLES: Final = 21
KB: Final = 1000
MIB: Final = 1 << 20
IMAGE_SECONDS: Final = 10
"""What `prepared` is told: an image of 26 GB where the disk has no journal."""

Figures = dict[str, dict[str, float]]


class Bench:
    """Measures both packages, each time on fresh clones of a fresh bare repository.

    Args:
        ground: Where.
        scale: All numbers of blobs are multiplied by this.
        packages: Those that are measured.
    """

    def __init__(self, ground: Ground, scale: float, packages: list[str]) -> None:
        self._ground = ground
        self._scale = scale
        self._environment = git_environment(ground.path)
        self._packages = packages
        self.figures: Figures = {}

    def run(self, *, million: bool) -> None:
        """Measures everything."""
        for count in (1_000, 2_000):
            for name in self._packages:
                self._bulk(name, count)
        for name in self._packages:
            self._singles_alone(name)
        self._full_store(3_000, "flat", self._packages)
        self._bulk(OURS, 10_000)
        self._full_store(100_000, "hour", [OURS])
        self._full_store(100_000, "flat", self._packages, adding=[OURS])
        self._streamed(100_000)
        if million:
            self._full_store(1_000_000, "hour", [OURS])

    def _bulk(self, name: str, count: int) -> None:
        with self._folder() as folder, self._opened(name, *clones(folder, "clone")) as store:
            self._note(f"add {self._of(count):,} blobs in one call, s", name, self._fill(store, count))

    def _singles_alone(self, name: str) -> None:
        with self._folder() as folder, self._opened(name, *clones(folder, "clone")) as store:
            self._note("add one, none there, ms", name, self._single(store))

    def _full_store(self, count: int, layout: str, names: list[str], *, adding: list[str] | None = None) -> None:
        """Fills a store, adds single blobs, reads ten of all; each package on a clone of its own."""
        there = f"{self._of(count):,} there, {layout}"
        with self._folder() as folder:
            with self._opened(OURS, *clones(folder, "filled"), layout=layout) as store:
                seconds = self._fill(store, count)
            if count >= 100_000:
                self._note(f"add {self._of(count):,} blobs in one call, {layout}, s", OURS, seconds)
            for name in names:
                (path,) = clones(folder, f"clone-{name}", bare=False)
                middle = FIRST + self._of(count) // 2
                span = {"start_time": middle, "end_time": middle + 9}
                with self._opened(name, path) as store:
                    self._note(f"10 of them, {there}, first, ms", name, self._ranged(store, span))
                    warm = statistics.median(self._ranged(store, span) for _ in range(5))
                    self._note(f"10 of them, {there}, warm, ms", name, warm)
                    if name in (names if adding is None else adding):
                        self._note(f"add one, {there}, ms", name, self._single(store))

    def _streamed(self, count: int) -> None:
        with self._folder() as folder:
            (path,) = clones(folder, "clone")
            with self._opened(OURS, path) as store:
                self._fill(store, count, 10 * KB)
            with self._opened(OURS, path) as store:
                found = store.do("stream")
        if found["count"] != self._of(count):
            raise BenchError(f"{found['count']} blobs of {self._of(count)} came back")
        what = f"read all of {self._of(count):,} blobs of 10 kB"
        self._note(f"{what}, s", OURS, found["seconds"])
        self._note(f"{what}, peak memory, MiB", OURS, found["peak_bytes"] / MIB)

    def _fill(self, store: Package, count: int, size_bytes: int = KB) -> float:
        seconds: float = store.do("fill", count=self._of(count), size_bytes=size_bytes, first=FIRST)["seconds"]
        return seconds

    def _single(self, store: Package) -> float:
        """The median time of adding and pushing one blob, in ms."""
        blob = text_of(os.urandom(KB))
        return 1000 * statistics.median(float(store.do("add", blob=blob)["seconds"]) for _ in range(SINGLES))

    def _ranged(self, store: Package, span: dict[str, int]) -> float:
        found = store.do("get", **span)
        if len(found["blobs"]) != 10:
            raise BenchError(f"{store.name} found {len(found['blobs'])} blobs in a range of 10")
        return 1000 * float(found["seconds"])

    def _of(self, count: int) -> int:
        return max(20, int(count * self._scale))

    def _note(self, what: str, name: str, value: float) -> None:
        self.figures.setdefault(what, {})[name] = value
        print(f"  {name:18}{value:12.3f}  {what}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str]:
        self._ground.settle()
        folder = tempfile.mkdtemp(prefix="timeline-", dir=self._ground.path)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _opened(self, name: str, path: str, **options: str) -> Iterator[Package]:
        with package(name, self._environment) as running:
            running.do("open", path=path, **options)
            yield running


def main() -> int:
    """Measures and prints; returns 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.timeline", description=__doc__)
    parser.add_argument("--also", action="append", choices=["million"], default=[], help="1,000,000 blobs too")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all numbers of blobs, for a short try (1)")
    parser.add_argument("--dir", default="/var/tmp", help="where to measure")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    packages, failure = [ORIGINAL, OURS], ""
    try:
        original_python()
    except BenchError as error:
        packages, failure = [OURS], f"{ORIGINAL} cannot be installed: {error}"
    figures: Figures = {}
    with prepared(options.dir, seconds=IMAGE_SECONDS) as prepared_ground:
        # Memory that this process once touched would count as that of each program it starts.
        ground = replace(prepared_ground, touched_bytes=0)
        bench = Bench(ground, options.scale, packages)
        figures = bench.figures
        try:
            bench.run(million="million" in options.also)
        except BenchError as error:
            failure = str(error)
    looked = machine.look()
    print(
        f"{looked.cpu}, {looked.cores} usable; {ground.filesystem}; blobs of 1 kB, pushed to a bare repository "
        f"beside; single adds: median of {SINGLES}"
    )
    _report(figures)
    if failure:
        print(failure)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return int(bool(failure))


def _report(figures: Figures) -> None:
    both = {what: found for what, found in figures.items() if len(found) == 2}
    print(f"\ntimes faster than {ORIGINAL}")
    for what, found in both.items():
        print(f"  {found[ORIGINAL] / max(found[OURS], 1e-9):12.1f}  {what.rpartition(',')[0]}")
    print(f"\n{ORIGINAL:>14}{'holdall':>12}")
    for what, found in figures.items():
        theirs = f"{found[ORIGINAL]:14.3f}" if ORIGINAL in found else f"{'-':>14}"
        mine = f"{found[OURS]:12.3f}" if OURS in found else f"{'-':>12}"
        print(f"{theirs}{mine}  {what}")


if __name__ == "__main__":
    sys.exit(main())
