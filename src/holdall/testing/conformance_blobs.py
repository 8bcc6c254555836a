"""Conformance of `Blobs`: put, stat, delete and missing."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import BlobInTheWayError, DigestMismatchError, KindError, NotFoundError, TooLargeError
from holdall.limits import KIB, MIB, SMALL_BYTES_MAX
from holdall.stores.base import BatchExistence, Kind, missing
from holdall.testing.contract import (
    SourceBrokeError,
    Stalled,
    StoreContract,
    Writes,
    assert_same_bytes,
    broken,
    content,
    cut,
    every_way_to_write,
    fresh_address,
    fresh_bytes,
    scenario,
    streamed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.stores.base import Store

SIZES_BYTES: Final = (0, 1, SMALL_BYTES_MAX - 1, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, MIB + 7, 5 * MIB + 3)
STREAMS: Final = (
    *((0, 997), (1, 3 * MIB), (SMALL_BYTES_MAX - 1, 997), (SMALL_BYTES_MAX, 997), (SMALL_BYTES_MAX, SMALL_BYTES_MAX)),
    *((SMALL_BYTES_MAX + 1, SMALL_BYTES_MAX), (SMALL_BYTES_MAX + 1, 3 * MIB), (MIB + 7, 997)),
    *((5 * MIB + 3, SMALL_BYTES_MAX), (5 * MIB + 3, 3 * MIB)),
)
"""Lengths of a body, and of the pieces it comes in: each meets each kind of the other."""
APPENDS: Final = {
    0: SIZES_BYTES,
    100: (0, SMALL_BYTES_MAX - 100, SMALL_BYTES_MAX, MIB + 7),
    SMALL_BYTES_MAX - 1: (0, 1, 2, MIB + 7),
    MIB + 7: (0, 1, SMALL_BYTES_MAX, 5 * MIB + 3),
}
"""What is appended to slots of these lengths."""
BEFORE_THE_END_BYTES: Final = (0, 20, SMALL_BYTES_MAX + 1, 3 * MIB)


class BlobsContract(StoreContract):
    """`Blobs`, but for reading and listing."""

    @scenario
    async def test_put_of_whole_bytes_is_read_back(self, store: Store) -> None:
        for size_bytes in SIZES_BYTES:
            data = fresh_bytes(size_bytes)

            address = await store.put(data)

            assert address == Address.of(data)
            assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_put_of_a_stream_is_read_back(self, store: Store) -> None:
        for size_bytes, piece_bytes in STREAMS:
            data = fresh_bytes(size_bytes)

            address = await store.put(streamed(*cut(data, piece_bytes)))

            assert address == Address.of(data)
            assert_same_bytes(await content(store, address), data)

    @pytest.mark.parametrize(
        "pieces",
        [
            pytest.param([], id="none"),
            pytest.param([b""], id="one empty"),
            pytest.param([b"", b"a", b"", b"", b"b", b""], id="empty ones between"),
            pytest.param([b"x"] * 3000, id="single bytes"),
            pytest.param([b"a" * SMALL_BYTES_MAX, b"", b"b"], id="one byte more than a small body"),
            pytest.param([b"a", b"b" * (300 * KIB), b"c", b"d" * (700 * KIB)], id="uneven"),
        ],
    )
    @scenario
    async def test_put_takes_pieces_of_any_size(self, store: Store, pieces: list[bytes]) -> None:
        data = b"".join(pieces)

        address = await store.put(streamed(*pieces))

        assert address == Address.of(data)
        assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_put_makes_a_blob_that_stat_describes(self, store: Store) -> None:
        address = await store.put(b"four" + fresh_bytes(6))

        info = await store.stat(address)

        assert (info.address, info.kind, info.size_bytes) == (address, Kind.BLOB, 10)
        assert info.version
        assert info.used_ns > 0

    @scenario
    async def test_put_of_the_bytes_expected_is_stored(self, store: Store) -> None:
        for size_bytes in (0, 100, MIB + 7):
            data = fresh_bytes(size_bytes)

            address = await store.put(streamed(*cut(data, 50 * KIB)), expected=Address.of(data))

            assert address == Address.of(data)
            assert_same_bytes(await content(store, address), data)

    @pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize("size_bytes", [20, SMALL_BYTES_MAX + 1, 3 * MIB])
    @scenario
    async def test_put_of_other_bytes_than_expected_leaves_nothing(
        self, store: Store, size_bytes: int, as_stream: bool
    ) -> None:
        data, expected = fresh_bytes(size_bytes), fresh_address()

        with pytest.raises(DigestMismatchError):
            await store.put(streamed(data) if as_stream else data, expected=expected)

        assert await missing(store, [Address.of(data), expected]) == [Address.of(data), expected]

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_put_of_other_bytes_than_expected_changes_nothing_that_is_there(
        self, store: Store, kind: Kind
    ) -> None:
        kept = fresh_bytes()
        address = Address.of(kept) if kind is Kind.BLOB else fresh_address()
        await store.write(address, kept)

        with pytest.raises(DigestMismatchError):
            await store.put(fresh_bytes(), expected=address)

        assert await content(store, address) == kept
        assert (await store.stat(address)).kind is kind

    @scenario
    async def test_put_of_what_is_there_answers_the_same_and_changes_nothing(self, store: Store) -> None:
        for size_bytes in (0, 100, SMALL_BYTES_MAX + 1, MIB + 7):
            data = fresh_bytes(size_bytes)
            first = await store.put(data)
            before = await store.stat(first, use=False)

            second = await store.put(streamed(*cut(data, 1000)))
            after = await store.stat(first, use=False)

            assert second == first
            assert (after.kind, after.size_bytes, after.version) == (Kind.BLOB, size_bytes, before.version)
            assert_same_bytes(await content(store, first), data)

    @scenario
    async def test_a_blob_that_arrives_where_a_slot_lives_wins(self, store: Store) -> None:
        for size_bytes in (100, SMALL_BYTES_MAX + 1, MIB + 7):
            data = fresh_bytes(size_bytes)
            address = Address.of(data)
            await store.write(address, b"a slot that was here first")

            await store.put(data)

            assert (await store.stat(address)).kind is Kind.BLOB
            assert_same_bytes(await content(store, address), data)
            with pytest.raises(BlobInTheWayError):
                await store.write(address, b"later")

    @every_way_to_write
    @scenario
    async def test_a_source_that_raises_leaves_nothing_and_passes_its_error_on(
        self, store: Store, send: Writes
    ) -> None:
        for before_bytes in BEFORE_THE_END_BYTES:
            data = fresh_bytes(before_bytes)
            address = Address.of(data) if before_bytes else fresh_address()

            with pytest.raises(SourceBrokeError):
                await send(store, address, broken(*cut(data, 100 * KIB)))

            with pytest.raises(NotFoundError):
                await store.stat(address)

    @every_way_to_write
    @scenario
    async def test_a_cancelled_write_leaves_nothing_and_the_address_free(self, store: Store, send: Writes) -> None:
        for before_bytes in (20, SMALL_BYTES_MAX + 1):
            data = fresh_bytes(before_bytes)
            address, source = Address.of(data), Stalled(data)
            sending = asyncio.ensure_future(send(store, address, source))
            await source.reached.wait()

            sending.cancel()
            await asyncio.wait([sending])

            assert sending.cancelled()
            assert await missing(store, [address]) == [address]
            await store.write(address, b"free")
            assert await content(store, address) == b"free"

    @every_way_to_write
    @scenario
    async def test_a_body_larger_than_the_store_takes_leaves_nothing(self, store: Store, send: Writes) -> None:
        if self.body_bytes_max is None:
            pytest.skip("the store does not say how much it takes")
        data = fresh_bytes(self.body_bytes_max + 1)
        address = Address.of(data)

        for source in (data, streamed(*cut(data, MIB))):
            with pytest.raises(TooLargeError):
                await send(store, address, source)

        assert await missing(store, [address]) == [address]

    @scenario
    async def test_a_body_as_large_as_the_store_takes_is_stored(self, store: Store) -> None:
        if self.body_bytes_max is None:
            pytest.skip("the store does not say how much it takes")
        data = fresh_bytes(self.body_bytes_max)

        address = await store.put(streamed(*cut(data, MIB)))

        assert (await store.stat(address)).size_bytes == self.body_bytes_max

    @scenario
    async def test_stat_and_delete_of_nothing_say_so(self, store: Store) -> None:
        address = fresh_address()

        for use in (False, True):
            with pytest.raises(NotFoundError):
                await store.stat(address, use=use)
        for kind in (None, Kind.BLOB, Kind.SLOT):
            with pytest.raises(NotFoundError):
                await store.delete(address, kind=kind)

    @pytest.mark.parametrize("named", [False, True], ids=["of any kind", "of its kind"])
    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_delete_removes_an_entry(self, store: Store, kind: Kind, named: bool) -> None:
        for size_bytes in (100, MIB + 7):
            data = fresh_bytes(size_bytes)
            address = Address.of(data) if kind is Kind.BLOB else fresh_address()
            await store.write(address, data)

            await store.delete(address, kind=kind if named else None)

            assert await missing(store, [address]) == [address]
            for ask in (store.stat, store.get, store.take, store.delete):
                with pytest.raises(NotFoundError):
                    await ask(address)

    @pytest.mark.parametrize(("kind", "other"), [(Kind.BLOB, Kind.SLOT), (Kind.SLOT, Kind.BLOB)])
    @scenario
    async def test_delete_of_the_other_kind_removes_nothing(self, store: Store, kind: Kind, other: Kind) -> None:
        data = fresh_bytes()
        address = Address.of(data) if kind is Kind.BLOB else fresh_address()
        await store.write(address, data)

        with pytest.raises(KindError):
            await store.delete(address, kind=other)

        assert await content(store, address) == data

    @scenario
    async def test_an_address_can_be_used_again_after_a_delete(self, store: Store) -> None:
        data = fresh_bytes()
        address = Address.of(data)
        kinds = []

        for value in (data, b"a slot", data, b"another slot"):
            await store.write(address, value)
            assert await content(store, address) == value
            kinds.append((await store.stat(address)).kind)
            await store.delete(address)

        assert kinds == [Kind.BLOB, Kind.SLOT, Kind.BLOB, Kind.SLOT]

    @scenario
    async def test_missing_answers_in_the_order_asked_and_each_once(self, store: Store) -> None:
        here = [await store.put(fresh_bytes()), (await store.write(fresh_address(), b"slot")).address]
        absent = [fresh_address() for _ in range(5)]
        asked = [
            absent[3],
            here[0],
            absent[1],
            absent[3],
            absent[0],
            here[1],
            here[0],
            absent[4],
            absent[1],
            absent[2],
        ]

        answered = await missing(store, asked)

        assert answered == [absent[at] for at in (3, 1, 0, 4, 2)]

    @scenario
    async def test_missing_takes_any_iterable(self, store: Store) -> None:
        absent = [fresh_address() for _ in range(3)]

        def once() -> Iterator[Address]:
            yield from absent

        assert await missing(store, once()) == absent
        assert await missing(store, []) == []

    @scenario
    async def test_missing_takes_more_than_one_batch(self, store: Store) -> None:
        if not isinstance(store, BatchExistence):
            pytest.skip("the store cannot be asked for many addresses in one go")
        here = [await store.put(fresh_bytes()) for _ in range(3)]
        absent = [fresh_address() for _ in range(20_000)]

        answered = await store.missing([*absent[:7000], here[0], *absent[7000:15_000], *here, *absent[15_000:]])

        assert answered == absent

    @scenario
    async def test_closing_twice_is_harmless(self, store: Store) -> None:
        await store.put(fresh_bytes())

        await store.aclose()
        await store.aclose()
