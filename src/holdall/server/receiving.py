"""A body of known length, taken from the connection past the parser.

Once the head says how long the body is, there is nothing left to parse: pieces go straight to where the body goes,
and while they come fast, a pump takes them from the socket on a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

from holdall.errors import HoldallError
from holdall.server.bodies import Stored
from holdall.server.pump import PUMP_BYTES_MIN, Flow, Pumped, receive

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.server.connection import Connection
    from holdall.server.exchange import Exchange
    from holdall.server.service import Service
    from holdall.stores.abilities import Spooled

_FAST_PIECE_BYTES: Final = 16 * 1024
"""Pieces smaller than this come from a slow client, for which a pump would only wait."""


class RawBody:
    """The rest of one body.

    Args:
        connection: Where it comes from.
        exchange: Whose it is.
        service: The worker.
        done: Called when all has come, or with the error that keeps it from being kept.
    """

    def __init__(
        self,
        connection: Connection,
        exchange: Exchange,
        service: Service,
        done: Callable[[HoldallError | None], None],
    ) -> None:
        self.exchange = exchange
        self.pumping = False
        self._connection = connection
        self._service = service
        self._done = done
        self._left = (exchange.length or 0) - exchange.body.size_bytes
        self._lost = False
        self._maybe_pump(_FAST_PIECE_BYTES)

    def feed(self, data: bytes) -> bytes:
        """Takes what belongs to the body and returns what comes after it."""
        if self.pumping:  # cannot be: reading is paused; but nothing may ever be lost
            raise AssertionError("bytes arrived beside the pump")
        piece, rest = (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        self._left -= len(piece)
        self._connection.take_raw(self.exchange, piece)
        if not self._left:
            self._done(None)
        elif not self._lost:
            self._maybe_pump(len(piece))
        return rest

    def lost(self) -> None:
        """The connection is gone or has no more use for this."""
        self._lost = True  # a pump looks at it; its socket stays open, for an earlier answer may still be on its way

    def _maybe_pump(self, piece_bytes: int) -> None:
        body = self.exchange.body
        if (
            self._left < PUMP_BYTES_MIN
            or piece_bytes < _FAST_PIECE_BYTES
            or not isinstance(body, Stored)
            or body.spooled is None
            or body.digest is not None
            or body.size_bytes + self._left > self._service.settings.size_bytes_max
            or self._connection.sender.is_tls
            or not self._service.pumps.take()
        ):
            return
        self.pumping = True
        self._connection.transport.pause_reading()
        spooled, body.spooled = body.spooled, None  # the pump's: a lost connection must not close it under the thread
        self._service.spawn(self._pump(body, spooled))

    async def _pump(self, body: Stored, spooled: Spooled) -> None:
        failure: HoldallError | None = None
        pumped = Pumped(Flow.CLOSED, 0)
        try:
            if not self._lost:  # since reading was paused for this
                pumped = await self._receive(spooled)
        except HoldallError as error:
            failure = error
        except OSError as error:
            failure = self._service.as_error(error)
        finally:
            self._service.pumps.give_back()
            self.pumping = False
        if self._lost:
            spooled.close()
            self._connection.after_pump()
            return
        body.spooled = spooled
        self._settle(body, pumped, failure)

    async def _receive(self, spooled: Spooled) -> Pumped:
        sock = self._connection.transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            loop = asyncio.get_running_loop()
            pump = partial(receive, duplicate, spooled, self._left, lambda: not self._lost)
            return await loop.run_in_executor(self._service.pumps.executor, pump)

    def _settle(self, body: Stored, pumped: Pumped, failure: HoldallError | None) -> None:
        self._left -= pumped.size_bytes
        body.size_bytes += pumped.size_bytes
        self._connection.count_raw(pumped.size_bytes)
        self._connection.after_pump()
        if failure is not None or not self._left:
            self._done(failure)
        elif pumped.flow is Flow.CLOSED:
            self._connection.transport.abort()
