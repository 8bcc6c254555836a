"""The mirror's blobs: every member has each, any of them may fail, and what one lacks it is given by the others."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from unplugged import Unplugged, awaited

from holdall.core.address import Address
from holdall.errors import (
    DamageError,
    DigestMismatchError,
    KindError,
    NotFoundError,
    OutOfSpaceError,
    RangeError,
    SettingError,
    StoreError,
    TooLargeError,
    UnreachableError,
)
from holdall.limits import KIB, MIB
from holdall.stores import mirror_blobs, mirror_finding, mirror_lacks
from holdall.stores.base import WHOLE, Kind, Span, pieces
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.memory import MemoryStore
from holdall.stores.mirror import MirrorStore
from holdall.testing.contract import SourceBrokeError, broken, content, cut, fresh_address, fresh_bytes, streamed
from holdall.testing.model import StoreMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from holdall.stores.base import Reading, Source, Store

SIZES = [0, 1, 100 * KIB, 3 * MIB]


def mirrored(*members: Store, copies_min: int = 1) -> MirrorStore:
    """A mirror of members called a, b, c, as far as they go."""
    return MirrorStore(list(zip("abc", members, strict=False)), copies_min=copies_min)


def plugged(count: int = 2) -> list[Unplugged]:
    return [Unplugged() for _ in range(count)]


async def held_by(*members: Store) -> list[Address]:
    """What the members hold, each for itself."""
    return [info.address for member in members for info in [info async for info in member.entries()]]


@asynccontextmanager
async def directories(place: Path, count: int = 2) -> AsyncIterator[list[DirectoryStore]]:
    opened = [
        await DirectoryStore.open(str(place / name), durability=Durability.OS) for name in ("a", "b", "c")[:count]
    ]
    try:
        yield opened
    finally:
        for store in opened:
            await store.aclose()


def file_of(place: Path, name: str, address: Address) -> Path:
    return place / name / address.name


def overwrite(path: Path, data: bytes) -> None:
    """Changes a blob's file behind the store's back, as a failing disk does: its mode bits stay."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut short": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"\0",
    "emptied": lambda _: b"",
}
every_damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


# --- what is written ---


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("as_stream", [False, True])
@awaited
async def test_a_blob_is_in_every_member(size: int, as_stream: bool) -> None:
    members, data = plugged(3), fresh_bytes(size)
    store = mirrored(*members)

    address = await store.put(streamed(*cut(data, 70 * KIB)) if as_stream else data)

    assert [await content(member, address) for member in members] == [data] * 3
    assert store.degraded == {"a": set(), "b": set(), "c": set()}


@awaited
async def test_a_source_is_read_once_at_the_pace_of_the_slowest() -> None:
    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Semaphore(0)

        async def put(self, source: Source, *, expected: Address | None = None) -> Address:
            async def slowly() -> AsyncIterator[bytes]:
                async for piece in pieces(source):
                    await self.go.acquire()
                    yield piece

            return await super().put(slowly(), expected=expected)

    asked = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield b"x" * 1000

    slow, quick = Slow(), MemoryStore()
    putting = asyncio.ensure_future(mirrored(quick, slow).put(source()))
    seen = []
    for _ in range(20):
        for _ in range(20):
            await asyncio.sleep(0)
        seen.append(asked)
        slow.go.release()
    for _ in range(100):
        slow.go.release()

    address = await putting

    assert asked == 100
    assert all(count <= turn + 4 for turn, count in enumerate(seen))
    assert await content(slow, address) == await content(quick, address) == b"x" * 100_000


@pytest.mark.parametrize("pulled", [0, 1])
@pytest.mark.parametrize("as_stream", [False, True])
@awaited
async def test_a_write_goes_on_without_a_member_and_says_what_it_lacks(pulled: int, as_stream: bool) -> None:
    members, data = plugged(), fresh_bytes()
    members[pulled].plugged = False
    store = mirrored(*members)

    address = await store.put(streamed(data) if as_stream else data)

    assert await content(members[1 - pulled], address) == data
    assert store.degraded["ab"[pulled]] == {address}
    assert store.degraded["ab"[1 - pulled]] == set()


