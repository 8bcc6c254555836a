"""Hosts with a folder that their daemons watch."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trial import files, say

from holdall.testing.hosts import loopback_hosts, missing_tools, namespace_hosts, why_no_namespaces
from support import DEADLINE_SECONDS, need_tool, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from holdall.testing.hosts import Host

FOLDER = "myrepo"


@dataclass
class Watched:
    """A host, and the daemon of its folder."""

    host: Host
    log: Path
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.host.home / FOLDER

    def watch(self, *before: str, every: str = "2s") -> None:
        """Starts the daemon, and waits until it has looked at everything."""
        words = ("holdall", "sync", "watch", "--every", every, str(self.root))
        self.daemon = self.host.start(*before, *words, log=self.log)
        wait_until(lambda: self.rounds() is not None, f"the daemon of {self.host.name} answers: {self.said()}")

    def rounds(self) -> int | None:
        """How many rounds there were; None where no daemon answers, or where it had none."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(self.host.home / f".git.{FOLDER}/holdall/daemon.sock"))
                link.sendall(b"status\n")
                with link.makefile("rb") as answer:
                    return int(json.loads(answer.readline())["rounds"]) or None
        except (OSError, ValueError):  # there is none, or it ends just now
            return None

    def stop(self, *, kill: bool = False) -> int | None:
        """Ends the daemon; returns its exit code."""
        if self.daemon is None:
            return None
        (self.daemon.kill if kill else self.daemon.terminate)()
        code = self.daemon.wait(DEADLINE_SECONDS)
        self.daemon = None
        return code

    def said(self) -> str:
        """What its daemons have said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def head(self) -> str:
        """The commit that it has."""
        return (self.host.home / f".git.{FOLDER}/refs/heads/main").read_text().strip()

    def files(self) -> dict[str, bytes]:
        """The files of its folder but for the roster."""
        return files(self.host, FOLDER)


@contextmanager
def watched(
    place: Path, *names: str, read_only: tuple[str, ...] = (), daemons: bool = True, cuts: bool = False
) -> Iterator[list[Watched]]:
    """Hosts of one cluster: network namespaces as root, else ports of this host.

    Args:
        place: A directory for them.
        names: Their names; the first lets the others in.
        read_only: Those that only take.
        daemons: Whether the folders are watched.
        cuts: Whether they are to be cut off from each other; without namespaces the test is skipped.
    """
    for tool in ("ssh", "ssh-keygen", "ssh-keyscan"):
        need_tool(tool)
    if missing_tools(namespaces=False):
        need_tool("sshd")
    reason = why_no_namespaces()
    if cuts and reason is not None:
        need_tool("network namespaces")
    with (namespace_hosts if reason is None else loopback_hosts)(place, names) as made:
        all_of_them = [Watched(made[name], place / f"{name}.log") for name in names]
        try:
            for one in all_of_them:
                host = one.host
                options = f"--node {host.name} --address {host.address} --port {host.port}"
                if one is all_of_them[0]:
                    say(host, f"holdall sync bootstrap ~/{FOLDER} {options}")
                    continue
                flag = "--read-only" if host.name in read_only else ""
                line = say(all_of_them[0].host, f"holdall sync invite {flag} ~/{FOLDER}").strip()
                say(host, f"holdall sync join - ~/{FOLDER} {options}", stdin=line)
            for one in all_of_them if daemons else ():
                one.watch()
            yield all_of_them
        finally:
            for one in all_of_them:
                one.stop(kill=True)


def put(one: Watched, name: str, data: bytes) -> None:
    """Writes a file so that it is seen whole, however slow this is: as many editors do, and unlike `write_bytes`."""
    draft = one.host.home / "draft"
    draft.write_bytes(data)
    draft.replace(one.root / name)


def arrive(one: Watched, name: str, data: bytes) -> None:
    """Waits until a file is there."""

    def is_there() -> bool:
        with suppress(FileNotFoundError, NotADirectoryError):
            return (one.root / name).read_bytes() == data
        return False

    wait_until(is_there, f"{name} is on {one.host.name}: {one.said()}")


@contextmanager
def asleep(*ones: Watched) -> Iterator[None]:
    """Lets no daemon do anything for the length of the block: what is done in it is done at once."""
    daemons = [one.daemon for one in ones if one.daemon is not None]
    for daemon in daemons:
        daemon.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.send_signal(signal.SIGCONT)


def same(*ones: Watched) -> bool:
    """Whether they have the same commit and the same files."""
    first = ones[0]
    return all(one.head() == first.head() and one.files() == first.files() for one in ones[1:])
