"""The programs that are compared: how each is set up on three hosts, kept running, and told to bring files once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from bench.sync.trio import NAMES, PEERS, python_program

if TYPE_CHECKING:
    from bench.sync.trio import Daemons, Trio


class Way:
    """A program that brings alpha's files to both peers.

    Attributes:
        name: In the report.
        tools: Programs that it needs.
        watches: Whether it can be left running.
        once: Whether it brings files when told to.
        keeps_history: Whether old versions stay.
    """

    name: str = ""
    tools: tuple[str, ...] = ()
    watches = False
    once = False
    keeps_history = False

    def missing(self) -> str | None:
        """Why it cannot run here."""
        return next((f"{tool} is not installed" for tool in self.tools if shutil.which(tool) is None), None)

    def join(self, trio: Trio) -> None:
        """Sets it up; alpha's folder has its first files, the others are empty."""

    def start(self, trio: Trio) -> dict[str, Daemons]:
        """Starts what keeps running, on each host."""
        raise NotImplementedError

    def bring(self, trio: Trio) -> dict[str, float]:
        """Brings what alpha has now to both; returns seconds of parts that are shown by themselves."""
        raise NotImplementedError


class Holdall(Way):
    """`holdall sync`."""

    name = "holdall"
    watches = once = keeps_history = True

    def missing(self) -> str | None:
        command = (sys.executable, "-m", "holdall", "sync", "watch", "--help")
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return "there is no holdall sync watch"
        return None

    def join(self, trio: Trio) -> None:
        for name in NAMES:
            words = (
                ["bootstrap"] if name == "alpha" else ["join", trio.run("alpha", _HOLDALL, "sync", "invite").strip()]
            )
            host = trio.hosts[name]
            place = ("--node", name, "--address", host.address, "--port", str(host.port))
            trio.run(name, _HOLDALL, "sync", *words, trio.folder(name), *place)

    def start(self, trio: Trio) -> dict[str, Daemons]:
        return {name: [trio.daemon(name, _HOLDALL, "sync", "watch", trio.folder(name))] for name in NAMES}

    def bring(self, trio: Trio) -> dict[str, float]:
        trio.run("alpha", _HOLDALL, "sync", "push", trio.folder("alpha"))
        return {}


class Lsyncd(Way):
    """lsyncd over rsync and ssh: one way, without history; the delay that it gathers changes for is set to none."""

    name = "lsyncd"
    tools = ("lsyncd", "rsync")
    watches = True

    def start(self, trio: Trio) -> dict[str, Daemons]:
        rows = ["settings { nodaemon = true, maxProcesses = 4 }"]
        rows += [
            f'sync {{ default.rsync, source = "{trio.folder("alpha")}/", target = "{name}:{trio.folder(name)}/", '
            f'delay = 0, rsync = {{ archive = true, rsh = "ssh -F {trio.login}" }} }}'
            for name in PEERS
        ]
        place = trio.hosts["alpha"].home / "lsyncd.conf"
        place.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return {"alpha": [trio.daemon("alpha", "lsyncd", "-nodaemon", place)]}


class Unison(Way):
    """unison, one for each peer: both ways, without history; where it has no watcher it looks every second."""

    name = "unison"
    tools = ("unison",)
    watches = once = True

    def start(self, trio: Trio) -> dict[str, Daemons]:
        repeat = "watch" if shutil.which("unison-fsmonitor") else "1"
        words = [(*self._words(trio, name), "-repeat", repeat) for name in PEERS]
        return {"alpha": [trio.daemon("alpha", *each) for each in words]}

    def bring(self, trio: Trio) -> dict[str, float]:
        trio.at_once(lambda name: trio.run("alpha", *self._words(trio, name)))
        return {}

    def _words(self, trio: Trio, name: str) -> tuple[str, ...]:
        there = f"ssh://{name}/{trio.folder(name)}"
        options = ("-batch", "-auto", "-silent", "-sshargs", f"-F {trio.login}")
        return ("unison", str(trio.folder("alpha")), there, *options)


class Rsync(Way):
    """rsync to both at once: one way, without history."""

    name = "rsync"
    tools: tuple[str, ...] = ("rsync",)
    once = True

    def bring(self, trio: Trio) -> dict[str, float]:
        ssh = f"ssh -F {trio.login}"

        def one(name: str) -> None:
            trio.run(
                "alpha",
                "rsync",
                "-a",
                "--delete",
                "-e",
                ssh,
                f"{trio.folder('alpha')}/",
                f"{name}:{trio.folder(name)}/",
            )

        trio.at_once(one)
        return {}


class Git(Way):
    """git by hand: add and commit, push to a bare repository on alpha, pull from it on both at once."""

    name = "git"
    tools = ("git",)
    once = keeps_history = True

    def join(self, trio: Trio) -> None:
        hub = trio.hosts["alpha"].home / "hub"
        ssh = f"core.sshCommand=ssh -F {trio.login}"
        trio.run("alpha", "git", "init", "-q", "--bare", "--initial-branch=main", hub)
        trio.run("alpha", "git", "init", "-q", "--initial-branch=main", trio.folder("alpha"))
        self._git(trio, "alpha", "remote", "add", "origin", str(hub))
        self._git(trio, "alpha", "commit", "-q", "--allow-empty", "-m", "begun")
        self._git(trio, "alpha", "push", "-q", "origin", "main")
        for name in PEERS:
            os.rmdir(trio.folder(name))
            trio.run(name, "git", "-c", ssh, "clone", "-q", "-c", ssh, f"alpha:{hub}", trio.folder(name))

    def bring(self, trio: Trio) -> dict[str, float]:
        self._git(trio, "alpha", "add", "-A")
        self._git(trio, "alpha", "commit", "-q", "-m", "more")
        self._git(trio, "alpha", "push", "-q", "origin", "main")
        trio.at_once(lambda name: self._git(trio, name, "pull", "-q", "--ff-only", "origin", "main"))
        return {}

    def _git(self, trio: Trio, name: str, *words: str) -> None:
        who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        trio.run(name, "git", "-C", trio.folder(name), *who, *words)


class RsyncAndCommit(Rsync):
    """rsync, and a commit on alpha so that old versions stay."""

    name = "rsync + git commit"
    tools = ("rsync", "git")
    keeps_history = True

    def join(self, trio: Trio) -> None:
        trio.run(
            "alpha",
            "git",
            "init",
            "-q",
            "--initial-branch=main",
            "--separate-git-dir",
            self._place(trio),
            trio.folder("alpha"),
        )

    def bring(self, trio: Trio) -> dict[str, float]:
        git = ("git", "-C", str(trio.folder("alpha")), "-c", "user.name=bench", "-c", "user.email=bench@localhost")
        trio.run("alpha", *git, "add", "-A")
        trio.run("alpha", *git, "commit", "-q", "-m", "more")
        return super().bring(trio)

    def _place(self, trio: Trio) -> str:
        return str(trio.hosts["alpha"].home / "history")


_HOLDALL: Final = python_program("holdall")
WAYS: Final[tuple[Way, ...]] = (Holdall(), Lsyncd(), Unison(), Rsync(), RsyncAndCommit(), Git())
