"""Speaking HTTP to a server byte by byte, with h11 as the judge of every byte that comes back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import h11
import pytest

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from support import Server

ANSWER_SECONDS = 60.0
"""Far above what any answer takes on a loaded machine: reaching it means that the server hangs."""

_EVERY_HEADER_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, complete and well framed by h11's judgement.

    Attributes:
        status: Its status code.
        headers: By lower-case name.
        body: Its content, chunks joined.
        interim: The 1xx statuses before it.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    @property
    def says_close(self) -> bool:
        """Whether it announces the end of the connection."""
        return self.headers.get("connection", "").lower() == "close"


class BadFramingError(AssertionError):
    """h11 does not accept what the server sent."""


class Wire:
    """One connection to a server; what is sent is free, what is received must be HTTP.

    Args:
        port: The server's, on 127.0.0.1.
        receive_bytes: Size of the kernel's receive buffer; small makes a reader that stalls soon noticed.
        tls: Speak TLS with this.
    """

    def __init__(self, port: int, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._sock = socket.socket()
        if receive_bytes is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._sock.settimeout(ANSWER_SECONDS)
        self._sock.connect(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._sock = tls.wrap_socket(self._sock, server_hostname="127.0.0.1")
        self._judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=_EVERY_HEADER_BYTES_MAX)
        self._ended = False
        self._began = False
        self._sending: threading.Thread | None = None
        self._taken = bytearray()

    def send(self, data: bytes) -> Self:
        """Sends bytes; a server that has already closed is not an error here, but what it answered counts."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(data)
        return self

    def send_beside(self, data: bytes) -> Self:
        """Sends from a thread, for more than fits on its way while nobody reads the answers."""
        self._sending = threading.Thread(target=self.send, args=(data,), daemon=True)
        self._sending.start()
        return self

    def finish_sending(self) -> Self:
        """Waits until `send_beside` has sent all."""
        if self._sending is not None:
            self._sending.join(ANSWER_SECONDS)
        return self

    def send_until_stuck(self, data: bytes) -> int:
        """Sends the same bytes over and over until the server takes no more or ends; returns how many it took."""
        sent = 0
        self._sock.settimeout(0.6)
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < 1 << 30:
                sent += self._sock.send(data)
        self._sock.settimeout(ANSWER_SECONDS)
        return sent

    def half_close(self) -> Self:
        """Says that no more will be sent; a server that has already ended the connection is not an error."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        return self

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer, to a request of this method; None if the connection ends cleanly instead."""
        self._announce(method)
        interim: list[int] = []
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._next()
            match event:
                case h11.InformationalResponse():
                    interim.append(event.status_code)
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    assert head is not None
                    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                    return Answer(head.status_code, headers, bytes(body), interim)
                case None:
                    if head is not None or self._judge.trailing_data[0]:
                        raise BadFramingError(f"the connection ended inside an answer: {head} {bytes(body[:200])!r}")
                    return None
                case _:
                    raise BadFramingError(f"unexpected: {event}")

    def expect_continue(self) -> None:
        """Waits for 100 Continue to a request whose body has not been sent."""
        self._announce("PUT")
        event = self._next()
        if not isinstance(event, h11.InformationalResponse) or event.status_code != 100:
            raise BadFramingError(f"not 100 Continue: {event}")

    def has_answer(self) -> bool:
        """Whether something has come that is not read yet, or the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def closes(self) -> bool:
        """Whether the server ends the connection without another byte; waits for it."""
        rest, _ = self._judge.trailing_data
        if rest:
            raise BadFramingError(f"bytes after the last answer: {rest[:200]!r}")
        return self._ended or self._receive() == b""

    def take(self, size_bytes: int) -> bool:
        """Receives as much of an answer, which `answer` then has already; False if the connection ends before."""
        while size_bytes > 0 and (data := self._receive(size_bytes)):
            size_bytes -= len(data)
            self._taken += data
        return size_bytes <= 0

    def drop(self) -> None:
        """Waits for the end of the connection, whatever comes before it."""
        while self._receive():
            pass

    def close(self) -> None:
        """Lets go, at once and whatever is unread."""
        self._sock.close()

    def reset(self) -> None:
        """Ends the connection as a crash would, with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _announce(self, method: str) -> None:
        judge = self._judge
        if self._began:
            if judge.their_state is not h11.DONE:
                return  # the server said close: `_next` finds out whether it holds to that
            judge.start_next_cycle()
        self._began = True
        judge.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        judge.send(h11.EndOfMessage())

    def _next(self) -> h11.Event | None:
        judge = self._judge
        while True:
            try:
                event = judge.next_event()
            except h11.RemoteProtocolError as error:
                if self._ended and judge.their_state is h11.ERROR and not judge.trailing_data[0]:
                    return None
                raise BadFramingError(f"h11 refuses the answer: {error}; {judge.trailing_data[0][:200]!r}") from error
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type)
                return event
            judge.receive_data(bytes(self._taken) or self._receive())
            self._taken.clear()

    def _receive(self, size_bytes: int = 1 << 16) -> bytes:
        try:
            data = self._sock.recv(size_bytes)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            pytest.fail(f"the server neither answered nor closed within {ANSWER_SECONDS:g} s")
        self._ended = self._ended or not data
        return data


def request(
    method: str,
    target: str = "/",
    body: bytes | None = None,
    *headers: str,
    version: str = "1.1",
) -> bytes:
    """A request as it should be; with a body it has a Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", "Host: h", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunked(method: str, target: str, chunks: bytes, *headers: str) -> bytes:
    """A request whose chunks are written out by the caller."""
    return request(method, target, None, "Transfer-Encoding: chunked", *headers) + chunks


def ask(port: int, data: bytes, method: str = "GET") -> Answer:
    """The answer to one request on a connection of its own."""
    with Wire(port) as wire:
        found = wire.send(data).answer(method)
    assert found is not None, "the server closed without an answer"
    return found


def path_of(data: bytes) -> str:
    """The path of the blob of these bytes."""
    return f"/{hashlib.sha256(data).hexdigest()}.tig"


def assert_well(server: Server) -> None:
    """The server still does its work, on a new connection, and has found no fault in itself."""
    data = f"still here {time.monotonic_ns()}".encode()
    stored = ask(server.port, request("PUT", "/", data), "PUT")
    read = ask(server.port, request("GET", path_of(data)))

    assert (stored.status, stored.body, read.status, read.body) == (200, path_of(data).encode(), 200, data)
    assert_silent(server)


def assert_silent(server: Server) -> None:
    """The server, started with --quiet, has written nothing to standard error: no traceback, no fault."""
    said = (server.data.parent / f"{server.data.name}.stderr").read_text()
    assert said == "", said


def held(server: Server) -> int:
    """How many connections, unnamed files and entries the server has open."""
    found = 0
    place = f"/proc/{server.process.pid}/fd"
    for name in os.listdir(place):
        with contextlib.suppress(OSError):  # closed meanwhile
            what = os.readlink(f"{place}/{name}")
            found += what.startswith("socket:") or what.endswith((".tig", "(deleted)"))
    return found
