"""What split, shares and the encrypting store have in common: over original servers, in any order, cut off anywhere."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from foreign import OriginalServer, foreign
from hypothesis import settings
from providers import content, opened

from holdall.core.address import Address
from holdall.errors import (
    AlreadySetError,
    HoldallError,
    NotFoundError,
    SecretError,
    SettingError,
    VersionMismatchError,
)
from holdall.limits import MIB
from holdall.stores.base import ABSENT, IfVersion, Kind, Span, missing
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.encrypted import EncryptedStore
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryStore
from holdall.stores.shares import SharesStore
from holdall.stores.shares_label import LABEL
from holdall.stores.split import SplitStore
from holdall.testing.contract import fresh_bytes, streamed
from holdall.testing.model import StoreMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from holdall.stores.base import Store

SECRET = bytes(range(32))
SLOT = Address.of(b"a slot")


@dataclass(frozen=True, slots=True)
class Spread:
    """A composite, and of how many."""

    count: int
    make: Callable[[Sequence[Store], bytes], Store]


SPLIT = Spread(2, SplitStore)
SHARES = Spread(3, lambda members, secret: SharesStore(members, 2, secret))
COPIES = Spread(2, lambda members, secret: SharesStore(members, 1, secret))
ALL_NEEDED = Spread(2, lambda members, secret: SharesStore(members, 2, secret))
ENCRYPTED = Spread(1, lambda members, secret: EncryptedStore(members[0], secret))

every_spread = pytest.mark.parametrize(
    "spread",
    [
        pytest.param(SPLIT, id="split"),
        pytest.param(SHARES, id="shares"),
        pytest.param(COPIES, id="1 of 2"),
        pytest.param(ALL_NEEDED, id="2 of 2"),
        pytest.param(ENCRYPTED, id="encrypted"),
    ],
)


@asynccontextmanager
async def on_disk(spread: Spread, place: Path, secret: bytes = SECRET, order: int = 1) -> AsyncIterator[Store]:
    members: list[Store] = [
        await DirectoryStore.open(str(place / str(number)), durability=Durability.OS)
        for number in range(spread.count)[::order]
    ]
    async with opened(lambda members: spread.make(members, secret), members) as store:
        yield store


@asynccontextmanager
async def two_clients_of_originals(spread: Spread) -> AsyncIterator[tuple[Store, Store]]:
    """The same composite twice, over servers that do what the original one does."""
    async with AsyncExitStack() as stack:
        doubles = [await stack.enter_async_context(foreign(OriginalServer("key"))) for _ in range(spread.count)]
        clients = []
        for _ in range(2):
            members: list[Store] = [HTTPStore(double.url, api_key="key") for double in doubles]
            clients.append(
                await stack.enter_async_context(opened(lambda members: spread.make(members, SECRET), members))
            )
        yield clients[0], clients[1]


@every_spread
def test_all_a_store_does_works_over_original_servers(spread: Spread) -> None:
    data = fresh_bytes(2 * MIB + 7)

    async def scenario() -> None:
        async with two_clients_of_originals(spread) as (one, other):
            blob, small = await one.put(streamed(data)), await other.put(b"small")
            assert await content(other, blob) == data
            async with await one.get(blob, Span(MIB - 2, MIB + 3)) as reading:
                assert await reading.read() == data[MIB - 2 : MIB + 3]
            first = await one.write(SLOT, b"first ", when=ABSENT)
            with pytest.raises(AlreadySetError):
                await other.write(SLOT, b"late", when=ABSENT)
            second = await other.append(SLOT, b"second")
            assert await content(one, SLOT) == b"first second"
            with pytest.raises(VersionMismatchError):
                await one.write(SLOT, b"late", when=IfVersion(first.version))
            await one.write(SLOT, b"third", when=IfVersion(second.version))
            assert await missing(one, [blob, SLOT, LABEL, small]) == [LABEL]
            listed = {info.address: (info.kind, info.size_bytes) async for info in other.entries()}
            assert listed == {blob: (Kind.BLOB, len(data)), small: (Kind.BLOB, 5), SLOT: (Kind.SLOT, 5)}
            async with await other.take(SLOT) as taken:
                assert await taken.read() == b"third"
            await one.delete(blob)
            assert await missing(other, [blob, SLOT, small]) == [blob, SLOT]

    asyncio.run(scenario())


@every_spread
def test_clients_that_race_over_original_servers_lose_nothing(spread: Spread) -> None:
    async def scenario() -> None:
        async with two_clients_of_originals(spread) as clients:
            await asyncio.gather(*(clients[number % 2].append(SLOT, b"%d\n" % number) for number in range(12)))
            assert sorted(map(int, (await content(clients[0], SLOT)).split())) == list(range(12))
            takes = await asyncio.gather(*(client.take(SLOT) for client in clients * 3), return_exceptions=True)
            assert sorted(isinstance(taken, NotFoundError) for taken in takes) == [False] + [True] * 5
            for taken in takes:
                if not isinstance(taken, BaseException):
                    await taken.aclose()
            creates = await asyncio.gather(
                *(client.write(SLOT, b"mine", when=ABSENT) for client in clients * 3), return_exceptions=True
            )
            assert sorted(isinstance(created, AlreadySetError) for created in creates) == [False] + [True] * 5

    asyncio.run(scenario())


@every_spread
def test_nothing_is_left_behind(spread: Spread) -> None:
    async def scenario() -> list[list[Address]]:
        members: list[Store] = [MemoryStore() for _ in range(spread.count)]
        store = spread.make(members, SECRET)
        blob = await store.put(b"blob")
        for number in range(5):
            await store.write(SLOT, b"%d" % number)
            await store.append(SLOT, b"%d" % number)
            with pytest.raises(VersionMismatchError):
                await store.write(SLOT, b"late", when=IfVersion("gone"))
        await store.write(blob, b"blob")
        await (await store.take(SLOT)).aclose()
        await store.write(SLOT, b"slot")
        await store.delete(SLOT)
        await store.write(Address.of(b"other"), b"a slot that a blob wins over")
        await store.put(b"other")
        await store.delete(Address.of(b"other"))
        await store.delete(blob)
        return [[info.address async for info in member.entries()] for member in members]

    assert asyncio.run(scenario()) == [[LABEL]] * spread.count


@every_spread
def test_a_change_that_is_cut_off_anywhere_leaves_the_old_value_or_the_new(spread: Spread) -> None:
    """The client is cancelled after each possible number of steps; another one looks at what it left."""

    async def scenario() -> set[bytes]:
        members: list[Store] = [MemoryStore() for _ in range(spread.count)]
        seen = set()
        for steps in range(120):
            mine, other = spread.make(members, SECRET), spread.make(members, SECRET)
            blob = b"blob %d" % steps
            await mine.write(SLOT, b"old")
            for change in (mine.write(SLOT, b"new"), mine.append(SLOT, b" and new"), mine.put(blob)):
                task = asyncio.ensure_future(change)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                seen.add(await content(other, SLOT))
            if not await missing(other, [Address.of(blob)]):
                assert await content(other, Address.of(blob)) == blob
            await other.put(blob)
            assert await content(other, Address.of(blob)) == blob
        return seen

    seen = asyncio.run(scenario())

    assert {b"old", b"new", b"new and new"} <= seen <= {b"old", b"new", b"old and new", b"new and new"}


@every_spread
def test_a_removal_that_is_cut_off_anywhere_can_be_done_again(spread: Spread) -> None:
    async def scenario() -> None:
        members: list[Store] = [MemoryStore() for _ in range(spread.count)]
        for steps in range(80):
            mine, other = spread.make(members, SECRET), spread.make(members, SECRET)
            blob = await mine.put(b"blob %d" % steps)
            await mine.write(SLOT, b"value")
            for address in (blob, SLOT):
                task = asyncio.ensure_future(mine.delete(address))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                with suppress(NotFoundError):
                    await other.delete(address)
                assert await missing(other, [address]) == [address]
                with pytest.raises(NotFoundError):
                    await other.stat(address)

    asyncio.run(scenario())


@every_spread
def test_another_secret_or_order_is_said_at_once(spread: Spread, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_disk(spread, tmp_path) as store:
            address = await store.put(b"bytes")
        async with on_disk(spread, tmp_path, secret=bytes(32)) as store:
            with pytest.raises(SecretError):
                await content(store, address)
            assert await missing(store, [address]) == [address]
        if spread.count > 1:
            async with on_disk(spread, tmp_path, order=-1) as store:
                for call in (store.get(address), store.put(b"more"), store.delete(address)):
                    with pytest.raises(SettingError, match="something else than store"):
                        await call
        async with on_disk(spread, tmp_path) as store:
            assert await content(store, address) == b"bytes"

    asyncio.run(scenario())


def test_the_same_stores_cannot_be_opened_as_another_spread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_disk(ALL_NEEDED, tmp_path) as store:
            address = await store.put(b"bytes")
        for spread in (SPLIT, COPIES, ENCRYPTED, SHARES):
            async with on_disk(spread, tmp_path) as store:
                with pytest.raises(SettingError):
                    await content(store, address)

    asyncio.run(scenario())


@every_spread
def test_a_member_cannot_test_for_a_known_file(spread: Spread) -> None:
    """No member holds anything under the address of the file, nor its bytes, nor its hash."""
    known = b"The quick brown fox jumps over the lazy dog. " * 200

    async def scenario() -> None:
        members: list[Store] = [MemoryStore() for _ in range(spread.count)]
        store = spread.make(members, SECRET)
        address = await store.put(known)
        await store.write(SLOT, known)
        for member in members:
            names = {info.address async for info in member.entries()}
            assert not names & {address, SLOT}
            for name in names:
                data = await content(member, name)
                assert known[:20] not in data
                assert bytes(address) not in data
                assert address.hex().encode() not in data

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("count", "needed", "least"),
    [(1, 1, None), (3, 0, None), (3, 4, None), (3, 2, 1), (3, 1, 2), (3, 2, 4), (17, 2, None)],
)
def test_numbers_that_do_not_fit_are_refused(count: int, needed: int, least: int | None) -> None:
    with pytest.raises(SettingError):
        SharesStore([MemoryStore() for _ in range(count)], needed, SECRET, least=least)


def test_what_all_are_needed_for_cannot_be_repaired() -> None:
    async def scenario() -> None:
        members: list[Store] = [MemoryStore(), MemoryStore()]
        store = SharesStore(members, 2, SECRET)
        address = await store.put(b"bytes")
        assert await store.repair(address) == []
        assert await store.check(address) == {}
        [name] = [info.address async for info in members[1].entries() if info.address != LABEL]
        await members[1].delete(name)
        assert await store.check(address) == {"member 2": "missing"}
        with pytest.raises(HoldallError):
            await store.repair(address)

    asyncio.run(scenario())


class SharedMachine(StoreMachine):
    """Any sequence of calls has the same outcome as on one store in memory."""

    spread: Spread

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        members: list[Store] = [MemoryStore() for _ in range(self.spread.count)]
        async with opened(lambda members: self.spread.make(members, SECRET), members) as store:
            yield store


class SplitMachine(SharedMachine):
    spread = SPLIT


class SharesMachine(SharedMachine):
    spread = SHARES


class EncryptedMachine(SharedMachine):
    spread = ENCRYPTED


SETTINGS = settings(max_examples=10, stateful_step_count=30)
TestSplitModel = SplitMachine.TestCase
TestSplitModel.settings = SETTINGS
TestSharesModel = SharesMachine.TestCase
TestSharesModel.settings = SETTINGS
TestEncryptedModel = EncryptedMachine.TestCase
TestEncryptedModel.settings = SETTINGS
