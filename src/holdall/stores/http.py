"""The HTTP store: a holdall server, or an original one, as a store.

What goes over the wire is written in docs/protocol; `http_wire` has its words, `http_session` sends and tries again,
`http_reading` is what `get` opens.

A holdall server says with each answer what an entry is. Other servers do not; there, an entry is copied whole and
hashed before anything is claimed of it: it is a blob if its bytes hash to its address, else a slot. (Of part of an
entry this cannot be known, so it is called a slot, of which nothing can be assumed.) What only a holdall server can
do, such as a compare-and-swap, is refused for others before it can do harm.
"""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import (
    AccessError,
    AddressError,
    AlreadySetError,
    BlobInTheWayError,
    DamageError,
    KindError,
    NotFoundError,
    RangeError,
    StoreError,
    UsageError,
    VersionMismatchError,
)
from holdall.limits.stores import CLIENT_CONNECTIONS
from holdall.stores.base import ABSENT, ALWAYS, WHOLE, IfVersion, Info, Kind
from holdall.stores.http_catalogue import Catalogue
from holdall.stores.http_reading import CopiedReading, HTTPReading, copied, reading_of
from holdall.stores.http_request import Outgoing, Request
from holdall.stores.http_session import Session
from holdall.stores.http_wire import (
    KIND,
    Health,
    check_key,
    entity_tag,
    health_from,
    info_from,
    length_from,
    range_header,
    split_url,
)
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable

    from holdall.stores.base import Condition, Source, Span


