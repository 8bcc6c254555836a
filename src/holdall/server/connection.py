"""One connection: bytes in, requests out.

The parsing is httptools'; here is what becomes of each thing parsed, and how long each may take. The order of answers
and the end of the connection are in `turns`, how an answer's bytes get out in `sending`; what a request means is for
the handlers to decide. Nothing here knows what a store is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import httptools

from holdall.core.address import PATH_CHARS
from holdall.errors import HoldallError
from holdall.server.exchange import Exchange
from holdall.server.head import Head
from holdall.server.receiving import RawBody
from holdall.server.reply import HTTPError, error_reply
from holdall.server.sending import Sender
from holdall.server.turns import Turns
from holdall.server.waiting import LINGER_SECONDS, Phase, overdue

if TYPE_CHECKING:
    from asyncio import BaseTransport, Transport

    from holdall.server.service import Service

_PUTS: Final = frozenset({b"PUT", b"POST"})


class Connection(Turns):
    """The protocol object of one connection.

    Args:
        service: The worker that it belongs to.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._head = Head()
        self.on_url, self.on_header = self._head.add_target, self._head.add_header  # the parser's callbacks
        self._parser = httptools.HttpRequestParser(self)
        self._began = False
        self._begun = 0
        self._hot = False
        self._hot_target = b""
        self._body_bytes = 0
        self._body_since = 0.0

    # --- asyncio.Protocol ---

    def connection_made(self, transport: BaseTransport) -> None:
        """Begins."""
        self.transport = cast("Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else "local"
        self.sender = Sender(self.transport, self._service)
        self._enter(Phase.IDLE)
        if not self._service.admit(self):
            busy = HTTPError(503, "The server has as many connections as it takes.", headers=(("Retry-After", "1"),))
            self._refuse_connection(busy)
        elif self._service.draining:  # a TLS handshake under way when the drain began
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Ends: whatever was under way is given up and leaves nothing behind."""
        self._lost = True
        self._service.forget(self)
        self.sender.lost()
        if self._raw is not None:
            self._raw.lost()
        for exchange in self._queue:
            if not (self._answering and exchange is self._queue[0]):
                exchange.body.close()
        # The parser and the requests point back here: cut, lest the dead wait for the collector in their thousands.
        del self._parser
        self._queue.clear()
        self._receiving = self._raw = None

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        if self.phase is Phase.IDLE and not self._ended:
            if not self._full and self._service.quick.get_again(self.transport, data, self.client):
                self.since = self._service.now
                return
            self._begun, self._hot_target = 0, b""
            self._feed(data)
            if self._hot_target and self._begun == 1:
                self._service.quick.remember(data, self._hot_target)
            return
        if self.phase is Phase.LINGER:
            return
        if self._raw is not None:
            self.since = self._service.now
            data = self._raw.feed(data)
            if not data or self._raw is not None:
                return
        self._feed(data)

    def eof_received(self) -> bool:
        """The client sends no more; an answer under way is still sent."""
        if self._receiving is not None or self._raw is not None or not self._queue:
            return False
        self._queue[-1].keep_alive = False
        return not self.sender.is_tls  # TLS has no half-closed connections

    def pause_writing(self) -> None:
        """The client reads too slowly: requests wait until it has taken what is answered."""
        self._full = True
        self.sender.paused()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._full = False
        self.sender.resumed()
        if self._queue:
            self._service.loop.call_soon(self._advance)

    # --- httptools' callbacks ---

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._ended:
            raise HTTPError(400, "The connection has ended.")
        self._began = True
        self._begun += 1
        self._head.begin()
        self.phase = Phase.HEAD
        self.since = self._service.now

    def on_headers_complete(self) -> None:
        """The head is whole: a hot blob is answered here and now, anything else becomes an exchange."""
        parser, head = self._parser, self._head
        method, version = parser.get_method(), parser.get_http_version()
        if (
            method == b"GET"
            and len(head.target) == PATH_CHARS
            and not self._queue
            and not self._full
            and version == "1.1"
            and parser.should_keep_alive()
            and not self._service.draining
            and self._service.quick.get(self.transport, head.target, head.headers, self.client)
        ):
            self._hot = True
            return
        head.end()
        exchange = Exchange(self, method, head.target, keep_alive=parser.should_keep_alive())
        exchange.http_1_0 = version == "1.0"
        quick_put = head.target == b"/" and method in _PUTS and version == "1.1"
        if not (quick_put and self._service.quick.admit_put(exchange, head.headers)):
            self._read_headers(exchange, version)
        self._receiving = exchange
        self._body_bytes, self._body_since = 0, self._service.now
        self._enter(Phase.BODY)
        self._queue.append(exchange)
        if exchange.refusal is not None:
            self._advance()
        elif len(self._queue) == 1:
            self._ask_for_body(exchange)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._began = True
        exchange = self._receiving
        if exchange is not None:
            self._take_body(exchange, piece)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._hot:
            self._hot, self._hot_target = False, self._head.target
            self._enter(Phase.IDLE)
            return
        exchange, self._receiving = self._receiving, None
        if exchange is not None and not self._ended:
            exchange.complete = True
            self._enter(Phase.ANSWER)
            self._advance()

    def _read_headers(self, exchange: Exchange, version: str) -> None:
        """Takes the headers and settles whether the request may go on."""
        try:
            exchange.read_headers(self._head.headers, version)
        except HTTPError:
            exchange.keep_alive = False  # where a body ends is not certain any more
            self._queue.append(exchange)
            self._receiving = exchange
            raise
        try:
            self._service.router.admit(exchange)
        except HoldallError as error:
            exchange.refuse(error)

    # --- waiting times ---

    def check_time(self, now: float) -> None:
        """Gives up on a client that has kept the connection waiting too long; called about once a second."""
        settings, waited = self._service.settings, now - self.since
        if self.phase is Phase.ANSWER:
            self.sender.check_time(now, settings.stall_seconds)
        elif self.phase is Phase.IDLE:
            self.sender.check_time(now, settings.stall_seconds)
            if waited > settings.idle_seconds:
                self.transport.close()
        elif self.phase is Phase.LINGER:
            if self.transport.get_write_buffer_size():
                self.since = now
                self.sender.check_time(now, settings.stall_seconds)
            elif waited > LINGER_SECONDS:
                self.transport.abort()
        elif not self._reading:
            # The head or the body waits for us: an earlier answer is still on its way.
            self.since = self._body_since = now
            self._body_bytes = 0
            self.sender.check_time(now, settings.stall_seconds)
        elif self._raw is None or not self._raw.pumping:
            took = now - self._body_since
            late = overdue(self.phase, waited, settings, body_bytes=self._body_bytes, body_seconds=took)
            if late is not None:
                self._refuse_connection(late)

    # --- inside ---

    def _feed(self, data: bytes) -> None:
        self._began = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stop_reading_requests()
        except httptools.HttpParserError as error:
            self._refuse_connection(_refusal(error))
            return
        if self._lost:
            return
        try:
            unfinished = (self.phase is Phase.HEAD or self.phase is Phase.BODY) and not self._began
            self._head.fed(len(data), unfinished=unfinished)
        except HTTPError as refusal:
            self._refuse_connection(refusal)
            return
        exchange = self._receiving
        if exchange is not None and exchange.length and exchange.length > exchange.body.size_bytes:
            self._raw = RawBody(self, exchange, self._service, self._raw_done)
            self._parser = httptools.HttpRequestParser(self)  # the old one still waits for this body
        if len(self._queue) > 1 and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def take_raw(self, exchange: Exchange, piece: bytes) -> None:
        """A piece of a body that bypasses the parser, because its length is known."""
        self._take_body(exchange, piece)

    def count_raw(self, size_bytes: int) -> None:
        """Notes body bytes that a pump has moved."""
        self._body_bytes += size_bytes
        self.since = self._service.now

    def _take_body(self, exchange: Exchange, piece: bytes) -> None:
        self._body_bytes += len(piece)
        self.since = self._service.now
        if self._ended:
            return
        try:
            exchange.body.feed(piece)
        except HoldallError as error:
            size = exchange.body.size_bytes
            exchange.refuse(error)
            exchange.body.size_bytes = size
            self._advance()

    def _raw_done(self, error: HoldallError | None) -> None:
        """All of a raw body has come, or it cannot be kept."""
        raw, self._raw = self._raw, None
        if raw is None or self._lost or self._ended:
            return
        if error is not None:
            raw.exchange.refuse(error)
            self._advance()
            return
        self._receiving = None
        raw.exchange.complete = True
        self._enter(Phase.ANSWER)
        self._advance()

    def _refuse_connection(self, error: HTTPError) -> None:
        """Answers what cannot be understood, after what is still being answered, and ends the connection."""
        if self._lost or self._ended:
            return
        exchange = self._receiving
        if exchange is None or exchange not in self._queue:
            exchange = Exchange(self, b"GET", self._head.target, keep_alive=False)
            self._queue.append(exchange)
        exchange.keep_alive = False
        exchange.complete = False
        exchange.length = None
        if self._raw is not None:
            self._raw.lost()
            self._raw = None
        exchange.refuse(error)
        exchange.refusal = error_reply(error)
        self._receiving = None
        self.phase = Phase.ANSWER
        self._advance()
        if not self._ended:  # what comes until it is answered is none of our business
            self._stop_reading()

    def _stop_reading_requests(self) -> None:
        """After an upgrade request: it is answered as if it had asked for none, and nothing after it is read."""
        if self._queue:
            self._queue[-1].keep_alive = False
        else:
            self.transport.close()
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._stopped = True
        if self._reading:
            self._reading = False
            self.transport.pause_reading()


def _refusal(error: httptools.HttpParserError) -> HTTPError:
    """What a callback raised, if that is what stopped the parser, without the frames that would keep all of this."""
    raised = error.__context__
    if isinstance(raised, HTTPError):
        return raised.with_traceback(None)
    return HTTPError(400, "The request is not HTTP/1.1 as it is written.")
