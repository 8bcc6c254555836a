"""The words of the HTTP contract: store URLs, headers to values, statuses to errors.

Everything here is a function of its arguments; connections are made in `http_session`, and nothing else in holdall's
stores knows a status code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from holdall import errors
from holdall.core.units import SECOND_NS
from holdall.errors import (
    AccessError,
    AlreadySetError,
    BusyError,
    ConflictError,
    HoldallError,
    NotFoundError,
    OutOfSpaceError,
    RangeError,
    StoreError,
    StoreURLError,
    TooLargeError,
    UsageError,
    VersionMismatchError,
)
from holdall.limits.server import API_KEY_BYTES_MAX
from holdall.stores.base import WHOLE, Info, Kind, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdall.core.address import Address

KIND: Final = "X-Holdall-Kind"
SIZE: Final = "X-Holdall-Size"
USED: Final = "X-Holdall-Used-Ns"
EXPIRES: Final = "X-Holdall-Expires-Ns"
ERROR: Final = "X-Holdall-Error"


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself.

    Attributes:
        status: `ok`, or why it is not.
        free_bytes: Room left for data, or None if it does not say.
        version: Of its holdall, or None if it is not holdall's.
        clock_ns: Its time, nanoseconds since 1970, to the second; None if it does not say.
    """

    status: str
    free_bytes: int | None
    version: str | None
    clock_ns: int | None


_ENTITY_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,19})", re.ASCII)

_BY_SLUG: Final = {
    kind.slug: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, HoldallError) and kind is not RangeError
}
"""What a holdall server calls an error, where the status says less; a RangeError needs more than words."""

_BY_STATUS: Final[dict[int, type[HoldallError]]] = {
    400: UsageError,
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
    412: VersionMismatchError,
    413: TooLargeError,
    414: UsageError,
    417: NotFoundError,  # what earlier original servers answer to a GET of nothing
    429: BusyError,
    431: UsageError,
    503: BusyError,
    507: OutOfSpaceError,
}
_OWN_WORDS: Final[dict[type[HoldallError], str]] = {
    AlreadySetError: "Something is already stored there.",
    AccessError: "The server refuses this without the right API key.",
    BusyError: "The server is busy.",
    ConflictError: "What is stored there does not allow this.",
    NotFoundError: "The server holds nothing at that address.",
    OutOfSpaceError: "The server's disk is full.",
    TooLargeError: "The body is larger than the server takes.",
    VersionMismatchError: "The entry has another version.",
}
"""What is said where the server says nothing."""


def split_url(url: str) -> tuple[str, str | None]:
    """The base of a store URL, without its final slash, and the API key that was in it.

    Raises:
        StoreURLError: It is not an http(s) URL of a store; the message never shows its query.
    """
    try:
        parts = urlsplit(url)
        port, query = parts.port, parse_qsl(parts.query, keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise StoreURLError(f"{url.partition('?')[0][:200]!r} is not the URL of a store.") from error
    shown = f"{parts.scheme}://{_host(parts)}{parts.path}"[:200]
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f]", url):
        raise StoreURLError(f"{shown!r} is not the URL of a store.")
    if parts.username is not None or parts.password is not None:
        raise StoreURLError(
            f"{shown!r} came with a user name or password.",
            hint="A store wants an API key: ?apikey=KEY or a key file.",
        )
    if parts.fragment or any(name != "apikey" for name, _ in query) or len(query) > 1:
        raise StoreURLError(f"{shown!r} came with more than ?apikey=KEY.", hint="Leave the rest of its query away.")
    key = query[0][1] if query else None
    return f"{parts.scheme}://{_host(parts)}{parts.path.rstrip('/')}", None if key is None else check_key(key)


def check_key(key: str) -> str:
    """Returns an API key unchanged if it can be sent.

    Raises:
        UsageError: It is empty, too long or not of printable ASCII; the message does not show it.
    """
    if not 0 < len(key) <= API_KEY_BYTES_MAX or not (key.isascii() and key.isprintable()) or key != key.strip():
        raise UsageError("The API key is empty, too long, or not of printable ASCII characters.")
    return key


def _host(parts: SplitResult) -> str:
    """The host and port as given, without user name and password."""
    return parts.netloc.rpartition("@")[2]


