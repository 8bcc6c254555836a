"""Three hosts on this machine with a folder each, and logins between them for the programs that are compared.

With root each host is a network namespace; otherwise a port of 127.0.0.1. Files of all of them lie on one disk, so this
process sees at once what any of them has.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.process import BenchError, descendants
from holdall.testing.hosts import loopback_hosts, namespace_hosts, why_no_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdall.testing.hosts import Host

NAMES: Final = ("alpha", "beta", "gamma")
PEERS: Final = NAMES[1:]
FILE_BYTES: Final = 1000
FILES_PER_DIRECTORY: Final = 100
COMMAND_SECONDS_MAX: Final = 900.0
READY_SECONDS_MAX: Final = 60.0
EDIT_SECONDS_MAX: Final = 10.0
LOOK_SECONDS: Final = 0.0005
COUNT_SECONDS: Final = 0.1
READY_EDIT_SECONDS: Final = 2.0

Daemons = list[subprocess.Popen[bytes]]


class Trio:
    """Three hosts, each with a folder `notes` in its home directory.

    Args:
        hosts: The hosts by name; `alpha` is where files change.
        in_namespaces: Whether each is a network namespace.
    """

    def __init__(self, hosts: dict[str, Host], *, in_namespaces: bool) -> None:
        self.hosts = hosts
        self.in_namespaces = in_namespaces
        self.login = hosts["alpha"].home.parent / "login.config"
        """What the other programs' ssh connects by, with -F."""
        self._random = random.Random(1)

    def folder(self, name: str) -> Path:
        """The folder of a host."""
        return self.hosts[name].home / "notes"

    def run(self, name: str, *words: str | Path) -> str:
        """Runs a command on a host to its end; returns what it printed.

        Raises:
            BenchError: It failed.
        """
        try:
            done = self.hosts[name].run(*words, seconds=COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{words[0]} took more than {COMMAND_SECONDS_MAX:g} s") from error
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())[-300:]
            raise BenchError(f"{' '.join(map(str, words))[:100]} ended with {done.returncode}: {said}")
        return done.stdout

    def at_once(self, work: Callable[[str], object]) -> None:
        """Does something with both peers at the same time."""
        with ThreadPoolExecutor(len(PEERS)) as pool:
            list(pool.map(work, PEERS))

    def log_in(self) -> None:
        """Lets the hosts' users log in to each other; connections are kept open, as holdall keeps its own."""
        place = self.hosts["alpha"].home.parent
        key = place / "login"
        self.run("alpha", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        public = Path(f"{key}.pub").read_text(encoding="ascii")
        rows = []
        for name, host in self.hosts.items():
            (host.home / ".ssh/authorized_keys").write_text(public, encoding="ascii")
            rows += [f"Host {name}", f"  HostName {host.address}", f"  Port {host.port}", f"  HostKeyAlias {name}"]
        rows += ["Host *", f"  IdentityFile {key}", "  IdentitiesOnly yes", "  BatchMode yes", "  LogLevel ERROR"]
        rows += ["  StrictHostKeyChecking no", f"  UserKnownHostsFile {place}/login.hosts"]
        rows += ["  ControlMaster auto", "  ControlPersist 60", f"  ControlPath /tmp/{place.name}-%C"]
        self.login.write_text("\n".join(rows) + "\n", encoding="ascii")

    def fill(self, count: int, label: str, place: Path | None = None) -> None:
        """Makes new files in alpha's folder, or elsewhere."""
        for number in range(count):
            path = (place or self.folder("alpha")) / f"{label}{number // FILES_PER_DIRECTORY}" / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._random.randbytes(FILE_BYTES // 2).hex().encode())

    def files(self, name: str) -> dict[str, bytes]:
        """What a folder has, but for what the programs keep there themselves."""
        found = {}
        for here, folders, names in os.walk(self.folder(name)):
            folders[:] = [folder for folder in folders if folder not in {".git", ".gitcluster"}]
            for file in names:
                path = os.path.join(here, file)
                with open(path, "rb") as opened:
                    found[os.path.relpath(path, self.folder(name))] = opened.read()
        return found

    def check(self) -> None:
        """Whoever did not bring everything has not been measured.

        Raises:
            BenchError: The folders differ.
        """
        wanted = self.files("alpha")
        for name in PEERS:
            if self.files(name) != wanted:
                raise BenchError(f"{name} does not have the files of alpha")

    def edit(self, path: str, number: int) -> float:
        """Changes a file on alpha and waits until both peers have it.

        Args:
            path: The file, from the folder.
            number: Another one each time.

        Returns:
            Seconds until the later of the two had it; `EDIT_SECONDS_MAX` if it did not come by then.
        """
        # Of another length each time: rsync takes two versions of one second and one length for the same.
        text = f"{self._random.random():.15f}{'.' * number}\n".encode()
        waiting = {self.folder(name) / path for name in PEERS}
        began = time.perf_counter()
        (self.folder("alpha") / path).write_bytes(text)
        while time.perf_counter() - began < EDIT_SECONDS_MAX:
            for place in list(waiting):
                with contextlib.suppress(OSError):
                    if place.read_bytes() == text:
                        waiting.remove(place)
            if not waiting:
                return time.perf_counter() - began
            time.sleep(LOOK_SECONDS)
        return EDIT_SECONDS_MAX

    def drop(self, count: int) -> float:
        """Moves a directory with new files into alpha's folder at once, and waits until both peers have all.

        Returns:
            Seconds until then.

        Raises:
            BenchError: They never come.
        """
        staging = self.hosts["alpha"].home / "dropped"
        self.fill(count, "dropped", staging)
        os.sync()
        time.sleep(0.1)  # a file younger than its clock's tick is read again by whoever is careful
        began = time.perf_counter()
        staging.rename(self.folder("alpha") / "dropped")
        while time.perf_counter() - began < COMMAND_SECONDS_MAX:
            time.sleep(COUNT_SECONDS)
            counts = [sum(len(names) for *_, names in os.walk(self.folder(name) / "dropped")) for name in PEERS]
            if min(counts) >= count:
                return time.perf_counter() - began
        raise BenchError(f"of {count:,} new files not all came: {self.log_tail()}")

    def wait_ready(self, daemons: Daemons) -> None:
        """Returns when what changes on alpha comes to both.

        Raises:
            BenchError: It never does, or a daemon ended.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        place, number = self.folder("alpha") / "ready.txt", 0
        while time.monotonic() < deadline:
            number += 1
            place.write_text(f"{number}\n")
            wait = time.monotonic() + READY_EDIT_SECONDS
            while time.monotonic() < wait:
                ended = [daemon for daemon in daemons if daemon.poll() is not None]
                if ended:
                    raise BenchError(f"a daemon ended with {ended[0].returncode}: {self.log_tail()}")
                if all(_is(self.folder(name) / "ready.txt", f"{number}\n".encode()) for name in PEERS):
                    return
                time.sleep(0.01)
        raise BenchError(f"what changes on alpha does not come to the others: {self.log_tail()}")

    def daemon(self, name: str, *words: str | Path) -> subprocess.Popen[bytes]:
        """Starts a program on a host that is to go on."""
        return self.hosts[name].start(*words, log=self.hosts["alpha"].home.parent / "daemons.log")

    def log_tail(self) -> str:
        """The last words of the daemons."""
        log = self.hosts["alpha"].home.parent / "daemons.log"
        return " ".join(log.read_text(errors="replace").split())[-300:] if log.exists() else ""


@contextlib.contextmanager
def trio(place: Path) -> Iterator[Trio]:
    """Fresh hosts, until the end of the block.

    Args:
        place: A directory for their homes.
    """
    in_namespaces = why_no_namespaces() is None
    with (namespace_hosts if in_namespaces else loopback_hosts)(place, NAMES) as hosts:
        made = Trio(hosts, in_namespaces=in_namespaces)
        for name in NAMES:
            made.folder(name).mkdir()
        made.log_in()
        try:
            yield made
        finally:
            for name in PEERS:
                hosts["alpha"].run("ssh", "-F", made.login, "-O", "exit", name)


def stopped(daemons: Daemons) -> None:
    """Ends daemons."""
    for daemon in daemons:
        daemon.terminate()
    for daemon in daemons:
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def used(daemons: Daemons) -> tuple[float, int]:
    """The CPU seconds that daemons and their children have used, and the memory that they have now, in bytes."""
    seconds, size = 0.0, 0
    for pid in {pid for daemon in daemons for pid in descendants(daemon.pid)}:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            # Its own and that of children it has waited for.
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    size += int(line.split()[1]) * 1024
    return seconds, size


def python_program(name: str) -> str:
    """A program that was installed beside this interpreter."""
    return os.path.join(os.path.dirname(sys.executable), name)


def _is(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
