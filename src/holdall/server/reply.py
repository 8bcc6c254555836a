"""Replies: status, headers and content as values; which error has which status; how a head is written."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from holdall import errors
from holdall.stores.base import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.stores.abilities import Glimpse
    from holdall.stores.base import Info, Reading
    from holdall.stores.bursts import BurstPlan

TEXT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

_STATUS_OF: Final[tuple[tuple[type[errors.HoldallError], int], ...]] = (
    (errors.AddressError, 404),
    (errors.RangeError, 416),
    (errors.UsageError, 400),
    (errors.NotFoundError, 404),
    (errors.VersionMismatchError, 412),
    (errors.ConflictError, 409),
    (errors.DigestMismatchError, 400),
    (errors.OutOfSpaceError, 507),
    (errors.ReadOnlyError, 503),
    (errors.TooLargeError, 413),
    (errors.BusyError, 503),
    (errors.UnreachableError, 502),
)
"""First match counts; whatever is not here is 500."""


class Pieces:
    """Content in pieces whose length is not known beforehand.

    Args:
        source: Where they come from.
    """

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        self.source = source


class HTTPError(errors.HoldallError):
    """A refusal that only has a meaning in HTTP.

    Args:
        status: The status code.
        message: One sentence that says what was wrong.
        hint: One that says what to do.
        headers: Further headers of the reply.
    """

    slug = "http"

    def __init__(self, status: int, message: str, *, hint: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class Reply:
    """An answer.

    Attributes:
        status: The status code.
        content: The bytes; an open entry or burst, which is streamed and then closed; or pieces whose length is not
            known beforehand.
        content_type: Its media type.
        headers: Further headers, in order.
        close: Whether the connection ends with it.
        length: The Content-Length to name instead of the content's, for the answer to a HEAD.
    """

    status: int
    content: bytes | Reading | BurstPlan | Pieces = b""
    content_type: str = TEXT
    headers: list[tuple[str, str]] = field(default_factory=list)
    close: bool = False
    length: int | None = None


def error_reply(error: errors.HoldallError) -> Reply:
    """The reply that says what went wrong, in one sentence."""
    if isinstance(error, HTTPError):
        return Reply(error.status, _line(error), headers=list(error.headers))
    status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
    if isinstance(error, errors.AlreadySetError):
        return Reply(status)  # the original's losers see an empty body, and scripts test for it
    reply = Reply(status, _line(error), headers=[("X-Holdall-Error", error.slug)])
    if isinstance(error, errors.RangeError):
        reply.headers.append(("Content-Range", f"bytes */{error.size_bytes}"))
    if status == 503:
        reply.headers.append(("Retry-After", "1"))
    return reply


def _line(error: errors.HoldallError) -> bytes:
    return error.sentence().encode("utf-8", "replace") + b"\n"


def entry_headers(info: Info) -> list[tuple[str, str]]:
    """What every answer with an entry's bytes carries.

    Stored bytes are a stranger's: nosniff and the sandbox keep a stored page from acting for the server.
    """
    return [
        ("ETag", f'"{info.version}"'),
        ("Last-Modified", http_date(info.used_ns // 1_000_000_000)),
        *_ENTRY_HEADERS[info.kind],
    ]


def encode_headers(headers: list[tuple[str, str]]) -> bytes:
    """Headers as bytes, the empty line included."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return lines.encode("latin-1", "replace") + b"\r\n"


_SAFETY: Final = [("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", "sandbox")]
_ENTRY_HEADERS: Final = {
    Kind.BLOB: [("Cache-Control", "public, max-age=31536000, immutable"), *_SAFETY, ("X-Holdall-Kind", "blob")],
    Kind.SLOT: [("Cache-Control", "no-store"), *_SAFETY, ("X-Holdall-Kind", "slot")],
}
_BLOB_LINES: Final = encode_headers(_ENTRY_HEADERS[Kind.BLOB])
_SLOT_LINES: Final = encode_headers(_ENTRY_HEADERS[Kind.SLOT])


def small_head(glimpse: Glimpse, content_type: bytes = OCTETS.encode()) -> bytes:
    """What follows the Date line in the answer with the whole of an entry: as with `entry_headers`, in one go."""
    kind, version, used_ns, data = glimpse
    return (
        b'Content-Length: %d\r\nContent-Type: %b\r\nAccept-Ranges: bytes\r\nETag: "%b"\r\nLast-Modified: %b\r\n%b'
        % (
            len(data),
            content_type,
            version.encode("ascii"),
            _http_date_bytes(used_ns // 1_000_000_000),
            _BLOB_LINES if kind is Kind.BLOB else _SLOT_LINES,
        )
    )


def time_headers(info: Info) -> list[tuple[str, str]]:
    """When an entry was last used and may expire, to the nanosecond, for clients that are stores."""
    found = [("X-Holdall-Used-Ns", str(info.used_ns))]
    if info.expires_ns is not None:
        found.append(("X-Holdall-Expires-Ns", str(info.expires_ns)))
    return found


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """Seconds since 1970 as an HTTP date."""
    return formatdate(max(0, seconds), usegmt=True)


@lru_cache(maxsize=4096)
def _http_date_bytes(seconds: int) -> bytes:
    return http_date(seconds).encode("ascii")


class DateLine:
    """The Date header's line, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self.line = b""
        self.ok = b""
        self.refresh()

    def refresh(self) -> None:
        """Takes the time anew; called about once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.line = f"Date: {http_date(second)}\r\n".encode()
            self.ok = b"HTTP/1.1 200 OK\r\n" + self.line


def encode_head(status: int, date_line: bytes, headers: list[tuple[str, str]]) -> bytes:
    """Status line, date and headers as bytes, the empty line included."""
    return _STATUS_LINES[status].encode() + date_line + encode_headers(headers)
