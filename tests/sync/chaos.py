"""Random lives of a whole cluster: hosts with their own networks, disks and clocks, and a daemon on each.

`python tests/sync/chaos.py --seed N` replays one, `--count M` goes through many until one fails. It takes root, Linux
and a C compiler. The steps come from the seed alone; how far a daemon is when one comes, the machine decides.

Files are edited, removed, renamed, turned into directories and symlinks, on several hosts at once. Cables are pulled,
daemons killed, hosts switched off, disks filled, and hosts lose power; every host has a clock of its own, up to an hour
off, and it jumps. At the end all is repaired, and nobody does anything more. Then the nodes have to become equal, with
all that was ever committed on any of them in their history and every byte that lay in a folder too, unless it was
overwritten there by hand.

A loss of power takes from a disk what `power` says, in the folder and in its history. What no disk has any more is not
asked for afterwards: a commit counts that is whole, with all that it needs, in the history of some host; and bytes
count that such a commit has, or that still lie in a folder. The history of a host is what its refs name after the loss;
where its own are broken, also what it had committed itself before: then what is whole of that has to be found. So what
another host has acknowledged counts, as long as that one does not lose power too before it is on its disk. A host that
lost what it knew of another's edit takes what it finds in its folder for its own: then a conflict copy may be there in
its name too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from power import Clock, Disk

from holdall.sync.ignore import TEMPORARY
from holdall.sync.merge import copy_author, plain_name
from holdall.testing.hosts import namespace_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdall.testing.hosts import Host

NODES = ["alpha", "beta", "gamma", "delta"]
FOLDER = "tree"
FILLER = "filler"
NAMES = ["a.txt", "A.txt", "b.txt", "d", "d/x", "d/y.txt", "d/e/z", "d/e", "deep/er/file", ".rc", "caf\udce9"]
DISK_BYTES = 24 << 20
PAUSE_SECONDS_MAX = 0.2
WAIT_SECONDS_MAX = 180.0
SKEW_SECONDS_MAX = 3600
SKEWS_SECONDS = (-SKEW_SECONDS_MAX, 0, SKEW_SECONDS_MAX)
KINDS = {"edit": 9, "clash": 6, "cut": 2, "kill": 2, "off": 1, "fill": 1, "power": 2, "jump": 2, "nothing": 2}
"""What a step may be, and how often; cut to fill are undone by the next such step for the same host, power by off."""

CLOCK = Path(__file__).with_name("clock.c")


@dataclass
class Node:
    """A host of the cluster, and what is the matter with it."""

    host: Host
    preload: Path
    clock: Clock
    disk: Disk
    daemon: subprocess.Popen[bytes] | None = None
    wrong: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.host.home / FOLDER

    @property
    def git_dir(self) -> Path:
        return self.host.home / f".git.{FOLDER}"

    @property
    def filler(self) -> Path:
        return self.host.home / FILLER

    @property
    def log(self) -> Path:
        return self.host.home.parent / f"{self.host.name}.log"

    def watch(self) -> None:
        words = ("holdall", "sync", "watch", "--every", "2s", self.root)
        self.daemon = self.host.start(*words, log=self.log)

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def power_on(self) -> None:
        self.clock.boot()
        self.host.power_on()
        self.watch()

    def git(self, *words: str) -> bytes:
        return subprocess.run(["git", f"--git-dir={self.git_dir}", *words], check=True, capture_output=True).stdout

    def is_sound(self) -> bool:
        """Whether its own refs can be read and name what can."""
        names = ("heads/main", f"sync/{self.host.name}/main")
        words = [["rev-list", "--objects", "--quiet", f"refs/{name}"] for name in names]
        git = ["git", f"--git-dir={self.git_dir}"]
        return not any(subprocess.run([*git, *one], check=False, capture_output=True).returncode for one in words)

    def history(self, *more: str) -> set[str]:
        """All commits that its refs name, and those before them, as far as they can be read; more words say which."""
        found = set[str]()
        for commit in self.commits():
            words = ["git", f"--git-dir={self.git_dir}", "rev-list", *more, commit]
            found |= set(subprocess.run(words, check=False, capture_output=True).stdout.decode().split())
        return found

    def commits(self) -> set[str]:
        """Whatever its refs name now."""
        found = set()
        for path in (*self.git_dir.glob("refs/heads/main"), *self.git_dir.glob("refs/sync/*/main")):
            with contextlib.suppress(OSError):
                found.add(path.read_text().strip())
        return {commit for commit in found if commit}

    def head(self) -> str:
        with contextlib.suppress(OSError):  # which a loss of power took
            return (self.git_dir / "refs/heads/main").read_text().strip()
        return ""


def listing(root: Path) -> dict[bytes, bytes]:
    """Every file of a folder but for the roster, with its contents and what kind it is."""
    found = {}
    for folder, names, files in os.walk(os.fsencode(root)):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if os.path.islink(path):
                    found[os.path.relpath(path, os.fsencode(root))] = b"l " + os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as file:
                        kind = b"x " if os.fstat(file.fileno()).st_mode & 0o100 else b"- "
                        found[os.path.relpath(path, os.fsencode(root))] = kind + file.read()
    return {
        name: data for name, data in found.items() if TEMPORARY not in name and not name.startswith(b".gitcluster/")
    }


def blob(data: bytes) -> str:
    """The id of what `listing` has for a file."""
    return hashlib.sha1(b"blob %d\0%b" % (len(data) - 2, data[2:])).hexdigest()


def whole(objects: Path, commits: set[str]) -> tuple[set[str], set[str]]:
    """Those commits of which everything is there, and all that they need; what is damaged is not there."""
    with tempfile.TemporaryDirectory(prefix="whole-") as name:
        git = ["git", f"--git-dir={name}"]
        subprocess.run([*git, "init", "--quiet", "--bare"], check=True)
        for path in objects.glob("*/*"):
            if len(path.parent.name) == 2:
                with contextlib.suppress(zlib.error, EOFError, OSError):
                    data = zlib.decompress(path.read_bytes())
                    if hashlib.sha1(data).hexdigest() == path.parent.name + path.name:
                        place = Path(name, "objects", path.parent.name, path.name)
                        place.parent.mkdir(exist_ok=True)
                        place.write_bytes(path.read_bytes())
            elif path.suffix == ".pack":
                with open(path, "rb") as pack:
                    subprocess.run([*git, "unpack-objects", "-r", "-q"], stdin=pack, capture_output=True, check=False)
        found, needed = set[str](), set[str]()
        for asked in [sorted(commits)] if commits else []:
            for some in (asked, *([one] for one in asked)):
                words = [*git, "rev-list", "--objects", "--no-object-names", *some]
                listed = subprocess.run(words, capture_output=True, text=True, check=False)
                if not listed.returncode:
                    found |= set(some)
                    needed |= set(listed.stdout.split())
                    if some is asked:
                        break
        return found, needed


def wait(holds: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"not so: {what}"
        time.sleep(0.05)


class Place:
    """Hosts that many lives are led on, one after the other, each from the same beginning."""

    def __init__(self, place: Path, hosts: dict[str, Host]) -> None:
        self.place = place
        self.nodes = []
        self.joined = 0
        (place / "etc/ld.so.preload").touch()
        for name, host in hosts.items():
            control, library, preload = (place / f"{name}.{kind}" for kind in ("clock", "so", "preload"))
            subprocess.run(["cc", "-shared", "-fPIC", f'-DCONTROL="{control}"', CLOCK, "-o", library], check=True)
            self.nodes.append(Node(host, preload, Clock(control), Disk(host.home, {FILLER})))
            preload.touch()
            self.must(host, "mount", "--bind", preload, "/etc/ld.so.preload")

    def must(self, host: Host, *words: str | Path, stdin: str = "") -> str:
        done = host.run(*words, stdin=stdin)
        assert done.returncode == 0, (host.name, words, done.stdout, done.stderr)
        return done.stdout

    def begin(self, count: int, skews: list[int]) -> list[Node]:
        """Switches so many hosts on, as they were at first, with their clocks off by these seconds."""
        if self.joined < count:
            self.restore(self.joined, [0] * self.joined)
        while self.joined < count:
            self.join(self.nodes[self.joined].host)
            self.joined += 1
            for node in self.nodes[: self.joined]:
                shutil.copytree(node.host.home, self.begun(self.joined, node), symlinks=True)
        self.restore(count, skews)
        nodes = self.nodes[:count]
        for node in nodes:
            node.watch()
        wait(lambda: all((node.git_dir / "holdall/daemon.sock").exists() for node in nodes), "the daemons are there")
        return nodes

    def begun(self, count: int, node: Node) -> Path:
        """Where that is kept which a host has on its disk in the beginning."""
        return self.place / f"begun{count}" / node.host.name

    def join(self, host: Host) -> None:
        first, root = self.nodes[0].host, host.home / FOLDER
        if host is first:
            root.mkdir()
            (root / "keep").write_bytes(b"always here\n")
            self.must(host, "holdall", "sync", "bootstrap", root)
        else:
            line = self.must(first, "holdall", "sync", "invite")
            self.must(host, "holdall", "sync", "join", "-", root, stdin=line)
            self.must(first, "holdall", "sync", "push")

    def restore(self, count: int, skews: list[int]) -> None:
        """Lets so many hosts be as they were in the beginning."""

        def one(node: Node, skew: int) -> None:
            node.host.power_off()
            node.wrong = set()
            for child in node.host.home.iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
            shutil.copytree(self.begun(count, node), node.host.home, symlinks=True, dirs_exist_ok=True)
            node.clock.begin(skew)
            node.preload.write_text(f"{self.place}/{node.host.name}.so\n")
            node.log.unlink(missing_ok=True)
            node.host.power_on()
            node.disk.looks = []
            node.disk.look()

        with ThreadPoolExecutor() as pool:
            list(pool.map(one, self.nodes[:count], skews))

    def end(self) -> None:
        """Switches all off that have joined."""
        for node in self.nodes[: self.joined]:
            node.kill()
            node.host.power_off()


@contextlib.contextmanager
def hosts_with_disks() -> Iterator[Place]:
    """Four hosts of one cluster, each with a small disk for its home."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, contextlib.ExitStack() as stack:
        place = Path(name)
        for node in NODES:
            (place / node).mkdir()
            words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place / node)]
            subprocess.run(words, check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(place / node)], check=True)
        with namespace_hosts(place, NODES) as hosts:
            made = Place(place, hosts)
            try:
                yield made
            finally:
                made.end()


