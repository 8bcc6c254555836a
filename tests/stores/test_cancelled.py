"""Calls on a directory that nobody waits for any more leave no descriptor and no file behind."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from holdall.limits import SMALL_BYTES_MAX
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.testing.contract import fresh_address, fresh_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from holdall.core.address import Address

THREADS_AND_MORE = 20
DEADLINE_SECONDS = 30.0


class Gate:
    """Holds up every look at a file until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()

    def disk(self, path: str) -> Disk:
        gate = self

        class Gated(Disk):
            def look(self, name: str) -> os.stat_result:
                gate.open.wait()
                return super().look(name)

            def open_read(self, name: str) -> int:
                gate.open.wait()
                return super().open_read(name)

        return Gated(path)


@asynccontextmanager
async def gated(path: Path) -> AsyncIterator[tuple[DirectoryStore, Gate]]:
    gate = Gate()
    store = await DirectoryStore.open(str(path), disk=gate.disk)
    try:
        yield store, gate
    finally:
        gate.open.set()
        await store.aclose()


async def get(store: DirectoryStore, address: Address) -> object:
    return await store.get(address)


async def take(store: DirectoryStore, address: Address) -> object:
    return await store.take(address)


async def write(store: DirectoryStore, address: Address) -> object:
    return await store.write(address, b"another")


async def append(store: DirectoryStore, address: Address) -> object:
    return await store.append(address, fresh_bytes(SMALL_BYTES_MAX + 1))


async def put(store: DirectoryStore, _: Address) -> object:
    return await store.put(fresh_bytes(SMALL_BYTES_MAX + 1))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("call", [get, take, write, append, put])
def test_a_cancelled_call_leaves_no_descriptor_open(
    tmp_path: Path, call: Callable[[DirectoryStore, Address], Awaitable[object]]
) -> None:
    async def run() -> None:
        async with gated(tmp_path) as (store, gate):
            slots = [fresh_address() for _ in range(THREADS_AND_MORE)]
            await asyncio.gather(*(store.write(slot, b"one") for slot in slots))
            before = descriptors()
            gate.open.clear()
            tasks = [asyncio.create_task(_called(call(store, slot))) for slot in slots]
            for _ in range(20):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gate.open.set()
            async with asyncio.timeout(DEADLINE_SECONDS):
                while descriptors() > before:
                    await store.missing(slots)  # until the threads have done what they had begun

    asyncio.run(run())

    assert not [name for name in os.listdir(tmp_path) if name.startswith(".holdall-tmp")]


async def _called(work: Awaitable[object]) -> None:
    with suppress(asyncio.CancelledError):
        await work
