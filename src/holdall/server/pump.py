"""Moving large bodies between a socket and a file, off the event loop.

A pump runs in a thread, on a duplicate of the connection's socket, for as long as bytes flow. When they stop for a
moment it gives the connection back to the loop, so that slow clients never hold a thread.
"""

from __future__ import annotations

import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.limits import CHUNK_BYTES

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from holdall.stores.abilities import Spooled

PUMP_BYTES_MIN: Final = 1024 * 1024
"""Below this a hand-over costs more than it gains."""
_PUMPS_MAX: Final = 4
_BUFFERS: Final = 4
_IDLE_MILLISECONDS: Final = 100
_FILL_SECONDS: Final = 1.0
"""A client that has not sent a buffer's fill by then is slow, however steadily it sends."""
_SENDFILE_BYTES: Final = 4 * 1024 * 1024


class Flow(Enum):
    """Why a pump stopped."""

    DONE = "done"
    IDLE = "idle"
    CLOSED = "closed"


class Pumped(NamedTuple):
    """What a pump did.

    Attributes:
        flow: Why it stopped.
        size_bytes: How much it moved.
    """

    flow: Flow
    size_bytes: int


class Pumps:
    """The threads for large bodies of one worker; few, for more would only fight for the same cores."""

    def __init__(self) -> None:
        self._places = threading.Semaphore(_PUMPS_MAX)
        self.executor = ThreadPoolExecutor(_PUMPS_MAX, thread_name_prefix="holdall-pump")

    def take(self) -> bool:
        """Takes a place if one is free; who gets one must `give_back` it."""
        return self._places.acquire(blocking=False)

    def give_back(self) -> None:
        """Gives a place back."""
        self._places.release()

    def close(self) -> None:
        """Waits for the pumps that run."""
        self.executor.shutdown()


def receive(sock: socket.socket, spooled: Spooled, want: int, wanted: Callable[[], bool]) -> Pumped:
    """Moves up to `want` bytes from a non-blocking socket into a spool, hashing on a second thread meanwhile.

    Args:
        sock: Where they come from.
        spooled: Where they go.
        want: How many there are.
        wanted: Asked before each buffer whether to go on.

    Raises:
        StoreError: The spool cannot take them.
    """
    free: SimpleQueue[bytearray] = SimpleQueue()
    filled: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
    for _ in range(_BUFFERS):
        free.put(bytearray(CHUNK_BYTES))

    def hash_all() -> None:
        while (item := filled.get()) is not None:
            buffer, size = item
            spooled.hash(memoryview(buffer)[:size])
            free.put(buffer)

    hasher = threading.Thread(target=hash_all, name="holdall-hash", daemon=True)
    hasher.start()
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    moved, flow = 0, Flow.DONE
    try:
        while moved < want and flow is Flow.DONE and wanted():
            buffer = free.get()
            size, flow = _fill(sock, poll, memoryview(buffer)[: min(CHUNK_BYTES, want - moved)])
            spooled.keep(memoryview(buffer)[:size])
            filled.put((buffer, size))
            moved += size
    finally:
        filled.put(None)
        hasher.join()
    return Pumped(flow, moved)


def _fill(sock: socket.socket, poll: select.poll, view: memoryview) -> tuple[int, Flow]:
    """Fills a buffer, waiting for more only as long as more keeps coming."""
    size, deadline = 0, time.monotonic() + _FILL_SECONDS
    while size < len(view):
        try:
            got = sock.recv_into(view[size:])
        except BlockingIOError:
            if time.monotonic() > deadline or not poll.poll(_IDLE_MILLISECONDS):
                return size, Flow.IDLE
            continue
        except OSError:
            return size, Flow.CLOSED
        if not got:
            return size, Flow.CLOSED
        size += got
    return size, Flow.DONE


def send(sock: socket.socket, fd: int, start: int, stop: int, wanted: Callable[[], bool]) -> Pumped:
    """Moves the bytes of a file from `start` to `stop` to a non-blocking socket, as long as they are `wanted`."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT)
    at = start
    while at < stop and wanted():
        try:
            sent = os.sendfile(sock.fileno(), fd, at, min(_SENDFILE_BYTES, stop - at))
        except BlockingIOError:
            if not poll.poll(_IDLE_MILLISECONDS):
                return Pumped(Flow.IDLE, at - start)
            continue
        except OSError:
            return Pumped(Flow.CLOSED, at - start)
        if not sent:  # the file is shorter than it was: the length already promised cannot be kept
            return Pumped(Flow.CLOSED, at - start)
        at += sent
    return Pumped(Flow.DONE, at - start)
