"""Conformance of `Slots`: write, its conditions, append and take, one call after the other."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import AlreadySetError, BlobInTheWayError, NotFoundError, VersionMismatchError
from holdall.limits import KIB, MIB, SMALL_BYTES_MAX
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Info, Kind
from holdall.testing.conformance_blobs import APPENDS, SIZES_BYTES, STREAMS
from holdall.testing.contract import (
    SourceBrokeError,
    Stalled,
    StoreContract,
    Writes,
    assert_same_bytes,
    broken,
    content,
    cut,
    every_way_to_write_a_slot,
    fresh_address,
    fresh_bytes,
    gathered,
    identity,
    scenario,
    streamed,
)

if TYPE_CHECKING:
    from holdall.stores.base import Condition, Store


NO_SUCH_SLOT: Final = (BlobInTheWayError, VersionMismatchError)
"""A write over a slot's version that meets a blob may name either: a blob is there, and that slot is not."""


class SlotsContract(StoreContract):
    """`Slots`, without races."""

    @every_way_to_write_a_slot
    @scenario
    async def test_a_slot_is_read_back(self, store: Store, send: Writes) -> None:
        for size_bytes in SIZES_BYTES:
            address, data = fresh_address(), fresh_bytes(size_bytes)

            await send(store, address, data)

            assert_same_bytes(await content(store, address), data)

    @every_way_to_write_a_slot
    @scenario
    async def test_a_streamed_slot_is_read_back(self, store: Store, send: Writes) -> None:
        for size_bytes, piece_bytes in STREAMS:
            address, data = fresh_address(), fresh_bytes(size_bytes)

            await send(store, address, streamed(b"", *cut(data, piece_bytes), b""))

            assert_same_bytes(await content(store, address), data)

    @every_way_to_write_a_slot
    @scenario
    async def test_a_write_answers_what_it_left(self, store: Store, send: Writes) -> None:
        address = fresh_address()

        info = await send(store, address, b"0123456789")
        seen = await store.stat(address)

        assert isinstance(info, Info)
        assert identity(info) == identity(seen)
        assert (seen.address, seen.kind, seen.size_bytes) == (address, Kind.SLOT, 10)
        assert seen.version
        assert seen.used_ns > 0

    @pytest.mark.parametrize("first_bytes", [0, 100, MIB + 7])
    @scenario
    async def test_a_write_replaces_the_whole_value(self, store: Store, first_bytes: int) -> None:
        for later_bytes in SIZES_BYTES:
            address, later = fresh_address(), fresh_bytes(later_bytes)
            await store.write(address, fresh_bytes(first_bytes))

            info = await store.write(address, later)

            assert info.size_bytes == later_bytes
            assert_same_bytes(await content(store, address), later)

    @pytest.mark.parametrize("over", [None, b"a slot", "the blob"])
    @scenario
    async def test_bytes_that_hash_to_the_address_are_stored_as_its_blob(
        self, store: Store, over: bytes | str | None
    ) -> None:
        for size_bytes in (100, SMALL_BYTES_MAX + 1, MIB + 7):
            data = fresh_bytes(size_bytes)
            address = Address.of(data)
            if over is not None:
                await store.write(address, over if isinstance(over, bytes) else data)

            info = await store.write(address, streamed(*cut(data, 999)))

            assert (info.address, info.kind, info.size_bytes) == (address, Kind.BLOB, size_bytes)
            assert (await store.stat(address)).kind is Kind.BLOB
            assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_slot_calls_at_a_blob_are_refused_and_change_nothing(self, store: Store) -> None:
        data = fresh_bytes()
        address = await store.put(data)
        before = await store.stat(address, use=False)

        with pytest.raises(BlobInTheWayError):
            await store.write(address, b"other")
        with pytest.raises(BlobInTheWayError):
            await store.write(address, streamed(fresh_bytes(MIB)))
        with pytest.raises(NO_SUCH_SLOT):
            await store.write(address, b"other", when=IfVersion(before.version))
        with pytest.raises(BlobInTheWayError):
            await store.append(address, b"more")
        with pytest.raises(BlobInTheWayError):
            await store.take(address)

        after = await store.stat(address, use=False)
        assert (after.kind, after.size_bytes, after.version) == (
            before.kind,
            before.size_bytes,
            before.version,
        )
        assert await content(store, address) == data

    @scenario
    async def test_an_exclusive_create_succeeds_once(self, store: Store) -> None:
        for size_bytes in (0, 100, SMALL_BYTES_MAX + 1, MIB + 7):
            address, data = fresh_address(), fresh_bytes(size_bytes)

            await store.write(address, streamed(data), when=ABSENT)
            for later in (b"later", data, streamed(fresh_bytes(MIB))):
                with pytest.raises(AlreadySetError):
                    await store.write(address, later, when=ABSENT)

            assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_an_exclusive_create_of_a_blob_succeeds_once(self, store: Store) -> None:
        data = fresh_bytes()
        address = Address.of(data)

        info = await store.write(address, data, when=ABSENT)

        assert info.kind is Kind.BLOB
        for later in (data, b"other"):
            with pytest.raises(AlreadySetError):
                await store.write(address, later, when=ABSENT)

    @pytest.mark.parametrize("gone", ["delete", "take"])
    @scenario
    async def test_an_exclusive_create_succeeds_again_once_the_entry_is_gone(self, store: Store, gone: str) -> None:
        address = fresh_address()
        await store.write(address, b"first", when=ABSENT)
        if gone == "delete":
            await store.delete(address)
        else:
            await (await store.take(address)).aclose()

        await store.write(address, b"second", when=ABSENT)

        assert await content(store, address) == b"second"

    @scenario
    async def test_a_write_over_the_version_named_succeeds_once(self, store: Store) -> None:
        for size_bytes in (0, 100, SMALL_BYTES_MAX + 1, MIB + 7):
            address, data = fresh_address(), fresh_bytes(size_bytes)
            first = await store.write(address, b"first")

            second = await store.write(address, data, when=IfVersion(first.version))
            for later in (b"later", data, streamed(fresh_bytes(MIB))):
                with pytest.raises(VersionMismatchError):
                    await store.write(address, later, when=IfVersion(first.version))

            assert identity(await store.stat(address)) == identity(second)
            assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_a_write_over_a_version_that_never_was_changes_nothing(self, store: Store) -> None:
        for version in ("", "0", "no such version", '"', "*", "a\r\nb", "\N{SNOWMAN}"):
            address = fresh_address()
            await store.write(address, b"kept")

            with pytest.raises(VersionMismatchError):
                await store.write(address, b"other", when=IfVersion(version))

            assert await content(store, address) == b"kept"

    @scenario
    async def test_a_write_over_a_version_that_is_gone_makes_nothing(self, store: Store) -> None:
        address = fresh_address()
        info = await store.write(address, b"value")
        await store.delete(address)

        with pytest.raises(VersionMismatchError):
            await store.write(address, b"other", when=IfVersion(info.version))

        with pytest.raises(NotFoundError):
            await store.stat(address)

    @scenario
    async def test_a_blob_can_be_stored_over_the_slot_version_named(self, store: Store) -> None:
        data = fresh_bytes()
        address = Address.of(data)
        first = await store.write(address, b"first")
        second = await store.write(address, b"second")

        with pytest.raises(VersionMismatchError):
            await store.write(address, data, when=IfVersion(first.version))
        info = await store.write(address, data, when=IfVersion(second.version))

        assert info.kind is Kind.BLOB
        assert await content(store, address) == data

    @scenario
    async def test_append_adds_at_the_end(self, store: Store) -> None:
        for first_bytes, added_bytes in [(first, added) for first in APPENDS for added in APPENDS[first]]:
            address, first, added = fresh_address(), fresh_bytes(first_bytes), fresh_bytes(added_bytes)
            await store.write(address, first)

            info = await store.append(address, streamed(*cut(added, 200 * KIB)))

            assert info.size_bytes == first_bytes + added_bytes
            assert_same_bytes(await content(store, address), first + added)

    @scenario
    async def test_many_small_appends_grow_past_a_small_body(self, store: Store) -> None:
        address = fresh_address()
        lines = [b"%04d %s\n" % (number, b"x" * 995) for number in range(80)]

        for line in lines:
            await store.append(address, line)

        assert_same_bytes(await content(store, address), b"".join(lines))

    @every_way_to_write_a_slot
    @pytest.mark.parametrize("before_bytes", [0, 10, SMALL_BYTES_MAX + 1, 3 * MIB])
    @scenario
    async def test_a_source_that_raises_leaves_the_slot_as_it_was(
        self, store: Store, before_bytes: int, send: Writes
    ) -> None:
        address = fresh_address()
        before = await store.write(address, b"kept")

        with pytest.raises(SourceBrokeError):
            await send(store, address, broken(*cut(fresh_bytes(before_bytes), 100 * KIB)))

        after = await store.stat(address, use=False)
        assert (after.size_bytes, after.version) == (before.size_bytes, before.version)
        assert await content(store, address) == b"kept"

    @pytest.mark.parametrize("size_bytes", [0, 100, SMALL_BYTES_MAX + 1, 8 * MIB])
    @scenario
    async def test_take_answers_the_value_and_removes_it(self, store: Store, size_bytes: int) -> None:
        address, data = fresh_address(), fresh_bytes(size_bytes)
        info = await store.write(address, data)

        taken = await store.take(address)

        with pytest.raises(NotFoundError):
            await store.stat(address)
        await store.write(address, b"the next value")
        assert (taken.info.address, taken.info.kind, taken.info.version) == (address, Kind.SLOT, info.version)
        assert (taken.start, taken.stop) == (0, size_bytes)
        assert_same_bytes(b"".join(await gathered(taken)), data)
        assert await content(store, address) == b"the next value"

    @scenario
    async def test_take_of_nothing_says_so(self, store: Store) -> None:
        address = fresh_address()

        with pytest.raises(NotFoundError):
            await store.take(address)

        await store.write(address, b"once")
        await (await store.take(address)).aclose()
        with pytest.raises(NotFoundError):
            await store.take(address)

    @every_way_to_write_a_slot
    @scenario
    async def test_a_sender_that_stalls_keeps_nobody_waiting(self, store: Store, send: Writes) -> None:
        address = fresh_address()
        await store.write(address, b"first")
        source = Stalled(fresh_bytes(SMALL_BYTES_MAX + 1))
        sending = asyncio.ensure_future(send(store, address, source))
        await source.reached.wait()

        await store.write(address, b"second")
        await store.append(address, b" third")
        seen = await content(store, address)
        await (await store.take(address)).aclose()
        source.go.set()
        await sending

        assert seen == b"second third"
        assert_same_bytes(await content(store, address), source.before)

    @pytest.mark.parametrize(
        ("meanwhile", "when", "expected"),
        [
            ("write", ABSENT, AlreadySetError),
            ("put", ABSENT, AlreadySetError),
            ("write", "seen", VersionMismatchError),
            ("delete", "seen", VersionMismatchError),
            ("put", "seen", NO_SUCH_SLOT),
            ("put", ALWAYS, BlobInTheWayError),
        ],
    )
    @scenario
    async def test_a_condition_holds_at_the_end_of_the_source_too(
        self,
        store: Store,
        meanwhile: str,
        when: Condition | str,
        expected: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        blob = fresh_bytes()
        address, source = Address.of(blob), Stalled(b"begun first", b", ended last")
        if when == "seen":
            when = IfVersion((await store.write(address, b"seen")).version)
        assert not isinstance(when, str)
        sending = asyncio.ensure_future(store.write(address, source, when=when))
        await source.reached.wait()

        match meanwhile:
            case "write":
                await store.write(address, b"meanwhile")
            case "put":
                await store.put(blob)
            case _:
                await store.delete(address)
        source.go.set()

        with pytest.raises(expected):
            await sending
        if meanwhile == "write":
            assert await content(store, address) == b"meanwhile"
