"""Listings of several stores as one: newest use first, each address once, in bounded memory.

Members list their addresses cheaply and do not say with them when they were used. A stripe needs that of every entry to
merge its members' listings. A mirror needs it of few: its members should list the same, so the first one's order is the
order of all, but for what only others have.
"""

from __future__ import annotations

import asyncio
import heapq
import struct
import tempfile
from contextlib import AsyncExitStack, ExitStack, aclosing
from itertools import groupby
from typing import IO, TYPE_CHECKING, Final, Self

from holdall.core.address import DIGEST_BYTES, Address
from holdall.errors import AccessError, HoldallError
from holdall.limits.stores import CLIENT_SPOOL_BYTES
from holdall.stores.abilities import AddressListing, BatchStat, Keyed
from holdall.stores.abilities import addresses as addresses_of
from holdall.stores.composite import at_once, raise_first
from holdall.stores.composite_bodies import making_room
from holdall.stores.row_sorter import RowSorter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from holdall.stores.base import Info
    from holdall.stores.composite import Member

_BATCH: Final = 1024
_ROW: Final = struct.Struct(">Q32s")
"""Last use, counted down so that rows sort newest first, and the address."""
_LAST_NS: Final = (1 << 64) - 1


async def merged(members: Sequence[Member], belongs: Callable[[Member, Address], bool]) -> AsyncGenerator[Info, None]:
    """Yields the entries of every member as one listing; see `Blobs.entries`.

    Args:
        members: Whose.
        belongs: Whether an address is this member's to list, so that none is listed twice.

    Raises:
        AccessError: A member does not list itself to this caller.
        StoreError: A member failed.
    """
    heap: list[tuple[bytes, int, Info]] = []
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(aclosing(_infos(member, belongs))) for member in members]
        for number, first in enumerate(await at_once(anext(stream, None) for stream in streams)):
            if isinstance(first, HoldallError):
                raise first
            if first is not None:
                heap.append((_row(first), number, first))
        heapq.heapify(heap)
        while heap:
            _, number, info = heap[0]
            yield info
            following = await anext(streams[number], None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (_row(following), number, following))


async def united(
    members: Sequence[Member], look: Callable[[list[Address]], Awaitable[list[Info | None]]]
) -> AsyncGenerator[Address, None]:
    """Yields every address that any member lists, once, in the order of `Blobs.entries`.

    The order is the first member's; what it lacks is put where its use says. A member that cannot be asked, or does not
    list itself to this caller, is left out as long as another lists.

    Args:
        members: Whose.
        look: Looks at many entries of all the members together.

    Raises:
        AccessError: No member lists itself to this caller.
        StoreError: No member can be asked.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_AddressFile()) for _ in members]
        answers = await at_once(member.ask(_collect(member, file)) for member, file in zip(members, files, strict=True))
        listed = [file for file, answer in zip(files, answers, strict=True) if not isinstance(answer, HoldallError)]
        if not listed:
            raise_first(answers)
        extras = stack.enter_context(RowSorter(_ROW.size))
        await _find_extras(listed, look, extras)
        async with aclosing(_with_extras(listed[0], look, extras.rows())) as found:
            async for address in found:
                yield address


async def _infos(member: Member, belongs: Callable[[Member, Address], bool]) -> AsyncGenerator[Info, None]:
    """The entries of one member that are its to list, the cheapest way it has."""
    store, empty = member.store, True
    if isinstance(store, AddressListing) and isinstance(store, BatchStat):
        found = _looked_up(store.addresses(), store)
    else:
        found = store.entries()
    with member.asked():
        async with aclosing(found) as infos:  # type: ignore[type-var]
            async for info in infos:
                empty = False
                if belongs(member, info.address):
                    yield info
        _check_it_lists(member, empty=empty)


async def _looked_up(addresses: AsyncIterator[Address], store: BatchStat) -> AsyncIterator[Info]:
    batch: list[Address] = []
    async with aclosing(addresses) as found:  # type: ignore[type-var]
        async for address in found:
            batch.append(address)
            if len(batch) == _BATCH:
                for info in filter(None, await store.stat_many(batch, use=False)):
                    yield info
                batch = []
    for info in filter(None, await store.stat_many(batch, use=False)):
        yield info


async def _collect(member: Member, file: _AddressFile) -> None:
    """Writes all that a member lists to a file."""
    empty = True
    async with aclosing(addresses_of(member.store)) as addresses:  # type: ignore[type-var]
        async for address in addresses:
            empty = False
            file.add(address)
    _check_it_lists(member, empty=empty)


def _check_it_lists(member: Member, *, empty: bool) -> None:
    """Tells a store that holds nothing from a server that lists nothing to callers without a key."""
    if empty and isinstance(member.store, Keyed) and not member.store.has_key:
        raise AccessError(
            "The server lists nothing, as one without an API key does, so what it holds cannot be known.",
            hint="Start it with a key and bring it, or name its directory.",
        )


async def _find_extras(
    listed: list[_AddressFile], look: Callable[[list[Address]], Awaitable[list[Info | None]]], extras: RowSorter
) -> None:
    """Finds what the first of these listings lacks of the others', with when it was used."""
    if len(listed) == 1:
        return
    with RowSorter(DIGEST_BYTES + 1) as every:
        for number, file in enumerate(listed):
            for batch in file.batches():
                for address in batch:
                    every.add(address + bytes([number]))
                await asyncio.sleep(0)
        async with aclosing(_not_in_the_first(every)) as lacking:
            async for addresses in lacking:
                for info in filter(None, await look(addresses)):
                    extras.add(_row(info))


