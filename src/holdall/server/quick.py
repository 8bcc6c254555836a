"""The quick way: a plain GET of a small entry, answered while its head is still being parsed.

At a few microseconds a request every object made counts, so what most requests are makes none: no exchange, no
target, no reply. Whatever is not plain (a query, a condition, a range, a large or missing entry) returns False here
and goes the general way, which answers the same.

A client's GETs differ in nothing but the address, and an address has one length. So what follows it, once the parser
has found it plain, is remembered, and the same bytes after another address need not be parsed again.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import TYPE_CHECKING, Final

from holdall.core.address import HEX_CHARS, PATH_CHARS, SUFFIX, Address
from holdall.errors import HoldallError
from holdall.limits import SMALL_BYTES_MAX
from holdall.limits.server import HEAD_TAIL_BYTES_MAX, HEAD_TAILS_MAX
from holdall.server.metrics import CACHE_HITS
from holdall.server.reply import small_head
from holdall.stores.abilities import Immediate

if TYPE_CHECKING:
    from asyncio import Transport

    from holdall.server.exchange import Exchange
    from holdall.server.service import Service

_PLAIN_NAMES: Final = frozenset(
    name.encode()
    for plain in ("host", "user-agent", "accept", "accept-encoding", "accept-language", "connection", "cache-control")
    for name in (plain, plain.title(), plain.upper())
)
"""Headers that change nothing here, as clients write them; a GET with others goes the general way."""
_LENGTHS: Final = frozenset({b"content-length", b"Content-Length"})
_TYPES: Final = frozenset({b"content-type", b"Content-Type"})
_LENGTH_DIGITS_MAX: Final = 7
_HOSTS: Final = frozenset({b"host", b"Host", b"HOST"})
_GET: Final = b"GET "
_TAIL_AT: Final = len(_GET) + PATH_CHARS
_SUFFIX: Final = SUFFIX.encode()
_SUFFIX_AT: Final = 1 + HEX_CHARS


class Quick:
    """Answers plain GETs at once.

    Args:
        service: The worker.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._cache = service.cache
        self._metrics = service.metrics
        self._get_now = service.store.get_now if isinstance(service.store, Immediate) else None
        self._tails: set[bytes] = set()

    def get_again(self, transport: Transport, data: bytes, client: str) -> bool:
        """Answers a GET that only the address tells from one that was parsed, or returns False and has done nothing.

        Args:
            transport: Where the answer goes.
            data: All that came at once, on a connection that is between requests.
            client: Who asks.
        """
        if data[_TAIL_AT:] not in self._tails or not data.startswith(_GET) or self._service.draining:
            return False
        return self._answer(transport, data[len(_GET) : _TAIL_AT], client)

    def remember(self, data: bytes, target: bytes) -> None:
        """Remembers what follows the address in a request.

        Args:
            data: All that came at once: one whole request, and `get` has answered it.
            target: Its target.
        """
        tail = data[_TAIL_AT:]
        if data[:_TAIL_AT] != _GET + target or len(tail) > HEAD_TAIL_BYTES_MAX:
            return
        if len(self._tails) >= HEAD_TAILS_MAX:
            self._tails.clear()
        self._tails.add(tail)

    def get(self, transport: Transport, target: bytes, headers: list[tuple[bytes, bytes]], client: str) -> bool:
        """Answers a GET, or returns False and has done nothing.

        Args:
            transport: Where the answer goes.
            target: As sent.
            headers: As sent.
            client: Who asks.
        """
        hosts = 0
        for name, _ in headers:
            if name not in _PLAIN_NAMES:
                return False
            if name in _HOSTS:
                hosts += 1
        return hosts == 1 and self._answer(transport, target, client)

    def admit_put(self, exchange: Exchange, headers: list[tuple[bytes, bytes]]) -> bool:
        """Admits a plain small PUT of `/`, or returns False and has done nothing.

        What it leaves out of the general way is only what cannot matter here: conditions, keys, digests, origins.

        Args:
            exchange: The request, its headers not read yet.
            headers: As sent.
        """
        if self._service.access.has_key or self._get_now is None:
            return False
        hosts, length = 0, None
        for name, value in headers:
            if name in _LENGTHS:
                if length is not None or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                    return False
                length = int(value)
            elif name in _HOSTS:
                hosts += 1
            elif name not in _PLAIN_NAMES and name not in _TYPES:
                return False
        if hosts != 1 or length is None or length > min(SMALL_BYTES_MAX, self._service.settings.size_bytes_max):
            return False
        self._service.router.admit_put(exchange, length)
        return True

    def _answer(self, transport: Transport, target: bytes, client: str) -> bool:
        hot = self._cache.get(target)
        if hot is not None:
            head, body = hot.head, hot.body
            self._metrics.add(CACHE_HITS)
        else:
            found = self._read(target)
            if found is None:
                return False
            head, body = found
        transport.write(b"".join((self._service.date.ok, head, body)))
        self._metrics.count_quick(len(body))
        log = self._service.log
        if log.access != "off":
            log.request(client, b"GET", target, status=200, sent_bytes=len(body), seconds=0.0)
        return True

    def _read(self, target: bytes) -> tuple[bytes, bytes] | None:
        """Head and body of a small entry, or None where it takes more."""
        # All lower case, for the suffix is; the digits are looked at as they are read.
        if self._get_now is None or target[:1] != b"/" or target[_SUFFIX_AT:] != _SUFFIX or not target.islower():
            return None
        cache = self._cache
        position = cache.position() if cache.keeps else 0
        try:
            glimpse = self._get_now(Address(unhexlify(target[1:_SUFFIX_AT])))
        except (HoldallError, ValueError):  # nothing is there, or what should be digits are none
            return None
        if glimpse is None:
            return None
        head = small_head(glimpse)
        if cache.keeps:
            cache.keep(target, head, glimpse, position)
        return head, glimpse.data
