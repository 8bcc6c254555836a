"""What an HTTP store holds: its listing, and which of many addresses it lacks."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from holdall.core.address import PATH_CHARS, Address
from holdall.errors import AccessError, AddressError, NotFoundError, StoreError, UsageError
from holdall.limits import CHUNK_BYTES
from holdall.limits.server import HAVE_BYTES_MAX
from holdall.limits.stores import CLIENT_CONNECTIONS
from holdall.stores.http_request import Outgoing, Request
from holdall.stores.ordered import in_order, taken_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from holdall.stores.http_session import Session

_HAVE_BATCH: Final = HAVE_BYTES_MAX // (PATH_CHARS + 1) - 1
_LINE_BYTES_MAX: Final = 512


class Catalogue:
    """Asks a server for many addresses at once.

    Args:
        session: The connections to it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asks_batches = True

    async def addresses(self) -> AsyncIterator[Address]:
        """Yields the address of every entry in the order of `entries`; see `AddressListing.addresses`."""
        rest = b""
        async with aclosing(taken_in(self._listing())) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield _listed(line)
                if len(rest) > _LINE_BYTES_MAX:
                    raise _not_a_listing()
        if rest:
            yield _listed(rest)

    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        """Which of `addresses` are not there; see `BatchExistence.missing`."""
        asked = list(dict.fromkeys(addresses))
        absent = []
        for at in range(0, len(asked), _HAVE_BATCH):
            absent += await self._missing(asked[at : at + _HAVE_BATCH])
        return absent

    async def _listing(self) -> AsyncIterator[bytes]:
        request = Request(method="GET", path="/", keyed=True, repeatable=True)
        async with self._session.answer(request) as response:
            while piece := await response.content.read(CHUNK_BYTES):
                yield piece

    async def _missing(self, addresses: list[Address]) -> list[Address]:
        """Which of one batch are not there; a server is believed only if it also misses what cannot be there."""
        if self._asks_batches:
            canary = Address(secrets.token_bytes(32))
            text = "".join(f"{address}\n" for address in (canary, *addresses)).encode()
            request = Request(method="POST", path="/-/have", body=Outgoing(text), repeatable=True)
            try:
                answered = await self._lines(request)
            except (AccessError, NotFoundError, UsageError):
                answered = set()
            if canary.path.encode() in answered:
                return [address for address in addresses if address.path.encode() in answered]
            self._asks_batches = False
        found = in_order(addresses, self._exists, width=CLIENT_CONNECTIONS)
        async with aclosing(found):
            here = [exists async for exists in found]
        return [address for address, exists in zip(addresses, here, strict=True) if not exists]

    async def _lines(self, request: Request) -> set[bytes]:
        """The lines of an answer that is no longer than the question."""
        body = bytearray()
        async with self._session.answer(request) as response:
            while len(body) <= HAVE_BYTES_MAX and (piece := await response.content.read(CHUNK_BYTES)):
                body += piece
        return set(bytes(body).splitlines())

    async def _exists(self, address: Address) -> bool:
        request = Request(method="HEAD", path=address.path, repeatable=True)
        try:
            async with self._session.answer(request):
                return True
        except NotFoundError:
            return False


def _listed(line: bytes) -> Address:
    try:
        return Address.parse_path(line.decode("ascii", "replace").rstrip("\r"))
    except AddressError:
        raise _not_a_listing() from None


def _not_a_listing() -> StoreError:
    return StoreError("The server answered something else than a listing.")
