"""Reading a burst: first a plan of every member, then the members' bytes in order.

The plan is made before the first byte is sent, so that a missing member is an error and not a broken answer. It holds
48 bytes for each member. Blobs cannot change between plan and reading; a slot that does ends the reading with an
error, so that a mix of two versions is never taken for a whole.
"""

from __future__ import annotations

from array import array
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from holdall.core.address import DIGEST_BYTES, Address
from holdall.core.burst import BurstParser
from holdall.errors import BurstError, DamageError, MemberNotFoundError, NotFoundError
from holdall.limits import MIB
from holdall.limits.stores import BURST_DEPTH_MAX, BURST_MEMBERS_MAX, BURST_TEXT_BYTES_MAX, BURSTS_OPENED_MAX
from holdall.stores.abilities import BatchStat
from holdall.stores.base import Kind, Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.stores.base import Blobs, Info, Reading

_STAT_BATCH: Final = 1024


class BurstPlan:
    """Every member of a burst, in order, and how long they are together.

    Attributes:
        info: Of the burst's own entry.
        size_bytes: The length of the concatenation.
        start: First byte that will be read.
        stop: One past the last.
    """

    def __init__(self, store: Blobs, info: Info) -> None:
        self.info = info
        self.size_bytes = 0
        self.start = 0
        self.stop = 0
        self._store = store
        self._digests = bytearray()
        self._sizes = array("Q")
        self._versions = array("q")
        self._blobs_only = True

    @property
    def is_immutable(self) -> bool:
        """Whether it will always read the same: the burst and every member are blobs."""
        return self.info.kind is Kind.BLOB and self._blobs_only

    def pass_through(self, info: Info) -> None:
        """Notes the kind of a member, or of a burst between the one read and its members."""
        self._blobs_only = self._blobs_only and info.kind is Kind.BLOB

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, member: Info) -> None:
        """Adds a member at the end.

        Raises:
            BurstError: There are too many.
        """
        if len(self) >= BURST_MEMBERS_MAX:
            raise BurstError(
                f"The burst has over {BURST_MEMBERS_MAX} members.", hint="Read the bursts that it names one by one."
            )
        self.pass_through(member)
        self._versions.append(hash(member.version))  # a slot's text would take more than all the rest
        self._digests += member.address
        self._sizes.append(member.size_bytes)
        self.size_bytes += member.size_bytes
        self.stop = self.size_bytes

    def select(self, span: Span) -> None:
        """Limits the reading to a part.

        Raises:
            RangeError: The part lies outside.
        """
        self.start, self.stop = span.resolve(self.size_bytes)

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """Opens, one after the other, the parts of members that make up the bytes from `start` to `stop`.

        Each is closed before the next is opened.

        Raises:
            DamageError: A member has changed or gone since the plan was made.
        """
        at = 0
        for index, size in enumerate(self._sizes):
            first, last = max(self.start - at, 0), min(self.stop - at, size)
            at += size
            if first < last:
                async with await self._open(index, size, Span(first, last)) as reading:
                    yield reading
            if at >= self.stop:
                return

    async def _open(self, index: int, size: int, span: Span) -> Reading:
        address = Address(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])
        try:
            reading = await self._store.get(address, span, use=False)
        except NotFoundError:
            raise DamageError(f"The member {address} went while the burst was read.") from None
        if reading.info.size_bytes != size or hash(reading.info.version) != self._versions[index]:
            await reading.aclose()
            raise DamageError(f"The member {address} changed while the burst was read.")
        return reading


async def plan(store: Blobs, address: Address, depth: int, *, use: bool = True) -> BurstPlan:
    """Finds every member of a burst.

    Args:
        store: Where the burst and its members are.
        address: The burst.
        depth: 1: the lines name what is read; 2: they name bursts whose lines do; and so on.
        use: Whether this counts as a use of the burst and every member.

    Raises:
        NotFoundError: The burst is not there.
        MemberNotFoundError: A member is not there.
        BurstError: It is not a burst, at this depth, or has too many members.
    """
    if not 1 <= depth <= BURST_DEPTH_MAX:
        raise BurstError(f"A burst is read to a depth of 1 to {BURST_DEPTH_MAX}.")
    found = BurstPlan(store, await store.stat(address, use=use))
    await _Walk(store, found, depth, use=use).over(address, depth)
    return found


class _Walk:
    """One way through a burst and the bursts it names; no closure, whose cycle would keep the plan alive."""

    def __init__(self, store: Blobs, found: BurstPlan, depth: int, *, use: bool) -> None:
        self._store = store
        self._found = found
        self._depth = depth
        self._use = use
        self._visited = 0
        self._opened = 0
        self._text_bytes = 0

    async def over(self, burst: Address, level: int) -> None:
        """Adds the members that one burst names, `level` levels down."""
        at_top = level == self._depth
        self._opened += 1
        if self._opened > BURSTS_OPENED_MAX:
            raise BurstError(f"The burst is made of over {BURSTS_OPENED_MAX} bursts, all levels together.")
        async with aclosing(self._members(burst, top=at_top)) as batches:
            async for batch in batches:
                self._visited += len(batch)
                if self._visited > BURST_MEMBERS_MAX * 2:
                    raise BurstError(f"The burst names over {BURST_MEMBERS_MAX} members, all levels together.")
                if level == 1:
                    for info in await _stat_all(self._store, batch, use=self._use):
                        self._found.add(info)
                else:
                    for member in batch:
                        await self.over(member, level - 1)

    async def _members(self, burst: Address, *, top: bool) -> AsyncGenerator[list[Address], None]:
        """The members that one burst names, in batches."""
        parser, batch = BurstParser(), []
        try:
            reading = await self._store.get(burst, use=self._use)
        except NotFoundError as error:
            if top:
                raise
            raise MemberNotFoundError(f"The member {burst} is not stored here.") from error
        self._found.pass_through(reading.info)
        async with reading:
            async for piece in reading:
                self._text_bytes += len(piece)
                if self._text_bytes > BURST_TEXT_BYTES_MAX:
                    raise BurstError(
                        f"The burst has over {BURST_TEXT_BYTES_MAX // MIB} MiB of lines, all levels together."
                    )
                for member in parser.feed(piece):
                    batch.append(member)
                    if len(batch) == _STAT_BATCH:
                        yield batch
                        batch = []
        batch += parser.finish()
        if batch:
            yield batch


async def _stat_all(store: Blobs, members: list[Address], *, use: bool) -> list[Info]:
    once = list(dict.fromkeys(members))  # a member may come a thousand times
    if isinstance(store, BatchStat):
        found = await store.stat_many(once, use=use)
    else:
        found = []
        for member in once:
            try:
                found.append(await store.stat(member, use=use))
            except NotFoundError:
                found.append(None)
    by_address = dict(zip(once, found, strict=True))
    infos = []
    for member in members:
        info = by_address[member]
        if info is None:
            raise MemberNotFoundError(f"The member {member} is not stored here.")
        infos.append(info)
    return infos