@awaited
async def test_a_member_that_breaks_off_in_the_middle_does_not_hold_up_the_others() -> None:
    members, data = plugged(3), fresh_bytes(3 * MIB)
    members[1].breaks_after_bytes = 100 * KIB
    store = mirrored(*members)

    address = await store.put(streamed(*cut(data, 64 * KIB)))

    assert await content(members[0], address) == await content(members[2], address) == data
    assert store.degraded == {"a": set(), "b": {address}, "c": set()}


@awaited
async def test_fewer_copies_than_asked_for_are_an_error_that_names_the_member() -> None:
    members = plugged(3)
    members[1].plugged = False
    enough, too_few = mirrored(*members, copies_min=2), mirrored(*members, copies_min=3)
    data = fresh_bytes()

    await enough.put(data)
    with pytest.raises(UnreachableError, match=r"^b: "):
        await too_few.put(streamed(data))


@awaited
async def test_a_write_that_nobody_can_take_is_an_error() -> None:
    members = plugged()
    members[0].plugged = members[1].plugged = False

    with pytest.raises(UnreachableError, match=r"^a: "):
        await mirrored(*members).put(fresh_bytes())


@awaited
async def test_a_member_that_is_full_is_one_that_lacks_something() -> None:
    small, large = MemoryStore(size_bytes_max=100), MemoryStore()
    store = mirrored(small, large)
    first = await store.put(fresh_bytes(80))

    second = await store.put(fresh_bytes(80))
    third = await store.put(streamed(fresh_bytes(200)))

    assert store.degraded == {"a": {second, third}, "b": set()}
    assert await store.missing([first, second, third]) == []
    with pytest.raises(OutOfSpaceError, match=r"^a: "):
        await store.repair(second)
    with pytest.raises(TooLargeError, match=r"^a: "):
        await mirrored(small, MemoryStore(size_bytes_max=100)).put(fresh_bytes(200))


@awaited
async def test_many_blobs_are_stored_at_once_and_who_missed_them_is_remembered(tmp_path: Path) -> None:
    blobs = [fresh_bytes(size) for size in (0, 10, 100 * KIB)] * 3
    async with directories(tmp_path) as members:
        away = Unplugged()
        store = mirrored(*members, away)
        away.plugged = False

        addresses = await store.put_many(blobs)

        assert addresses == [Address.of(data) for data in blobs]
        assert [await member.missing(addresses) for member in members] == [[], []]
        assert store.degraded == {"a": set(), "b": set(), "c": set(addresses)}
        with pytest.raises(UnreachableError, match=r"^c: "):
            await mirrored(*members, away, copies_min=3).put_many(blobs)
        away.plugged = True
        await mirrored(*members, away).put_many(blobs)
        assert sorted(await held_by(away)) == sorted(set(addresses))


@awaited
async def test_a_member_that_was_away_is_left_alone_for_a_while_and_then_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = plugged()
    store = mirrored(*members)
    members[1].plugged = False
    lacking = await store.put(fresh_bytes())
    members[1].plugged = True

    await store.put(fresh_bytes())
    resting = list(members[1].calls)
    clock = time.monotonic() + 60
    monkeypatch.setattr("holdall.stores.composite.time.monotonic", lambda: clock)
    later = await store.put(fresh_bytes())

    assert resting == []
    assert members[1].calls == ["put"]
    assert lacking in store.degraded["b"]
    assert later not in store.degraded["b"]


@pytest.mark.parametrize("before_bytes", [0, 20, 300 * KIB])
@awaited
async def test_a_source_that_raises_leaves_nothing_and_is_nobodys_fault(before_bytes: int) -> None:
    members, data = plugged(), fresh_bytes(before_bytes)
    store = mirrored(*members)

    async def lost() -> AsyncIterator[bytes]:
        yield data
        raise UnreachableError("The source has gone.")

    with pytest.raises(SourceBrokeError):
        await store.put(broken(*cut(data, 100 * KIB)))
    with pytest.raises(UnreachableError, match=r"^The source has gone\.$"):
        await store.put(lost())
    with pytest.raises(DigestMismatchError, match=r"^The bytes hash"):
        await store.put(streamed(data), expected=fresh_address())

    assert await held_by(*members) == []
    assert store.degraded == {"a": set(), "b": set()}
    await store.put(data)
    assert members[0].calls.count("put") == members[1].calls.count("put")


