"""Values on their way in: here whole before a share is made of them, because names and heads need their hash and size.

What is short stays in memory, the rest goes to unnamed temporary files of this machine, in the clear.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.core.shares import xored
from holdall.limits.stores import CLIENT_SPOOL_BYTES, STRIPE_BYTES
from holdall.stores.base import pieces
from holdall.stores.disk import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.base import Source


class Value:
    """Bytes that have all arrived.

    Args:
        data: What to begin with; kept without a copy while nothing is added.

    Attributes:
        size_bytes: How many there are.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._hash = hashlib.sha256(data)
        self.size_bytes = len(data)

    @property
    def address(self) -> Address:
        """Their SHA-256."""
        return Address(self._hash.digest())

    async def add(self, source: Source) -> None:
        """Adds all bytes of a source at the end.

        Raises:
            StoreError: This machine has no room for them; what the source raises passes through.
        """
        async for piece in pieces(source):
            with translated():
                if self._file is None:
                    self._file = tempfile.SpooledTemporaryFile(CLIENT_SPOOL_BYTES, prefix="holdall-value-")  # noqa: SIM115 - closed by close()
                    self._file.write(self._data)
                self._file.write(piece)
            self._hash.update(piece)
            self.size_bytes += len(piece)

    def stripe(self, number: int) -> bytes:
        """The bytes of one stripe."""
        start = number * STRIPE_BYTES
        if self._file is None:
            return self._data[start : start + STRIPE_BYTES]
        with translated():
            self._file.seek(start)
            return self._file.read(STRIPE_BYTES)

    async def whole(self) -> AsyncIterator[bytes]:
        """Yields all of them, a stripe at a time."""
        for start in range(0, self.size_bytes, STRIPE_BYTES):
            yield self.stripe(start // STRIPE_BYTES)

    def close(self) -> None:
        """Lets go of them; closing twice is harmless."""
        if self._file is not None:
            self._file.close()


@asynccontextmanager
async def arrived(source: Source) -> AsyncIterator[Value]:
    """All bytes of a source, until the end of the block.

    Raises:
        StoreError: This machine has no room for them; what the source raises passes through.
    """
    value = Value(source) if isinstance(source, bytes) else Value()
    try:
        if not isinstance(source, bytes):
            await value.add(source)
        yield value
    finally:
        value.close()


class Remainder:
    """What is left of a value when pads are taken from it, stripe by stripe and in any order.

    Args:
        value: The value; it stays as it is.
    """

    def __init__(self, value: Value) -> None:
        self._value = value
        self._stripes: dict[int, bytes] = {}
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        if value.size_bytes > STRIPE_BYTES:
            self._file = tempfile.SpooledTemporaryFile(CLIENT_SPOOL_BYTES, prefix="holdall-pad-")  # noqa: SIM115 - closed by close()

    async def fill(self) -> None:
        """Begins with the value itself.

        Raises:
            StoreError: This machine has no room for it.
        """
        number = 0
        async for stripe in self._value.whole():
            self._keep(number, stripe)
            number += 1

    def take(self, number: int, pad: bytes) -> None:
        """Takes a pad from one stripe."""
        self._keep(number, xored(self.stripe(number), pad))

    def stripe(self, number: int) -> bytes:
        """What is left of one stripe."""
        if self._file is None:
            return self._stripes[number]
        with translated():
            self._file.seek(number * STRIPE_BYTES)
            return self._file.read(STRIPE_BYTES)

    def close(self) -> None:
        """Lets go of it; closing twice is harmless."""
        if self._file is not None:
            self._file.close()

    def _keep(self, number: int, stripe: bytes) -> None:
        if self._file is None:
            self._stripes[number] = stripe
            return
        with translated():
            self._file.seek(number * STRIPE_BYTES)
            self._file.write(stripe)
