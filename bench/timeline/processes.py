"""The two packages as processes: the original in a virtual environment of its own, ours in this one."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "driver.py")
OURS: Final = "holdall.timeline"
ORIGINAL: Final = "gitblobts"
PINS: Final = (
    "gitblobts==0.0.7",
    "cryptography==50.0.2",
    "dateparser==1.5.0",
    "GitPython==3.2.1",
)
"""The original asks for no upper bounds; these are known to run together."""


class Package:
    """One package behind a pipe.

    Args:
        name: The package.
        python: The interpreter of its environment.
        environment: All of its environment variables.
    """

    def __init__(self, name: str, python: str, environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, DRIVER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def do(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Calls a method of the driver.

        Raises:
            BenchError: It raised; the message begins with the name of the exception.
        """
        answer = self.ask(call, **arguments)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error'][0]}: {' '.join(answer['message'].split())[:300]}")
        return answer

    def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Calls a method of the driver; an exception is an answer too, with the names of its classes as `error`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": call, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def text_of(blob: bytes) -> str:
    """Bytes as the driver takes and gives them."""
    return base64.b64encode(blob).decode()


@contextlib.contextmanager
def package(name: str, environment: dict[str, str]) -> Iterator[Package]:
    """Runs a package until the end of the block.

    Args:
        name: `OURS` or `ORIGINAL`.
        environment: All of its environment variables.

    Raises:
        BenchError: The original cannot be installed.
    """
    running = Package(name, sys.executable if name == OURS else original_python(), environment)
    try:
        yield running
    finally:
        running.stop()


def original_python() -> str:
    """The interpreter of an environment with the original package, made at its first use and kept in the user's cache.

    Raises:
        BenchError: It cannot be made, for want of a network or otherwise.
    """
    stamp = hashlib.sha256(repr((PINS, sys.version, sys.prefix)).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    base = os.path.join(cache, "holdall-peers")
    place = os.path.join(base, f"{ORIGINAL}-{stamp}")
    python = os.path.join(place, "bin", "python")
    os.makedirs(base, mode=0o700, exist_ok=True)
    with open(f"{place}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if not os.path.exists(os.path.join(place, "ready")):
            shutil.rmtree(place, ignore_errors=True)
            _run([sys.executable, "-m", "venv", "--without-pip", place])
            _run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *PINS])
            with open(os.path.join(place, "ready"), "w", encoding="ascii"):
                pass
    return python


def clones(folder: str, *names: str, bare: bool = True) -> list[str]:
    """A new bare repository and clones of it, each of which may push to it.

    Args:
        folder: Where to make them.
        names: What the clones are called.
        bare: Make the bare repository too; it is `remote.git`.

    Returns:
        The paths of the clones.
    """
    remote = os.path.join(folder, "remote.git")
    if bare:
        git("init", "-q", "--bare", "-b", "main", remote)
    found = []
    for name in names:
        path = os.path.join(folder, name)
        git("clone", "-q", remote, path)
        git("-C", path, "checkout", "-q", "-B", "main")
        found.append(path)
    return found


def git_environment(home: str) -> dict[str, str]:
    """Environment variables with which git heeds nothing but what this run says, in a time zone that is not UTC.

    Args:
        home: A directory of this run.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "HOLDALL_"))}
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()}
    return (
        kept | who | {"HOME": home, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "TZ": "Asia/Kolkata"}
    )


_WHO: Final = {"NAME": "bench", "EMAIL": "bench@example.org"}


def git(*words: str) -> None:
    """Runs git.

    Raises:
        BenchError: It failed.
    """
    _run(["git", *words])


def _run(command: list[str]) -> None:
    environment = git_environment(tempfile.gettempdir()) if command[0] == "git" else None
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)[:100]} failed: {' '.join(done.stderr.split())[-300:]}")
