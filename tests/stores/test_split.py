"""A split: what any members but all of them hold is noise, and whoever loses or changes something is named."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from providers import content, opened, overwrite

from holdall.core.address import Address
from holdall.core.shares import HEAD_BYTES, Head, Role, Xor, xored
from holdall.errors import DamageError, NotFoundError, SettingError, UnreachableError
from holdall.limits import MIB
from holdall.stores.base import missing
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryStore
from holdall.stores.shares_keyring import Keyring
from holdall.stores.split import SplitStore
from holdall.testing.contract import fresh_bytes
from ports import closed_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdall.stores.base import Store

SECRET = bytes(range(32))
SLOT = Address.of(b"a slot")
NAMES = ["one", "two", "three"]
ZEROS = bytes(MIB)
"""As far from noise as bytes can be, and one block in each share."""

CHI_SQUARE_MIN, CHI_SQUARE_MAX = 140.0, 400.0
"""Of 255 degrees of freedom: mean 255, standard deviation 22.6; noise is outside once in 10 million times."""


def chi_square(data: bytes) -> float:
    """How far the histogram of the bytes is from even."""
    expected = len(data) / 256
    counts = Counter(data)
    return sum((counts[value] - expected) ** 2 / expected for value in range(256))


def split(members: list[Store]) -> SplitStore:
    return SplitStore(members, SECRET, names=NAMES[: len(members)])


@asynccontextmanager
async def on_disk(place: Path, count: int = 3) -> AsyncIterator[SplitStore]:
    """A split over directories that last."""
    members: list[Store] = [
        await DirectoryStore.open(str(place / name), durability=Durability.OS) for name in NAMES[:count]
    ]
    async with opened(split, members) as store:
        yield store


async def shares_of(members: list[Store], size_bytes: int) -> list[tuple[Address, bytes]]:
    """The one share of at least this size that each member holds, and its name."""
    found = []
    for member in members:
        [name] = [info.address async for info in member.entries() if info.size_bytes >= size_bytes]
        found.append((name, await content(member, name)))
    return found


def heads_of(shares: list[tuple[Address, bytes]], keyring: Keyring) -> list[Head]:
    return [keyring.opened(share[:HEAD_BYTES], name) for name, share in shares]


def files_of(place: Path) -> set[Path]:
    return set(place.glob("*/*.tig"))


@pytest.mark.parametrize("kind", ["blob", "slot"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_members_bytes_alone_are_noise(count: int, kind: str) -> None:
    async def scenario() -> list[bytes]:
        members: list[Store] = [MemoryStore() for _ in range(count)]
        store = SplitStore(members, SECRET)
        await (store.put(ZEROS) if kind == "blob" else store.write(SLOT, ZEROS))
        return [share for _, share in await shares_of(members, MIB)]

    shares = asyncio.run(scenario())

    assert chi_square(ZEROS) > CHI_SQUARE_MAX
    for share in shares:
        assert CHI_SQUARE_MIN < chi_square(share) < CHI_SQUARE_MAX


def test_all_but_one_of_the_members_and_the_secret_too_give_nothing_but_noise() -> None:
    """The seals are taken off with the secret: what is left must be noise of its own, whichever is missing."""

    async def scenario() -> list[tuple[Address, bytes]]:
        members: list[Store] = [MemoryStore() for _ in range(4)]
        await SplitStore(members, SECRET).put(ZEROS)
        return await shares_of(members, MIB)

    shares = asyncio.run(scenario())
    keyring = Keyring(SECRET, Xor(4))
    bare = {
        head.index: keyring.blocks(head, head.index, head.share_id(head.index)).open(0, share[HEAD_BYTES:])
        for head, (_, share) in zip(heads_of(shares, keyring), shares, strict=True)
    }

    for count in (1, 2, 3):
        for chosen in combinations(range(4), count):
            together = bytes(MIB)
            for index in chosen:
                together = xored(together, bare[index])
            assert CHI_SQUARE_MIN < chi_square(together) < CHI_SQUARE_MAX
    assert Xor(4).join(bare, MIB) == ZEROS


def test_pads_are_drawn_anew_each_time() -> None:
    async def scenario() -> list[list[tuple[Address, bytes]]]:
        members: list[Store] = [MemoryStore() for _ in range(3)]
        store = SplitStore(members, SECRET)
        found = []
        for _ in range(2):
            address = await store.put(ZEROS)
            found.append(await shares_of(members, MIB))
            await store.delete(address)
        return found

    first, second = asyncio.run(scenario())

    for (name, one), (same_name, other) in zip(first, second, strict=True):
        assert same_name == name
        assert sum(a == b for a, b in zip(one[HEAD_BYTES:], other[HEAD_BYTES:], strict=True)) < len(one) / 200


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("data", [b"short", fresh_bytes(3 * MIB)], ids=["short", "long"])
def test_without_any_one_member_nothing_is_read_and_the_one_is_named(tmp_path: Path, number: int, data: bytes) -> None:
    async def scenario() -> set[tuple[str, str]]:
        async with on_disk(tmp_path) as store:
            address = await store.put(data)
            await store.write(SLOT, data)
        for path in (tmp_path / NAMES[number]).glob("*.tig"):
            path.unlink()
        async with on_disk(tmp_path) as store:
            for lost in (address, SLOT):
                with pytest.raises((DamageError, NotFoundError)) as failed:
                    await content(store, lost)
                if number:
                    assert NAMES[number] in failed.value.message
            return {(fault.member, fault.reason) for fault in store.faults}

    assert asyncio.run(scenario()) == {(NAMES[number], "missing")}


def test_without_an_answer_of_any_one_member_nothing_is_read_or_written() -> None:
    async def scenario(port: int) -> set[tuple[str, str]]:
        members: list[Store] = [MemoryStore(), MemoryStore()]
        address = await SplitStore([*members, MemoryStore()], SECRET, names=NAMES).put(b"bytes")
        store = SplitStore([*members, HTTPStore(f"http://127.0.0.1:{port}")], SECRET, names=NAMES)
        with pytest.raises(UnreachableError):
            await content(store, address)
        with pytest.raises(UnreachableError):
            await store.put(b"other bytes")
        faults = {(fault.member, fault.reason) for fault in store.faults}
        await store.aclose()
        return faults

    with closed_port() as port:
        assert asyncio.run(scenario(port)) == {("three", "unreachable")}


@pytest.mark.parametrize("at", [0, HEAD_BYTES // 2, HEAD_BYTES, HEAD_BYTES + MIB, -1])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_whoever_changes_a_bit_is_named(tmp_path: Path, number: int, at: int) -> None:
    async def scenario() -> None:
        async with on_disk(tmp_path) as store:
            await store.put(b"the labels are written")
            before = files_of(tmp_path)
            address = await store.put(fresh_bytes(MIB + MIB // 2))
        [path] = [path for path in files_of(tmp_path) - before if path.parent.name == NAMES[number]]
        data = bytearray(path.read_bytes())
        data[at] ^= 4
        overwrite(path, bytes(data))
        async with on_disk(tmp_path) as store:
            if number and 0 <= at < HEAD_BYTES:  # not needed to read, and noticed when the blob is stored again
                assert await content(store, address)
                assert (await store.stat(address)).size_bytes == MIB + MIB // 2
                return
            with pytest.raises(DamageError, match=NAMES[number]):
                await content(store, address)
            assert {(fault.member, fault.address, fault.reason) for fault in store.faults} == {
                (NAMES[number], address, "damaged")
            }

    asyncio.run(scenario())


@pytest.mark.parametrize("loss", ["gone", "changed"])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("data", [b"short", fresh_bytes(2 * MIB)], ids=["short", "long"])
def test_storing_a_blob_again_makes_good_what_was_lost(tmp_path: Path, number: int, loss: str, data: bytes) -> None:
    async def scenario() -> bytes:
        async with on_disk(tmp_path) as store:
            await store.put(b"the labels are written")
            before = files_of(tmp_path)
            address = await store.put(data)
        [path] = [path for path in files_of(tmp_path) - before if path.parent.name == NAMES[number]]
        if loss == "gone":
            path.unlink()
        else:
            changed = bytearray(path.read_bytes())
            changed[3] ^= 1
            overwrite(path, bytes(changed))
        async with on_disk(tmp_path) as store:
            if loss == "gone":
                assert await missing(store, [address]) == [address]
            await store.put(data)
            assert await missing(store, [address]) == []
            return await content(store, address)

    assert asyncio.run(scenario()) == data


def test_many_clients_store_the_same_blobs_at_once_and_delete_them(tmp_path: Path) -> None:
    values = [b"short", fresh_bytes(2 * MIB + 1)]

    async def put_and_read(store: SplitStore, data: bytes) -> None:
        address = await store.put(data)
        try:
            assert await content(store, address) == data
        except (NotFoundError, DamageError):
            assert address in deleted

    deleted: set[Address] = set()

    async def scenario() -> None:
        async with on_disk(tmp_path) as one, on_disk(tmp_path) as two, on_disk(tmp_path) as three:
            for turn in range(6):
                deleted.clear()
                await asyncio.gather(*(put_and_read(store, data) for store in (one, two, three) for data in values))
                deleted.update(map(Address.of, values))
                calls = [store.put(data) for store in (one, two) for data in values]
                calls += [three.delete(address) for address in deleted]  # type: ignore[misc]  # the answers are not used
                await asyncio.gather(*calls)
                for data in values:
                    for store in (one, two, three)[turn % 3 :]:
                        await store.put(data)
                        assert await content(store, Address.of(data)) == data

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [0, 1, 17])
def test_a_split_has_two_members_or_more_and_not_too_many(count: int) -> None:
    with pytest.raises(SettingError):
        SplitStore([MemoryStore() for _ in range(count)], SECRET)


def test_a_store_or_a_name_cannot_be_given_twice() -> None:
    member = MemoryStore()

    with pytest.raises(SettingError, match="twice"):
        SplitStore([member, member], SECRET)
    with pytest.raises(SettingError, match="name of its own"):
        SplitStore([HTTPStore("http://host:7777"), HTTPStore("http://host:7777")], SECRET)


def test_the_first_members_part_is_what_the_pads_leave() -> None:
    async def scenario() -> list[tuple[Address, bytes]]:
        members: list[Store] = [MemoryStore() for _ in range(3)]
        await SplitStore(members, SECRET).put(ZEROS)
        return await shares_of(members, MIB)

    heads = heads_of(asyncio.run(scenario()), Keyring(SECRET, Xor(3)))

    assert [(head.role, head.index) for head in heads] == [(Role.ENTRY, 0), (Role.SHARE, 1), (Role.SHARE, 2)]
    assert heads[0].ids[1:] == (heads[1].version, heads[2].version)
