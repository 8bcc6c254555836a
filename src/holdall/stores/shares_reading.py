"""Reading shares: the blocks of one as they come, and an open entry that is joined from several."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Protocol

from holdall.core.envelope import TAG_BYTES
from holdall.core.shares import HEAD_BYTES
from holdall.errors import DamageError
from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import STRIPE_BYTES
from holdall.stores.closing_reading import ClosingReading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.core.address import Address
    from holdall.core.envelope import Blocks
    from holdall.core.shares import Code, Head, Layout
    from holdall.stores.base import Info
    from holdall.stores.shares_member import Member


class Stream(Protocol):
    """What a share is read from: a `Reading`, or something kept of one."""

    info: Info

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Lets go of it."""
        ...


class Share:
    """A share as it comes, from any of its bytes on.

    Args:
        member: Whose it is.
        stream: The bytes.
        address: Of the entry that it belongs to.
    """

    def __init__(self, member: Member, stream: Stream, address: Address) -> None:
        self.member = member
        self._address = address
        self.info = stream.info
        self._stream = stream
        self._pieces = aiter(stream)
        self._buffer = bytearray()

    async def take(self, size_bytes: int) -> bytes:
        """The next bytes, fewer only at the end.

        Raises:
            StoreError: The member failed meanwhile.
        """
        with self.member.asked(self._address):
            while len(self._buffer) < size_bytes:
                piece = await anext(self._pieces, b"")
                if not piece:
                    break
                self._buffer += piece
        found = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return found

    async def head(self) -> bytes:
        """The sealed head at its beginning, or all there is."""
        return await self.take(HEAD_BYTES)

    async def rest(self) -> AsyncIterator[bytes]:
        """Yields what was not taken, as it is."""
        yield bytes(self._buffer)
        self._buffer.clear()
        async for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        """Lets go of it; closing twice is harmless."""
        await self._stream.aclose()


class Lane:
    """The blocks of a share, one stripe's after the other's.

    Args:
        share: The share, behind its head or before the first block that is wanted.
        layout: Says how long they are.
        blocks: Opens them.
    """

    def __init__(self, share: Share, layout: Layout, blocks: Blocks) -> None:
        self.member = share.member
        self._share = share
        self._layout = layout
        self._blocks = blocks

    async def block(self, number: int) -> bytes:
        """The block of a stripe, which is the next one.

        Raises:
            DamageError: It is not what was written.
            StoreError: The member failed meanwhile.
        """
        sealed = await self._share.take(self._layout.block_bytes(number) + TAG_BYTES)
        return self._blocks.open(number, sealed)

    async def aclose(self) -> None:
        """Lets go of it; closing twice is harmless."""
        await self._share.aclose()


class Opener(Protocol):
    """Opens shares of one writing, each member's at most once."""

    async def more(self, lanes: dict[int, Lane], first: int) -> None:
        """Adds lanes that begin with the stripe `first`, until there are as many as are needed.

        Raises:
            HoldallError: There are too few left.
        """
        ...

    async def drop(self, lanes: dict[int, Lane], lane: Lane, error: BaseException) -> None:
        """Does without a lane that failed; or raises the error, if that is no fault of its member."""
        ...


class SharesReading(ClosingReading):
    """An open entry of a composite; see `Reading`.

    Each block is checked as it comes. One that is damaged, or does not come, is noted, and another member is asked for
    the rest; only when too few are left does the reading fail.

    Args:
        info: Of the version pinned.
        head: Its head.
        start: First byte to yield.
        stop: One past the last.
        code: Joins blocks.
        layout: Says where they lie.
        lanes: Open shares by their index, at the stripe of `start`; as many as are needed, or none for no bytes.
        opener: Opens others in the place of those that fail.
    """

    def __init__(
        self,
        info: Info,
        head: Head,
        start: int,
        stop: int,
        *,
        code: Code,
        layout: Layout,
        lanes: dict[int, Lane],
        opener: Opener,
    ) -> None:
        self.info = info
        self.start = start
        self.stop = stop
        self.head = head
        self._code = code
        self._layout = layout
        self._lanes = lanes
        self._opener = opener

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`.

        Raises:
            DamageError: Too few shares are what was written, or they are not of one value.
            StoreError: Too few members answered.
        """
        whole = (self.start, self.stop) == (0, self.info.size_bytes)
        digest = hashlib.sha256()
        for number in range(self.start // STRIPE_BYTES, -(-self.stop // STRIPE_BYTES)):
            stripe = await self._stripe(number)
            at = number * STRIPE_BYTES
            stripe = stripe[max(0, self.start - at) : self.stop - at]
            if whole:
                digest.update(stripe)
                if at + len(stripe) == self.stop:
                    self._check(digest.digest())
            for begin in range(0, len(stripe), CHUNK_BYTES):
                yield stripe[begin : begin + CHUNK_BYTES]
        if self.start == self.stop:
            self._check(digest.digest())

    async def aclose(self) -> None:
        """Lets go of all shares; closing twice is harmless."""
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.aclose()

    async def _stripe(self, number: int) -> bytes:
        blocks: dict[int, bytes] = {}
        while True:
            asked = [lane for index, lane in self._lanes.items() if index not in blocks]
            answers = await asyncio.gather(*(lane.block(number) for lane in asked), return_exceptions=True)
            for lane, answer in zip(asked, answers, strict=True):
                if isinstance(answer, bytes):
                    blocks[lane.member.index] = answer
                else:
                    await self._opener.drop(self._lanes, lane, answer)
            if len(blocks) >= self._code.needed:
                return self._code.join(blocks, self._layout.stripe_bytes(number))
            await self._opener.more(self._lanes, number)

    def _check(self, digest: bytes) -> None:
        if digest != self.head.digest:
            raise DamageError(f"What the shares of {self.info.address} give together does not hash to what was stored.")