# --- what is read ---


@pytest.mark.parametrize("size", SIZES)
@awaited
async def test_a_read_gives_a_missing_copy_back(size: int) -> None:
    for lacking in (0, 1):
        members, data = plugged(), fresh_bytes(size)
        store = mirrored(*members)
        address = await store.put(data)
        await members[lacking].delete(address)

        async with await store.get(address) as reading:
            assert await reading.read() == data

        assert await content(members[lacking], address) == data
        assert store.degraded == {"a": set(), "b": set()}


@every_damage
@pytest.mark.parametrize("size", [1000, 100 * KIB, 3 * MIB])
@awaited
async def test_a_damaged_copy_is_noticed_not_served_and_replaced(
    tmp_path: Path, size: int, damage: Callable[[bytes], bytes]
) -> None:
    data = fresh_bytes(size)
    async with directories(tmp_path) as members:
        store = mirrored(*members)
        address = await store.put(data)
        overwrite(file_of(tmp_path, "a", address), damage(data))

        async with await store.get(address) as reading:
            assert (reading.info.size_bytes, reading.info.kind) == (size, Kind.BLOB)
            assert await reading.read() == data

        assert file_of(tmp_path, "a", address).read_bytes() == data
        [aside] = (tmp_path / "a").glob(".holdall-damaged-*")
        assert aside.read_bytes() == damage(data)
        assert store.degraded == {"a": set(), "b": set()}


