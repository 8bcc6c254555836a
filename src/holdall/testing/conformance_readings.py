"""Conformance of `get` and `Reading`: spans, pieces, and readers that see one version whatever happens."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import NotFoundError, RangeError
from holdall.limits import CHUNK_BYTES, KIB, MIB, SMALL_BYTES_MAX
from holdall.stores.base import WHOLE, Kind, Span
from holdall.testing.contract import (
    StoreContract,
    assert_same_bytes,
    content,
    fresh_address,
    fresh_bytes,
    gathered,
    identity,
    scenario,
)

if TYPE_CHECKING:
    from holdall.stores.base import Store

TEN: Final = b"0123456789"
FAR: Final = 1 << 40
SPANS: Final = (
    (WHOLE, TEN),
    (Span(0, 10), TEN),
    (Span(0, 11), TEN),
    (Span(0, FAR), TEN),
    (Span(0, 1), b"0"),
    (Span(0, 9), b"012345678"),
    (Span(3, 7), b"3456"),
    (Span(4, 5), b"4"),
    (Span(1), b"123456789"),
    (Span(9), b"9"),
    (Span(9, 10), b"9"),
    (Span(9, FAR), b"9"),
    (Span(-1), b"9"),
    (Span(-3), b"789"),
    (Span(-10), TEN),
    (Span(-11), TEN),
    (Span(-FAR), TEN),
    (Span(-3, 9), b"78"),
    (Span(-3, FAR), b"789"),
    (Span(-FAR, 4), b"0123"),
)
SPANS_OF_NOTHING: Final = (
    Span(10),
    Span(10, 11),
    Span(11),
    Span(FAR),
    Span(FAR, FAR + 1),
    Span(5, 5),
    Span(5, 3),
    Span(0, 0),
    Span(-3, 7),
)
SPANS_OF_AN_EMPTY_ENTRY: Final = (Span(0, 0), Span(0, 1), Span(1), Span(-1), Span(0, FAR))

both_kinds = pytest.mark.parametrize("kind", list(Kind))


async def stored(store: Store, kind: Kind, data: bytes) -> Address:
    """Stores `data` as an entry of this kind."""
    if kind is Kind.BLOB:
        return await store.put(data)
    return (await store.write(fresh_address(), data)).address


class ReadingsContract(StoreContract):
    """`Blobs.get`, and the `Reading` it answers."""

    @both_kinds
    @scenario
    async def test_a_span_names_its_bytes(self, store: Store, kind: Kind) -> None:
        address = await stored(store, kind, TEN)

        for span, expected in SPANS:
            async with await store.get(address, span) as reading:
                assert reading.stop - reading.start == len(expected), span
                assert TEN[reading.start : reading.stop] == expected, span
                assert (reading.info.address, reading.info.kind, reading.info.size_bytes) == (address, kind, 10)
                assert await reading.read() == expected, span

            assert b"".join(await gathered(await store.get(address, span))) == expected, span

    @both_kinds
    @scenario
    async def test_a_span_without_bytes_is_refused(self, store: Store, kind: Kind) -> None:
        address = await stored(store, kind, TEN)

        for span in SPANS_OF_NOTHING:
            with pytest.raises(RangeError) as refused:
                await store.get(address, span)

            assert refused.value.size_bytes == 10, span

    @both_kinds
    @scenario
    async def test_of_an_empty_entry_only_the_whole_can_be_read(self, store: Store, kind: Kind) -> None:
        address = await stored(store, kind, b"")

        for span in SPANS_OF_AN_EMPTY_ENTRY:
            with pytest.raises(RangeError) as refused:
                await store.get(address, span)

            assert refused.value.size_bytes == 0, span
        assert await content(store, address) == b""
        assert b"".join(await gathered(await store.get(address))) == b""

    @both_kinds
    @scenario
    async def test_spans_of_a_large_entry_name_their_bytes(self, store: Store, kind: Kind) -> None:
        data = fresh_bytes(3 * MIB + 5)
        address = await stored(store, kind, data)
        edges = [
            0,
            1,
            SMALL_BYTES_MAX,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            MIB,
            len(data) - 1,
            len(data),
        ]

        for start, stop in zip(edges, edges[1:] + edges[:1], strict=True):
            span = Span(start, stop) if start < stop else Span(-start, None)
            first = start if start < stop else 0
            pieces = await gathered(await store.get(address, span))

            assert_same_bytes(b"".join(pieces), data[first : stop or None])

    @both_kinds
    @scenario
    async def test_pieces_are_bounded_and_in_order(self, store: Store, kind: Kind) -> None:
        for size_bytes in (0, 1, SMALL_BYTES_MAX, CHUNK_BYTES, CHUNK_BYTES + 1, 4 * MIB + 1):
            data = fresh_bytes(size_bytes)
            address = await stored(store, kind, data)

            pieces = await gathered(await store.get(address))

            assert_same_bytes(b"".join(pieces), data)
            assert max(map(len, pieces), default=0) <= CHUNK_BYTES

    @scenario
    async def test_get_of_nothing_says_so(self, store: Store) -> None:
        for span in (WHOLE, Span(1), Span(-1), Span(0, 0)):
            for use in (False, True):
                with pytest.raises(NotFoundError):
                    await store.get(fresh_address(), span, use=use)

    @both_kinds
    @pytest.mark.parametrize("size_bytes", [10, 3 * MIB])
    @scenario
    async def test_a_reading_says_what_stat_says(self, store: Store, size_bytes: int, kind: Kind) -> None:
        address = await stored(store, kind, fresh_bytes(size_bytes))

        seen = await store.stat(address, use=False)
        async with await store.get(address, use=False) as reading:
            assert identity(reading.info) == identity(seen)
            assert (reading.start, reading.stop) == (0, size_bytes)

    @pytest.mark.parametrize("change", ["overwritten", "appended", "deleted", "taken", "replaced by a blob"])
    @scenario
    async def test_a_reading_of_a_slot_is_pinned_while_the_slot_is_changed(self, store: Store, change: str) -> None:
        for size_bytes in (100, SMALL_BYTES_MAX + 1, 7 * MIB):
            await self._change_amid_a_reading(store, size_bytes, change)

    async def _change_amid_a_reading(self, store: Store, size_bytes: int, change: str) -> None:
        data, blob = fresh_bytes(size_bytes), fresh_bytes()
        address = Address.of(blob)
        await store.write(address, data)

        async with await store.get(address) as reading:
            pieces = aiter(reading)
            first = await anext(pieces)
            match change:
                case "overwritten":
                    await store.write(address, fresh_bytes(size_bytes))
                case "appended":
                    await store.append(address, b"more")
                case "deleted":
                    await store.delete(address)
                case "taken":
                    await (await store.take(address)).aclose()
                case _:
                    await store.put(blob)
            rest = [piece async for piece in pieces]

        assert_same_bytes(first + b"".join(rest), data)

    @pytest.mark.parametrize("size_bytes", [100, 8 * MIB])
    @scenario
    async def test_a_reading_of_a_blob_is_pinned_while_the_blob_is_deleted(self, store: Store, size_bytes: int) -> None:
        data = fresh_bytes(size_bytes)
        address = await store.put(data)

        async with await store.get(address) as reading:
            await store.delete(address)
            assert_same_bytes(await reading.read(), data)

        with pytest.raises(NotFoundError):
            await store.get(address)

    @pytest.mark.parametrize("size_bytes", [100, 8 * MIB])
    @scenario
    async def test_a_reading_can_be_left_at_any_point_and_closed_twice(self, store: Store, size_bytes: int) -> None:
        data = fresh_bytes(size_bytes)
        address = await store.put(data)

        unread = await store.get(address)
        await unread.aclose()
        await unread.aclose()
        async with await store.get(address) as begun:
            await anext(aiter(begun))
        await begun.aclose()
        async with await store.get(address) as finished:
            await finished.read()
        await finished.aclose()

        assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_many_readings_can_be_open_at_once(self, store: Store) -> None:
        data = fresh_bytes(600 * KIB)
        address = await store.put(data)

        readings = [await store.get(address) for _ in range(8)]
        whole = await asyncio.gather(*map(gathered, readings))

        for pieces in whole:
            assert_same_bytes(b"".join(pieces), data)
