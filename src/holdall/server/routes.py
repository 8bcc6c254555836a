"""Which request goes to which handler, and what must hold before its body is taken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from holdall.errors import TooLargeError
from holdall.limits.server import HAVE_BYTES_MAX
from holdall.server.bodies import ContentDigest, Hashed, Stored, Text
from holdall.server.reads import Reads
from holdall.server.reply import HTTPError, Reply
from holdall.server.target import Place, parse_target
from holdall.server.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.server.exchange import Exchange
    from holdall.server.service import Service
    from holdall.server.target import Target


class Takes(Enum):
    """What a route does with a body."""

    NOTHING = "nothing"
    STORED = "stored"
    HASHED = "hashed"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method at a place.

    Attributes:
        handler: Called with the exchange when its body is there; it sees to it that the exchange is answered.
        takes: What becomes of the body.
        needs_key: Whether it needs the API key where one is set.
    """

    handler: Callable[[Exchange], None]
    takes: Takes = Takes.NOTHING
    needs_key: bool = False


_ROOT_TARGET: Final = parse_target(b"/")
_WRITES: Final = (b"PUT", b"POST")


class Router:
    """The table of routes of one worker.

    Args:
        service: The worker.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        reads, writes = Reads(service), Writes(service)
        listing, entry = Route(reads.listing, needs_key=True), Route(reads.entry)
        put, write = (Route(handler, Takes.STORED, needs_key=True) for handler in (writes.put, writes.write))
        key = Route(writes.key, Takes.HASHED, needs_key=True)
        health, metrics, preflight = Route(reads.health), Route(reads.metrics), Route(self._preflight)
        self._routes: dict[tuple[Place, bytes], Route] = {
            **{(place, method): put for place in (Place.ROOT, Place.UPLOAD) for method in _WRITES},
            **{(Place.ENTRY, method): write for method in _WRITES},
            **{(Place.KEY_VALUE, method): key for method in _WRITES},
            **{(Place.ROOT, method): listing for method in (b"GET", b"HEAD")},
            **{(Place.ENTRY, method): entry for method in (b"GET", b"HEAD")},
            **{(Place.HEALTH, method): health for method in (b"GET", b"HEAD")},
            **{(Place.METRICS, method): metrics for method in (b"GET", b"HEAD")},
            (Place.ENTRY, b"DELETE"): Route(writes.delete, needs_key=True),
            (Place.HAVE, b"POST"): Route(reads.have, Takes.TEXT),
        }
        if service.settings.cors is not None:
            self._routes |= {(place, b"OPTIONS"): preflight for place in Place if place is not Place.NOWHERE}
        self._put = put

    def admit(self, exchange: Exchange) -> None:
        """Settles, from the head alone, whether the request may go on, and where its body goes.

        Raises:
            HoldallError: It may not.
        """
        raw = exchange.raw_target
        target = exchange.target = _ROOT_TARGET if raw == b"/" else parse_target(raw)
        route = self._routes.get((target.place, exchange.method))
        if route is None:
            raise self._no_route(target)
        self._check_access(exchange, needed=route.needs_key or target.query.take)
        exchange.route = route
        if route.takes is Takes.NOTHING:
            if exchange.length != 0:
                raise HTTPError(400, f"A {exchange.method.decode('latin-1')} here takes no body.")
            return
        limit = self._service.settings.size_bytes_max if route.takes is not Takes.TEXT else HAVE_BYTES_MAX
        if exchange.length is not None and exchange.length > limit:
            raise TooLargeError(f"The body is over {limit} bytes.")
        exchange.body = self._body(exchange, route.takes, limit)

    def admit_put(self, exchange: Exchange, length: int) -> None:
        """Lets a small PUT of `/` go on that `Quick` has seen to be plain.

        Args:
            exchange: The request.
            length: Its Content-Length.
        """
        exchange.target, exchange.route, exchange.length = _ROOT_TARGET, self._put, length
        exchange.body = Stored(self._service.store, self._service.settings.size_bytes_max, None)

    def handle(self, exchange: Exchange) -> None:
        """Lets the handler answer a request whose body is there."""
        self._service.handle(exchange, exchange.route.handler)

    def _body(self, exchange: Exchange, takes: Takes, limit: int) -> Stored | Hashed | Text:
        if takes is Takes.STORED:
            header = exchange.headers.get("content-digest")
            digest = None if header is None else ContentDigest(header)
            return Stored(self._service.store, limit, digest)
        return Hashed(limit) if takes is Takes.HASHED else Text(limit)

    def _check_access(self, exchange: Exchange, *, needed: bool) -> None:
        access, client = self._service.access, exchange.connection.client
        brought = exchange.target.query.api_key
        authorization = exchange.headers.get("authorization")
        if brought is None and authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer":
                brought = token.strip().encode("latin-1").decode("utf-8", "surrogateescape")  # as a query's
        before = access.failures
        try:
            access.check(brought, needed=needed, client=client)
        except HTTPError:
            if access.failures != before:
                self._service.counted_access_failure()
                exchange.delay_seconds = access.delay_seconds(client)
            raise

    def _no_route(self, target: Target) -> HTTPError:
        if target.place in {Place.UPLOAD, Place.NOWHERE}:
            return HTTPError(
                404,
                f"{target.path[:80]!a} is not a path here.",
                hint="Entries are at /<64 lowercase hex digits>.tig, and new blobs go to /.",
            )
        allowed = ", ".join(method.decode() for place, method in self._routes if place is target.place)
        return HTTPError(405, f"The methods here are {allowed}.", headers=(("Allow", allowed),))

    @staticmethod
    def _preflight(exchange: Exchange) -> None:
        exchange.answer(
            Reply(
                204,
                headers=[
                    ("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, DELETE"),
                    ("Access-Control-Allow-Headers", "*, Authorization"),
                    ("Access-Control-Max-Age", "86400"),
                ],
            )
        )
