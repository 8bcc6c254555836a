"""One worker process: opens the store, serves until told to stop, drains, closes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvloop

from holdall.core.retention import Retention
from holdall.server.connection import Connection
from holdall.server.metrics import CONNECTIONS, ENTRIES, ENTRY_BYTES, Metrics
from holdall.server.service import Service
from holdall.server.sweeper import Sweeper
from holdall.server.tls import Certificates
from holdall.stores.directory import DirectoryStore

if TYPE_CHECKING:
    import mmap
    import socket
    from collections.abc import Callable

    from holdall.server.settings import Settings

_BACKLOG: Final = 2048
_RENEWAL_SECONDS: Final = 1.0
_M_ARENA_MAX: Final = -8
_GARBAGE_THRESHOLD: Final = 50_000
"""Objects between collections: a request makes a few and leaves none behind, so the default would only cost time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands among the others.

    Attributes:
        row: Its number.
        shared: The memory for all workers' counters.
        sock: What it listens on; bound, not yet listening.
        start_ns: When the server started, nanoseconds since 1970.
        parent_fd: Reads as closed when the supervisor has gone; None without one.
    """

    row: int
    shared: mmap.mmap
    sock: socket.socket
    start_ns: int
    parent_fd: int | None = None


def run_worker(settings: Settings, place: Place, on_ready: Callable[[], None]) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        settings: What the server was told.
        place: Where this worker stands.
        on_ready: Called when it listens.

    Returns:
        The exit code: 0 if every request under way was answered, 1 if the drain timeout cut some off.

    Raises:
        HoldallError: It cannot start.
    """
    _keep_memory_together()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, place, on_ready))


def _keep_memory_together() -> None:
    """Has glibc's threads share one heap: with one each, what a thread frees helps no other, and memory grows."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


async def _serve(settings: Settings, place: Place, on_ready: Callable[[], None]) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if place.parent_fd is not None:
        loop.add_reader(place.parent_fd, stopping.set)
    certificates = None if settings.tls_cert is None else Certificates(settings)
    store = await DirectoryStore.open(
        settings.data,
        durability=settings.durability,
        retention=Retention(settings.retention_ns, place.start_ns),
        journal=True,
        second_process=2 * settings.workers <= (os.cpu_count() or 1),
        size_bytes_max=settings.size_bytes_max,
    )
    metrics = Metrics(place.shared, place.row)
    for word in (CONNECTIONS, ENTRIES, ENTRY_BYTES):
        metrics.set(word, 0)
    service = Service(settings, store, metrics, loop, store.free_bytes)
    if store.replayed:
        service.log.say(f"Replayed {store.replayed} journaled writes after a loss of power.")
    background = [asyncio.ensure_future(Sweeper(store, settings, metrics, service.log).run())]
    if certificates is not None:
        background.append(asyncio.ensure_future(_renew(certificates, service)))
    try:
        server = await loop.create_server(
            lambda: Connection(service),
            sock=place.sock,
            backlog=_BACKLOG,
            ssl=None if certificates is None else certificates.context,
            ssl_handshake_timeout=None if certificates is None else settings.header_seconds,
            ssl_shutdown_timeout=None if certificates is None else settings.header_seconds,
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
        on_ready()
        await stopping.wait()
        server.close()
        in_time = await service.drain()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        service.close()
        await store.aclose()
        if place.parent_fd is not None:
            loop.remove_reader(place.parent_fd)
    return 0 if in_time else 1


async def _renew(certificates: Certificates, service: Service) -> None:
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        news = certificates.refresh()
        if news is not None:
            service.log.say(news)
