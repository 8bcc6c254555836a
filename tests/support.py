"""What many tests need: outside tools, free ports, a running server, the command line as a process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

DEADLINE_SECONDS = 60.0
"""How long a test waits for what comes by itself: on a busy machine ten times as long as on an idle one."""
_random: Final = SystemRandom()


def need_tool(name: str) -> str:
    """The path of an outside program; without it the test is skipped, or fails where CI=true says all are there."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now, and that the system gives to nobody who takes any."""
    while True:
        port = _random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(holds: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Waits for a condition, and fails the test if it does not come true."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s still not so: {what}")
        time.sleep(0.01)


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what holdall heeds, and with `env` added."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOLDALL_") and name not in {"APIKEY", "NO_COLOR", "FORCE_COLOR", "COLUMNS"}
    }
    return kept | dict(env or {})


def read_terminal(fd: int) -> bytes:
    """All that was written to a terminal whose other end is closed; closes this one."""
    shown = b""
    try:
        while piece := os.read(fd, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(fd)
    return shown


def run_cli(
    *args: str | Path,
    input: bytes | str | None = None,  # noqa: A002 - as subprocess.run calls it
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = DEADLINE_SECONDS * 2,
) -> subprocess.CompletedProcess[bytes]:
    """Runs `holdall` with these words and returns its exit code and output, whatever they are."""
    return subprocess.run(
        [sys.executable, "-m", "holdall", *map(str, args)],
        input=input.encode() if isinstance(input, str) else input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        env=clean_environment(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: Where it answers, without a final slash.
        port: The port in it.
        process: The process that was started.
        data: Its data directory.
    """

    url: str
    port: int
    process: subprocess.Popen[bytes]
    data: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_SECONDS * 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def running_server(
    data: Path, *options: str, env: Mapping[str, str] | None = None, scheme: str = "http", durable: bool = False
) -> Iterator[Server]:
    """Runs `holdall serve` on a free port of 127.0.0.1 until the end of the block.

    Args:
        data: Its data directory; made if missing.
        options: Further words of its command line; a --port among them counts.
        env: Added to its environment.
        scheme: `https` where the options bring a certificate.
        durable: Whether its writes outlive a loss of power, as by default; the journal for that takes a third of
            the start.
    """
    ready_read, ready_write = os.pipe()
    port = () if "--port" in options else ("--port", "0")
    durability = () if durable or "--durability" in options else ("--durability", "os")
    command = [sys.executable, "-m", "holdall", "serve", "--data", str(data), "--host", "127.0.0.1", *port]
    with open(data.parent / f"{data.name}.stderr", "w+b") as log:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(ready_write), *durability, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(ready_write,),
            env=clean_environment(env),
        )
        os.close(ready_write)
        try:
            with open(ready_read, "rb") as ready:
                line = ready.readline()
            if not line:
                process.wait(DEADLINE_SECONDS)
                log.seek(0)
                pytest.fail(f"the server did not start: {log.read().decode(errors='replace')}")
            server = Server(f"{scheme}://127.0.0.1:{int(line)}", int(line), process, data)
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(DEADLINE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
