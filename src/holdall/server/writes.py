"""What answers PUT, POST and DELETE: blobs, slots, keys and removals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdall.core.template import fill
from holdall.errors import HoldallError, NotFoundError, UsageError, VersionMismatchError
from holdall.server.bodies import Hashed, Stored, TemporarySpool
from holdall.server.exchange import refuse_conditions
from holdall.server.reply import TEXT, HTTPError, Reply, encode_headers, time_headers
from holdall.stores.abilities import Immediate, Spooling
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Kind

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.server.exchange import Exchange
    from holdall.server.service import Service
    from holdall.stores.base import Condition


class Writes:
    """The handlers that write.

    Args:
        service: The worker.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._immediate = service.store if isinstance(service.store, Immediate) else None
        self._bare_head = encode_headers([("Content-Length", "69"), ("Content-Type", TEXT)])

    def put(self, exchange: Exchange) -> None:
        """PUT or POST of /: stores a blob under its own hash."""
        query, body = exchange.target.query, _stored(exchange)
        if query.append or query.absent:
            raise UsageError("append= and setifnot= need an address in the path.", hint="Ask /kv for a key's.")
        if body.digest is not None:
            body.digest.check()
        small = body.small()
        if small is not None and self._immediate is not None:
            self._immediate.put_now(small, partial(self._put_small, exchange))
        else:
            self._service.answer_with(exchange, self._put(exchange, body))

    def _put_small(self, exchange: Exchange, outcome: Address | HoldallError) -> None:
        if isinstance(outcome, HoldallError):
            exchange.answer_error(outcome)
        elif exchange.target.query.template is None and self._service.settings.cors is None:
            exchange.connection.answer_small(exchange, self._bare_head, outcome.path.encode())
        else:
            exchange.answer(_path_reply(exchange, outcome))

    async def _put(self, exchange: Exchange, body: Stored) -> Reply:
        small = body.small()
        if small is not None:
            address = await self._store.put(small)
        else:
            spooled = body.into_spool()
            if isinstance(self._store, Spooling):
                address = await self._store.put_spooled(spooled)
            else:
                assert isinstance(spooled, TemporarySpool)  # noqa: S101 - see Stored
                address = await self._store.put(spooled)
        return _path_reply(exchange, address)

    def write(self, exchange: Exchange) -> None:
        """PUT or POST of an address: a slot, or the address's own blob."""
        body = _stored(exchange)
        if body.digest is not None:
            body.digest.check()
        self._service.answer_with(exchange, self._write(exchange, body))

    async def _write(self, exchange: Exchange, body: Stored) -> Reply:
        address = exchange.target.address
        assert address is not None  # noqa: S101 - the route is an entry's
        when = await self._condition(exchange, address)
        append = exchange.target.query.append
        if append and when is not ALWAYS:
            raise UsageError("append= takes no condition.")
        if isinstance(self._store, Spooling):
            spooled = body.into_spool()
            if append:
                info = await self._store.append_spooled(address, spooled)
            else:
                info = await self._store.write_spooled(address, spooled, when=when)
        else:
            small = body.small()
            source = body.into_spool() if small is None else small
            assert isinstance(source, bytes | TemporarySpool)  # noqa: S101 - see Stored
            if append:
                info = await self._store.append(address, source)
            else:
                info = await self._store.write(address, source, when=when)
        reply = _path_reply(exchange, address)
        reply.headers += [
            ("ETag", f'"{info.version}"'),
            ("X-Holdall-Kind", info.kind.value),
            ("X-Holdall-Size", str(info.size_bytes)),
            *time_headers(info),
        ]
        return reply

    async def _condition(self, exchange: Exchange, address: Address) -> Condition:
        absent, match = exchange.headers.get("if-none-match"), exchange.headers.get("if-match")
        if absent is not None and absent.strip() != "*":
            raise UsageError("On a write If-None-Match is *.")
        exclusive = exchange.target.query.absent or absent is not None
        if match is None:
            return ABSENT if exclusive else ALWAYS
        if exclusive:
            raise UsageError("If-Match and an exclusive create exclude each other.")
        match = match.strip()
        if match == "*":
            try:
                return IfVersion((await self._store.stat(address, use=False)).version)
            except NotFoundError:
                raise VersionMismatchError(f"Nothing is stored at {address}.") from None
        if len(match) < 3 or match[0] != '"' or match[-1] != '"' or '"' in match[1:-1]:
            raise UsageError("If-Match names one version, in double quotes, or *.")
        return IfVersion(match[1:-1])

    def key(self, exchange: Exchange) -> None:
        """PUT or POST of /kv: the address of a key, which is not stored."""
        body = exchange.body
        assert isinstance(body, Hashed)  # noqa: S101 - the route says so
        exchange.answer(_path_reply(exchange, body.address))

    def delete(self, exchange: Exchange) -> None:
        """DELETE of an address: a slot, or, with the key of a server that has one, a blob."""
        self._service.answer_with(exchange, self._delete(exchange))

    async def _delete(self, exchange: Exchange) -> Reply:
        address, kind = exchange.target.address, exchange.target.query.kind
        assert address is not None  # noqa: S101 - the route is an entry's
        refuse_conditions(exchange, "A DELETE")
        if not self._service.access.has_key:
            if (await self._store.stat(address, use=False)).kind is Kind.BLOB:
                raise HTTPError(403, "A blob can only be deleted with an API key.", hint="This server has none set.")
            kind = Kind.SLOT
        await self._store.delete(address, kind=kind)
        return _path_reply(exchange, address)


def _stored(exchange: Exchange) -> Stored:
    body = exchange.body
    assert isinstance(body, Stored)  # noqa: S101 - the route says so
    return body


def _path_reply(exchange: Exchange, address: Address) -> Reply:
    """The answer to a write: the path in the format asked for, with no newline."""
    template = exchange.target.query.template
    text = address.path if template is None else fill(template, address.path)
    return Reply(200, text.encode("utf-8", "replace"))
