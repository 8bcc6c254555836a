"""Other programs, run with an environment of our own and within bounds; and files that they read, written whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import selectors
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from holdall.errors import LocalFileError
from holdall.limits import CHUNK_BYTES, MIB
from holdall.limits.sync import SYNC_PROGRAM_SECONDS_MAX, SYNC_PUSH_BYTES_MAX, SYNC_WORDS_BYTES_MAX
from holdall.sync.lock import wait_for_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

TIMED_OUT: Final = -1000
"""The exit code of a program that had to be ended for taking too long."""

_OUTPUT_BYTES_MAX: Final = 64 * MIB
"""What is taken of a program's standard output."""

_running: Final[set[subprocess.Popen[bytes]]] = set()
_ending = threading.Event()

_BLOCK_BYTES: Final = 512
"""What the shell counts the length of files in."""

GIT: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0")
"""Nothing that lies in a repository is run."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended.

    Attributes:
        code: Its exit code; the negative number of the signal that ended it, or `TIMED_OUT`.
        output: Its standard output, up to a bound.
        words: What it said on standard error, up to a bound.
    """

    code: int
    output: bytes
    words: str

    def last_words(self) -> str:
        """The last line that it said, harmless on a terminal."""
        lines = [line for line in self.words.replace("\r", "\n").split("\n") if line.strip()]
        text = lines[-1].strip().rstrip(".") if lines else f"exit code {self.code}"
        return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program gets to know: none of the variables by which git and ssh can be told what to run."""
    return {
        "HOME": os.path.expanduser("~"),
        "PATH": os.pathsep.join(os.get_exec_path()),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    } | dict(more or {})


class Line:
    """A program on another host that was started ahead, for git to speak with as if it had started it.

    Args:
        words: What starts it.

    Raises:
        LocalFileError: There is no such program.
    """

    def __init__(self, words: Sequence[str | Path]) -> None:
        self._process = _started(words, stdin=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - pipes
        self.fds = (self._process.stdout.fileno(), self._process.stdin.fileno())
        """What it says, and what it is told."""

    @property
    def is_open(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def command(self) -> str:
        """What git starts instead of ssh."""
        says, hears = self.fds
        return f"speak() {{ cat </dev/fd/{says} & exec cat >/dev/fd/{hears}; }}; speak"

    def end(self, seconds: float = 0.0) -> Done:
        """Waits for its end as long as that, and then ends it; what it said itself is git's."""
        process = self._process
        with process, contextlib.suppress(subprocess.TimeoutExpired):
            try:
                process.wait(seconds)
            finally:
                if process.poll() is None:
                    _kill(process)
                _running.discard(process)
                assert process.stderr is not None  # noqa: S101 - a pipe
                os.set_blocking(process.stderr.fileno(), False)
                words = process.stderr.read(SYNC_WORDS_BYTES_MAX) or b""
        return Done(process.returncode, b"", words.decode("utf-8", "replace"))


