"""`holdall sync demo`: a cluster on one machine, to see what sync does and to play with."""

import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.cli import output
from holdall.cli.exit_codes import DONE
from holdall.cli.sync_folders import DEFAULTS, Common
from holdall.errors import LocalFileError, StoreError, UsageError

if TYPE_CHECKING:
    from holdall.testing.hosts import Host

_NAMES: Final = ("alpha", "beta", "gamma")
_FOLDER: Final = "notes"
_END_SECONDS_MAX: Final = 15.0


def demo(
    directory: str | None = None,
    /,
    *,
    keep: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Makes three hosts on this machine, joins them, changes files on each, and shows every command and what it did.

    Each host is an sshd on a port of 127.0.0.1, run as you, with a home directory of its own; your own is not touched.
    Needs openssh's client and server, and git. With --json, each line is {"host", "command",
    "shown", "seconds"}.

    Args:
        directory: Where their home directories are, new or empty; by default a temporary one.
        keep: Keep the hosts running until Ctrl-C, each with its daemon, to play with from another terminal; a directory
            that was named stays after that, too.
        common: The options of every command.
    """
    from holdall.testing.hosts import loopback_hosts  # noqa: PLC0415 - only this command needs it

    with ExitStack() as ending:
        if directory is None:
            place = Path(tempfile.mkdtemp(prefix="holdall-demo-"))
        else:
            place = _empty(Path(directory).absolute())
        if directory is None or not keep:
            ending.callback(shutil.rmtree, place, ignore_errors=True)
        hosts = ending.enter_context(loopback_hosts(place, _NAMES))
        # Connections that are kept open would outlive the hosts.
        ending.callback(_hang_up, hosts)
        _Demo(hosts, common).run()
        if keep:
            for host in hosts.values():
                log = place / f"{host.name}.daemon.log"
                daemon = host.start("holdall", "sync", "watch", host.home / _FOLDER, log=log)
                ending.callback(_end, daemon)
            _tell_how_to_play(place, stays=directory is not None)
            _wait()
    return DONE


class _Demo:
    """What is done on the hosts, and shown.

    Args:
        hosts: The hosts, by name.
        common: How to show it.
    """

    def __init__(self, hosts: "dict[str, Host]", common: Common) -> None:
        self._hosts = hosts
        self._common = common

    def run(self) -> None:
        """Does it all."""
        self._title("Alpha makes a folder the first of a cluster, and invites the others.")
        self._do("alpha", f"mkdir {_FOLDER} && echo 'milk, bread' > {_FOLDER}/list")
        self._do("alpha", f"holdall sync bootstrap ~/{_FOLDER}", self._place("alpha"))
        for name, words in (("beta", ""), ("gamma", " --read-only")):
            invite = self._do("alpha", f"holdall sync invite{words}").strip()
            self._do(name, f"holdall sync join - ~/{_FOLDER}", self._place(name), stdin=invite)
        self._title("Beta changes the list; a push brings it to all. Gamma is read-only: it has what the others have.")
        self._do("beta", f"echo 'milk, bread, tea' > {_FOLDER}/list")
        self._do("beta", "holdall sync push")
        self._do("gamma", f"cat {_FOLDER}/list")
        self._title("Alpha and beta change the same line at once. Nothing is lost: one version lies beside the other.")
        self._do("alpha", f"echo 'milk, bread, tea, jam' > {_FOLDER}/list")
        self._do("beta", f"echo 'milk, bread, tea, eggs' > {_FOLDER}/list")
        self._do("alpha", "holdall sync push")
        self._do("beta", "holdall sync push")
        self._do("beta", f"holdall sync conflicts diff {_FOLDER}/list")
        self._do("beta", f"holdall sync conflicts take {_FOLDER}/list mine")
        self._do("beta", "holdall sync push")
        self._do("gamma", f"ls {_FOLDER} && cat {_FOLDER}/list")
        self._title("Every version stays.")
        self._do("gamma", f"holdall sync log {_FOLDER}/list")
        if not self._same():
            raise StoreError("The hosts do not have the same files.", hint="This is a fault in holdall: report it.")
        self._title("All three hosts have the same files.")

    def _place(self, name: str) -> str:
        """What a host has to be told here, where three share one name and address."""
        return f" --node {name} --address 127.0.0.1 --port {self._hosts[name].port}"

    def _do(self, name: str, command: str, more: str = "", *, stdin: str = "") -> str:
        """Runs a command on a host and shows both; returns what it printed.

        Raises:
            StoreError: It failed.
        """
        began = time.perf_counter()
        done = self._hosts[name].run("sh", "-c", command + more, stdin=stdin)
        seconds = time.perf_counter() - began
        shown = (done.stdout + done.stderr).rstrip("\n")
        if done.returncode not in {0, 1}:
            raise StoreError(f"On {name}, {command}{more} ended with {done.returncode}: {shown}")
        if self._common.json:
            facts = {"host": name, "command": command + more, "shown": shown, "seconds": round(seconds, 3)}
            output.document(facts)
        else:
            output.line(f"{name}$ {command}")
            for line in shown.split("\n") if shown else ():
                output.line(line)
            output.flush()
        return done.stdout

    def _title(self, text: str) -> None:
        if not self._common.json and not self._common.quiet:
            output.line(f"\n# {text}")

    def _same(self) -> bool:
        trees = []
        for host in self._hosts.values():
            root = host.home / _FOLDER
            trees.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
        return all(tree == trees[0] for tree in trees)


def _empty(place: Path) -> Path:
    """A directory that has nothing in it; made if missing."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise UsageError(f"{place} is not empty.", hint="Name another directory, or a new one.")
    except OSError as error:
        raise LocalFileError(f"{place} cannot be made: {error.strerror}.") from error
    return place


def _tell_how_to_play(place: Path, *, stays: bool) -> None:
    lines = [
        "The hosts keep running until Ctrl-C, each with its daemon. From another terminal, for instance:",
        "",
        f"  cd {shlex.quote(str(place))}",
        f"  echo hello > beta/{_FOLDER}/hello; sleep 1; cat gamma/{_FOLDER}/hello",
        f"  rm alpha/{_FOLDER}/hello; sleep 1; ls beta/{_FOLDER}",
        f"  HOME=$PWD/alpha holdall sync status alpha/{_FOLDER}",
        f"  holdall sync log -C beta/{_FOLDER}",
        "",
        f"The hosts' files are in {place}, and {'stay there' if stays else 'are removed then'}.",
    ]
    output.panel(lines)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _wait() -> None:
    """Waits until somebody ends the command."""
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return


def _hang_up(hosts: "dict[str, Host]") -> None:
    for name, host in hosts.items():
        for other in hosts:
            if other != name:
                config = host.home / f".git.{_FOLDER}" / "holdall" / "ssh" / "config"
                if config.exists():
                    host.run("ssh", "-F", config, "-O", "exit", other)
