"""The head of the request that is being read: what of it the parser has seen, and how much is too much."""

from __future__ import annotations

from holdall.limits.server import HEADER_BYTES_MAX, HEADER_COUNT_MAX, TARGET_BYTES_MAX, TRAILER_BYTES_MAX
from holdall.server.reply import HTTPError


class Head:
    """Target and headers as they come; its methods are the parser's own callbacks.

    Attributes:
        target: The request target so far.
        headers: The headers so far, as sent.
        in_body: Whether the head is whole, so that further headers are trailers, which are dropped.
    """

    __slots__ = ("_fed_bytes", "_size_bytes", "headers", "in_body", "target")

    def __init__(self) -> None:
        self._fed_bytes = 0
        self.begin()

    def begin(self) -> None:
        """A request begins."""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.in_body = False
        self._size_bytes = 0

    def add_target(self, piece: bytes) -> None:
        """Takes part of the request target.

        Raises:
            HTTPError: 414.
        """
        self.target += piece
        if len(self.target) > TARGET_BYTES_MAX:
            raise HTTPError(414, f"The request target is over {TARGET_BYTES_MAX} bytes long.")

    def add_header(self, name: bytes, value: bytes | None) -> None:
        """Takes a header, or a trailer.

        Raises:
            HTTPError: 431.
        """
        self._size_bytes += len(name) + len(value or b"") + 4
        if self.in_body:
            if self._size_bytes > TRAILER_BYTES_MAX:
                raise HTTPError(431, f"The trailers are over {TRAILER_BYTES_MAX} bytes long.")
            return
        self.headers.append((name, value or b""))
        if self._size_bytes > HEADER_BYTES_MAX or len(self.headers) > HEADER_COUNT_MAX:
            raise HTTPError(431, f"The headers are over {HEADER_BYTES_MAX} bytes or {HEADER_COUNT_MAX} in number.")

    def end(self) -> None:
        """The head is whole."""
        self.in_body = True
        self._size_bytes = 0

    def fed(self, size_bytes: int, *, unfinished: bool) -> None:
        """Counts what the parser was fed: it keeps an unfinished header to itself, however long.

        Args:
            size_bytes: How much it was fed.
            unfinished: Whether all of that belongs to a head or trailers that have not ended.

        Raises:
            HTTPError: 431.
        """
        self._fed_bytes = self._fed_bytes + size_bytes if unfinished else 0
        if self._fed_bytes > HEADER_BYTES_MAX + TARGET_BYTES_MAX:
            raise HTTPError(431, "The request's head or trailers are too long.")