def _started(
    words: Sequence[str | Path], *, stdin: int, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """Starts a program, so that `end_all` ends it."""
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, and the words are ours or were checked
            [os.fspath(word) for word in words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            start_new_session=True,
            **more,
        )
    except OSError as error:
        raise LocalFileError(f"{words[0]} cannot be started: {error.strerror}.", hint="Install git and ssh.") from error
    _running.add(process)
    if _ending.is_set():
        _kill(process)
    return process


def run(
    words: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    seconds: float = SYNC_PROGRAM_SECONDS_MAX,
    env: Mapping[str, str] | None = None,
    output_bytes_max: int = _OUTPUT_BYTES_MAX,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Done:
    """Runs a program to its end, and no longer than it may take; what it started goes with it.

    Args:
        words: The program and its words.
        stdin: A short text for its standard input, below what a pipe holds.
        seconds: How long it may take.
        env: Variables beside those of `environment`.
        output_bytes_max: What is kept of its standard output; if there is more, the program is ended.
        cwd: The directory that it starts in; this process's own if None.
        pass_fds: What it gets open beside its three.

    Raises:
        LocalFileError: There is no such program.
    """
    process = _started(
        words, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, env=env, cwd=cwd, pass_fds=pass_fds
    )
    try:
        with process:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(stdin)
            output, words_said, ended = _collected(process, time.monotonic() + seconds, output_bytes_max)
            if not ended:
                _kill(process)
    finally:
        _running.discard(process)
    return Done(process.returncode if ended else TIMED_OUT, output, words_said.decode("utf-8", "replace"))


def end_all() -> None:
    """Ends whatever `run` runs on other threads, and what it is yet to run, because this process ends."""
    _ending.set()
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def git(git_dir: Path, *words: str, stdin: bytes = b"", seconds: float = SYNC_PROGRAM_SECONDS_MAX) -> Done:
    """Runs git on a repository of this machine."""
    return run(("git", *GIT, "--git-dir", git_dir, *words), stdin=stdin, seconds=seconds)


def git_over_ssh(
    git_dir: Path, ssh: Sequence[str | Path], *words: str, seconds: float, fetches: bool, line: Line | None = None
) -> Done:
    """Runs git on a repository of this machine and one of another.

    Args:
        git_dir: The repository of this machine.
        ssh: What reaches the other, up to its name.
        words: For git.
        seconds: How long it may take.
        fetches: Whether anything comes from there.
        line: What was started there ahead and is to be spoken with; it is used up.
    """
    shell = " ".join(_quoted(os.fspath(word)) for word in ssh) if line is None else line.command
    # git bounds what it is pushed, but not what it fetches; so whatever comes is one file, and the system bounds that.
    bound = ("sh", "-c", f'ulimit -f {SYNC_PUSH_BYTES_MAX // _BLOCK_BYTES}; exec "$@"', "git")
    strict = ("-c", "fetch.fsckObjects=true", "-c", "protocol.allow=never", "-c", "protocol.ssh.allow=always")
    done = run(
        (*(bound if fetches else ()), "git", *GIT, *strict, "-c", "fetch.unpackLimit=1", "--git-dir", git_dir, *words),
        env={"GIT_SSH_COMMAND": shell, "GIT_SSH_VARIANT": "ssh"},
        seconds=seconds,
        pass_fds=() if line is None else line.fds,
    )
    if line is None:
        return done
    there = line.end(SYNC_PROGRAM_SECONDS_MAX)
    return Done(done.code or there.code, done.output, there.words + done.words)


def write_atomically(path: Path, data: bytes, *, mode: int, lasting: bool = True) -> None:
    """Writes a file all at once: whoever reads it sees the old bytes or the new ones.

    Args:
        path: The file.
        data: What it is to hold.
        mode: Its mode.
        lasting: Whether it has to survive a loss of power.

    Raises:
        LocalFileError: It cannot be written; the old file is as it was.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            os.rename(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        if lasting:
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise LocalFileError(f"{path} cannot be written: {error.strerror}.") from error


def write_if_other(path: Path, data: bytes, *, mode: int) -> None:
    """As `write_atomically`, unless the file holds that already."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return
    write_atomically(path, data, mode=mode)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file of this user's, which ends with its holder.

    Raises:
        BusyError: Another process held it for too long.
        LocalFileError: The file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LocalFileError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        wait_for_turn(lambda: _taken(descriptor))
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _quoted(text: str) -> str:
    """A word for the shell that git starts ssh with."""
    return "'" + text.replace("'", "'\\''") + "'"


def _collected(process: subprocess.Popen[bytes], deadline: float, output_bytes_max: int) -> tuple[bytes, bytes, bool]:
    """Reads both outputs to their ends; says whether the program ended by itself in time and bounds."""
    kept = {"out": bytearray(), "err": bytearray()}
    with selectors.DefaultSelector() as selector:
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None  # noqa: S101 - both are pipes
            selector.register(stream, selectors.EVENT_READ, name)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                return bytes(kept["out"]), bytes(kept["err"]), False
            for key, _ in ready:
                piece = os.read(key.fd, CHUNK_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                kept[key.data] += piece
            if len(kept["out"]) > output_bytes_max:
                return bytes(kept["out"]), bytes(kept["err"]), False
            del kept["err"][: max(0, len(kept["err"]) - SYNC_WORDS_BYTES_MAX)]
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(kept["out"]), bytes(kept["err"]), False
    return bytes(kept["out"]), bytes(kept["err"]), True