class HTTPStore:
    """A store behind an HTTP server.

    Concurrency: the calls of one object belong to one event loop.
    Durability: the server's.

    Args:
        url: `http(s)://host[:port][/path]`, with `?apikey=KEY` if need be.
        api_key: The API key, instead of one in the URL. It is sent only with what needs it.
        tls: How to check the server's certificate; the system's way where None.

    Raises:
        StoreURLError: The URL is not that of a store.
        UsageError: The API key cannot be sent.
    """

    def __init__(self, url: str, *, api_key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        base, key_in_url = split_url(url)
        key = check_key(api_key) if api_key is not None else key_in_url
        self._session = Session(base, api_key=key, tls=tls)
        self._catalogue = Catalogue(self._session)

    @property
    def url(self) -> str:
        """The store's URL without API key and final slash."""
        return self._session.base

    @property
    def has_key(self) -> bool:
        """Whether an API key is sent."""
        return self._session.has_key

    # --- Blobs ---

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Stores bytes under their SHA-256; see `Blobs.put`.

        Raises:
            DamageError: The server answers another address than that of the bytes sent.
        """
        body = Outgoing(source, expected)
        digest = body.address if isinstance(source, bytes) else expected
        request = Request(
            method="PUT",
            path="/",
            headers={} if digest is None else {"Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"},
            body=body,
            keyed=True,
            repeatable=True,
        )
        _, text = await self._session.short_answer(request)
        self._check_answer(text, body.address)
        return body.address

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> HTTPReading | CopiedReading:
        """Opens an entry; see `Blobs.get`."""
        return await self._open(address, span, _chtimes(use=use))

    async def get_burst(
        self, address: Address, span: Span = WHOLE, *, depth: int = 1, use: bool = True
    ) -> HTTPReading | CopiedReading:
        """Opens the concatenation of a burst's members; see `BurstReading.get_burst`."""
        return await self._open(address, span, {"burst": str(depth)} | _chtimes(use=use))

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Looks at an entry; see `Blobs.stat`. Entries of a server that is not holdall's are read for it."""
        request = Request(method="HEAD", path=address.path, query=_chtimes(use=use), repeatable=True)
        async with self._session.answer(request) as response:
            info = info_from(response.headers, address, length_from(response.headers))
        if info is not None:
            return info
        request = Request(method="GET", path=address.path, query=_chtimes(use=use), repeatable=True)
        async with self._session.answer(request) as response:
            file, info = await copied(response, address, self._session.translating(), keep=False)
            file.close()
        return info

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Removes an entry; see `Blobs.delete`. An original server does not say that nothing was there."""
        if kind is not None and not self._session.ours:
            info = await self.stat(address, use=False)
            if info.kind is not kind:
                raise KindError(f"{address} is a {info.kind.value}, not a {kind.value}.")
        request = Request(
            method="DELETE",
            path=address.path,
            query={} if kind is None else {"kind": kind.value},
            keyed=True,
            conflict=KindError,
        )
        await self._session.short_answer(request)

    async def entries(self) -> AsyncIterator[Info]:
        """Yields every entry, newest use first; see `Blobs.entries`."""

        async def look(address: Address) -> Info | None:
            try:
                return await self.stat(address, use=False)
            except NotFoundError:
                return None

        found = in_order(self.addresses(), look, width=CLIENT_CONNECTIONS)
        async with aclosing(found):
            async for info in found:
                if info is not None:
                    yield info

    def addresses(self) -> AsyncIterator[Address]:
        """Yields the address of every entry in the order of `entries`; see `AddressListing.addresses`."""
        return self._catalogue.addresses()

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not there; see `BatchExistence.missing`."""
        return await self._catalogue.missing(addresses)

    async def aclose(self) -> None:
        """Closes all connections; see `Blobs.aclose`."""
        await self._session.aclose()

    # --- Slots ---

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Replaces a slot; see `Slots.write`.

        Raises:
            StoreError: The server cannot compare and swap; nothing was written.
        """
        if when is ABSENT:
            query, headers = {"setifnot": "1"}, {"If-None-Match": "*"}
        elif isinstance(when, IfVersion):
            query, headers = {}, {"If-Match": await self._tag(address, when.version)}
        else:
            query, headers = {}, {}
        refusal = AlreadySetError if when is ABSENT else BlobInTheWayError
        body = Outgoing(source)
        request = Request(
            method="PUT",
            path=address.path,
            query=query,
            headers=headers,
            body=body,
            keyed=True,
            conflict=refusal,
        )
        response, text = await self._session.short_answer(request)
        if not text:  # how an original server refuses
            raise refusal(f"The server did not write to {address}.")
        self._check_answer(text, address)
        info = info_from(response.headers, address, body.size_bytes)
        if info is None:
            kind = Kind.BLOB if body.address == address else Kind.SLOT
            info = Info(address, kind, body.size_bytes, body.address.hex(), used_ns=0)
        return info

    async def append(self, address: Address, source: Source) -> Info:
        """Adds to a slot; see `Slots.append`."""
        body = Outgoing(source)
        request = Request(
            method="PUT",
            path=address.path,
            query={"append": "1"},
            body=body,
            keyed=True,
            conflict=BlobInTheWayError,
        )
        response, text = await self._session.short_answer(request)
        if not text:
            raise BlobInTheWayError(f"{address} holds a blob, which never changes.")
        self._check_answer(text, address)
        info = info_from(response.headers, address, None)
        if info is not None:
            return info
        try:
            return await self.stat(address, use=False)
        except NotFoundError:  # somebody took it since
            return Info(address, Kind.SLOT, body.size_bytes, "", used_ns=0)

    async def take(self, address: Address) -> HTTPReading:
        """Reads and removes a slot; see `Slots.take`.

        Raises:
            StoreError: The server cannot take; nothing was removed.
        """
        request = Request(method="GET", path=address.path, query={"take": "1"}, keyed=True, conflict=BlobInTheWayError)
        response = await self._session.send(request)
        info = info_from(response.headers, address, length_from(response.headers))
        if info is None:
            response.close()
            raise StoreError("The server cannot take an entry; it was left as it was.")
        return HTTPReading(
            response, info, start=0, stop=info.size_bytes, verify=None, translating=self._session.translating()
        )

    # --- beyond a store ---

    async def health(self) -> Health:
        """What the server says of itself; one that is not holdall's says only that it lives.

        Raises:
            BusyError: It says that it cannot work now.
            UnreachableError: It does not answer.
        """
        try:
            response, text = await self._session.short_answer(Request(method="GET", path="/-/health", repeatable=True))
        except (AccessError, NotFoundError, UsageError):
            return Health("ok", None, None, None)
        return health_from(response.headers, text)

    # --- inside ---

    async def _open(self, address: Address, span: Span, query: dict[str, str]) -> HTTPReading | CopiedReading:
        wanted = range_header(span)
        if wanted is None and span != WHOLE:  # HTTP cannot ask for it, because no entry has it
            info = await self.stat(address, use=False)
            raise RangeError(f"The entry has only {info.size_bytes} bytes.", size_bytes=info.size_bytes)
        headers = {} if wanted is None else {"Range": wanted}
        request = Request(method="GET", path=address.path, query=query, headers=headers, repeatable=True)
        response = await self._session.send(request)
        try:
            return await reading_of(
                response, address, span, self._session.translating(), checkable="burst" not in query
            )
        except BaseException:
            response.close()
            raise

    async def _tag(self, address: Address, version: str) -> str:
        """The header `If-Match`, once it is certain that the server heeds it."""
        tag = entity_tag(version)
        if tag is None:
            raise VersionMismatchError(f"{address} has another version.")
        if not self._session.ours:
            request = Request(method="HEAD", path=address.path, query=_chtimes(use=False), repeatable=True)
            try:
                async with self._session.answer(request) as response:
                    knows = KIND in response.headers
            except NotFoundError:
                raise VersionMismatchError(f"Nothing is stored at {address}.") from None
            if not knows:
                raise StoreError("The server cannot compare and swap; nothing was written.")
        return tag

    def _check_answer(self, text: str, address: Address) -> None:
        """Holds the server to the address of what was sent."""
        try:
            answered = Address.parse_path(text)
        except AddressError:
            raise StoreError(f"What answers at {self.url} is not a store.") from None
        if answered != address:
            raise DamageError(f"The server stored {answered}, but {address} was sent.", hint="Send it again.")


def _chtimes(*, use: bool) -> dict[str, str]:
    return {} if use else {"chtimes": "0"}
