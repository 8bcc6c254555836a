"""Conformance of `Info.version`: never seen before after each write of a slot, one for a blob for ever."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.errors import VersionMismatchError
from holdall.limits import SMALL_BYTES_MAX
from holdall.stores.base import IfVersion
from holdall.testing.contract import StoreContract, content, fresh_address, fresh_bytes, scenario

if TYPE_CHECKING:
    from holdall.stores.base import Store


class VersionsContract(StoreContract):
    """What versions promise."""

    @pytest.mark.parametrize("size_bytes", [0, 100, SMALL_BYTES_MAX + 1])
    @scenario
    async def test_every_write_of_the_same_bytes_has_a_version_of_its_own(self, store: Store, size_bytes: int) -> None:
        address, data = fresh_address(), fresh_bytes(size_bytes)

        versions = [(await store.write(address, data)).version for _ in range(20 * self.repeats)]

        assert len(set(versions)) == 20 * self.repeats
        assert (await store.stat(address)).version == versions[-1]

    @scenario
    async def test_concurrent_writes_have_versions_of_their_own(self, store: Store) -> None:
        address = fresh_address()

        infos = await asyncio.gather(*(store.write(address, b"same") for _ in range(20 * self.repeats)))

        assert len({info.version for info in infos}) == 20 * self.repeats
        assert (await store.stat(address)).version in {info.version for info in infos}

    @scenario
    async def test_every_append_has_a_version_of_its_own(self, store: Store) -> None:
        address = fresh_address()

        versions = [(await store.append(address, b"line\n")).version for _ in range(20 * self.repeats)]

        assert len(set(versions)) == 20 * self.repeats
        assert (await store.stat(address)).version == versions[-1]

    @pytest.mark.parametrize("gone", ["deleted", "taken", "a blob for a while"])
    @scenario
    async def test_a_slot_that_comes_back_has_a_version_never_seen(self, store: Store, gone: str) -> None:
        blob = fresh_bytes()
        address = Address.of(blob)
        versions = []

        for _ in range(10):
            versions.append((await store.write(address, b"the same value")).version)
            match gone:
                case "deleted":
                    await store.delete(address)
                case "taken":
                    await (await store.take(address)).aclose()
                case _:
                    await store.put(blob)
                    await store.delete(address)

        assert len(set(versions)) == 10

    @scenario
    async def test_a_value_that_went_away_and_came_back_is_not_mistaken_for_the_first(self, store: Store) -> None:
        address = fresh_address()
        first = await store.write(address, b"A")
        await store.write(address, b"B")
        await store.write(address, b"A")

        with pytest.raises(VersionMismatchError):
            await store.write(address, b"C", when=IfVersion(first.version))

        assert await content(store, address) == b"A"

    @scenario
    async def test_reading_and_looking_leave_the_version_as_it_is(self, store: Store) -> None:
        slot = await store.write(fresh_address(), b"slot")
        blob = await store.stat(await store.put(fresh_bytes()))

        for info in (slot, blob):
            seen = set()
            for use in (True, False, True):
                seen.add((await store.stat(info.address, use=use)).version)
                async with await store.get(info.address, use=use) as reading:
                    seen.add(reading.info.version)
            assert seen == {info.version}
        await store.write(slot.address, b"later", when=IfVersion(slot.version))

    @scenario
    async def test_a_blob_has_one_version_for_ever(self, store: Store) -> None:
        data = fresh_bytes()
        address = Address.of(data)
        versions = set()

        for _ in range(3):
            await store.put(data)
            await store.put(data)
            versions.add((await store.stat(address)).version)
            await store.delete(address)
        versions.add((await store.write(address, data)).version)

        assert len(versions) == 1

    @scenario
    async def test_a_reading_carries_the_version_that_its_bytes_had(self, store: Store) -> None:
        address = fresh_address()
        first = await store.write(address, b"first")

        async with await store.get(address) as reading:
            second = await store.write(address, b"second")
            assert reading.info.version == first.version
            assert await reading.read() == b"first"

        assert second.version != first.version
