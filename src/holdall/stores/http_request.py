"""What is sent to an HTTP store: a request as a value, and a body that is hashed and watched on its way out."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import BusyError, ConflictError, DigestMismatchError, UnreachableError
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.limits.server import STALL_SECONDS_MAX
from holdall.stores.base import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.errors import HoldallError
    from holdall.stores.base import Source


class NeverConnectedError(UnreachableError):
    """No connection was made, so the server knows nothing of the request."""


class Outgoing:
    """A source on its way out: hashed and counted as it goes, cut to pieces a server can take one at a time.

    Args:
        source: The bytes.
        expected: What they must hash to.

    Attributes:
        size_bytes: How much has gone.
        error: What the source raised, or that it was not what was expected.
        asks_source: Whether it is the source that is waited for.
        pieces_taken: How many pieces the server, or the network on its behalf, has taken.
    """

    def __init__(self, source: Source, expected: Address | None = None) -> None:
        self._source = source
        self._expected = expected
        self._hash = hashlib.sha256()
        self._started = False
        self.size_bytes = 0
        self.error: BaseException | None = None
        self.asks_source = False
        self.pieces_taken = 0
        if isinstance(source, bytes):
            self._hash.update(source)
            self.size_bytes = len(source)
            self._check()

    @property
    def streams(self) -> bool:
        """Whether it is a stream, of unknown length and to be had once."""
        return not isinstance(self._source, bytes)

    @property
    def headers(self) -> dict[str, str]:
        """What a request says of its body."""
        return {"Content-Length": str(len(self._source))} if isinstance(self._source, bytes) else {}

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again from its start."""
        return isinstance(self._source, bytes) or not self._started

    @property
    def address(self) -> Address:
        """The address of what has gone."""
        return Address(self._hash.digest())

    def data(self, deadline: asyncio.Timeout) -> bytes | AsyncIterator[bytes]:
        """What aiohttp sends: few bytes as they are, more in pieces."""
        if isinstance(self._source, bytes) and len(self._source) <= SMALL_BYTES_MAX:
            return self._source
        return self.pieces(deadline)

    async def pieces(self, deadline: asyncio.Timeout) -> AsyncIterator[bytes]:
        """Yields the bytes; the server has `STALL_SECONDS_MAX` for each piece, the source has all the time it wants.

        Raises:
            DigestMismatchError: They are not what was expected; raised before the body's end is sent.
        """
        self._started = self.asks_source = True
        _reschedule(deadline, None)
        try:
            async for piece in pieces(self._source):
                if not isinstance(self._source, bytes):
                    self._hash.update(piece)
                    self.size_bytes += len(piece)
                for at in range(0, len(piece), CHUNK_BYTES):
                    _reschedule(deadline, STALL_SECONDS_MAX)
                    self.asks_source = False
                    yield piece[at : at + CHUNK_BYTES]
                    self.asks_source = True
                    self.pieces_taken += 1
                    _reschedule(deadline, None)
            self.asks_source = False
            self._check()
        except Exception as error:
            self.error = error
            raise

    def _check(self) -> None:
        if self._expected is not None and self.address != self._expected:
            raise DigestMismatchError(f"The bytes hash to {self.address}, not to {self._expected}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        method: Its method.
        path: Its path below the store's URL.
        query: Its query, the API key not among it.
        headers: Its headers, the API key not among them.
        body: What it sends.
        keyed: Whether it brings the API key, if there is one.
        repeatable: Whether it may be sent again although it may have taken effect.
        conflict: What a 409 means.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Outgoing | None = None
    keyed: bool = False
    repeatable: bool = False
    conflict: type[ConflictError] = ConflictError

    def again_after(self, error: HoldallError) -> bool:
        """Whether to send it once more after `error`."""
        if self.body is not None and not self.body.replayable:
            return False
        if isinstance(error, (BusyError, NeverConnectedError)):
            return True  # nothing happened
        return self.repeatable and isinstance(error, UnreachableError)


def _reschedule(deadline: asyncio.Timeout, seconds: float | None) -> None:
    """Sets a deadline, unless the request is over: an early answer leaves its body half sent."""
    with suppress(RuntimeError):
        deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
