"""The stripe: each entry on one member, found by its address alone."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from foreign import OriginalServer, foreign
from hypothesis import settings
from unplugged import Unplugged, awaited

from holdall.core.address import Address
from holdall.core.placement import Placement
from holdall.errors import (
    AccessError,
    DigestMismatchError,
    NotFoundError,
    OutOfSpaceError,
    SettingError,
    StoreError,
    UnreachableError,
)
from holdall.limits import KIB, MIB
from holdall.snapshot.backup import Backup
from holdall.stores.base import Kind
from holdall.stores.bursts import plan
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryStore
from holdall.stores.ordered import in_order
from holdall.stores.stripe import StripeStore
from holdall.testing.contract import SourceBrokeError, broken, content, cut, fresh_address, fresh_bytes, streamed
from holdall.testing.model import StoreMachine
from support import running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdall.stores.base import Store

KEY = "a key that only these tests know"


def striped(**members: Store) -> StripeStore:
    return StripeStore(list(members.items()))


async def held(store: Store) -> list[Address]:
    return [info.address async for info in store.entries()]


def home(address: Address, *names: str) -> str:
    return Placement(names).home(address)


@pytest.mark.parametrize("how", ["whole", "stream", "announced stream"])
@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
@awaited
async def test_an_entry_is_at_its_home_and_nowhere_else(how: str, size: int) -> None:
    members = {"a": MemoryStore(), "b": MemoryStore(), "c": MemoryStore()}
    store = striped(**members)
    for _ in range(6):
        data = fresh_bytes(size)
        slot = fresh_address()
        expected = Address.of(data) if how == "announced stream" else None

        address = await store.put(data if how == "whole" else streamed(*cut(data, 64 * KIB)), expected=expected)
        await store.append(slot, b"slot")

        for place in (address, slot):
            assert [name for name, member in members.items() if place in await held(member)] == [home(place, *"abc")]
        assert await content(store, address) == data


@awaited
async def test_many_blobs_are_stored_at_once_each_at_its_home(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        near = await DirectoryStore.open(str(tmp_path), durability=Durability.OS)
        stack.push_async_callback(near.aclose)
        far = Unplugged()
        store = striped(near=near, far=far)
        blobs = [fresh_bytes() for _ in range(40)] * 2

        addresses = await store.put_many(blobs)

        assert addresses == [Address.of(data) for data in blobs]
        for name, member in (("near", near), ("far", far)):
            assert sorted(await held(member)) == sorted({a for a in addresses if home(a, "near", "far") == name})
        far.plugged = False
        with pytest.raises(UnreachableError, match=r"^far: "):
            await store.put_many(blobs)


@awaited
async def test_the_order_of_the_members_does_not_matter() -> None:
    a, b, c = MemoryStore(), MemoryStore(), MemoryStore()
    addresses = [await striped(a=a, b=b, c=c).put(fresh_bytes()) for _ in range(20)]

    assert await striped(c=c, a=a, b=b).missing(addresses) == []


@awaited
async def test_a_member_that_is_away_takes_its_part_with_it_and_no_more() -> None:
    a, b = Unplugged(), Unplugged()
    store = striped(a=a, b=b)
    addresses = [await store.put(fresh_bytes()) for _ in range(20)]
    b.plugged = False

    for address in addresses:
        if home(address, "a", "b") == "a":
            assert (await store.stat(address)).kind is Kind.BLOB
            continue
        for call in (store.get, store.stat, store.delete, store.take):
            with pytest.raises(UnreachableError, match=r"^b: The cable is out"):
                await call(address)
        with pytest.raises(UnreachableError, match=r"^b: "):
            await store.write(address, b"x")
    for many in (store.missing, store.stat_many):
        with pytest.raises(UnreachableError, match=r"^b: "):
            await many(addresses)
    with pytest.raises(UnreachableError, match=r"^b: "):
        await held(store)


@awaited
async def test_a_reading_that_breaks_off_says_whose_it_was() -> None:
    a, b = Unplugged(), Unplugged()
    store = striped(a=a, b=b)
    address = await store.put(fresh_bytes(2 * MIB))
    a.breaks_after_bytes = b.breaks_after_bytes = 300 * KIB

    async with await store.get(address) as reading:
        with pytest.raises(UnreachableError, match=rf"^{home(address, 'a', 'b')}: The cable was pulled"):
            await reading.read()


@pytest.mark.parametrize("announced", [False, True])
@awaited
async def test_a_source_that_raises_leaves_nothing_and_is_nobodys_fault(announced: bool) -> None:
    a, b = MemoryStore(), MemoryStore()
    store = striped(a=a, b=b)
    data = fresh_bytes(2 * MIB)
    expected = Address.of(data) if announced else None

    async def lost() -> AsyncIterator[bytes]:
        yield data[:100]
        raise StoreError("The source has gone.")

    with pytest.raises(SourceBrokeError):
        await store.put(broken(data), expected=expected)
    for call in (store.put(lost(), expected=expected), store.write(fresh_address(), lost())):
        with pytest.raises(StoreError, match=r"^The source has gone\.$"):
            await call
    with pytest.raises(DigestMismatchError, match=r"^The bytes hash"):
        await store.put(streamed(data), expected=fresh_address())

    assert await held(a) == await held(b) == []


@awaited
async def test_a_full_member_is_named() -> None:
    a, b = MemoryStore(size_bytes_max=1000), MemoryStore(size_bytes_max=1000)
    store = striped(a=a, b=b)

    async def fill() -> None:
        for _ in range(100):
            await store.put(fresh_bytes(100))

    with pytest.raises(OutOfSpaceError, match=r"^[ab]: The store is full"):
        await fill()


@awaited
async def test_the_listing_is_in_order_and_leaves_out_what_has_another_home() -> None:
    a, b, c = MemoryStore(), MemoryStore(), MemoryStore()
    store = striped(a=a, b=b, c=c)
    put = [await store.put(b"%d" % number) for number in range(60)]
    strays = [await member.put(b"%d" % number) for number in range(5) for member in (a, b, c)]

    infos = [info async for info in store.entries()]

    assert set(strays) <= set(put)
    assert sorted(info.address for info in infos) == sorted(put)
    assert infos == sorted(infos, key=lambda info: (-info.used_ns, info.address))


@awaited
async def test_a_stripe_of_more_members_is_filled_by_copying_what_has_moved() -> None:
    a, b, c = MemoryStore(), MemoryStore(), MemoryStore()
    narrow, wide = striped(a=a, b=b), striped(a=a, b=b, c=c)
    addresses = [await narrow.put(fresh_bytes()) for _ in range(100)]
    addresses += [(await narrow.write(fresh_address(), b"slot")).address for _ in range(20)]
    moved = [address for address in addresses if home(address, *"abc") == "c"]
    assert sorted(await wide.missing(addresses)) == sorted(moved)

    backup = Backup(narrow, wide)
    troubles = [trouble async for trouble in backup.troubles()]

    assert troubles == []
    assert backup.report.copied == len(moved)
    assert sorted(await held(c)) == sorted(moved)
    assert sorted(await held(wide)) == sorted(addresses)


@awaited
async def test_a_damaged_blob_is_set_aside_by_the_member_that_has_it(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        members: dict[str, Store] = {}
        for name in ("a", "b"):
            members[name] = await DirectoryStore.open(str(tmp_path / name), durability=Durability.OS)
            stack.push_async_callback(members[name].aclose)
        store = striped(**members, far=MemoryStore())
        for number in range(10):
            address = await store.put(b"%d" % number)
            place = home(address, "a", "b", "far")
            if place != "far":
                path = tmp_path / place / address.name
                path.chmod(0o644)
                path.write_bytes(b"damaged")
                path.chmod(0o444)

            aside = await store.quarantine(address)

            assert (aside is None) == (place == "far")
            assert await store.missing([address]) == ([] if place == "far" else [address])


@pytest.mark.parametrize("names", [[], ["a", "a"], [""], ["a\n"], [str(n) for n in range(65)]])
def test_members_that_cannot_be_told_apart_are_refused(names: list[str]) -> None:
    with pytest.raises(SettingError):
        StripeStore([(name, MemoryStore()) for name in names])


class StripeMachine(StoreMachine):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        yield striped(a=MemoryStore(), b=MemoryStore(), c=MemoryStore())


TestStripeModel = StripeMachine.TestCase
TestStripeModel.settings = settings(
    max_examples=100 if "HOLDALL_TEST_LONG" in os.environ else 10,
    stateful_step_count=40,
)


def test_a_thousand_blobs_spread_over_three_servers_and_are_read_from_each(tmp_path: Path) -> None:
    blobs = [b"blob number %d" % number for number in range(1000)]
    names = ("attic", "barn", "cellar")

    async def work(stack: ExitStack) -> None:
        servers = {}
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "apikey").write_text(KEY)
            servers[name] = stack.enter_context(running_server(tmp_path / name))
        store = striped(**{name: HTTPStore(server.url, api_key=KEY) for name, server in servers.items()})
        try:
            addresses = [address async for address in in_order(blobs, store.put, width=16)]
            shares = {name: len(list((tmp_path / name).glob("*.tig"))) for name in names}
            burst = await store.put("\n".join(map(str, addresses)).encode())
            members = await plan(store, burst, 1)
            read = [await reading.read() async for reading in members.readings()]
            listed = {info.address async for info in store.entries()}

            assert sum(shares.values()) == 1000
            assert all(abs(share - 1000 / 3) <= 0.1 * 1000 / 3 for share in shares.values())
            assert read == blobs
            assert listed == {*addresses, burst}
            assert await store.missing([*addresses, burst]) == []

            servers["barn"].stop(signal.SIGKILL)
            here = [address for address in addresses if home(address, *names) != "barn"]
            away = next(address for address in addresses if home(address, *names) == "barn")
            assert [await content(store, address) for address in here[:50]]
            with pytest.raises(UnreachableError, match=r"^barn: "):
                await store.get(away)
        finally:
            await store.aclose()

    with ExitStack() as stack:
        asyncio.run(work(stack))


def test_a_server_that_does_not_list_itself_is_named_rather_than_left_out(tmp_path: Path) -> None:
    async def work(url: str) -> None:
        store = striped(here=MemoryStore(), there=HTTPStore(url))
        try:
            for _ in range(20):
                await store.put(fresh_bytes())
            with pytest.raises(AccessError, match=r"^there: The server lists nothing"):
                await held(store)
        finally:
            await store.aclose()

    with running_server(tmp_path / "data") as server:
        asyncio.run(work(server.url))


@awaited
async def test_servers_of_the_original_kind_will_do() -> None:
    doubles = {"a": OriginalServer("secret"), "b": OriginalServer("secret")}
    async with AsyncExitStack() as stack:
        stores = {}
        for name, double in doubles.items():
            url = (await stack.enter_async_context(foreign(double))).url
            stores[name] = HTTPStore(url, api_key="secret")
        store = striped(**stores)
        stack.push_async_callback(store.aclose)
        blobs = [fresh_bytes(200 + number) for number in range(20)]
        addresses = [await store.put(streamed(data)) for data in blobs]
        log = (await store.append(fresh_address(), b"one\n")).address
        await store.append(log, b"two\n")

        assert [await content(store, address) for address in addresses] == blobs
        assert await content(store, log) == b"one\ntwo\n"
        assert await store.missing([*addresses, log]) == []
        infos = await store.stat_many([*addresses, log, fresh_address()])
        assert [None if info is None else info.kind for info in infos] == [Kind.BLOB] * 20 + [Kind.SLOT, None]
        assert sorted(await held(store)) == sorted([*addresses, log])
        assert all(double.files for double in doubles.values())
        await store.delete(log)
        with pytest.raises(NotFoundError):
            await store.stat(log)