def info_from(headers: Mapping[str, str], address: Address, size_bytes: int | None) -> Info | None:
    """What an answer's headers say of an entry, or None where they do not say all.

    Args:
        headers: Of the answer.
        address: Of the entry.
        size_bytes: Its length, where that is known from elsewhere.
    """
    kind, tag = headers.get(KIND), _ENTITY_TAG.fullmatch(headers.get("ETag", ""))
    size = _number(headers.get(SIZE)) if size_bytes is None else size_bytes
    if kind not in {"blob", "slot"} or tag is None or size is None:
        return None
    used = _number(headers.get(USED)) or _date_ns(headers.get("Last-Modified"))
    return Info(address, Kind(kind), size, tag[1], used, _number(headers.get(EXPIRES)))


def length_from(headers: Mapping[str, str]) -> int | None:
    """The `Content-Length`, or None."""
    return _number(headers.get("Content-Length"))


def entity_tag(version: str) -> str | None:
    """A version as the header `If-Match` wants it, or None if no entry can have that version."""
    tag = f'"{version}"'
    return tag if version and _ENTITY_TAG.fullmatch(tag) else None


def range_header(span: Span) -> str | None:
    """The header `Range` that asks for a span, or None where the span is all or cannot be within any entry.

    A span that begins before the end and stops somewhere is asked for to the end: HTTP has no word for it.
    """
    if span == WHOLE or (span.start >= 0 and span.stop is not None and span.stop <= span.start):
        return None
    if span.start < 0:
        return f"bytes={span.start}"
    return f"bytes={span.start}-{'' if span.stop is None else span.stop - 1}"


def content_range(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """First byte of a partial answer and the length of the whole, or None where the header does not say both."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    return (int(found[1]), int(found[3])) if found else None


def error_from(status: int, headers: Mapping[str, str], sentence: str, conflict: type[ConflictError]) -> HoldallError:
    """The error that an answer of 300 and above means.

    Args:
        status: Of the answer.
        headers: Of the answer.
        sentence: What the server wrote, already cut and cleaned; may be empty.
        conflict: What a 409 means for this request.
    """
    if status == 416:
        found = _UNSATISFIED.fullmatch(headers.get("Content-Range", ""))
        size = int(found[1]) if found else 0
        return RangeError(f"The entry has only {size} bytes.", size_bytes=size)
    if 300 <= status < 400:
        where = re.sub(r"[?#].*", "", headers.get("Location", "elsewhere"))[:200]
        return StoreError(f"The server sends its callers to {where!r}.", hint="Use that address.")
    kind = _BY_SLUG.get(headers.get(ERROR, "")) or (conflict if status == 409 else _BY_STATUS.get(status))
    if kind is None:
        kind = UsageError if 400 <= status < 500 else StoreError
    own = next(
        (words for known, words in _OWN_WORDS.items() if issubclass(kind, known)), f"The server answered {status}."
    )
    error = kind(sentence, hint="") if sentence else kind(own)
    if isinstance(error, BusyError):
        error.retry_seconds = _retry_seconds(headers)
    return error


def health_from(headers: Mapping[str, str], body: str) -> Health:
    """Reads the answer of `/-/health`; what a server that is not holdall's answers there means only that it lives."""
    clock_ns = _date_ns(headers.get("Date")) or None
    try:
        told = json.loads(body)
        return Health(str(told["status"])[:40], int(told["free_bytes"]), str(told["version"])[:40], clock_ns)
    except (ValueError, TypeError, KeyError):
        return Health("ok", None, None, clock_ns)


def cleaned(body: bytes, content_type: str) -> str:
    """A server's sentence made fit to show: plain text, one line, printable; empty where it is something else."""
    if not content_type.startswith("text/plain"):
        return ""
    text = body.decode("utf-8", "replace").strip()
    line = text.split("\n", 1)[0][:500]
    return "".join(character if character.isprintable() else "?" for character in line)


def _retry_seconds(headers: Mapping[str, str]) -> float:
    """The wait that `Retry-After` asks for; 0 where it does not. A date is held against the server's own clock."""
    said = headers.get("Retry-After", "").strip()
    seconds = _number(said)
    if seconds is not None:
        return seconds
    now_ns = _date_ns(headers.get("Date"))
    return max(0, _date_ns(said) - now_ns) / SECOND_NS if now_ns else 0.0


def _date_ns(text: str | None) -> int:
    """An HTTP date in nanoseconds since 1970; 0 where there is none."""
    try:
        return round(parsedate_to_datetime(text or "").timestamp()) * SECOND_NS
    except (ValueError, OverflowError):
        return 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,19}", text, re.ASCII) else None
