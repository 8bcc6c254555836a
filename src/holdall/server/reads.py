"""What answers GET, HEAD and /-/have: entries, bursts, the listing, health and metrics."""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from holdall import __version__
from holdall.core.burst import members
from holdall.core.template import fill
from holdall.errors import BusyError, HoldallError, RangeError, StoreError, UsageError
from holdall.limits.stores import BURST_PLANS_MAX, BURST_PLANS_MEMBERS_MAX
from holdall.server.bodies import Text
from holdall.server.exchange import refuse_conditions
from holdall.server.reply import OCTETS, HTTPError, Pieces, Reply, entry_headers, small_head, time_headers
from holdall.stores.abilities import Immediate
from holdall.stores.base import WHOLE, Span, missing
from holdall.stores.bursts import plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.core.address import Address
    from holdall.server.exchange import Exchange
    from holdall.server.service import Service
    from holdall.server.target import Query
    from holdall.stores.abilities import Glimpse
    from holdall.stores.base import Info, Reading
    from holdall.stores.bursts import BurstPlan

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})", re.ASCII)
_SPECIAL: Final = ("range", "if-none-match", "if-modified-since", "if-match", "if-unmodified-since")
_BEYOND: Final = 10**19
"""Past the end of any entry, and more than a Range header here can name; unlike None it makes `bytes=0-` a part."""
_LISTING_PIECE_LINES: Final = 512
_LOOKS_MAX: Final = 100
"""Looks at an entry that was another version each time it was opened; two in a row are rare already."""


