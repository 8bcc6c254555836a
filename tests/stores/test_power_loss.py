"""Cuts the power at every kind of moment, and opens what each cut may leave: nothing acknowledged may be missing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import pytest

from holdall.core.address import Address
from holdall.errors import HoldallError, NotFoundError
from holdall.limits import KIB, SMALL_BYTES_MAX
from holdall.stores import journal as journal_module
from holdall.stores.base import ABSENT, Kind
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.testing.power import Recording, RecordingDisk
from holdall.testing.power_states import State, states_after_a_cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

LONG = bool(os.environ.get("HOLDALL_TEST_LONG"))
SEEDS = range(12) if LONG else range(2)
OPERATIONS = 240
CLIENTS = 4
CUTS = 150
STATES_EACH = 14
LARGE_BYTES = SMALL_BYTES_MAX + 20_000

Value: TypeAlias = "tuple[Kind, bytes] | None"
"""What is at an address."""


@dataclass(frozen=True)
class Asked:
    """A change was asked for; from here on it may be found."""

    address: Address
    value: Value


@dataclass(frozen=True)
class Acknowledged:
    """A change was acknowledged; from here on it must be found."""

    address: Address
    value: Value


class UnsyncedDisk(Disk):
    """A disk for looking at what a cut left, where a further cut is not at issue."""

    def sync_data(self, fd: int) -> None:
        pass

    def sync_file(self, fd: int) -> None:
        pass

    def sync_names(self) -> None:
        pass

    def sync_all(self) -> None:
        pass


class Client:
    """Changes addresses of its own, one change at a time, and says so to the recording."""

    def __init__(self, store: DirectoryStore, recording: Recording, random: Random) -> None:
        self._store = store
        self._recording = recording
        self._random = random
        self._values: dict[Address, Value] = {}
        self._blobs = [random.randbytes(size) for size in (8, 300, 900, 5000, 60_000, LARGE_BYTES)]
        self._slots = [Address(random.randbytes(32)) for _ in range(4)]
        # Two addresses that are a slot's at one time and a blob's at another.
        self._both = [self._blobs[2], self._blobs[5]]

    async def run(self, operations: int) -> None:
        for _ in range(operations):
            await self._blob() if self._random.random() < 0.4 else await self._slot()

    async def _blob(self) -> None:
        data = self._random.choice(self._blobs)
        address = Address.of(data)
        if self._values.get(address) is not None and self._random.random() < 0.4:
            await self._change(address, None, self._store.delete(address))
        elif len(data) <= SMALL_BYTES_MAX and self._random.random() < 0.5:
            await self._change(address, (Kind.BLOB, data), self._put_now(data))
        else:
            await self._change(address, (Kind.BLOB, data), self._store.put(_pieces(data)))

    async def _put_now(self, data: bytes) -> None:
        outcome: asyncio.Future[Address | HoldallError] = asyncio.get_running_loop().create_future()
        self._store.put_now(data, outcome.set_result)
        assert await outcome == Address.of(data)

    async def _slot(self) -> None:
        address = self._random.choice([*self._slots, *map(Address.of, self._both)])
        before = self._values.get(address)
        if before is not None and before[0] is Kind.BLOB:
            await self._change(address, None, self._store.delete(address))
            return
        size = self._random.choice((1, 10, 700, 4096, 30_000, LARGE_BYTES))
        data = self._random.randbytes(size)
        way = self._random.random()
        if before is None and way < 0.3:
            await self._change(address, (Kind.SLOT, data), self._store.write(address, data, when=ABSENT))
        elif before is None or way < 0.4:
            await self._change(address, (Kind.SLOT, data), self._store.write(address, _pieces(data)))
        elif way < 0.8 and len(before[1]) < 4 * LARGE_BYTES:
            await self._change(address, (Kind.SLOT, before[1] + data), self._store.append(address, data))
        elif way < 0.9:
            await self._change(address, None, self._take(address, before[1]))
        else:
            await self._change(address, None, self._store.delete(address))

    async def _take(self, address: Address, expected: bytes) -> None:
        async with await self._store.take(address) as reading:
            assert await reading.read() == expected

    async def _change(self, address: Address, value: Value, work: Awaitable[object]) -> None:
        self._recording.mark(Asked(address, value))
        await work
        self._recording.mark(Acknowledged(address, value))
        self._values[address] = value


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 40_000):
        yield data[at : at + 40_000]


async def _record(path: str, disk: Callable[[str], Disk], recording: Recording, seed: int, *, journal: bool) -> None:
    store = await DirectoryStore.open(path, journal=journal, disk=disk)
    try:
        clients = [Client(store, recording, Random(f"{seed} {number}")) for number in range(CLIENTS)]
        await asyncio.gather(*(client.run(OPERATIONS // CLIENTS) for client in clients))
    finally:
        await store.aclose()


def _allowed(state: State) -> dict[Address, list[Value]]:
    """What may be found at each address: what was acknowledged last, or what was asked for since."""
    allowed: dict[Address, list[Value]] = defaultdict(lambda: [None])
    for mark in state.marks:
        if isinstance(mark, Asked):
            allowed[mark.address].append(mark.value)
        elif isinstance(mark, Acknowledged):
            allowed[mark.address] = [mark.value]
    return allowed


async def _found(path: str, disk: Callable[[str], Disk] = UnsyncedDisk) -> dict[Address, tuple[Kind, bytes]]:
    """Everything in a directory after the machine has come up again."""
    store = await DirectoryStore.open(path, disk=disk)
    try:
        found = {}
        async for address in store.addresses():
            async with await store.get(address) as reading:
                found[address] = (reading.info.kind, await reading.read())
        return found
    finally:
        await store.aclose()


async def _faults(state: State, path: str) -> list[str]:
    """What is wrong with a state once it has been opened."""
    state.write_to(path)
    try:
        found = await _found(path)
    finally:
        shutil.rmtree(path)
    allowed = _allowed(state)
    return [
        f"after event {state.cut}: {address} is {_shown(found.get(address))}, not {' or '.join(map(_shown, values))}"
        for address in allowed.keys() | found.keys()
        if found.get(address) not in (values := allowed[address])
    ]


def _shown(value: Value) -> str:
    if value is None:
        return "missing"
    return f"a {value[0].value} of {len(value[1])} bytes ({hashlib.sha256(value[1]).hexdigest()[:8]})"


async def _check(
    recording: Recording, random: Random, place: Path, *, cuts: int, stop_at_first: bool = False
) -> tuple[int, list[str]]:
    """How many states were opened, and what was wrong with them."""
    last = len(recording.events)
    chosen = sorted(random.sample(range(last + 1), min(cuts, last + 1)))
    count, faults = 0, []
    for state in states_after_a_cut(recording, random, cuts=chosen, each=STATES_EACH):
        count += 1
        faults += await _faults(state, str(place))
        if faults and stop_at_first:
            break
    return count, faults


@pytest.fixture
def _small_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal so short that a run fills and retires it many times."""
    monkeypatch.setattr(journal_module, "JOURNAL_SEGMENT_BYTES", 512 * KIB)


@pytest.mark.usefixtures("_small_journal")
@pytest.mark.parametrize("journal", [True, False], ids=["journaled", "file by file"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_acknowledged_change_survives_every_power_cut(
    tmp_path: Path, seed: int, journal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording()
    asyncio.run(_record(str(tmp_path / "data"), recording.disk, recording, seed, journal=journal))
    count, faults = asyncio.run(_check(recording, Random(seed), tmp_path / "left", cuts=CUTS))
    with capsys.disabled():
        print(f"\n  power cut in {count} ways, {len(recording.events)} events", end=" ")  # noqa: T201

    assert faults == []
    assert count > CUTS