async def _not_in_the_first(every: RowSorter) -> AsyncGenerator[list[Address], None]:
    """Yields the addresses that only later listings have; a row is an address and the number of a listing."""
    batch: list[Address] = []
    for seen, (digest, rows) in enumerate(groupby(every.rows(), key=lambda row: row[:DIGEST_BYTES])):
        if next(rows)[DIGEST_BYTES]:
            batch.append(Address(digest))
        if len(batch) == _BATCH:
            yield batch
            batch = []
        if seen % _BATCH == 0:
            await asyncio.sleep(0)
    if batch:
        yield batch


async def _with_extras(
    base: _AddressFile, look: Callable[[list[Address]], Awaitable[list[Info | None]]], extras: Iterator[bytes]
) -> AsyncGenerator[Address, None]:
    """A listing with further entries at their places; of the listing few are looked at where there are few of these."""
    extra = next(extras, None)
    for batch in base.batches():
        infos: list[Info | None] = [None] * len(batch)
        if extra is not None:
            [last] = await look(batch[-1:])
            if last is None or extra < _row(last):
                infos = await look(batch)
        for address, info in zip(batch, infos, strict=True):
            while extra is not None and info is not None and extra < _row(info):
                yield Address(extra[-DIGEST_BYTES:])
                extra = next(extras, None)
            yield address
    while extra is not None:
        yield Address(extra[-DIGEST_BYTES:])
        extra = next(extras, None)


def _row(info: Info) -> bytes:
    return _ROW.pack(_LAST_NS - max(0, info.used_ns), info.address)


class _AddressFile:
    """Addresses in the order in which they came: in memory while they are few, then in an unnamed file."""

    def __init__(self) -> None:
        with making_room():
            self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by `__exit__`
                CLIENT_SPOOL_BYTES, prefix="holdall-list-"
            )

    def add(self, address: Address) -> None:
        """Takes an address."""
        with making_room():
            self._file.write(address)

    def batches(self) -> Iterator[list[Address]]:
        """Yields all of them, a few at a time; one such walk at once."""
        with making_room():
            self._file.seek(0)
            while piece := self._file.read(_BATCH * DIGEST_BYTES):
                yield [Address(piece[at : at + DIGEST_BYTES]) for at in range(0, len(piece), DIGEST_BYTES)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