class Life:
    """What happens to a cluster, from one seed."""

    def __init__(self, seed: int, place: Place) -> None:
        self.random = random.Random(seed)
        count = 4 if seed % 3 == 2 else 3  # so that two take no fourth
        self.nodes = place.begin(count, [self.random.choice(SKEWS_SECONDS) for _ in range(count)])
        self.words = 0
        self.seen: set[str] = set()
        """Blobs that lay in a folder."""
        self.overwritten = {blob(b"  ")}
        """Blobs that were taken away by hand, and the empty one, which a loss of power leaves."""
        self.commits: set[str] = set()
        self.lost: set[str] = set()
        """Commits that a loss of power took, or that its refs name and that are none."""
        self.dark: set[str] = set()
        """Nodes that lost power."""
        self.told: list[str] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
            chance = [self.random.random() for _ in range(6)]
            node = self.nodes[int(chance[0] * len(self.nodes))]
            self.told.append(f"{time.time():.2f} {kind} {node.host.name} {sorted(node.wrong)}")
            if kind == "edit":
                self.edit(node, chance[1:])
            elif kind == "clash":
                for one in self.nodes:
                    self.edit(one, [chance[1], self.random.random(), *chance[3:]])
            elif kind == "jump":
                node.clock.jump(int((2 * chance[1] - 1) * SKEW_SECONDS_MAX))
            elif kind == "power" and "off" not in node.wrong:
                self.lose_power(node, random.Random(chance[1]))
            elif kind != "nothing":
                self.turn(node, "off" if kind == "power" else kind)
            self.note()
            time.sleep(self.random.uniform(0, PAUSE_SECONDS_MAX))
        self.heal()
        self.check()

    def note(self) -> None:
        """Takes down what there is."""
        for node in self.nodes:
            node.disk.look()
            self.commits |= node.commits() - self.lost
            self.seen |= {blob(data) for data in listing(node.root).values()}
            assert node.daemon is None or node.daemon.poll() is None, f"the daemon of {node.host.name} ended by itself"

    def turn(self, node: Node, kind: str) -> None:
        """Breaks something of a host, or repairs it."""
        broken = kind in node.wrong
        (node.wrong.discard if broken else node.wrong.add)(kind)
        if kind == "cut":
            (node.host.connect if broken else node.host.cut_off)()
        elif kind == "kill" and "off" not in node.wrong:
            (node.watch if broken else node.kill)()
        elif kind == "off":
            if broken:
                node.power_on()
            else:
                node.host.power_off()
                node.kill()
            node.wrong.discard("kill")
        elif kind == "fill" and broken:
            node.filler.unlink()
        elif kind == "fill":
            with contextlib.suppress(OSError), open(node.filler, "wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass

    def lose_power(self, node: Node, chance: random.Random) -> None:
        """Switches a host off, with what a loss of power does to its disk, and no more asks for what nobody has."""
        node.host.power_off()
        node.kill()
        node.filler.unlink(missing_ok=True)
        node.wrong = {"off"} | node.wrong & {"cut"}
        self.dark.add(node.host.name)
        before, own = node.history(), node.history(f"--author=<{node.host.name}@holdall>")
        self.told += node.disk.lose(chance, node.clock.syncs())
        known = self.commits | before | node.commits()
        commits, kept = set[str](), {blob(data) for one in self.nodes for data in listing(one.root).values()}
        for one in self.nodes:
            history = one.history() | (own if one is node and not one.is_sound() else set())
            there, objects = whole(one.git_dir / "objects", history & known)
            commits, kept = commits | there | known & objects, kept | objects
        self.lost |= known - commits
        self.commits, self.seen = commits, self.seen & kept

    def edit(self, node: Node, chance: list[float]) -> None:
        """What a person does to a folder, who takes no note of what goes wrong."""
        if "off" in node.wrong:
            return
        place, what, which, line, kind = chance
        root = os.fsencode(node.root)
        path = os.path.join(root, os.fsencode(NAMES[int(place * len(NAMES))]))
        there = [os.path.join(root, name) for name in sorted(listing(node.root)) if name != b"keep"]
        other = there[int(which * len(there))] if there else path
        with contextlib.suppress(OSError):
            if what < 0.15:
                self.remove(other)
            elif what < 0.25:
                to = plain_name(other) + b"-moved"
                self.forget(to)
                os.rename(other, to)
            elif what < 0.5 and not os.path.islink(other):
                self.rewrite(other, int(line * 8), in_place=kind < 0.3)
            else:
                above = os.path.dirname(path)
                while above != root:
                    if os.path.islink(above) or os.path.isfile(above):
                        self.remove(above)
                    above = os.path.dirname(above)
                self.remove(path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                self.create(path, kind)

    def word(self) -> bytes:
        self.words += 1
        return b"word %d\n" % self.words

    def create(self, path: bytes, kind: float) -> None:
        if kind < 0.15:
            os.symlink(b"nowhere-" + self.word().strip(), path)
            return
        data = b"".join(b"line %d\n" % number for number in range(8)) + self.word()
        with open(path, "xb") as file:
            file.write(b"\0" * (kind < 0.3) + data)
        if kind < 0.5:
            os.chmod(path, 0o755)

    def rewrite(self, path: bytes, line: int, *, in_place: bool) -> None:
        """Changes one line of a file, as an editor does or as `sed -i` does not."""
        with open(path, "rb") as file:
            lines = file.read().splitlines(keepends=True)
        lines[line : line + 1] = [self.word()]
        if not in_place:
            with open(path + b"~", "xb") as file:
                file.writelines(lines)
        self.forget(path)
        if in_place:
            with open(path, "wb") as file:
                file.writelines(lines)
        else:
            os.rename(path + b"~", path)

    def remove(self, path: bytes) -> None:
        self.forget(path)
        if os.path.isdir(path) and not os.path.islink(path):
            for name in os.listdir(path):
                self.remove(os.path.join(path, name))
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def forget(self, path: bytes) -> None:
        """Lets go of what is about to be overwritten."""
        with contextlib.suppress(OSError):
            data = os.readlink(path) if os.path.islink(path) else Path(os.fsdecode(path)).read_bytes()
            self.overwritten.add(blob(b"  " + data))

    def fares_well(self, node: Node) -> None:
        """Waits until a node says that nobody need do anything; one that was away may be spoken to a little later."""
        wait(
            lambda: node.host.run("holdall", "sync", "status", node.root).returncode == 0,
            f"{node.host.name} says that all is well",
        )

    def heal(self) -> None:
        """Repairs everything, and waits until all have the same."""
        for node in self.nodes:
            for kind in sorted(node.wrong, reverse=True):
                if kind in node.wrong:
                    self.turn(node, kind)
        self.told.append(f"{time.time():.2f} healed")
        wait(self.are_equal, "the nodes become equal")

    def is_released(self, node: Node) -> bool:
        """Whether all have the same; a node that holds is told that it was meant: most files may have been copies."""
        if self.are_equal():
            return True
        shown = node.host.run("holdall", "sync", "status", node.root)
        if "is held" in shown.stdout + shown.stderr:
            node.host.run("holdall", "sync", "release", node.root)
        return False

    def are_equal(self) -> bool:
        self.note()
        trees = [listing(node.root) for node in self.nodes]
        return len({node.head() for node in self.nodes}) == 1 and all(tree == trees[0] for tree in trees)

    def check(self) -> None:
        first, tree = self.nodes[0], listing(self.nodes[0].root)
        for node in self.nodes:
            assert not self.commits - set(node.git("rev-list", "main").decode().split()), "commits were lost"
            node.git("fsck", "--strict", "--no-dangling")
        kept = set(first.git("rev-list", "--objects", "--no-object-names", "main").decode().split())
        assert not self.seen - self.overwritten - kept, f"bytes were lost: {self.seen - self.overwritten - kept}"
        assert not any(mark in data for data in tree.values() for mark in (b"<<<<<<<", b">>>>>>>")), "conflict markers"
        copies = [path for path in tree if copy_author(path) is not None]
        assert all(copy_author(plain_name(path)) is None for path in copies), f"copies of copies: {copies}"
        different = {(plain_name(path), tree[path], frozenset({copy_author(path)} & self.dark)) for path in copies}
        assert len(different) == len(copies), f"copies that are the same: {copies}"
        for path in copies:
            os.unlink(os.path.join(os.fsencode(first.root), path))
        settled = "conflicts that were settled are so everywhere"
        wait(lambda: self.is_released(first) and not any(map(copy_author, listing(first.root))), settled)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.fares_well, self.nodes))


def main() -> int:
    """Replays one seed, or goes through many until one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, default=24)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("ended from outside"))
    with hosts_with_disks() as place:
        for seed in (first + more for first in asked.seed for more in range(asked.count)):
            begun = time.monotonic()
            life = None
            try:
                life = Life(seed, place)
                life.run(asked.steps)
            except BaseException:
                sys.stderr.write(f"seed {seed} fails: python tests/sync/chaos.py --seed {seed} --steps {asked.steps}\n")
                sys.stderr.write("\n".join(life.told if life is not None else []) + "\n")
                for node in place.nodes:
                    said = node.log.read_text(errors="replace") if node.log.exists() else ""
                    sys.stderr.write(f"--- {node.host.name}\n{said}")
                raise
            finally:
                place.end()
            sys.stdout.write(f"seed {seed}: {len(life.nodes)} nodes, {time.monotonic() - begun:.1f} s\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
