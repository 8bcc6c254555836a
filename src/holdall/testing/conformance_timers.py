"""Conformance of retention's view of an entry: what restarts its timer, and what does not."""

# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.stores.base import Kind, missing
from holdall.testing.contract import StoreContract, content, fresh_address, fresh_bytes, scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.stores.base import Info, Store

SHOWN_SECONDS_MAX = 20.0


async def _look(store: Store, address: Address, data: bytes) -> None:
    await store.stat(address)
    del data


async def _read(store: Store, address: Address, data: bytes) -> None:
    async with await store.get(address) as reading:
        assert await reading.read() == data


async def _ask(store: Store, address: Address, data: bytes) -> None:
    assert await missing(store, [address]) == []
    del data


async def _write(store: Store, address: Address, data: bytes) -> None:
    await store.write(address, data)


async def _append(store: Store, address: Address, data: bytes) -> None:
    await store.append(address, data)


async def until_later(store: Store, before: Info, use: Callable[[], Awaitable[None]]) -> Info:
    """Uses an entry until its recorded use is later than it was."""
    end = time.monotonic() + SHOWN_SECONDS_MAX
    while time.monotonic() < end:
        await use()
        after = await store.stat(before.address, use=False)
        if after.used_ns > before.used_ns:
            return after
        await asyncio.sleep(0.01)
    return pytest.fail(f"no use of {before.address} was recorded for {SHOWN_SECONDS_MAX} seconds")


class TimersContract(StoreContract):
    """`Info.used_ns` and `Info.expires_ns`."""

    def _needs_to_show_use(self) -> None:
        if not self.shows_use:
            pytest.skip("the store does not record a use soon enough to wait for it")

    @pytest.mark.parametrize(
        ("kind", "use"),
        [
            pytest.param(Kind.BLOB, _look, id="stat of a blob"),
            pytest.param(Kind.BLOB, _read, id="get of a blob"),
            pytest.param(Kind.BLOB, _ask, id="missing of a blob"),
            pytest.param(Kind.BLOB, _write, id="the same blob again"),
            pytest.param(Kind.SLOT, _look, id="stat of a slot"),
            pytest.param(Kind.SLOT, _read, id="get of a slot"),
            pytest.param(Kind.SLOT, _ask, id="missing of a slot"),
            pytest.param(Kind.SLOT, _write, id="write of a slot"),
            pytest.param(Kind.SLOT, _append, id="append to a slot"),
        ],
    )
    @scenario
    async def test_a_use_restarts_the_timer(
        self, store: Store, kind: Kind, use: Callable[[Store, Address, bytes], Awaitable[None]]
    ) -> None:
        self._needs_to_show_use()
        data = fresh_bytes()
        before = await store.write(Address.of(data) if kind is Kind.BLOB else fresh_address(), data)

        after = await until_later(store, before, lambda: use(store, before.address, data))

        assert (after.expires_ns or 0) >= (before.expires_ns or 0)

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_looking_without_use_leaves_the_timer(self, store: Store, kind: Kind) -> None:
        self._needs_to_show_use()
        data = fresh_bytes()
        written = await store.write(Address.of(data) if kind is Kind.BLOB else fresh_address(), data)
        before = await store.stat(written.address, use=False)
        other = await store.stat(await store.put(fresh_bytes()))

        async def use_the_other() -> None:
            await store.stat(before.address, use=False)
            assert await content(store, before.address) == data
            [_ async for _ in store.entries()]
            await _look(store, other.address, b"")

        await until_later(store, other, use_the_other)

        assert await store.stat(before.address, use=False) == before

    @scenario
    async def test_a_used_entry_is_listed_before_one_that_was_written_later(self, store: Store) -> None:
        self._needs_to_show_use()
        first = await store.write(fresh_address(), b"first")
        second = await store.write(fresh_address(), b"second")

        while (await store.stat(first.address, use=False)).used_ns <= second.used_ns:
            await until_later(
                store, await store.stat(first.address, use=False), lambda: _look(store, first.address, b"")
            )

        order = [info.address async for info in store.entries() if info.address in {first.address, second.address}]
        assert order == [first.address, second.address]

    @pytest.mark.parametrize("kind", list(Kind))
    @scenario
    async def test_an_entry_expires_after_its_last_use_or_never(self, store: Store, kind: Kind) -> None:
        data = fresh_bytes()
        address = Address.of(data) if kind is Kind.BLOB else fresh_address()
        await store.write(address, data)

        info = await store.stat(address)

        assert info.expires_ns is None or info.expires_ns > info.used_ns
