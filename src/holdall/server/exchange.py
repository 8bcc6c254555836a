"""One request and its answer, between the connection that carries them and the handler that decides."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from holdall.errors import UsageError
from holdall.server.bodies import Body, Discarded
from holdall.server.reply import HTTPError, Reply, error_reply

if TYPE_CHECKING:
    from holdall.errors import HoldallError
    from holdall.server.connection import Connection
    from holdall.server.routes import Route
    from holdall.server.target import Target

_SINGLE: Final = {
    "authorization",
    "content-length",
    "content-type",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "range",
    "transfer-encoding",
}
"""Headers that may come once; two that disagree are how requests are smuggled."""

_NAMES: Final = {
    spelling.encode(): name
    for name in (*_SINGLE, "accept", "accept-encoding", "connection", "content-digest", "origin", "user-agent")
    for spelling in (name, name.title())
}
"""The common headers in their common spellings, to spare the work of folding them."""


class Exchange:
    """A request whose head has been read.

    Attributes:
        connection: What carries it.
        method: As sent.
        target: What it names.
        headers: By lower-case name; those that came several times joined by commas.
        length: Content-Length, or None for a chunked body or none.
        http_1_0: Whether the client speaks HTTP/1.0.
        expects_continue: Whether the client still waits to be told before it sends the body.
        delay_seconds: How long a refusal is held back.
        keep_alive: Whether the client wants the connection kept.
        body: Where its body goes.
        complete: Whether all of the body has come.
        refusal: The answer already certain before the body is read, or None.
        route: What will answer it.
        started: `time.monotonic` seconds at its head.
    """

    __slots__ = (
        "body",
        "complete",
        "connection",
        "delay_seconds",
        "expects_continue",
        "headers",
        "http_1_0",
        "keep_alive",
        "length",
        "method",
        "raw_target",
        "refusal",
        "route",
        "started",
        "target",
    )

    target: Target
    route: Route

    def __init__(self, connection: Connection, method: bytes, raw_target: bytes, *, keep_alive: bool) -> None:
        self.connection = connection
        self.method = method
        self.raw_target = raw_target
        self.keep_alive = keep_alive
        self.headers: dict[str, str] = {}
        self.length: int | None = None
        self.expects_continue = False
        self.http_1_0 = False
        self.delay_seconds = 0.0
        self.body: Body = Discarded()
        self.complete = False
        self.refusal: Reply | None = None
        self.started = time.monotonic()

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body."""
        return self.method == b"HEAD"

    def read_headers(self, raw: list[tuple[bytes, bytes]], version: str) -> None:
        """Takes the headers, and what they say of the body.

        Raises:
            HTTPError: They contradict themselves or ask for what there is not.
        """
        if version not in {"1.0", "1.1"}:  # the parser lets 0.9 and 2.0 pass
            raise HTTPError(505, "The versions spoken here are HTTP/1.1 and HTTP/1.0.")
        headers = self.headers
        for raw_name, raw_value in raw:
            name = _NAMES.get(raw_name) or raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1").strip(" \t")
            if name in headers:
                if name in _SINGLE:
                    raise HTTPError(400, f"The header {name} came more than once.")
                value = f"{headers[name]}, {value}"
            headers[name] = value
        if "host" not in headers and version == "1.1":
            raise HTTPError(400, "The Host header is missing.")
        self._read_framing(version)
        expect = headers.get("expect")
        if expect is not None and version == "1.1":
            if expect.lower() != "100-continue":
                raise HTTPError(417, "The only expectation met here is 100-continue.")
            self.expects_continue = True

    def refuse(self, error: HoldallError) -> None:
        """Settles the answer before the handler is asked; the body's rest, if any, will be dropped."""
        if self.refusal is None:
            self.refusal = error_reply(error)
            self.body.close()
            self.body = Discarded()

    def answer(self, reply: Reply) -> None:
        """Sends the answer."""
        self.connection.answer(self, reply)

    def answer_error(self, error: HoldallError) -> None:
        """Sends the answer that says what went wrong."""
        self.connection.answer(self, error_reply(error))

    def _read_framing(self, version: str) -> None:
        length, encoding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if encoding is not None:
            if length is not None:
                raise HTTPError(400, "Content-Length and Transfer-Encoding exclude each other.")
            if version != "1.1":
                raise HTTPError(400, "Transfer-Encoding needs HTTP/1.1.")
            if encoding.lower() != "chunked":
                raise HTTPError(501, "The only transfer coding known here is chunked.")
        elif length is not None:
            if not (length.isascii() and length.isdecimal() and len(length) <= 19):
                raise HTTPError(400, "The Content-Length is not a number of bytes.")
            self.length = int(length)
        else:
            self.length = 0


def refuse_conditions(exchange: Exchange, what: str) -> None:
    """Refuses a removal that depends on a version: done regardless, it could remove what its sender never saw.

    Raises:
        UsageError: The request has a condition.
    """
    if any(name in exchange.headers for name in ("if-match", "if-none-match", "if-unmodified-since")):
        raise UsageError(f"{what} takes no condition.")
