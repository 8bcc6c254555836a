"""The server as a whole: takes the port, starts the workers, replaces one that dies, stops them together.

One worker runs in this very process. More are forked, each with a listening socket of its own on the same port
(SO_REUSEPORT), between which the kernel shares out the connections.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NoReturn

from holdall.errors import HoldallError, SettingError
from holdall.server.log import Log
from holdall.server.metrics import Metrics
from holdall.server.worker import Place, run_worker

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from holdall.server.settings import Settings

_RESTART_SECONDS: Final = 0.5
_STOP_GRACE_SECONDS: Final = 10.0
"""How long beyond the drain timeout a worker may take to close its store."""
_FAILED_TO_START: Final = 3
_CONNECTION_DESCRIPTORS: Final = 3
"""What a connection has open at most: its socket, a duplicate of it for a pump, and a file."""
_OTHER_DESCRIPTORS: Final = 256


def run(settings: Settings, on_ready: Callable[[int], None]) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Args:
        settings: What it was told.
        on_ready: Called with the port once every worker listens.

    Returns:
        The exit code: 0 after a stop in which every request under way was answered, else 1.

    Raises:
        HoldallError: It cannot start.
    """
    start_ns = time.time_ns()
    settings = _within_descriptor_limit(settings)
    shared = Metrics.shared(settings.workers)
    if settings.workers == 1:
        sock = _bound(settings, settings.port, shared_port=False)
        port = sock.getsockname()[1]
        with sock:
            return run_worker(settings, Place(0, shared, sock, start_ns), lambda: on_ready(port))
    return _Supervisor(settings, shared, start_ns).run(on_ready)


class _Supervisor:
    """Several workers and the process that minds them."""

    def __init__(self, settings: Settings, shared: mmap.mmap, start_ns: int) -> None:
        self._settings = settings
        self._shared = shared
        self._start_ns = start_ns
        self._rows: dict[int, int] = {}
        self._stopping = False
        self._alive_read, self._alive_write = os.pipe()
        self._ready_read, self._ready_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def run(self, on_ready: Callable[[int], None]) -> int:
        # A plain bind first: with SO_REUSEPORT alone a second server would silently share the port of the first.
        with _bound(self._settings, self._settings.port, shared_port=False) as probe:
            port = probe.getsockname()[1]
        with _bound(self._settings, port, shared_port=True):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, self._on_signal)
            signal.set_wakeup_fd(self._wake_write)
            for row in range(self._settings.workers):
                self._start(row, port)
            return self._mind(port, on_ready)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _start(self, row: int, port: int) -> None:
        pid = os.fork()
        if pid:
            self._rows[pid] = row
        else:
            self._become_worker(row, port)

    def _become_worker(self, row: int, port: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self._alive_write, self._ready_read, self._wake_read, self._wake_write):
            os.close(fd)
        code = _FAILED_TO_START
        try:
            sock = _bound(self._settings, port, shared_port=True)
            place = Place(row, self._shared, sock, self._start_ns, self._alive_read)
            code = run_worker(self._settings, place, lambda: _tell(self._ready_write))
        except HoldallError as error:
            Log.say(error.sentence())
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the supervisor's frames
            Log("off").fault(error)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _mind(self, port: int, on_ready: Callable[[int], None]) -> int:
        ready, code, told, deadline = 0, 0, False, None
        while self._rows:
            self._wait(deadline)
            ready += self._drain_pipe(self._ready_read)
            if not told and ready >= self._settings.workers:
                told = True
                on_ready(port)
            for pid, status in self._reap():
                row = self._rows.pop(pid)
                ended = os.waitstatus_to_exitcode(status)
                if self._stopping:
                    code = code or (1 if ended else 0)
                elif ended == _FAILED_TO_START:
                    self._stopping, code = True, 1
                else:
                    Log.say(f"Worker {row} ended with {ended}; another takes its place.")
                    time.sleep(_RESTART_SECONDS)
                    self._start(row, port)
            if self._stopping and deadline is None:
                deadline = time.monotonic() + self._settings.drain_seconds + _STOP_GRACE_SECONDS
                os.close(self._alive_write)  # also stops a worker that has no handler of the signal yet
                self._kill(signal.SIGTERM)
            if deadline is not None and time.monotonic() > deadline:
                self._kill(signal.SIGKILL)
                code = 1
        return code

    def _wait(self, deadline: float | None) -> None:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        select.select([self._wake_read, self._ready_read], [], [], timeout)
        self._drain_pipe(self._wake_read)

    @staticmethod
    def _drain_pipe(fd: int) -> int:
        with suppress(BlockingIOError):
            if select.select([fd], [], [], 0)[0]:
                return len(os.read(fd, 4096))
        return 0

    def _reap(self) -> list[tuple[int, int]]:
        found = []
        with suppress(ChildProcessError):
            while (pair := os.waitpid(-1, os.WNOHANG))[0]:
                found.append(pair)
        return [pair for pair in found if pair[0] in self._rows]

    def _kill(self, number: int) -> None:
        for pid in self._rows:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _bound(settings: Settings, port: int, *, shared_port: bool) -> socket.socket:
    """A socket bound to the address to serve.

    Raises:
        SettingError: The address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind(address)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        raise SettingError(
            f"{settings.host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}.",
            hint="Stop what listens there, or choose another with --host and --port.",
        ) from error
    sock.setblocking(False)
    return sock


def _within_descriptor_limit(settings: Settings) -> Settings:
    """Takes as many descriptors as the connections may need, or as few connections as the system has them for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections_max * _CONNECTION_DESCRIPTORS + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
            soft = max(soft, allowed)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings
    connections_max = max(1, (soft - _OTHER_DESCRIPTORS) // _CONNECTION_DESCRIPTORS)
    Log("off").say(
        f"The system allows {soft} open files, which are enough for {connections_max} connections a worker, "
        f"not {settings.connections_max}."
    )
    return replace(settings, connections_max=connections_max)


def _tell(fd: int) -> None:
    os.write(fd, b"r")
    os.close(fd)