@every_damage
@awaited
async def test_part_of_a_small_blob_is_right_though_the_first_copy_is_damaged(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    data = fresh_bytes(1000)
    async with directories(tmp_path) as members:
        store = mirrored(*members)
        address = await store.put(data)
        for span in (Span(990, 1000), Span(-1), Span(3, 9), Span(999)):
            overwrite(file_of(tmp_path, "a", address), damage(data))
            start, stop = span.resolve(1000)

            async with await store.get(address, span) as reading:
                assert (reading.start, reading.stop) == (start, stop)
                assert await reading.read() == data[start:stop]

            assert file_of(tmp_path, "a", address).read_bytes() == data
        with pytest.raises(RangeError):
            await store.get(address, Span(1000))


@awaited
async def test_a_file_at_a_blobs_address_that_is_taken_for_a_slot_gives_way(tmp_path: Path) -> None:
    data = fresh_bytes()
    async with directories(tmp_path) as members:
        store = mirrored(*members)
        address = await store.put(data)
        file_of(tmp_path, "a", address).unlink()
        file_of(tmp_path, "a", address).write_bytes(b"not those bytes")  # another program's mode bits

        assert await content(store, address) == data
        assert (await members[0].stat(address)).kind is Kind.BLOB
        assert await content(members[0], address) == data


@awaited
async def test_damage_everywhere_is_an_error_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    data = fresh_bytes()
    async with directories(tmp_path) as members:
        store = mirrored(*members)
        address = await store.put(data)
        for name in ("a", "b"):
            overwrite(file_of(tmp_path, name, address), name.encode())

        with pytest.raises(DamageError, match="No member has a whole copy"):
            await store.get(address)
        with pytest.raises(DamageError, match="No member has a whole copy"):
            await store.repair(address)

        assert [file_of(tmp_path, name, address).read_bytes() for name in ("a", "b")] == [b"a", b"b"]
        assert store.degraded == {"a": {address}, "b": {address}}
        set_aside = await store.quarantine(address)
        assert set_aside is not None
        assert set_aside.count(".holdall-damaged-") == 2
        await store.put(data)
        assert await content(store, address) == data


@awaited
async def test_a_long_blob_is_checked_as_it_goes_and_its_last_piece_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (mirror_blobs, mirror_finding):
        monkeypatch.setattr(module, "MIRROR_CHECKED_BYTES_MAX", MIB)
    data = fresh_bytes(3 * MIB + 5)
    async with directories(tmp_path, 3) as members:
        store = mirrored(*members)
        address = await store.put(data)
        overwrite(file_of(tmp_path, "a", address), DAMAGE["a bit"](data))
        overwrite(file_of(tmp_path, "c", address), DAMAGE["cut short"](data))

        seen = bytearray()

        async def read() -> None:
            async with await store.get(address, use=False) as reading:
                async for piece in reading:
                    seen.extend(piece)

        with pytest.raises(DamageError, match="does not hash to it") as damaged:
            await read()

        assert data.startswith(seen)
        assert len(seen) < len(data)
        assert damaged.value.hint == "The wrong copy of a and c was replaced: read it again."
        assert await content(store, address) == data
        assert [file_of(tmp_path, name, address).read_bytes() == data for name in "abc"] == [True] * 3
        await members[0].delete(address)
        assert await store.missing([address]) == []
        assert await content(members[0], address) == data


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("span", [Span(), Span(MIB, 3 * MIB), Span(-2 * MIB)], ids=str)
@awaited
async def test_a_reading_that_breaks_off_goes_on_at_the_next_member(
    span: Span, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checked:
        monkeypatch.setattr(mirror_blobs, "MIRROR_CHECKED_BYTES_MAX", MIB)
    members, data = plugged(), fresh_bytes(4 * MIB + 1)
    store = mirrored(*members)
    address = await store.put(data)
    members[0].breaks_after_bytes = 700 * KIB
    start, stop = span.resolve(len(data))

    async with await store.get(address, span) as reading:
        assert await reading.read() == data[start:stop]

    assert members[0].plugged is False


@awaited
async def test_a_long_reading_that_nobody_can_finish_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_blobs, "MIRROR_CHECKED_BYTES_MAX", MIB)
    members, data = plugged(), fresh_bytes(2 * MIB)
    store = mirrored(*members)
    address = await store.put(data)
    members[0].breaks_after_bytes = members[1].breaks_after_bytes = 600 * KIB

    async with await store.get(address) as reading:
        with pytest.raises(UnreachableError, match=r"^b: The cable was pulled"):
            await reading.read()


@awaited
async def test_nothing_anywhere_is_told_from_nothing_where_one_can_look() -> None:
    members = plugged()
    store = mirrored(*members)

    for call in (store.get, store.stat, store.repair, store.delete, store.take):
        with pytest.raises(NotFoundError):
            await call(fresh_address())
    members[1].plugged = False
    for call in (store.get, store.stat, store.repair, store.delete):
        with pytest.raises(UnreachableError, match=r"b: The cable is out"):
            await call(fresh_address())


@awaited
async def test_a_use_is_a_use_in_every_member() -> None:
    members = plugged()
    store = mirrored(*members)
    address = await store.put(fresh_bytes())
    uses: list[list[int]] = []

    async def read() -> object:
        async with await store.get(address) as reading:
            return await reading.read()

    for call in (read, lambda: store.stat(address), lambda: store.missing([address]), lambda: store.put(b"other")):
        await call()
        uses.append([(await member.store.stat(address, use=False)).used_ns for member in members])

    for before, after in itertools.pairwise(uses[:3]):
        assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert uses[2] == uses[3]
    await store.stat(address, use=False)
    async with await store.get(address, use=False):
        pass
    assert [(await member.store.stat(address, use=False)).used_ns for member in members] == uses[3]


# --- what is asked for, removed, listed ---


@awaited
async def test_asking_what_is_missing_brings_members_up_to_date(tmp_path: Path) -> None:
    everywhere, first, second, slot = fresh_bytes(), fresh_bytes(200 * KIB), fresh_bytes(), fresh_address()
    nowhere = [fresh_address() for _ in range(3)]
    async with directories(tmp_path) as members:
        store = mirrored(*members)
        await store.put(everywhere)
        await members[0].put(first)
        await members[1].put(second)
        await members[1].write(slot, b"kept by one")
        asked = [
            Address.of(everywhere),
            nowhere[0],
            Address.of(first),
            slot,
            nowhere[1],
            Address.of(second),
            nowhere[2],
        ]

        assert await store.missing(asked) == nowhere

        assert [await member.missing(asked) for member in members] == [nowhere, nowhere]
        assert await content(members[0], slot) == b"kept by one"


@awaited
async def test_asking_what_is_missing_passes_over_who_cannot_be_asked() -> None:
    members = plugged()
    store = mirrored(*members)
    address = await store.put(fresh_bytes())
    absent = fresh_address()
    members[0].plugged = False

    assert await store.missing([address, absent]) == [absent]
    members[1].plugged = False
    with pytest.raises(UnreachableError):
        await mirrored(*members).missing([address])


@awaited
async def test_a_blob_is_removed_from_every_member_or_none() -> None:
    members = plugged(3)
    store = mirrored(*members)
    address = await store.put(fresh_bytes())
    members[2].plugged = False

    with pytest.raises(UnreachableError, match="c cannot be asked, and would keep"):
        await store.delete(address)
    assert await held_by(*(member.store for member in members)) == [address] * 3
    members[2].plugged = True
    with pytest.raises(KindError):
        await store.delete(address, kind=Kind.SLOT)
    await store.delete(address, kind=Kind.BLOB)

    assert await held_by(*members) == []


@awaited
async def test_many_are_looked_at_wherever_they_are() -> None:
    members = plugged()
    store = mirrored(*members)
    both = await store.put(b"both")
    only_second = await members[1].put(b"second")
    slot = (await store.write(fresh_address(), b"slot")).address
    nowhere = fresh_address()

    for use in (True, False):
        infos = await store.stat_many([both, only_second, slot, nowhere, both], use=use)

        assert [None if info is None else (info.address, info.kind) for info in infos] == [
            (both, Kind.BLOB),
            (only_second, Kind.BLOB),
            (slot, Kind.SLOT),
            None,
            (both, Kind.BLOB),
        ]
    assert store.degraded == {"a": {only_second}, "b": set()}


@awaited
async def test_the_listing_is_that_of_all_members_in_order_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.row_sorter.LISTING_SORT_ENTRIES", 7)
    monkeypatch.setattr("holdall.stores.composite_listing._BATCH", 5)
    members = plugged(3)
    store = mirrored(*members)
    put = []
    for number in range(60):
        data = b"%d" % number
        where = store if number % 3 else members[number % 9 // 3]
        put.append(await where.put(data))
        put.append((await (store if number % 7 else members[2]).write(fresh_address(), data)).address)

    addresses = [address async for address in store.addresses()]
    infos = [info async for info in store.entries()]

    assert addresses == put[::-1]
    assert [info.address for info in infos] == addresses
    assert infos == sorted(infos, key=lambda info: (-info.used_ns, info.address))
    members[0].plugged = False
    assert set(put) - {address async for address in store.addresses()} == {
        Address.of(b"%d" % number) for number in range(0, 60, 9)
    }
    members[1].plugged = members[2].plugged = False
    with pytest.raises(UnreachableError):
        [info async for info in mirrored(*members).entries()]


# --- mending ---


@awaited
async def test_repair_reads_every_copy_and_mends_what_is_wrong(tmp_path: Path) -> None:
    data = fresh_bytes(200 * KIB)
    async with directories(tmp_path, 3) as members:
        store = mirrored(*members)
        address = await store.put(data)
        overwrite(file_of(tmp_path, "b", address), b"damaged")
        await members[2].delete(address)
        assert await content(store, address) == data  # of the first, which is whole

        assert await store.repair(address) == ["b", "c"]
        assert await store.repair(address) == []

        assert [file_of(tmp_path, name, address).read_bytes() == data for name in "abc"] == [True] * 3


@awaited
async def test_what_a_member_missed_is_given_to_it_when_it_is_back() -> None:
    members = plugged(3)
    store = mirrored(*members)
    members[1].plugged = False
    blobs = [await store.put(fresh_bytes(size)) for size in (0, 10, 200 * KIB)]
    slot = (await store.write(fresh_address(), b"slot")).address

    failures = await store.repair_degraded()
    assert failures.keys() == {*blobs, slot}
    assert {type(error) for error in failures.values()} == {UnreachableError}
    members[1].plugged = True
    assert store.degraded["b"] == {*blobs, slot}
    assert await store.repair_degraded() == {}

    assert store.degraded == {"a": set(), "b": set(), "c": set()}
    expected = sorted([(info.address, info.size_bytes) async for info in members[0].entries()])
    assert sorted([(info.address, info.size_bytes) async for info in members[1].entries()]) == expected
    assert len(expected) == 4


@awaited
async def test_a_member_that_lost_everything_is_given_it_by_another_client() -> None:
    members = plugged()
    blobs = [await mirrored(*members).put(fresh_bytes()) for _ in range(50)]
    slot = (await mirrored(*members).append(fresh_address(), b"a log\n")).address
    for lost in (0, 1):
        members[lost].store = MemoryStore()

        store = mirrored(*members)
        await store.repair_all()

        assert {info.address async for info in members[lost].entries()} == {*blobs, slot}
        assert await content(members[lost], slot) == b"a log\n"
        assert store.degraded == {"a": set(), "b": set()}


@awaited
async def test_giving_everybody_everything_fails_while_somebody_is_away() -> None:
    members = plugged(3)
    store = mirrored(*members)
    only_first, only_last = await members[0].put(fresh_bytes()), await members[2].put(fresh_bytes())
    members[1].plugged = False

    with pytest.raises(UnreachableError, match=r"^b: "):
        await store.repair_all()
    members[1].plugged = True
    await store.repair_all()

    assert [sorted(await held_by(member)) for member in members] == [sorted([only_first, only_last])] * 3


@awaited
async def test_more_than_can_be_remembered_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_lacks, "MIRROR_LACKS_MAX", 10)
    members = plugged()
    store = mirrored(*members)
    members[1].plugged = False
    for _ in range(15):
        await store.put(fresh_bytes())

    assert len(store.degraded["b"]) == 10
    assert store.overlooked == {"a": 0, "b": 5}
    members[1].plugged = True
    await store.repair_degraded()
    assert len([info async for info in members[1].entries()]) == 10
    await store.repair_all()
    assert len([info async for info in members[1].entries()]) == 15
    assert store.overlooked == {"a": 0, "b": 0}


@awaited
async def test_a_removal_is_not_undone_by_a_read_that_found_a_copy_missing() -> None:
    class Telling(Unplugged):
        async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
            reading = await super().get(address, span, use=use)
            await store.delete(address)
            return reading

    first, second = Unplugged(), Telling()
    store = mirrored(first, second)
    data = fresh_bytes()
    address = await second.put(data)

    async with await store.get(address) as reading:
        assert await reading.read() == data

    assert await held_by(first, second) == []


# --- its own being ---


@pytest.mark.parametrize(
    ("names", "copies_min"),
    [([], 1), (["a", "a"], 1), ([""], 1), (["a\n"], 1), (["a", "b"], 3), (["a"], 0), ([str(n) for n in range(65)], 1)],
)
def test_members_that_cannot_be_told_apart_are_refused(names: list[str], copies_min: int) -> None:
    with pytest.raises(SettingError):
        MirrorStore([(name, MemoryStore()) for name in names], copies_min=copies_min)


@awaited
async def test_closing_closes_every_member_though_one_fails() -> None:
    class Failing(MemoryStore):
        async def aclose(self) -> None:
            raise StoreError("It cannot be closed.")

    last = MemoryStore()
    await last.put(b"x")

    with pytest.raises(StoreError, match=r"^a: It cannot"):
        await mirrored(Failing(), last).aclose()

    assert [info async for info in last.entries()] == []


@awaited
async def test_a_mirror_of_mirrors_is_one() -> None:
    members = plugged(3)
    store = MirrorStore([("near", mirrored(*members[:2])), ("far", members[2])])
    data = fresh_bytes()
    address = await store.put(data)
    for member in members[:2]:
        await member.delete(address)

    assert await content(store, address) == data

    assert [await content(member, address) for member in members] == [data] * 3


class MirrorMachine(StoreMachine):
    """Compares a mirror with memory, and its members with each other."""

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        members = plugged(3)
        store = mirrored(*members)
        yield store
        held = [sorted([(i.address, i.kind, i.size_bytes) async for i in member.entries()]) for member in members]
        assert held == [held[0]] * 3
        assert store.degraded == {"a": set(), "b": set(), "c": set()}


TestMirrorModel = MirrorMachine.TestCase
TestMirrorModel.settings = settings(
    max_examples=100 if "HOLDALL_TEST_LONG" in os.environ else 15,
    stateful_step_count=40,
)
