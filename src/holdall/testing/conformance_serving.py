"""Conformance of what a server asks of its store: `Spooling`, `Immediate`, `Removing`, `FileBacked`.

A store without an ability skips its tests.
"""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import pytest

from holdall.core.address import Address
from holdall.errors import DigestMismatchError, NotFoundError, TooLargeError
from holdall.limits import CHUNK_BYTES, KIB, MIB, SMALL_BYTES_MAX
from holdall.stores.abilities import FileBacked, Immediate, Removing, Spooling
from holdall.stores.base import Kind, Span, missing
from holdall.testing.contract import (
    StoreContract,
    assert_same_bytes,
    content,
    cut,
    fresh_address,
    fresh_bytes,
    scenario,
)

if TYPE_CHECKING:
    from holdall.errors import HoldallError
    from holdall.stores.abilities import Spooled
    from holdall.stores.base import Store

SIZES_BYTES: Final = (0, 1, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 2 * MIB + 3)
SMALL_SIZES_BYTES: Final = (0, 1, 1000, SMALL_BYTES_MAX)


def as_spooling(store: Store) -> Spooling:
    """The store as one that spools, or the end of the test."""
    return store if isinstance(store, Spooling) else pytest.skip("the store does not spool")


def as_immediate(store: Store) -> Immediate:
    """The store as one that answers at once, or the end of the test."""
    return store if isinstance(store, Immediate) else pytest.skip("the store does not answer at once")


def as_removing(store: Store) -> Removing:
    """The store as one that tells of removals, or the end of the test."""
    return store if isinstance(store, Removing) else pytest.skip("the store does not tell of removals")


def filled(store: Spooling, data: bytes) -> Spooled:
    """A spool that holds `data`, taken in pieces."""
    spooled = store.spool()
    for piece in cut(data, 100 * KIB):
        spooled.write(memoryview(piece))
    return spooled


async def put_at_once(store: Immediate, data: bytes) -> Address | HoldallError:
    """What `put_now` reports."""
    reported: asyncio.Future[Address | HoldallError] = asyncio.get_running_loop().create_future()
    store.put_now(data, reported.set_result)
    return await reported


