"""The request target: which place it names, and what its query asks for.

A place is matched to the letter: no percent-decoding, no dots, no other case, so that no request can ever name
another file than an entry. Query words that are not ours are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from holdall.core.address import Address
from holdall.core.template import check_template
from holdall.errors import UsageError
from holdall.limits.server import CONTENT_TYPE_BYTES_MAX
from holdall.limits.stores import BURST_DEPTH_MAX
from holdall.stores.base import Kind

_NAME_CHARS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CONTENT_TYPE: Final = re.compile(
    rf'{_NAME_CHARS}/{_NAME_CHARS}(?: ?; ?{_NAME_CHARS}=(?:{_NAME_CHARS}|"[ !#-\[\]-~]*"))*', re.ASCII
)


class Place(Enum):
    """What a path names."""

    ROOT = "/"
    ENTRY = "/<address>"
    KEY_VALUE = "/kv"
    HAVE = "/-/have"
    HEALTH = "/-/health"
    METRICS = "/-/metrics"
    UPLOAD = "/<file name>"
    NOWHERE = ""


_FIXED: Final = {place.value: place for place in Place if place not in {Place.ENTRY, Place.UPLOAD, Place.NOWHERE}}
_UPLOAD_NAME: Final = re.compile(r"/([!-.0-~]{1,765})", re.ASCII)
"""One visible segment: a file name of 255 bytes, percent-encoded."""


@dataclass(slots=True)
class Query:
    """What a query asks for, checked.

    Attributes:
        api_key: The key brought, or None.
        template: `format=`, or None for the bare path.
        content_type: `Content-Type=`, or None for the default.
        burst_depth: `burst=`; 0 reads the entry itself.
        touch: False for `chtimes=0`.
        take: `take=1`.
        absent: `setifnot=1`.
        append: `append=1`.
        kind: `kind=`, for a delete.
    """

    api_key: str | None = None
    template: str | None = None
    content_type: str | None = None
    burst_depth: int = 0
    touch: bool = True
    take: bool = False
    absent: bool = False
    append: bool = False
    kind: Kind | None = None


@dataclass(slots=True)
class Target:
    """A parsed request target.

    Attributes:
        place: What the path names.
        path: The path as sent, without the query.
        address: For `Place.ENTRY`.
        query: What the query asks for.
    """

    place: Place
    path: str
    address: Address | None = None
    query: Query = field(default_factory=Query)


def parse_target(raw: bytes) -> Target:
    """Reads a request target.

    Raises:
        UsageError: A query word of ours has a value that it cannot have.
    """
    path, _, query = raw.decode("latin-1").partition("?")
    if path.startswith(("http://", "https://")):  # the absolute form, as sent through a proxy
        path = "/" + path.split("/", 3)[3] if path.count("/") >= 3 else "/"
    place = _FIXED.get(path, Place.NOWHERE)
    address = None
    if place is Place.NOWHERE:
        try:
            address = Address.parse_path(path)
        except UsageError:
            if _is_upload(path):
                place = Place.UPLOAD
        else:
            place = Place.ENTRY
    target = Target(place, path, address)
    if query:
        _read_query(target.query, query)
    return target


def _is_upload(path: str) -> bool:
    """Whether the path is a file name, as `curl -T file http://host/` adds it; on a write it says nothing.

    A name like an entry's is more likely a mistyped address, which must not quietly become another one.
    """
    found = _UPLOAD_NAME.fullmatch(path)
    name = b"" if found is None else unquote_to_bytes(found[1])
    return not (name in {b"", b".", b".."} or b"/" in name or b"\0" in name or name.lower().endswith(b".tig"))


def _read_query(query: Query, text: str) -> None:
    for part in text.split("&"):
        name, _, value = part.partition("=")
        reader = _READERS.get(name)
        if reader is not None:
            reader(query, unquote_to_bytes(value.encode("latin-1")).decode("utf-8", "surrogateescape"))


def _read_key(query: Query, value: str) -> None:
    query.api_key = value


def _read_format(query: Query, value: str) -> None:
    query.template = check_template(value)


def _read_content_type(query: Query, value: str) -> None:
    if len(value) > CONTENT_TYPE_BYTES_MAX or not _CONTENT_TYPE.fullmatch(value):
        raise UsageError("Content-Type= is not a media type.", hint="Write one such as text/css.")
    query.content_type = value


def _read_burst(query: Query, value: str) -> None:
    if not (value.isascii() and value.isdecimal() and len(value) <= 2 and int(value) <= BURST_DEPTH_MAX):
        raise UsageError(f"burst= takes a depth from 0 to {BURST_DEPTH_MAX}.")
    query.burst_depth = int(value)


def _read_kind(query: Query, value: str) -> None:
    try:
        query.kind = Kind(value)
    except ValueError:
        raise UsageError("kind= is blob or slot.") from None


def _flag(name: str, value: str) -> bool:
    if value not in {"0", "1"}:
        raise UsageError(f"{name}= is 0 or 1.")
    return value == "1"


def _read_touch(query: Query, value: str) -> None:
    query.touch = _flag("chtimes", value)


def _read_take(query: Query, value: str) -> None:
    query.take = _flag("take", value)


def _read_absent(query: Query, value: str) -> None:
    query.absent = _flag("setifnot", value)


def _read_append(query: Query, value: str) -> None:
    query.append = _flag("append", value)


_READERS: Final = {
    "apikey": _read_key,
    "format": _read_format,
    "Content-Type": _read_content_type,
    "burst": _read_burst,
    "chtimes": _read_touch,
    "take": _read_take,
    "setifnot": _read_absent,
    "append": _read_append,
    "kind": _read_kind,
}
