"""The order of a connection: requests are answered one after the other, and how it ends.

Requests may come faster than answers go; they wait in a queue, and reading stops while more than one waits. Nothing
here knows how a request is parsed.
"""

from __future__ import annotations

from asyncio import Protocol
from collections import deque
from typing import TYPE_CHECKING, Final

from holdall.server.waiting import Phase

if TYPE_CHECKING:
    from asyncio import Transport

    from holdall.server.exchange import Exchange
    from holdall.server.receiving import RawBody
    from holdall.server.reply import Reply
    from holdall.server.sending import Sender
    from holdall.server.service import Service

_DROPPED_BODY_BYTES_MAX: Final = 64 * 1024
"""A refused request's body up to this is read to its end and the connection kept; a larger one ends it."""


class Turns(Protocol):
    """The queue of one connection's requests, and what has become of the connection.

    Args:
        service: The worker that it belongs to.

    Attributes:
        phase: What the connection waits for.
        since: Since when, `time.monotonic` seconds.
    """

    transport: Transport
    sender: Sender

    def __init__(self, service: Service) -> None:
        self._service = service
        self._queue: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._raw: RawBody | None = None
        self._answering = False
        self._draining = False
        self._lost = False
        self._reading = True
        self._ended = False
        self._stopped = False
        self._full = False
        self.phase = Phase.IDLE
        self.since = 0.0

    def answer(self, exchange: Exchange, reply: Reply) -> None:
        """Sends the answer to the request at the front, and goes on to the next when it is out."""
        if self._lost:
            exchange.body.close()
            self.sender.drop(reply)
            return
        if self._service.draining or not exchange.complete:
            reply.close = True
        self.sender.send(exchange, reply, self._answered)

    def answer_small(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """`answer` for a small answer of status 200 that is already bytes: `head` is what follows the Date line."""
        if self._lost:
            return
        close = self._service.draining or not exchange.keep_alive
        if close:
            head = b"Connection: close\r\n" + head
        elif exchange.http_1_0:
            head = b"Connection: keep-alive\r\n" + head
        self.transport.write(b"".join((self._service.date.ok, head, body)))
        self._answered(exchange, 200, len(body), close=close)

    def drain(self) -> None:
        """Ends the connection once the request under way, if any, is answered."""
        self._draining = True
        if not self._queue and self._receiving is None and self.phase in {Phase.IDLE, Phase.HEAD}:
            self.transport.close()

    def after_pump(self) -> None:
        """Lets bytes come again after a pump, unless one is still at it or enough requests wait."""
        pumping = self._raw is not None and self._raw.pumping
        if self._reading and not pumping and not self._lost:
            self.transport.resume_reading()

    # --- inside ---

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self._service.now

    def _advance(self) -> None:
        """Answers the request at the front, if it is time."""
        while self._queue and not self._answering and not self._lost and not self._full:
            exchange = self._queue[0]
            if exchange.refusal is not None:
                if not exchange.complete and self._worth_reading(exchange):
                    self._read_on()
                    return
                self._answering = True
                if exchange.delay_seconds:  # a wrong key: only this connection waits
                    self._service.loop.call_later(exchange.delay_seconds, self.answer, exchange, exchange.refusal)
                    return
                self.answer(exchange, exchange.refusal)
            elif exchange.complete:
                self._answering = True
                self._service.router.handle(exchange)
            else:
                self._ask_for_body(exchange)
                self._read_on()
                return

    def _ask_for_body(self, exchange: Exchange) -> None:
        """Tells a client that waits for it to send the body; once."""
        if exchange.expects_continue and exchange.body.size_bytes == 0:
            exchange.expects_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _worth_reading(self, exchange: Exchange) -> bool:
        """Whether a refused body is better read to its end than cut off."""
        if exchange.expects_continue or exchange.length is None:
            return False
        return exchange.length <= _DROPPED_BODY_BYTES_MAX

    def _answered(self, exchange: Exchange, status: int, size_bytes: int, *, close: bool) -> None:
        """The answer at the front is out."""
        exchange.body.close()
        self._service.counted(exchange, status, size_bytes)
        self._answering = False
        if self._queue and self._queue[0] is exchange:
            self._queue.popleft()
        if self._lost:
            return
        if close or not exchange.keep_alive or self._draining:
            unread = not exchange.complete or self._receiving is not None or not self._reading
            self._end(linger=unread)
            return
        if self._queue:
            self._service.loop.call_soon(self._advance)
            return
        if self._receiving is None and self.phase is not Phase.HEAD:
            self._enter(Phase.IDLE)
        self._read_on()

    def _read_on(self) -> None:
        """Reads again, if reading was paused for requests that have been answered since."""
        if not self._reading and not self._stopped:
            self._reading = True
            self.after_pump()

    def _end(self, *, linger: bool) -> None:
        """Closes, or first reads on for a moment, lest the client's unread bytes destroy the answer (RFC 9112 9.6)."""
        for exchange in self._queue:
            exchange.body.close()
        self._queue.clear()
        if self._raw is not None:
            self._raw.lost()
            self._raw = None
        self._ended = True
        if self.transport.is_closing():
            return
        if linger and self.transport.can_write_eof():
            self._enter(Phase.LINGER)
            self.transport.write_eof()
            self._stopped = False
            self._read_on()
        else:
            self.transport.close()
