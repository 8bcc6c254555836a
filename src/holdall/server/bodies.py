"""Where a request's body goes while it arrives: one small class for each use a body has.

Each takes pieces as they come, refuses what is too much, and leaves nothing behind when it is closed early.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from typing import TYPE_CHECKING, Final, Protocol

from holdall.core.address import Address
from holdall.errors import DigestMismatchError, TooLargeError, UsageError
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.stores.abilities import Spooled, Spooling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.base import Store


class Body(Protocol):
    """A body under way.

    Attributes:
        size_bytes: How much has come.
    """

    size_bytes: int

    def feed(self, piece: bytes) -> None:
        """Takes a piece.

        Raises:
            HoldallError: It is too much, or cannot be kept.
        """
        ...

    def close(self) -> None:
        """Lets go of whatever was kept; closing twice is harmless."""
        ...


class Discarded:
    """A body nobody wants: one that came with a request that has none, or was refused."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Counts a piece."""
        self.size_bytes += len(piece)

    def close(self) -> None:
        """Nothing to let go of."""


class Text:
    """A body that is read whole, for a request that takes words.

    Args:
        size_bytes_max: Refuse more than this.
    """

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes = 0
        self._max = size_bytes_max
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Keeps a piece; see `Body.feed`."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._max:
            raise TooLargeError(f"The body is over {self._max} bytes.", hint="Send it in several requests.")
        self._pieces.append(piece)

    def text(self) -> bytes:
        """All that came."""
        return b"".join(self._pieces)

    def close(self) -> None:
        """Forgets what came."""
        self._pieces.clear()


class Hashed:
    """A body of which only the hash counts."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes = 0
        self._max = size_bytes_max
        self._hash = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        """Hashes a piece; see `Body.feed`."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._max:
            raise TooLargeError(f"The body is over {self._max} bytes.")
        self._hash.update(piece)

    @property
    def address(self) -> Address:
        """The address of what came."""
        return Address(self._hash.digest())

    def close(self) -> None:
        """Nothing to let go of."""


class Stored:
    """A body on its way into a store: in memory while it is small, then in the store's spool.

    Args:
        store: Where it goes.
        size_bytes_max: Refuse more than this.
        digest: What the sender says of it, or None.
    """

    def __init__(self, store: Store, size_bytes_max: int, digest: ContentDigest | None) -> None:
        self.size_bytes = 0
        self.spooled: Spooled | None = None
        self.digest = digest
        self._store = store
        self._max = size_bytes_max
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Keeps a piece; see `Body.feed`."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._max:
            raise TooLargeError(f"The body is over {self._max} bytes.")
        if self.digest is not None:
            self.digest.update(piece)
        if self.spooled is not None:
            self.spooled.write(piece)
            return
        self._pieces.append(piece)
        if self.size_bytes > SMALL_BYTES_MAX:
            self._spool()

    def small(self) -> bytes | None:
        """All that came, if it is small enough to be held in memory."""
        if self.spooled is not None:
            return None
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def into_spool(self) -> Spooled:
        """All that came, as a spool, which the caller from then on must close."""
        if self.spooled is None:
            self._spool()
        spooled, self.spooled = self.spooled, None
        assert spooled is not None  # noqa: S101 - `_spool` makes one or raises
        return spooled

    def close(self) -> None:
        """Lets go of what came."""
        self._pieces.clear()
        if self.spooled is not None:
            self.spooled.close()
            self.spooled = None

    def _spool(self) -> None:
        self.spooled = self._store.spool() if isinstance(self._store, Spooling) else TemporarySpool(self._max)
        for piece in self._pieces:
            self.spooled.write(piece)
        self._pieces.clear()


class TemporarySpool:
    """A spool in a temporary file, for a store that has none of its own; iterate it for its bytes."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes = 0
        self._max = size_bytes_max
        self._hash = hashlib.sha256()
        self._file = tempfile.TemporaryFile(prefix="holdall-body-")  # noqa: SIM115 - closed by `close`

    def write(self, piece: bytes | memoryview) -> None:
        """Keeps and hashes a piece; see `Spooled.write`."""
        self.keep(piece)
        self.hash(piece)

    def keep(self, piece: bytes | memoryview) -> None:
        """Keeps a piece; see `Spooled.keep`."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._max:
            raise TooLargeError(f"The body is over {self._max} bytes.")
        self._file.write(piece)

    def hash(self, piece: bytes | memoryview) -> None:
        """Hashes a piece; see `Spooled.hash`."""
        self._hash.update(piece)

    @property
    def address(self) -> Address:
        """The address of what was hashed so far."""
        return Address(self._hash.digest())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields what was kept."""
        self._file.seek(0)
        while piece := self._file.read(CHUNK_BYTES):
            yield piece

    def close(self) -> None:
        """Removes the file."""
        self._file.close()


class ContentDigest:
    """A Content-Digest header (RFC 9530), held against the body as it comes.

    Args:
        header: The header's value.

    Raises:
        UsageError: It is malformed.
    """

    _ITEM: Final = re.compile(r"([a-z0-9-]+)=:([A-Za-z0-9+/=]*):", re.ASCII)
    _ALGORITHMS: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}

    def __init__(self, header: str) -> None:
        self._expected = []
        for item in header.split(","):
            found = self._ITEM.fullmatch(item.strip())
            if found is None:
                raise UsageError(
                    "The Content-Digest header is malformed.", hint="Write sha-256=:<base64 of the digest>:."
                )
            algorithm = self._ALGORITHMS.get(found[1])
            if algorithm is None:
                continue  # RFC 9530: a recipient may ignore the algorithms that it does not know
            try:
                digest = base64.b64decode(found[2], validate=True)
            except binascii.Error:
                raise UsageError("The Content-Digest header holds no base64.") from None
            self._expected.append((found[1], algorithm(), digest))

    def update(self, piece: bytes) -> None:
        """Takes a piece of the body."""
        for _, running, _ in self._expected:
            running.update(piece)

    def check(self) -> None:
        """Holds the whole body against the header.

        Raises:
            DigestMismatchError: They do not match.
        """
        for name, running, digest in self._expected:
            if running.digest() != digest:
                raise DigestMismatchError(f"The body does not have the {name} digest of its Content-Digest header.")
