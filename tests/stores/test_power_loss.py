"""Cuts the power at every kind of moment, and opens what each cut may leave: nothing acknowledged may be missing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import pytest

from holdall.core.address import Address, is_entry_name
from holdall.core.retention import Retention
from holdall.limits import KIB, SMALL_BYTES_MAX
from holdall.stores import journal as journal_module
from holdall.stores.base import ABSENT, Kind
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.testing.power import Recording, RecordingDisk, Synced
from holdall.testing.power_states import State, states_after_a_cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from holdall.errors import HoldallError

LONG = bool(os.environ.get("HOLDALL_TEST_LONG"))
SEEDS = range(20 if LONG else 1)
OPERATIONS = 240
CLIENTS = 4
CUTS = 300 if LONG else 130
STATES_EACH = 14
LARGE_BYTES = SMALL_BYTES_MAX + 20_000

pytestmark = pytest.mark.timeout(900)  # a busy machine takes minutes to open thousands of states

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
        elif self._random.random() < 0.4:
            await self._change(address, (Kind.BLOB, data), self._store.put_many([data]))
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
    store = await DirectoryStore.open(path, disk=disk, retention=Retention(None))
    try:
        return {
            address: await _value(store, address)
            for address in (Address.parse_name(name) for name in os.listdir(path) if is_entry_name(name))
        }
    finally:
        await store.aclose()


async def _value(store: DirectoryStore, address: Address) -> tuple[Kind, bytes]:
    glimpse = store.get_now(address)  # at a tenth of the time of `get`
    if glimpse is not None:
        return glimpse.kind, glimpse.data
    async with await store.get(address) as reading:
        return reading.info.kind, await reading.read()


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
def place(tmp_path: Path) -> Iterator[Path]:
    """Where states are rebuilt: thousands of directories, and no sync, so memory will do."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        yield tmp_path / "left"
        return
    with tempfile.TemporaryDirectory(prefix="holdall-power-", dir=memory) as name:
        yield Path(name) / "left"


@pytest.fixture
def _small_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal so short that a run fills and retires it many times."""
    monkeypatch.setattr(journal_module, "JOURNAL_SEGMENT_BYTES", 512 * KIB)


def _say(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {sentence} ")


@pytest.mark.usefixtures("_small_journal")
@pytest.mark.parametrize("journal", [True, False], ids=["journaled", "file by file"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_acknowledged_change_survives_every_power_cut(
    tmp_path: Path, place: Path, seed: int, journal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording()
    asyncio.run(_record(str(tmp_path / "data"), recording.disk, recording, seed, journal=journal))
    count, faults = asyncio.run(_check(recording, Random(seed), place, cuts=CUTS))
    _say(capsys, f"power cut in {count} ways, over {len(recording.events)} events")

    assert faults == []
    assert count > CUTS


@pytest.mark.usefixtures("_small_journal")
def test_every_acknowledged_change_survives_a_second_power_cut_while_the_journal_is_replayed(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def check() -> tuple[int, list[str]]:
        recording, random = Recording(), Random(7)
        await _record(str(tmp_path / "data"), recording.disk, recording, 7, journal=True)
        last = len(recording.events)
        cuts = sorted(random.sample(range(last // 2, last), 24 if LONG else 8))
        count, faults = 0, []
        for first in states_after_a_cut(recording, random, cuts=cuts, each=3):
            again = Recording()
            for mark in first.marks:
                again.mark(mark)
            first.write_to(str(place))
            await _found(str(place), again.disk)
            shutil.rmtree(place)
            start = next(n for n, event in enumerate(again.events) if isinstance(event, Synced)) + 1
            chosen = sorted(random.choices(range(start, len(again.events) + 1), k=4))
            for state in states_after_a_cut(again, random, cuts=chosen, each=5):
                count += 1
                faults += await _faults(state, str(place))
        return count, faults

    count, faults = asyncio.run(check())
    _say(capsys, f"power cut twice in {count} ways")

    assert faults == []
    assert count > 100


class NoDataSync(RecordingDisk):
    def sync_data(self, fd: int) -> None:
        pass


class NoNameSync(RecordingDisk):
    def sync_names(self) -> None:
        pass


class NoFileSync(RecordingDisk):
    def sync_file(self, fd: int) -> None:
        pass


class NoFullSync(RecordingDisk):
    def sync_all(self) -> None:
        pass


@pytest.mark.usefixtures("_small_journal")
@pytest.mark.parametrize(
    ("broken", "journal"),
    [
        (NoDataSync, True),
        (NoDataSync, False),
        (NoNameSync, True),
        (NoNameSync, False),
        (NoFileSync, True),
        (NoFileSync, False),
        (NoFullSync, True),
    ],
)
def test_a_sync_left_out_is_noticed(tmp_path: Path, place: Path, broken: type[RecordingDisk], journal: bool) -> None:
    recording = Recording()
    path = str(tmp_path / "data")
    asyncio.run(_record(path, lambda path: broken(path, recording), recording, 0, journal=journal))
    _, faults = asyncio.run(_check(recording, Random(0), place, cuts=CUTS, stop_at_first=True))

    assert faults


@pytest.mark.usefixtures("_small_journal")
def test_a_rebuilt_state_differs_from_the_next_only_by_what_was_not_synced(tmp_path: Path) -> None:
    recording = Recording()
    disk = recording.disk(str(tmp_path))
    fd = disk.create("a", 0o600)
    disk.write(fd, b"x" * 1024, 0)
    disk.sync_file(fd)
    disk.sync_names()
    disk.write(fd, b"y" * 1024, 512)
    disk.rename("a", "b")
    os.close(fd)
    disk.close()

    found = {
        (tuple(state.files), *(left.content for left in state.files.values()))
        for state in states_after_a_cut(recording, Random(1), cuts=[len(recording.events)], each=400)
    }
    contents = {content for _, *contents in found for content in contents}
    names = {names for names, *_ in found}

    assert names == {("a",), ("b",), ("a", "b"), ()}
    assert {content[:512] for content in contents} == {b"x" * 512}
    assert {content[512:1024] for content in contents} == {b"x" * 512, b"y" * 512}
    assert {content[1024:] for content in contents} == {b"", b"y" * 512, bytes(512)}
