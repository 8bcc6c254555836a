"""The HTTP store against a server that does what the original one does: all it can do works, the rest is refused."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from foreign import Foreign, OriginalServer, foreign

from holdall.core.address import Address
from holdall.errors import (
    AccessError,
    AlreadySetError,
    BlobInTheWayError,
    KindError,
    NotFoundError,
    RangeError,
    StoreError,
)
from holdall.stores.base import ABSENT, IfVersion, Kind, Span, missing
from holdall.stores.http import HTTPStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOT = Address.of(b"a key")
NOWHERE = Address.of(b"nothing is stored here")
LARGE = bytes(range(256)) * 20_000


@asynccontextmanager
async def original(key: str = "") -> AsyncIterator[tuple[HTTPStore, OriginalServer, Foreign]]:
    server = OriginalServer(key)
    async with foreign(server) as double:
        store = HTTPStore(double.url, api_key=key or None)
        try:
            yield store, server, double
        finally:
            await store.aclose()


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


@pytest.mark.parametrize("data", [b"", b"few bytes", LARGE])
def test_blobs_go_in_and_come_out(data: bytes) -> None:
    async def scenario() -> tuple[Address, bytes, Kind, int]:
        async with original() as (store, _, _):
            address = await store.put(pieces_of(data))
            assert await store.put(data) == address
            async with await store.get(address) as reading:
                value = await reading.read()
            info = await store.stat(address)
            return address, value, info.kind, info.size_bytes

    found = asyncio.run(scenario())

    assert found == (Address.of(data), data, Kind.BLOB, len(data))


def test_slots_are_written_appended_to_and_claimed_once() -> None:
    async def scenario() -> bytes:
        async with original() as (store, _, _):
            claimed = await store.write(SLOT, b"one", when=ABSENT)
            with pytest.raises(AlreadySetError):
                await store.write(SLOT, b"two", when=ABSENT)
            appended = await store.append(SLOT, b" and more")
            assert (claimed.kind, claimed.size_bytes) == (Kind.SLOT, 3)
            assert (appended.kind, appended.size_bytes) == (Kind.SLOT, 12)
            async with await store.get(SLOT) as reading:
                return await reading.read()

    assert asyncio.run(scenario()) == b"one and more"


def test_a_slot_write_on_a_blob_is_refused() -> None:
    async def scenario() -> None:
        async with original() as (store, _, _):
            address = await store.put(b"blob")
            with pytest.raises(BlobInTheWayError):
                await store.write(address, b"other")
            with pytest.raises(BlobInTheWayError):
                await store.append(address, b"other")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("span", "expected"),
    [(Span(0, 4), b"0123"), (Span(6), b"6789"), (Span(-3), b"789"), (Span(-30, 2), b"01"), (Span(8, 99), b"89")],
)
def test_part_of_an_entry_is_read_although_the_server_sends_all_of_it(span: Span, expected: bytes) -> None:
    async def scenario() -> bytes:
        async with original() as (store, _, _):
            address = await store.put(b"0123456789")
            async with await store.get(address, span) as reading:
                assert reading.info.size_bytes == 10
                return await reading.read()

    assert asyncio.run(scenario()) == expected


@pytest.mark.parametrize("span", [Span(10), Span(3, 3), Span(5, 2), Span(-2, 4)])
def test_a_part_that_no_entry_has_is_refused(span: Span) -> None:
    async def scenario() -> int:
        async with original() as (store, _, _):
            address = await store.put(b"0123456789")
            with pytest.raises(RangeError) as refused:
                await store.get(address, span)
            return refused.value.size_bytes

    assert asyncio.run(scenario()) == 10


def test_what_is_missing_is_found_one_by_one_although_the_server_answers_a_batch_with_nothing() -> None:
    async def scenario() -> list[Address]:
        async with original() as (store, _, _):
            here = await store.put(b"here")
            return await missing(store, [NOWHERE, here, SLOT, NOWHERE])

    assert asyncio.run(scenario()) == [NOWHERE, SLOT]


def test_what_is_not_there_is_not_found() -> None:
    async def scenario() -> None:
        async with original() as (store, _, _):
            for reading in (store.get(NOWHERE), store.stat(NOWHERE)):
                with pytest.raises(NotFoundError):
                    await reading

    asyncio.run(scenario())


def test_a_take_is_refused_and_removes_nothing() -> None:
    async def scenario() -> bytes:
        async with original() as (store, server, _):
            await store.write(SLOT, b"value")
            with pytest.raises(StoreError, match="left as it was"):
                await store.take(SLOT)
            return server.files[SLOT.path]

    assert asyncio.run(scenario()) == b"value"


def test_a_compare_and_swap_is_refused_before_the_server_would_overwrite() -> None:
    async def scenario() -> bytes:
        async with original() as (store, server, _):
            await store.write(SLOT, b"value")
            version = (await store.stat(SLOT)).version
            with pytest.raises(StoreError, match="nothing was written"):
                await store.write(SLOT, b"other", when=IfVersion(version))
            return server.files[SLOT.path]

    assert asyncio.run(scenario()) == b"value"


def test_a_delete_of_one_kind_spares_the_other() -> None:
    async def scenario() -> list[str]:
        async with original() as (store, server, _):
            blob = await store.put(b"blob")
            await store.write(SLOT, b"value")
            with pytest.raises(KindError):
                await store.delete(blob, kind=Kind.SLOT)
            await store.delete(SLOT, kind=Kind.SLOT)
            return list(server.files)

    assert asyncio.run(scenario()) == [Address.of(b"blob").path]


def test_the_listing_tells_kinds_and_sizes_newest_first() -> None:
    async def scenario() -> list[tuple[Address, Kind, int]]:
        async with original("secret") as (store, _, _):
            await store.put(b"blob")
            await store.write(SLOT, b"value")
            return [(info.address, info.kind, info.size_bytes) async for info in store.entries()]

    assert asyncio.run(scenario()) == [(SLOT, Kind.SLOT, 5), (Address.of(b"blob"), Kind.BLOB, 4)]


def test_the_api_key_goes_into_the_query_which_is_all_the_original_reads() -> None:
    async def scenario() -> list[tuple[str, str | None]]:
        async with original("secret") as (store, _, double):
            async with await store.get(await store.put(b"blob")) as reading:
                await reading.read()
            assert not any("authorization" in request.headers for request in double.seen)
            return [(request.method + request.path[:2], request.query.get("apikey")) for request in double.seen]

    asked = asyncio.run(scenario())

    assert asked == [("GET/-", None), ("PUT/", "secret"), (f"GET/{Address.of(b'blob').hex()[0]}", None)]


def test_a_wrong_key_is_refused() -> None:
    async def scenario() -> None:
        async with foreign(OriginalServer("secret")) as double:
            store = HTTPStore(f"{double.url}?apikey=guess")
            with pytest.raises(AccessError):
                await store.put(b"blob")
            await store.aclose()

    asyncio.run(scenario())


def test_a_burst_is_read_by_the_server() -> None:
    async def scenario() -> bytes:
        async with original() as (store, _, _):
            members = [await store.put(data) for data in (b"abc", b"def", LARGE)]
            burst = await store.put("".join(f"{member}\n" for member in members).encode())
            async with await store.get_burst(burst) as reading:
                return await reading.read()

    assert asyncio.run(scenario()) == b"abcdef" + LARGE