class ServingContract(StoreContract):
    """The protocols that spare a server time and memory."""

    @scenario
    async def test_a_spool_becomes_a_blob_or_a_slot(self, store: Store) -> None:
        spooling = as_spooling(store)
        for size_bytes in SIZES_BYTES:
            data, slot, log = fresh_bytes(size_bytes), fresh_address(), fresh_address()
            spools = [filled(spooling, data) for _ in range(3)]

            assert [(spool.size_bytes, spool.address) for spool in spools] == [(size_bytes, Address.of(data))] * 3
            blob = await spooling.put_spooled(spools[0], expected=Address.of(data))
            written = await spooling.write_spooled(slot, spools[1])
            await store.append(log, b"before ")
            appended = await spooling.append_spooled(log, spools[2])

            assert_same_bytes(await content(store, blob), data)
            assert_same_bytes(await content(store, slot), data)
            assert_same_bytes(await content(store, log), b"before " + data)
            assert [(info.kind, info.size_bytes) for info in (written, appended)] == [
                (Kind.SLOT, size_bytes),
                (Kind.SLOT, size_bytes + 7),
            ]

    @scenario
    async def test_a_spool_can_be_kept_and_hashed_apart(self, store: Store) -> None:
        spooling = as_spooling(store)
        data = fresh_bytes(MIB + 7)
        spooled = spooling.spool()

        for piece in cut(data, 300 * KIB):
            spooled.keep(piece)
        for piece in cut(data, 70 * KIB):
            spooled.hash(piece)
        address = await spooling.put_spooled(spooled)

        assert address == Address.of(data)
        assert_same_bytes(await content(store, address), data)

    @scenario
    async def test_a_spool_that_is_not_committed_leaves_nothing(self, store: Store) -> None:
        spooling = as_spooling(store)
        for size_bytes in (20, SMALL_BYTES_MAX + 1, 2 * MIB):
            data, other = fresh_bytes(size_bytes), fresh_address()

            left = filled(spooling, data)
            left.close()
            left.close()
            refused = filled(spooling, data)
            with pytest.raises(DigestMismatchError):
                await spooling.put_spooled(refused, expected=other)
            refused.close()

            assert await missing(store, [Address.of(data), other]) == [Address.of(data), other]

    @scenario
    async def test_a_spool_takes_no_more_than_the_store(self, store: Store) -> None:
        spooling = as_spooling(store)
        if self.body_bytes_max is None:
            pytest.skip("the store does not say how much it takes")
        spooled = filled(spooling, bytes(self.body_bytes_max))

        with pytest.raises(TooLargeError):
            spooled.write(b"x")

        spooled.close()

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_what_is_read_at_once_is_what_get_reads(self, store: Store, kind: Kind) -> None:
        immediate = as_immediate(store)
        for size_bytes in (*SMALL_SIZES_BYTES, SMALL_BYTES_MAX + 1, 2 * MIB):
            data = fresh_bytes(size_bytes)
            address = Address.of(data) if kind is Kind.BLOB else fresh_address()
            await store.write(address, data)

            answer = immediate.get_now(address)

            if answer is not None:
                info = await store.stat(address, use=False)
                assert answer[:3] == (info.kind, info.version, info.used_ns)
                assert_same_bytes(answer.data, data)

    @scenario
    async def test_what_is_read_at_once_is_never_what_was(self, store: Store) -> None:
        immediate = as_immediate(store)
        address = fresh_address()

        for value in (b"first", b"second", b"third"):
            await store.write(address, value)
            answer = immediate.get_now(address)
            assert answer is None or answer.data == value
        await store.delete(address)

        with pytest.raises(NotFoundError):
            immediate.get_now(address)

    @scenario
    async def test_what_is_put_at_once_is_stored_when_it_is_reported(self, store: Store) -> None:
        immediate = as_immediate(store)
        for size_bytes in SMALL_SIZES_BYTES:
            data = fresh_bytes(size_bytes)

            first = await put_at_once(immediate, data)
            second = await put_at_once(immediate, data)

            assert first == second == Address.of(data)
            assert (await store.stat(Address.of(data))).kind is Kind.BLOB
            assert_same_bytes(await content(store, Address.of(data)), data)

    @scenario
    async def test_many_are_put_at_once(self, store: Store) -> None:
        immediate = as_immediate(store)
        values = [fresh_bytes(20 + number * 10) for number in range(200)]

        reported = await asyncio.gather(*(put_at_once(immediate, value) for value in values))

        assert reported == [Address.of(value) for value in values]
        for value in values:
            assert await content(store, Address.of(value)) == value

    @scenario
    async def test_what_is_put_at_once_wins_over_a_slot(self, store: Store) -> None:
        immediate = as_immediate(store)
        data = fresh_bytes()
        address = Address.of(data)
        await store.write(address, b"a slot")

        await put_at_once(immediate, data)

        assert (await store.stat(address)).kind is Kind.BLOB
        assert await content(store, address) == data

    @scenario
    async def test_removals_of_blobs_are_told(self, store: Store) -> None:
        removing = as_removing(store)
        first, second, kept = [await store.put(fresh_bytes()) for _ in range(3)]
        start = removing.removals_counter()[0]

        await store.delete(first)
        between = removing.removals_counter()[0]
        await store.delete(second, kind=Kind.BLOB)
        end = removing.removals_counter()[0]

        assert start < between < end
        for since, expected in ((start, {first, second}), (between, {second}), (end, set())):
            told = removing.removals_since(since)
            assert told is None or expected <= set(told)
            assert told is None or kept not in told

    @scenario
    async def test_more_removals_than_are_remembered_are_not_told_in_part(self, store: Store) -> None:
        removing = as_removing(store)
        start = removing.removals_counter()[0]
        addresses = await asyncio.gather(*(store.put(fresh_bytes()) for _ in range(1100)))

        for address in addresses:
            await store.delete(address)

        told = removing.removals_since(start)
        assert told is None or set(addresses) <= set(told)

    @pytest.mark.parametrize("kind", list(Kind))
    @pytest.mark.parametrize("size_bytes", [1000, 2 * MIB])
    @scenario
    async def test_the_file_of_a_reading_holds_its_bytes(self, store: Store, size_bytes: int, kind: Kind) -> None:
        data = fresh_bytes(size_bytes)
        address = Address.of(data) if kind is Kind.BLOB else fresh_address()
        await store.write(address, data)

        async with await store.get(address, Span(7, size_bytes - 7)) as reading:
            if not isinstance(reading, FileBacked):
                pytest.skip("the store's readings are no files")
            if kind is Kind.SLOT:
                await store.write(address, bytes(size_bytes))
            read = b"".join(
                os.pread(reading.fileno(), min(CHUNK_BYTES, reading.stop - at), at)
                for at in range(reading.start, reading.stop, CHUNK_BYTES)
            )

        assert_same_bytes(read, data[7:-7])