class Reads:
    """The handlers that read.

    Args:
        service: The worker.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._planning = asyncio.Semaphore(BURST_PLANS_MAX)
        self._members_held = 0
        self._immediate = service.store if isinstance(service.store, Immediate) else None

    # --- entries ---

    def entry(self, exchange: Exchange) -> None:
        """GET or HEAD of an address."""
        query = exchange.target.query
        if self._immediate is not None and exchange.method == b"GET" and self._is_plain(exchange, query):
            address = exchange.target.address
            assert address is not None  # noqa: S101 - the route is an entry's
            found = self._immediate.get_now(address)
            if found is not None:
                self._answer_small(exchange, found)
                return
        self._service.answer_with(exchange, self._entry(exchange, query))

    def _answer_small(self, exchange: Exchange, glimpse: Glimpse) -> None:
        content_type = exchange.target.query.content_type or OCTETS
        exchange.connection.answer_small(exchange, small_head(glimpse, content_type.encode("latin-1")), glimpse.data)

    def _is_plain(self, exchange: Exchange, query: Query) -> bool:
        """Whether a GET asks for the whole of an entry and nothing more."""
        if query.burst_depth or query.take or not query.touch or self._service.common_headers(exchange):
            return False
        return not any(name in exchange.headers for name in _SPECIAL)

    async def _entry(self, exchange: Exchange, query: Query) -> Reply:
        address = exchange.target.address
        assert address is not None  # noqa: S101 - the route is an entry's
        if query.take:
            return await self._take(exchange, query, address)
        if query.burst_depth:
            return await self._burst(exchange, query, address)
        store = self._service.store
        if exchange.is_head:
            info = await store.stat(address, use=query.touch)
            reply = self._not_modified(exchange, info) or Reply(200, length=info.size_bytes)
            if reply.status == 200:
                self._describe(reply, query, info)
                reply.headers += time_headers(info)
            return reply
        if any(name in exchange.headers for name in _SPECIAL):
            return await self._conditional(exchange, query, address)
        return self._whole(query, await store.get(address, use=query.touch))

    def _whole(self, query: Query, reading: Reading) -> Reply:
        reply = Reply(200, reading)
        self._describe(reply, query, reading.info)
        reply.headers += time_headers(reading.info)
        return reply

    async def _conditional(self, exchange: Exchange, query: Query, address: Address) -> Reply:
        """A GET with conditions or a range: what they are held against is the version that is sent."""
        store = self._service.store
        for _ in range(_LOOKS_MAX):
            info = await store.stat(address, use=query.touch)
            unchanged = self._not_modified(exchange, info)
            if unchanged is not None:
                return unchanged
            span = _span(exchange, info.version, info.used_ns // 1_000_000_000)
            span.resolve(info.size_bytes)  # so that a RangeError from here on means another version
            try:
                reading = await store.get(address, span, use=query.touch)
            except RangeError:
                continue
            if reading.info.version == info.version:
                reply = self._whole(query, reading)
                _mark_part(reply, span, reading.start, reading.stop, info.size_bytes)
                return reply
            await reading.aclose()
        raise BusyError("The entry changes faster than it can be looked at.")

    async def _take(self, exchange: Exchange, query: Query, address: Address) -> Reply:
        if exchange.is_head or query.burst_depth:
            raise UsageError("take= goes with a plain GET.")
        refuse_conditions(exchange, "A take")
        return self._whole(query, await self._service.store.take(address))

    async def _burst(self, exchange: Exchange, query: Query, address: Address) -> Reply:
        found = await self._plan(address, query)
        version = f"{found.info.version}-{query.burst_depth}" if found.is_immutable else None
        headers = [header for header in entry_headers(found.info) if header[0] not in {"ETag", "Cache-Control"}]
        headers.append(("Cache-Control", "public, max-age=31536000, immutable" if version else "no-store"))
        if version is not None:
            headers.append(("ETag", f'"{version}"'))
            if _matches(exchange.headers.get("if-none-match"), version):
                return Reply(304, headers=headers)
        span = WHOLE if exchange.is_head else _span(exchange, version, None)  # ranges are for GET (RFC 9110, 14.2)
        found.select(span)
        reply = Reply(200, found, length=found.size_bytes if exchange.is_head else None)
        reply.content_type = query.content_type or OCTETS
        reply.headers = [("Accept-Ranges", "bytes"), *headers]
        _mark_part(reply, span, found.start, found.stop, found.size_bytes)
        return reply

    async def _plan(self, address: Address, query: Query) -> BurstPlan:
        """Finds a burst's members, such that all burst reads together stay within bounds."""
        async with self._planning:
            if self._members_held >= BURST_PLANS_MEMBERS_MAX:
                raise BusyError("Too many large bursts are being read.")
            found = await plan(self._service.store, address, query.burst_depth, use=query.touch)
            self._members_held += len(found)
            weakref.finalize(found, self._let_go, len(found)).atexit = False
            return found

    def _let_go(self, members_held: int) -> None:
        self._members_held -= members_held

    def _describe(self, reply: Reply, query: Query, info: Info) -> None:
        reply.content_type = query.content_type or OCTETS
        reply.headers = [("Accept-Ranges", "bytes"), *entry_headers(info)]

    @staticmethod
    def _not_modified(exchange: Exchange, info: Info) -> Reply | None:
        """The answer that a condition of the request settles, if it does (RFC 9110, 13.2.2)."""
        headers = exchange.headers
        wanted, unless = headers.get("if-match"), headers.get("if-none-match")
        since, unmodified = headers.get("if-modified-since"), headers.get("if-unmodified-since")
        changed = info.used_ns // 1_000_000_000
        if wanted is not None and not _matches(wanted, info.version, weak=False):
            raise HTTPError(412, "The entry does not have the version that If-Match names.")
        if wanted is None and unmodified is not None and (limit := _date(unmodified)) is not None and changed > limit:
            raise HTTPError(412, "The entry has changed since If-Unmodified-Since.")
        if unless is not None:
            hit = _matches(unless, info.version)
        else:
            limit = None if since is None else _date(since)
            hit = limit is not None and changed <= limit
        return Reply(304, headers=entry_headers(info)) if hit else None

    # --- the rest ---

    def listing(self, exchange: Exchange) -> None:
        """GET /: every address, newest use first; a server without a key lists nothing."""
        if not self._service.access.has_key or exchange.is_head:
            exchange.answer(Reply(200))
            return
        exchange.answer(Reply(200, Pieces(self._lines(exchange.target.query.template))))

    async def _lines(self, template: str | None) -> AsyncGenerator[bytes, None]:
        lines: list[str] = []
        async for address in self._service.addresses():
            lines.append(address.path if template is None else fill(template, address.path))
            if len(lines) == _LISTING_PIECE_LINES:
                yield ("\n".join(lines) + "\n").encode()
                lines.clear()
        if lines:
            yield ("\n".join(lines) + "\n").encode()

    def have(self, exchange: Exchange) -> None:
        """POST /-/have: which of the addresses named are missing."""
        self._service.answer_with(exchange, self._have(exchange))

    async def _have(self, exchange: Exchange) -> Reply:
        body = exchange.body
        assert isinstance(body, Text)  # noqa: S101 - the route says so
        try:
            asked = members(body.text())
        except HoldallError as error:
            raise UsageError(error.message.replace("the burst", "the body"), hint="Send one path a line.") from None
        template = exchange.target.query.template
        absent = await missing(self._service.store, asked)
        lines = [address.path if template is None else fill(template, address.path) for address in absent]
        return Reply(200, "".join(f"{line}\n" for line in lines).encode())

    def health(self, exchange: Exchange) -> None:
        """GET /-/health: whether the server can do its work, and how much room is left."""
        self._service.answer_with(exchange, self._health())

    async def _health(self) -> Reply:
        try:
            free_bytes = self._service.free_bytes()
            status = "draining" if self._service.draining else "ok" if free_bytes else "full"
        except StoreError as error:
            free_bytes, status = 0, error.slug
        told = {"status": status, "free_bytes": free_bytes, "version": __version__}
        reply = Reply(200 if status == "ok" else 503, json.dumps(told).encode() + b"\n", "application/json")
        reply.headers.append(("Cache-Control", "no-store"))
        return reply

    def metrics(self, exchange: Exchange) -> None:
        """GET /-/metrics: the counters of all workers."""
        from holdall.server.metrics_text import CONTENT_TYPE, metrics_text  # noqa: PLC0415 - see that module

        text = metrics_text(self._service.metrics, free_bytes=self._service.free_bytes())
        exchange.answer(Reply(200, text, CONTENT_TYPE, [("Cache-Control", "no-store")]))


def _span(exchange: Exchange, version: str | None, changed: int | None) -> Span:
    """The part that a Range header asks for; all of it where the header is none of ours (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(exchange.headers.get("range", "").strip())
    if found is None or not (found[1] or found[2]):
        return WHOLE
    condition = exchange.headers.get("if-range")
    if condition is not None:
        current = condition == f'"{version}"' or (changed is not None and _date(condition) == changed)
        if not current:
            return WHOLE
    if not found[1]:
        return Span(-int(found[2])) if int(found[2]) else Span(_BEYOND)
    start = int(found[1])
    stop = int(found[2]) + 1 if found[2] else _BEYOND
    if stop <= start:
        return WHOLE
    return Span(start, stop)


def _mark_part(reply: Reply, span: Span, start: int, stop: int, size_bytes: int) -> None:
    if span != WHOLE:
        reply.status = 206
        reply.headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size_bytes}"))


def _matches(header: str | None, version: str, *, weak: bool = True) -> bool:
    """Whether a list of entity tags names the version."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    tags = (tag.strip() for tag in header.split(","))
    return any((tag.removeprefix("W/") if weak else tag) == f'"{version}"' for tag in tags)


def _date(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None
