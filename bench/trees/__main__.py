"""`python -m bench.trees`: first commit, second commit after one edit, checkout; ratios first."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench import machine
from bench.ground import prepared
from bench.peers.base import Place
from bench.peers.holdall import Holdall
from bench.process import BenchError
from bench.trees import tree
from bench.trees.peers import PEERS, Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.trees.peers import Command, Peer

STEPS: Final = ("first", "again", "checkout")
SMALL_FILES: Final = 100_000
SPARSE_BYTES: Final = 5 << 30


@dataclass(frozen=True)
class Sample:
    """What one peer did in one round.

    Args:
        seconds: Of each step, whole processes.
        peak_bytes: The largest process of any step.
        stored_bytes: What the first commit added to the repository.
    """

    seconds: dict[str, float]
    peak_bytes: int
    stored_bytes: int


def main() -> int:
    """Measures and prints; returns 1 if a peer failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.trees", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each peer is measured (3)")
    parser.add_argument("--only", action="append", help="only peers of this name; may be given again")
    parser.add_argument("--tree", choices=["source", "small", "sparse"], default="source", help="what is committed")
    parser.add_argument("--dir", default="/var/tmp", help="where to measure")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    peers = [peer for peer in PEERS if not options.only or peer.name in options.only]
    samples: dict[str, list[Sample]] = {}
    failures: dict[str, str] = {}
    with prepared(options.dir, seconds=10) as prepared_ground:
        # Memory that this process once touched would count as that of each program it starts.
        ground = replace(prepared_ground, touched_bytes=0)
        place = os.path.join(ground.path, "tree")
        _make(options.tree, place)
        entries, size = tree.measure(place)
        for number in range(options.rounds):
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                if reason := peer.missing():
                    failures[peer.name] = reason
                    continue
                ground.settle()
                try:
                    samples.setdefault(peer.name, []).append(_measured(peer, place, ground.path))
                except BenchError as error:
                    failures[peer.name] = str(error)
    looked = machine.look()
    print(f"{looked.cpu}, {looked.cores} usable; {ground.filesystem}; {entries:,} entries, {size / 1e6:,.0f} MB; "
          f"medians of {options.rounds} rounds")  # fmt: skip
    _report(peers, samples, failures)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({name: [vars(sample) for sample in found] for name, found in samples.items()}, file, indent=1)
    return int(bool(failures))


def _make(kind: str, place: str) -> None:
    if kind == "source":
        tree.make_source(place)
    elif kind == "small":
        tree.make_small(place, SMALL_FILES)
    else:
        tree.make_sparse(place, SPARSE_BYTES)
        with open(f"{place}/beside.txt", "w", encoding="ascii") as file:
            file.write("a small file to edit\n")


def _measured(peer: Peer, original: str, base: str) -> Sample:
    """One round: a fresh repository and a fresh copy of the tree."""
    folder = tempfile.mkdtemp(prefix="trees-", dir=base)
    environment = os.environ | peer.env | {"XDG_CACHE_HOME": f"{folder}/cache", "HOME": folder}
    places = Places(f"{folder}/tree", f"{folder}/repo", f"{folder}/out")
    try:
        os.mkdir(places.repo)
        _run(["cp", "-a", "--sparse=always", original, places.tree], environment)
        os.sync()
        time.sleep(0.1)  # a file younger than its clock's tick is read again by whoever is careful
        with _server(peer, folder) as url:
            places = replace(places, url=url)
            for command in peer.make:
                _run(places.fill(command), environment)
            seconds: dict[str, float] = {}
            peak, stored = 0, -tree.disk_bytes(places.repo)
            for step in STEPS:
                if step == "again":
                    stored += tree.disk_bytes(places.repo)
                    tree.edit(places.tree)
                took, used, output = _timed(peer, step, places, environment)
                seconds[step], peak = took, max(peak, used)
                if step != "checkout":
                    places = replace(places, address=output.strip())
            _compare(places)
        return Sample(seconds, peak, stored)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _timed(peer: Peer, step: str, places: Places, environment: dict[str, str]) -> tuple[float, int, str]:
    commands = peer.restore if step == "checkout" else peer.commit
    began, peak, output = time.perf_counter(), 0, ""
    for command in commands:
        used, output = _run(places.fill(command), environment)
        peak = max(peak, used)
    return time.perf_counter() - began, peak, output


