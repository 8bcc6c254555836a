"""What one worker process has: its store, its clock, its counters, its connections; and how work is started there."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.core.retention import Retention
from holdall.errors import HoldallError
from holdall.server.access import Access
from holdall.server.cache import HotCache
from holdall.server.log import Log
from holdall.server.metrics import (
    ACCESS_FAILURES,
    CONNECTIONS,
    RECEIVED_BYTES,
    SENT_BYTES,
)
from holdall.server.pump import Pumps
from holdall.server.quick import Quick
from holdall.server.reply import DateLine, error_reply
from holdall.server.routes import Router
from holdall.stores.abilities import AddressListing
from holdall.stores.disk import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from holdall.core.address import Address
    from holdall.server.connection import Connection
    from holdall.server.exchange import Exchange
    from holdall.server.metrics import Metrics
    from holdall.server.reply import Reply
    from holdall.server.settings import Settings
    from holdall.stores.base import Store

_OWN_HEADERS = ("Error", "Kind", "Size", "Used-Ns", "Expires-Ns")
TICK_SECONDS = 0.25
"""How often times are taken and waiting connections looked at."""


class Service:
    """One worker's shared parts.

    Args:
        settings: What the server was told.
        store: What it serves.
        metrics: This worker's counters.
        loop: The loop that everything here runs on.
        free_bytes: Says how much room the store has.

    Attributes:
        now: `time.monotonic` seconds at the last tick.
        draining: Whether the worker is stopping.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        free_bytes: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.loop = loop
        self.free_bytes = free_bytes
        self.date = DateLine()
        self.access = Access(settings)
        self.cache = HotCache(store, settings.cache_bytes, Retention(settings.retention_ns).grain_ns)
        self.pumps = Pumps()
        self.log = Log(settings.access_log)
        self.now = time.monotonic()
        self.draining = False
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cors = [] if settings.cors is None else _cors_headers(settings.cors)
        self.router = Router(self)
        self.quick = Quick(self)
        self._ticking = loop.call_later(TICK_SECONDS, self._tick)

    # --- work ---

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Starts a task that the worker keeps hold of."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def handle(self, exchange: Exchange, handler: Callable[[Exchange], None]) -> None:
        """Calls a handler; whatever it raises becomes the answer."""
        try:
            handler(exchange)
        except Exception as error:  # noqa: BLE001 - a fault of ours must cost one answer, not the connection's peace
            self._answer_failure(exchange, error)

    def answer_with(self, exchange: Exchange, work: Coroutine[Any, Any, Reply]) -> None:
        """Answers with what a coroutine returns or raises."""
        self.spawn(self._answer_with(exchange, work))

    async def _answer_with(self, exchange: Exchange, work: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await work
        except Exception as error:  # noqa: BLE001 - as `handle`
            self._answer_failure(exchange, error)
        else:
            exchange.answer(reply)

    def _answer_failure(self, exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, HoldallError):
            self.log.fault(error)
            error = self.as_error(error) if isinstance(error, OSError) else HoldallError("The server has a fault.")
        reply = error_reply(error)
        if reply.status == 500:
            self.log.error(exchange, error)
        exchange.answer(reply)

    @staticmethod
    def as_error(error: OSError) -> HoldallError:
        """What an error of the operating system means."""
        try:
            translate(error)
        except HoldallError as meant:
            return meant

    def addresses(self) -> AsyncIterator[Address]:
        """Every address in the store, newest use first."""
        return self.store.addresses() if isinstance(self.store, AddressListing) else self._addresses()

    async def _addresses(self) -> AsyncIterator[Address]:
        async for info in self.store.entries():
            yield info.address

    # --- connections ---

    def admit(self, connection: Connection) -> bool:
        """Counts a connection in; False if there are too many."""
        self._connections.add(connection)
        self.metrics.add(CONNECTIONS)
        return len(self._connections) <= self.settings.connections_max

    def forget(self, connection: Connection) -> None:
        """Counts a connection out."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.metrics.add(CONNECTIONS, -1)
            if self.draining and not self._connections:
                self._all_gone.set()

    async def drain(self) -> bool:
        """Lets the requests under way finish; returns whether all did within the time set."""
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), self.settings.drain_seconds)
        in_time = not self._connections
        for connection in list(self._connections):
            connection.transport.abort()
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        return in_time

    def close(self) -> None:
        """Stops the clock and the pumps."""
        self._ticking.cancel()
        self.pumps.close()

    # --- counting ---

    def counted(self, exchange: Exchange, status: int, sent_bytes: int) -> None:
        """Counts an answer that is out."""
        metrics, seconds = self.metrics, time.monotonic() - exchange.started
        metrics.count(exchange.method, status, seconds)
        metrics.add(SENT_BYTES, sent_bytes)
        received = exchange.body.size_bytes
        if received:
            metrics.add(RECEIVED_BYTES, received)
        if self.log.access != "off":
            self.log.request(
                exchange.connection.client,
                exchange.method,
                exchange.raw_target,
                status=status,
                sent_bytes=sent_bytes,
                seconds=seconds,
            )

    def counted_access_failure(self) -> None:
        """Counts a wrong key."""
        self.metrics.add(ACCESS_FAILURES)

    def log_error(self, exchange: Exchange, error: HoldallError) -> None:
        """Says on standard error why an answer broke off."""
        self.log.error(exchange, error)

    def common_headers(self, exchange: Exchange) -> list[tuple[str, str]]:
        """What every answer carries."""
        return self._cors if self._cors and "origin" in exchange.headers else []

    # --- inside ---

    def _tick(self) -> None:
        self.now = time.monotonic()
        self.date.refresh()
        self.access.refresh()
        self.metrics.publish()
        for connection in list(self._connections):
            connection.check_time(self.now)
        self._ticking = self.loop.call_later(TICK_SECONDS, self._tick)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.fault(error)


def _cors_headers(origin: str) -> list[tuple[str, str]]:
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "ETag, " + ", ".join(f"X-Holdall-{name}" for name in _OWN_HEADERS)),
        ("Vary", "Origin"),
    ]
