"""Server processes: started on a free port, watched, measured, and ended by their own ids.

Knows nothing of what the servers serve.
"""

from __future__ import annotations

import contextlib
import glob
import os
import select
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST: Final = "127.0.0.1"
ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 15.0
LOG_TAIL_CHARS: Final = 400


class BenchError(Exception):
    """A row cannot be measured; the message is the reason that the report shows."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """The process and all its children, children of threads included."""
    found = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as children:
            for child in children.read().split():
                found += descendants(int(child))
    return found


def resident_bytes_max(pid: int) -> int | None:
    """The largest resident memory of one process since it began (VmHWM), or None if it is gone.

    Args:
        pid: The process's id.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


class Server:
    """One started server: its port, its processes, its log.

    Args:
        process: The process that was started, leader of a session of its own.
        port: Where it listens, or will.
        log_path: The file that takes its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: str) -> None:
        self.port = port
        self._process = process
        self._log_path = log_path

    def wait_ready(self) -> None:
        """Returns when the port accepts a connection.

        Raises:
            BenchError: The server ended or did not listen in time.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            self.check_alive()
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
                return
            time.sleep(0.01)
        raise BenchError(f"it did not listen within {START_SECONDS_MAX:.0f} s: {self._log_tail()}")

    def wait_descriptor(self, descriptor: int) -> None:
        """Reads the bound port from the pipe on which the server announces that it listens.

        Args:
            descriptor: The reading end; the caller closes it.

        Raises:
            BenchError: The server ended or did not announce itself in time.
        """
        text = b""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not text.endswith(b"\n"):
            left = deadline - time.monotonic()
            chunk = os.read(descriptor, 64) if left > 0 and select.select([descriptor], [], [], left)[0] else b""
            if not chunk:
                raise BenchError(f"it did not start: {self._log_tail()}")
            text += chunk
        self.port = int(text)

    def check_alive(self) -> None:
        """Raises BenchError if the server has ended by itself."""
        if self._process.poll() is not None:
            raise BenchError(f"it ended with status {self._process.returncode}: {self._log_tail()}")

    def resident_bytes_max(self) -> tuple[int, ...]:
        """VmHWM of each of its processes in bytes, the started one first."""
        sizes = (resident_bytes_max(pid) for pid in descendants(self._process.pid))
        return tuple(size for size in sizes if size is not None)

    def stop(self) -> None:
        """Ends the server and every process it started; returns when they are gone."""
        pids = descendants(self._process.pid) if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in pids:
            # The session tells a worker that outlived its leader from a stranger who got its number since.
            with contextlib.suppress(OSError):
                if os.getsid(pid) == self._process.pid:
                    os.kill(pid, signal.SIGKILL)

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError), open(self._log_path, encoding="utf-8", errors="replace") as log:
            return " ".join(log.read()[-LOG_TAIL_CHARS:].split()) or "it said nothing"
        return "it said nothing"


def spawn(
    command: Sequence[str],
    *,
    log_path: str,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Server:
    """Starts a server; the caller waits for it and must stop it.

    Args:
        command: Program and arguments.
        log_path: The file that takes its standard output and error.
        port: Where it will listen, where that is known before.
        environment: Variables beyond the plain ones.
        pass_fds: Descriptors it inherits.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDALL_") and name != "APIKEY"}
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**kept, **(environment or {})},
            pass_fds=pass_fds,
            # A Ctrl-C at the terminal reaches only the harness, which then ends its servers in order.
            start_new_session=True,
        )
    return Server(process, port, log_path)