def _run(command: Command, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command to its end; the peak memory of its largest process, and its output.

    Raises:
        BenchError: It failed.
    """
    with tempfile.TemporaryFile() as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if status:
        raise BenchError(f"{' '.join(command)[:100]} failed: {' '.join(said.split())[-200:]}")
    return usage.ru_maxrss * 1024, said


@contextlib.contextmanager
def _server(peer: Peer, folder: str) -> Iterator[str]:
    """A holdall server on the repository, for the peers that speak to one."""
    if not any("{url}" in word for command in peer.commit for word in command):
        yield ""
        return
    place = Place(f"{folder}/server")
    place.make()
    os.rmdir(place.data)
    os.symlink(f"{folder}/repo", place.data)
    with Holdall("server", workers=1, durability="sync").running(place) as endpoint:
        yield endpoint.url.rstrip("/")


def _compare(places: Places) -> None:
    """Whoever restores another tree than was committed has not been measured."""
    wanted = tree.measure(places.tree)
    for found, _, _ in os.walk(places.out):
        if tree.measure(found) == wanted or os.path.isdir(f"{found}/.git"):
            return
    raise BenchError("what was restored is not what was committed")


def _report(peers: list[Peer], samples: dict[str, list[Sample]], failures: dict[str, str]) -> None:
    def median(name: str, step: str) -> float:
        return statistics.median(sample.seconds[step] for sample in samples[name])

    others = [peer for peer in peers if peer.name in samples and not peer.name.startswith("holdall")]
    print(f"\n{'':16}{'first':>9}{'again':>9}{'checkout':>9}{'stored':>9}   times the best deduplicating peer")
    best = {step: min((median(peer.name, step) for peer in others if peer.deduplicates), default=0.0) for step in STEPS}
    least = min((samples[peer.name][0].stored_bytes for peer in others if peer.deduplicates), default=0)
    for peer in peers:
        if peer.name in samples and all(best.values()):
            ratios = [median(peer.name, step) / best[step] for step in STEPS]
            print(f"{peer.name:16}" + "".join(f"{ratio:9.2f}" for ratio in ratios)
                  + f"{samples[peer.name][0].stored_bytes / least:9.2f}")  # fmt: skip
    print(f"\n{'':16}{'first s':>9}{'again s':>9}{'check. s':>9}{'MB':>9}{'peak MiB':>10}")
    for peer in peers:
        if peer.name in samples:
            found = samples[peer.name]
            print(f"{peer.name:16}" + "".join(f"{median(peer.name, step):9.3f}" for step in STEPS)
                  + f"{found[0].stored_bytes / 1e6:9.1f}{max(s.peak_bytes for s in found) / 2**20:10.1f}")  # fmt: skip
    _report_goals([peer.name for peer in others], best["first"], least, samples)
    for name, reason in failures.items():
        print(f"{name}: {reason}")


def _report_goals(others: list[str], first: float, stored: int, samples: dict[str, list[Sample]]) -> None:
    """What was aimed at, and whether each way to use holdall reached it."""

    def median(name: str, step: str) -> float:
        return statistics.median(sample.seconds[step] for sample in samples[name])

    fastest = min((median(name, "checkout") for name in others), default=0.0)
    print()
    for name, measured in samples.items():
        if name.startswith("holdall") and first and stored and fastest:
            for what, found, limit in (
                ("first, of the fastest deduplicating peer's time", median(name, "first") / first, 0.6),
                ("again, seconds", median(name, "again"), 0.15),
                ("checkout, of the fastest peer's time", median(name, "checkout") / fastest, 1.0),
                ("stored, of the smallest deduplicating peer's bytes", measured[0].stored_bytes / stored, 1.05),
                ("peak memory, MiB", max(sample.peak_bytes for sample in measured) / 2**20, 100.0),
            ):
                print(f"{name:16}{what}: {found:.2f}, at most {limit:g}: {'met' if found <= limit else 'NOT MET'}")


if __name__ == "__main__":
    sys.exit(main())
