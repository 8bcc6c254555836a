"""The encrypting store: its member sees neither names nor bytes, and changes nothing unnoticed."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from providers import content, opened, overwrite

from holdall.core.address import Address
from holdall.core.shares import HEAD_BYTES
from holdall.errors import DamageError, NotFoundError, SecretError
from holdall.limits import MIB
from holdall.stores.base import Kind, Span, missing
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.encrypted import EncryptedStore
from holdall.stores.memory import MemoryStore
from holdall.stores.shares_label import LABEL
from holdall.testing.contract import fresh_bytes, streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdall.stores.base import Store

SECRET = bytes(range(32))
OTHER_SECRET = bytes(32)
SLOT = Address.of(b"a slot")
TEXT = b"Nobody but me shall read this. " * 100


async def listed(store: Store) -> list[Address]:
    return sorted([info.address async for info in store.entries()])


@asynccontextmanager
async def on_disk(place: Path, secret: bytes = SECRET) -> AsyncIterator[EncryptedStore]:
    member = await DirectoryStore.open(str(place), durability=Durability.OS)
    async with opened(lambda members: EncryptedStore(members[0], secret, name="cloud"), [member]) as store:
        yield store


async def held(member: Store) -> dict[Address, bytes]:
    """All that a member holds but its label."""
    names = [info.address async for info in member.entries() if info.address != LABEL]
    return {name: await content(member, name) for name in names}


def test_neither_names_nor_bytes_show() -> None:
    async def scenario() -> dict[Address, bytes]:
        member = MemoryStore()
        store = EncryptedStore(member, SECRET)
        await store.put(TEXT)
        await store.write(SLOT, TEXT)
        return await held(member)

    found = asyncio.run(scenario())

    assert [len(data) for data in found.values()] == [len(TEXT) + HEAD_BYTES + 16] * 2
    assert not set(found) & {SLOT, Address.of(TEXT)}
    for data in found.values():
        assert TEXT[:31] not in data
        assert bytes(SLOT) not in data
        assert bytes(Address.of(TEXT)) not in data
        assert len(zlib.compress(data, 9)) > len(data) - HEAD_BYTES


def test_equal_blobs_give_equal_ciphertext_under_one_secret_and_no_other() -> None:
    async def stored(secret: bytes) -> dict[Address, bytes]:
        member = MemoryStore()
        store = EncryptedStore(member, secret)
        for data in (b"", TEXT, bytes(3 * MIB)):
            await store.put(data)
            await store.put(streamed(data))
        return await held(member)

    async def scenario() -> list[dict[Address, bytes]]:
        return [await stored(SECRET), await stored(SECRET), await stored(OTHER_SECRET)]

    first, second, other = asyncio.run(scenario())

    assert first == second
    assert len(first) == 3
    assert not set(first) & set(other)
    assert not {data[9:] for data in first.values()} & {data[9:] for data in other.values()}


def test_equal_slots_give_other_ciphertext_each_time() -> None:
    async def scenario() -> list[bytes]:
        member = MemoryStore()
        store = EncryptedStore(member, SECRET)
        found = []
        for address in (SLOT, SLOT, Address.of(b"another")):
            await store.write(address, TEXT)
            found += [data[HEAD_BYTES:] for data in (await held(member)).values()]
            await store.delete(address)
        return found

    assert len(set(asyncio.run(scenario()))) == 3


@pytest.mark.parametrize("ask", ["get", "stat", "delete", "take", "entries"])
def test_with_a_wrong_secret_one_clear_error(tmp_path: Path, ask: str) -> None:
    async def scenario() -> None:
        async with on_disk(tmp_path) as store:
            await store.write(SLOT, TEXT)
        async with on_disk(tmp_path, OTHER_SECRET) as store:
            call = listed(store) if ask == "entries" else getattr(store, ask)(SLOT)
            with pytest.raises(SecretError) as wrong:
                await call
            assert wrong.value.sentence() == (
                "These stores hold only what was stored with another secret. "
                "Take the secret that these stores were set up with."
            )
        async with on_disk(tmp_path) as store:
            assert await content(store, SLOT) == TEXT

    asyncio.run(scenario())


def test_a_damaged_label_is_not_taken_for_another_secret() -> None:
    async def scenario() -> None:
        member = MemoryStore()
        await EncryptedStore(member, SECRET).write(SLOT, TEXT)
        label = await content(member, LABEL)
        await member.write(LABEL, label.replace(label[1:33], b"0" * 32))
        with pytest.raises(NotFoundError):  # the words tell whose it is where the fingerprint does not
            await EncryptedStore(member, SECRET).stat(Address.of(b"nothing"))
        await member.write(LABEL, bytes(len(label)))
        for secret in (SECRET, OTHER_SECRET):
            with pytest.raises(DamageError, match="cloud has a damaged label"):
                await EncryptedStore(member, secret, name="cloud").stat(Address.of(b"nothing"))
        await EncryptedStore(member, SECRET).put(TEXT)  # writes it anew
        with pytest.raises(NotFoundError):
            await EncryptedStore(member, SECRET).stat(Address.of(b"nothing"))

    asyncio.run(scenario())


def test_two_secrets_can_share_a_member(tmp_path: Path) -> None:
    async def scenario() -> list[list[Address]]:
        found = []
        for secret in (SECRET, OTHER_SECRET):
            async with on_disk(tmp_path, secret) as store:
                await store.write(SLOT, secret)
                await store.put(secret)
        for secret in (SECRET, OTHER_SECRET):
            async with on_disk(tmp_path, secret) as store:
                assert await content(store, SLOT) == secret
                found.append(await listed(store))
                with pytest.raises(NotFoundError):
                    await store.get(Address.of(b"nothing"))
        return found

    assert asyncio.run(scenario()) == [sorted([SLOT, Address.of(secret)]) for secret in (SECRET, OTHER_SECRET)]


@settings(max_examples=60)
@given(kind=st.sampled_from(Kind), size_bytes=st.integers(0, 100), data=st.data())
def test_any_bit_that_is_flipped_is_found(kind: Kind, size_bytes: int, data: st.DataObject) -> None:
    value = bytes(size_bytes)

    async def scenario() -> None:
        member = MemoryStore()
        store = EncryptedStore(member, SECRET)
        address = await store.put(value) if kind is Kind.BLOB else (await store.write(SLOT, value)).address
        [(name, sealed)] = (await held(member)).items()
        bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        await member.write(name, bytes(changed))
        with pytest.raises(DamageError):
            await content(store, address)

    asyncio.run(scenario())


@pytest.mark.parametrize("cut", [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 20, -1])
@pytest.mark.parametrize("span", [Span(), Span(-1), Span(MIB)], ids=str)
def test_what_was_cut_short_is_found(cut: int, span: Span) -> None:
    async def scenario() -> None:
        member = MemoryStore()
        store = EncryptedStore(member, SECRET, name="cloud")
        address = await store.put(bytes(2 * MIB))
        [(name, sealed)] = (await held(member)).items()
        await member.write(name, sealed[:cut])
        with pytest.raises(DamageError):
            async with await store.get(address, span) as reading:
                await reading.read()
        assert {(fault.member, fault.reason) for fault in store.faults} == {("cloud", "damaged")}

    asyncio.run(scenario())


def test_entries_that_were_swapped_are_found_and_blocks_too() -> None:
    async def scenario() -> None:
        member = MemoryStore()
        store = EncryptedStore(member, SECRET)
        blobs = [await store.put(data * (2 * MIB)) for data in (b"a", b"b")]
        (one, first), (other, second) = (await held(member)).items()

        await member.write(one, second)
        await member.write(other, first)
        for address in blobs:
            with pytest.raises(DamageError):
                await content(store, address)

        await member.write(one, first[:HEAD_BYTES] + second[HEAD_BYTES:])
        block = MIB + 16
        turned = second[:HEAD_BYTES] + second[HEAD_BYTES + block :] + second[HEAD_BYTES : HEAD_BYTES + block]
        await member.write(other, turned)
        for address in blobs:
            with pytest.raises(DamageError):
                await content(store, address)

    asyncio.run(scenario())


def entries_in(place: Path) -> list[Path]:
    return [path for path in place.glob("*.tig") if path.name != LABEL.name]


def test_a_damaged_entry_can_be_stored_again_or_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_disk(tmp_path) as store:
            blob = await store.put(TEXT)
            await store.write(SLOT, TEXT)
        for path in entries_in(tmp_path):
            overwrite(path, b"rust" + path.read_bytes()[4:])
        async with on_disk(tmp_path) as store:
            await store.put(TEXT)
            assert await content(store, blob) == TEXT
            for change in (store.write(SLOT, b"new"), store.append(SLOT, b"new"), store.take(SLOT)):
                with pytest.raises(DamageError):
                    await change
            await store.delete(SLOT)
            assert await missing(store, [SLOT]) == [SLOT]
            await store.write(SLOT, b"new")
            assert await content(store, SLOT) == b"new"

    asyncio.run(scenario())


@settings(max_examples=30)
@given(
    sizes=st.lists(st.sampled_from([0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 5]), min_size=1, max_size=3),
    start=st.integers(-3 * MIB, 3 * MIB),
    length=st.integers(1, 2 * MIB),
)
def test_what_goes_in_comes_out_whole_and_in_part(sizes: list[int], start: int, length: int) -> None:
    async def scenario() -> None:
        store = EncryptedStore(MemoryStore(), SECRET)
        for size_bytes in sizes:
            value = fresh_bytes(size_bytes)
            address = await store.put(value)
            assert await content(store, address) == value
            span = Span(start, None if start < 0 else start + length)
            first = start if start >= 0 else max(0, size_bytes + start)
            if first < size_bytes:
                async with await store.get(address, span) as reading:
                    assert await reading.read() == value[first : span.stop]

    asyncio.run(scenario())
