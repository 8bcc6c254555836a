"""The command line: what a run covers, how long it takes, where it measures and where it writes."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.ground import TMPFS, filesystem_of
from bench.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS: Final = 3
SECONDS: Final = 3.0
STREAM_BYTES: Final = 512 << 20
HOT_FILES_MAX: Final = 1000
HOT_BYTES_MAX: Final = 8 << 20
DISK_FILES_MAX: Final = 20_000
DISK_BYTES_MAX: Final = 128 << 20


@dataclass(frozen=True)
class Options:
    """One run's settings."""

    rounds: int
    seconds: float
    only: tuple[str, ...]
    also: tuple[str, ...]
    list_rows: bool
    connections: tuple[int, ...]
    sizes_bytes: tuple[int, ...]
    stream_bytes: int
    set_divisor: int
    """The working sets are this many times smaller than in a full run."""
    directory: str
    """Where the run makes its own."""
    tmpfs: bool
    """Whether that is in memory."""
    json_path: str
    svg_path: str

    def hot_files(self, size_bytes: int) -> int:
        """How many blobs the hot working set has: so few that they fit into any cache.

        Args:
            size_bytes: Of each.
        """
        return max(1, min(HOT_FILES_MAX, HOT_BYTES_MAX // size_bytes) // self.set_divisor)

    def disk_files(self, size_bytes: int) -> int:
        """How many blobs the working set has that is read file by file.

        Args:
            size_bytes: Of each.
        """
        return max(1, min(DISK_FILES_MAX, DISK_BYTES_MAX // size_bytes) // self.set_divisor)


def _default_base() -> str:
    """A directory for the measurement that is on a disk, where /tmp might not be."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures holdall beside nginx, redis, uvicorn and granian, interleaved in one run. "
        "docs/benchmarks.md says how to read it.",
    )
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", help=f"rounds; the median counts (default {ROUNDS})")
    add("--seconds", type=float, metavar="S", help=f"length of each measurement (default {SECONDS:g})")
    add(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only rows whose name matches, as *put-1k*; again for more",
    )
    add("--also", action="append", default=[], metavar="URL", help="measure this running server too; again for more")
    add("--list", action="store_true", help="list the rows and what is skipped, and measure nothing")
    add("--quick", action="store_true", help="one short round at 16 connections, small working sets, 64 MiB streams")
    add("--dir", metavar="DIR", help="measure in a fresh directory in this one (default /var/tmp)")
    add("--tmpfs", action="store_true", help="measure in memory, in /dev/shm")
    add("--json", metavar="FILE", help="where the figures go (default bench/results/<time>.json)")
    add("--svg", metavar="FILE", help="where the plot goes (default bench/results/<time>.svg)")
    return parser


def parse(arguments: Sequence[str]) -> Options:
    """Reads the command line; a wrong one ends the process with a sentence.

    Args:
        arguments: Without the program's name.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    quick = given.quick
    rounds = given.rounds if given.rounds is not None else (1 if quick else ROUNDS)
    seconds = given.seconds if given.seconds is not None else (1.0 if quick else SECONDS)
    if rounds < 1:
        parser.error("--rounds takes a number from 1.")
    if not 0.1 <= seconds <= 3600:
        parser.error("--seconds takes a number from 0.1 to 3600.")
    if given.dir and given.tmpfs:
        parser.error("--dir and --tmpfs exclude each other.")
    base = TMPFS if given.tmpfs else given.dir or _default_base()
    if not os.path.isdir(base):
        parser.error(f"{base} is not a directory.")
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    results = os.path.join(ROOT, "bench", "results", now)
    return Options(
        rounds=rounds,
        seconds=seconds,
        only=tuple(given.only),
        also=tuple(given.also),
        list_rows=given.list,
        connections=(16,) if quick else (1, 16, 64),
        sizes_bytes=(1 << 10, 64 << 10),
        stream_bytes=(64 << 20) if quick else STREAM_BYTES,
        set_divisor=10 if quick else 1,
        directory=base,
        tmpfs=filesystem_of(base)[0] == "tmpfs",
        json_path=given.json or f"{results}.json",
        svg_path=given.svg or f"{results}.svg",
    )
