"""Getting an answer's bytes out: small ones through the transport, files by sendfile, the rest piece by piece."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

from holdall.errors import HoldallError
from holdall.limits import SMALL_BYTES_MAX
from holdall.limits.server import BODY_RATE_BYTES_MIN
from holdall.server.pump import Flow, Pumped, send
from holdall.server.reply import Pieces, encode_head
from holdall.stores.abilities import FileBacked
from holdall.stores.bursts import BurstPlan

if TYPE_CHECKING:
    from asyncio import Transport

    from holdall.server.exchange import Exchange
    from holdall.server.reply import Reply
    from holdall.server.service import Service
    from holdall.stores.base import Reading

_INLINE_BYTES: Final = 256 * 1024
_BODILESS: Final = {204, 304}


class Answered(Protocol):
    """Called when an answer is out, or has failed and the connection must end."""

    def __call__(self, exchange: Exchange, status: int, size_bytes: int, *, close: bool) -> None:
        """Takes the exchange, the status sent, the body bytes sent, and whether the connection ends."""
        ...


class _GoneError(Exception):
    """The client went away, or what was promised cannot be sent; the connection must be aborted."""


class Sender:
    """The sending half of one connection.

    Args:
        transport: The connection's.
        service: The worker.
    """

    def __init__(self, transport: Transport, service: Service) -> None:
        self._transport = transport
        self._service = service
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._progress_at = 0.0
        self._progress_bytes = 0
        self._waiting = 0
        self._pumping = False
        self._room = asyncio.Event()
        self.is_tls = transport.get_extra_info("sslcontext") is not None

    def paused(self) -> None:
        """The transport's buffer is full."""
        self._writable.clear()

    def resumed(self) -> None:
        """The transport's buffer has room."""
        self._writable.set()

    def lost(self) -> None:
        """The connection is gone."""
        self._lost = True  # a pump looks at it
        self._writable.set()
        self._room.set()

    def check_time(self, now: float, stall_seconds: float) -> None:
        """Aborts the connection if its client has taken nothing, or next to nothing, for too long."""
        buffered = self._transport.get_write_buffer_size()
        if buffered == 0 and self._writable.is_set() and not self._pumping:
            self._progress_at = now
            return
        waiting = buffered + self._in_kernel()
        taken = self._waiting - waiting
        if taken < 0 or taken >= BODY_RATE_BYTES_MIN * stall_seconds:  # there was room for more, or enough was taken
            self._progress_at, self._waiting = now, waiting
        elif now - self._progress_at > stall_seconds:
            self._transport.abort()

    def _in_kernel(self) -> int:
        """Bytes that the client has yet to take from the system, which asks for more only when much of it is gone."""
        try:
            answer = fcntl.ioctl(self._fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # it has just been closed
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def drop(self, reply: Reply) -> None:
        """Closes what an answer that nobody waits for has open."""
        if not isinstance(reply.content, bytes | BurstPlan | Pieces):
            self._service.spawn(reply.content.aclose())

    def send(self, exchange: Exchange, reply: Reply, answered: Answered) -> None:
        """Sends an answer."""
        content = reply.content
        size: int | None
        if reply.length is not None:
            size = reply.length
        elif isinstance(content, Pieces):
            size = None
        else:
            size = len(content) if isinstance(content, bytes) else content.stop - content.start
        self._progress_at = self._service.now
        head = self._head(exchange, reply, size)
        if isinstance(content, bytes) or exchange.is_head or reply.status in _BODILESS:
            with_body = isinstance(content, bytes) and not exchange.is_head and reply.status not in _BODILESS
            self._transport.write(head + content if with_body and isinstance(content, bytes) else head)
            self.drop(reply)
            answered(exchange, reply.status, len(content) if with_body else 0, close=reply.close)  # type: ignore[arg-type]
        else:
            self._service.spawn(self._stream(exchange, reply, head, answered))

    def _head(self, exchange: Exchange, reply: Reply, size: int | None) -> bytes:
        headers = []
        if size is None:
            if exchange.http_1_0:
                reply.close = True  # the end of the connection is the end of the answer
            else:
                headers.append(("Transfer-Encoding", "chunked"))
        elif reply.status not in _BODILESS:
            headers.append(("Content-Length", str(size)))
        if reply.status not in _BODILESS and (size is None or size or exchange.is_head):
            headers.append(("Content-Type", reply.content_type))
        if reply.close or not exchange.keep_alive:
            headers.append(("Connection", "close"))
        elif exchange.http_1_0:
            headers.append(("Connection", "keep-alive"))
        headers += reply.headers
        headers += self._service.common_headers(exchange)
        return encode_head(reply.status, self._service.date.line, headers)

    async def _stream(self, exchange: Exchange, reply: Reply, head: bytes, answered: Answered) -> None:
        content = reply.content
        assert not isinstance(content, bytes)  # noqa: S101 - `send` saw to it
        if self._lost:  # since the answer was made
            self.drop(reply)
            answered(exchange, reply.status, 0, close=True)
            return
        try:
            self._transport.write(head)
            if isinstance(content, Pieces):
                size = await self._send_pieces(content, chunked=not exchange.http_1_0)
            elif isinstance(content, BurstPlan):
                size = content.stop - content.start
                async with aclosing(content.readings()) as readings:
                    async for reading in readings:
                        await self._send_reading(reading)
            else:
                size = content.stop - content.start
                async with content:
                    await self._send_reading(content)
        except _GoneError:
            self._transport.abort()
        except HoldallError as error:
            self._service.log_error(exchange, error)
            self._transport.abort()  # the length was promised; only an aborted connection says it was not kept
        except BaseException:
            self._transport.abort()  # whatever it was, the client must not wait for it
            raise
        else:
            answered(exchange, reply.status, size, close=reply.close)
            return
        answered(exchange, reply.status, 0, close=True)

    async def _send_pieces(self, content: Pieces, *, chunked: bool) -> int:
        size = 0
        async with aclosing(content.source) as source:
            async for piece in source:
                await self._drained()
                size += len(piece)
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await self._drained()
        if chunked:
            self._transport.write(b"0\r\n\r\n")
        return size

    async def _send_reading(self, reading: Reading) -> None:
        if reading.stop - reading.start <= SMALL_BYTES_MAX:
            data = await reading.read()
            await self._drained()
            self._transport.write(data)
        elif isinstance(reading, FileBacked) and not self.is_tls and (sock := self._duplicate()) is not None:
            with sock:
                await self._send_file(sock, reading.fileno(), reading.start, reading.stop)
        else:
            async for piece in reading:
                await self._drained()
                self._transport.write(piece)
        await self._drained()

    async def _drained(self) -> None:
        """Waits until the transport's buffer has room.

        Raises:
            _GoneError: The client went away.
        """
        await self._writable.wait()
        if self._lost or self._transport.is_closing():
            raise _GoneError

    async def _flushed(self) -> None:
        """Waits until the transport has handed all to the socket, which may then be written to directly."""
        self._transport.set_write_buffer_limits(0)
        try:
            while self._transport.get_write_buffer_size():
                await asyncio.sleep(0)
                if self._transport.get_write_buffer_size():
                    self._writable.clear()
                    await self._drained()
        finally:
            if not self._lost:
                self._transport.set_write_buffer_limits()

    def _duplicate(self) -> socket.socket | None:
        """The connection's socket once more, to write to directly; None where no descriptor is left for it."""
        try:
            return socket.socket(fileno=os.dup(self._fileno()))
        except OSError:
            return None

    def _fileno(self) -> int:
        """The connection's descriptor, or -1: a transport may have lost it before it says so."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    async def _send_file(self, sock: socket.socket, fd: int, start: int, stop: int) -> None:
        await self._flushed()
        loop = asyncio.get_running_loop()
        at = start
        while at < stop:
            if self._lost:
                raise _GoneError
            pumped = await self._send_some(loop, sock, fd, at, stop)
            at += pumped.size_bytes
            if pumped.size_bytes:
                self._progress_at = self._service.now
            if pumped.flow is Flow.CLOSED:
                raise _GoneError
            if pumped.flow is Flow.IDLE:
                await self._socket_writable(loop, sock)

    async def _send_some(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, fd: int, at: int, stop: int
    ) -> Pumped:
        """Sends until the client pauses, on a thread if one is free, else a little at a time in the loop."""
        pumps = self._service.pumps
        if not pumps.take():
            await asyncio.sleep(0)
            try:
                return Pumped(Flow.DONE, os.sendfile(sock.fileno(), fd, at, min(_INLINE_BYTES, stop - at)))
            except BlockingIOError:
                return Pumped(Flow.IDLE, 0)
            except OSError:
                return Pumped(Flow.CLOSED, 0)
        try:
            return await loop.run_in_executor(pumps.executor, send, sock, fd, at, stop, lambda: not self._lost)
        finally:
            pumps.give_back()

    async def _socket_writable(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Waits until the client takes more; `check_time` aborts the connection if it takes too long."""
        self._room.clear()
        self._pumping = True
        loop.add_writer(sock.fileno(), self._room.set)
        try:
            if not self._lost:
                await self._room.wait()
        finally:
            loop.remove_writer(sock.fileno())
            self._pumping = False
