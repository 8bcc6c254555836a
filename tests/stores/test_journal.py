"""The journal among several writers: nobody waits for ever, and its order is the order of the files."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import HoldallError, OutOfSpaceError, StoreError
from holdall.limits import KIB, MIB, SMALL_BYTES_MAX
from holdall.stores import journal as journal_module
from holdall.stores.changes import Durability
from holdall.stores.control import CONTROL_NAME
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.stores.journal_format import (
    JOURNAL_NAME,
    NONCE_BYTES,
    Change,
    Record,
    decode_segment,
    encode_batch,
    encode_segment_header,
)
from holdall.stores.shelf import Shelf
from holdall.stores.stripes import Stripe
from holdall.testing.contract import content, fresh_address, fresh_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SEGMENT_BYTES = 4 * MIB
HANG_SECONDS = 240.0
TOUCHY = Retention(length_ns=64_000_000)
"""Every use must be written down, so that no write can be answered without the lock."""


class SolidDisk(Disk):
    """A disk that counts as one that outlasts a power cut, wherever the tests run."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.volatile = False


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "JOURNAL_SEGMENT_BYTES", SEGMENT_BYTES)


@asynccontextmanager
async def journaled(
    path: Path, *, retention: Retention | None = None, disk: Callable[[str], Disk] = SolidDisk
) -> AsyncIterator[DirectoryStore]:
    store = await DirectoryStore.open(str(path), journal=True, retention=retention or Retention(None), disk=disk)
    try:
        yield store
    finally:
        async with asyncio.timeout(HANG_SECONDS):
            await store.aclose()


async def put_now(store: DirectoryStore, data: bytes) -> Address:
    outcome: asyncio.Future[Address | HoldallError] = asyncio.get_running_loop().create_future()
    store.put_now(data, outcome.set_result)
    found = await outcome
    if isinstance(found, HoldallError):
        raise found
    return found


async def after_a_power_cut(path: Path, address: Address) -> bytes | None:
    """What an address holds if the power goes now and everything written has reached the disk."""
    copy = path.with_name("copy")
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns(CONTROL_NAME))
    store = await DirectoryStore.open(str(copy))
    try:
        if await store.missing([address]):
            return None
        return await content(store, address)
    finally:
        await store.aclose()


def test_more_writes_in_one_turn_than_a_segment_holds_are_all_stored(tmp_path: Path) -> None:
    async def run() -> int:
        async with journaled(tmp_path) as store, asyncio.timeout(HANG_SECONDS):
            blobs = [fresh_bytes(60_000) for _ in range(3 * SEGMENT_BYTES // 60_000)]
            addresses = await asyncio.gather(*(put_now(store, data) for data in blobs))
            assert addresses == [Address.of(data) for data in blobs]
            return len(await store.missing(addresses))

    assert asyncio.run(run()) == 0


def test_writes_that_wait_for_locks_do_not_keep_those_from_going_on_who_hold_them(tmp_path: Path) -> None:
    async def write_slot(store: DirectoryStore, number: int) -> None:
        address = Address.of(b"slot %d" % number)
        for _ in range(40):
            await store.write(address, fresh_bytes(60_000))

    async def run() -> None:
        async with journaled(tmp_path, retention=TOUCHY) as store, asyncio.timeout(HANG_SECONDS):
            blobs = [fresh_bytes(60_000) for _ in range(64)]
            writing = asyncio.gather(*(write_slot(store, number) for number in range(16)))
            while not writing.done():
                await asyncio.gather(*(put_now(store, data) for data in blobs))
            await writing

    asyncio.run(run())


def test_closing_waits_for_the_writes_under_way(tmp_path: Path) -> None:
    never = threading.Event()

    class Slow(SolidDisk):
        """Takes its time over a sync that began before the store was closed."""

        def sync_data(self, fd: int) -> None:
            super().sync_data(fd)
            never.wait(0.1)

    async def run() -> list[Address | HoldallError]:
        outcomes: list[Address | HoldallError] = []
        async with journaled(tmp_path, retention=TOUCHY, disk=Slow) as store:
            known = await asyncio.gather(*(put_now(store, b"known %d" % number) for number in range(8)))
            for number in range(8):
                store.put_now(b"known %d" % number, outcomes.append)
                store.put_now(b"new %d" % number, outcomes.append)
        assert set(known) < set(outcomes)
        return outcomes

    outcomes = asyncio.run(run())

    assert len(outcomes) == 16
    assert not (tmp_path / JOURNAL_NAME).exists()


def test_threads_that_meet_a_new_journal_at_once_join_it_once(tmp_path: Path) -> None:
    joined: list[str] = []

    class Watching(SolidDisk):
        def open_write(self, name: str) -> int:
            joined.append(name)
            return super().open_write(name)

    first = Shelf(Watching(str(tmp_path)))
    second = Shelf(SolidDisk(str(tmp_path)), journal=True)
    barrier = threading.Barrier(16)
    found = []

    def follow() -> None:
        barrier.wait()
        found.append(first.changes.follow())

    threads = [threading.Thread(target=follow) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()

    assert joined == [JOURNAL_NAME]
    assert len(set(found)) == 1


def test_a_blob_stored_while_it_is_deleted_is_there_after_a_power_cut_if_it_was_before(tmp_path: Path) -> None:
    data = fresh_bytes()
    deletions: list[Callable[..., None]] = []

    class Racing(SolidDisk):
        """Lets another process delete what is just about to get its name."""

        def link(self, fd: int, name: str) -> None:
            if deletions:
                deletions.pop()(Address.of(data), kind=None)
            super().link(fd, name)

    async def run() -> tuple[bytes, bytes | None]:
        async with journaled(tmp_path / "data", disk=Racing) as store, journaled(tmp_path / "data") as other:
            address = await put_now(store, data)
            deletions.append(other._shelf.delete)
            await put_now(store, data)
            return await content(store, address), await after_a_power_cut(tmp_path / "data", address)

    before, after = asyncio.run(run())

    assert before == after == data
    assert deletions == []


@pytest.mark.parametrize("size_bytes", [20, SMALL_BYTES_MAX + 1])
def test_a_value_that_could_not_be_named_is_not_there_after_a_power_cut(tmp_path: Path, size_bytes: int) -> None:
    full: list[int] = []

    class Full(SolidDisk):
        def rename(self, source: str, name: str) -> None:
            if full:
                raise OSError(full.pop(), "No space left on device")
            super().rename(source, name)

    async def run() -> tuple[bytes, bytes | None]:
        async with journaled(tmp_path / "data", disk=Full) as store:
            address = fresh_address()
            await store.write(address, b"one")
            full.append(errno.ENOSPC)
            with pytest.raises(OutOfSpaceError):
                await store.write(address, fresh_bytes(size_bytes))
            await store.append(address, b" two")
            return await content(store, address), await after_a_power_cut(tmp_path / "data", address)

    before, after = asyncio.run(run())

    assert before == after == b"one two"


def test_a_change_whose_process_died_before_its_file_is_past_once_another_goes_on(tmp_path: Path) -> None:
    async def run() -> tuple[bytes, bytes | None]:
        async with journaled(tmp_path / "data") as store, journaled(tmp_path / "data") as dying:
            address, shelf = fresh_address(), dying._shelf
            await store.write(address, b"one")
            stripe, journal = shelf.control.stripe(address), shelf.changes.journal
            assert journal is not None
            with shelf.control.locks.held(stripe.lock):
                stripe.begin_change(address)
                journal.release(journal.commit(Record(Change.SLOT, address, 1, data=b"never named").encode()))
            await store.append(address, b" two")
            return await content(store, address), await after_a_power_cut(tmp_path / "data", address)

    before, after = asyncio.run(run())

    assert before == after == b"one two"


class Killed(BaseException):
    """Stands for the death of a process: nothing that it would have done next is done."""


@pytest.mark.parametrize("kind", ["slot", "blob"])
def test_a_large_file_whose_process_died_before_the_last_record_is_followed_by_what_came_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    large = os.urandom(SMALL_BYTES_MAX + 1)
    blob = Address.of(large)

    async def store_large(store: DirectoryStore, address: Address) -> Address:
        return await store.put(large) if kind == "blob" else (await store.write(address, large)).address

    async def run() -> tuple[bytes, bytes | None]:
        async with journaled(tmp_path / "data") as store, journaled(tmp_path / "data") as dying:
            address = blob if kind == "blob" else fresh_address()
            if kind == "blob":
                await store.put(large)
                await store.delete(address)
            else:
                await store.write(address, b"one")
            # Dies between the file's name and the record that says so: what it would do then is left undone.
            with monkeypatch.context() as death:
                death.setattr(dying._shelf.disk, "sync_names", lambda: (_ for _ in ()).throw(Killed))
                death.setattr(dying._shelf.changes, "_take_back", lambda *_: None)
                death.setattr(Stripe, "end_change", lambda _: None)
                with pytest.raises(Killed):
                    await store_large(dying, address)
            if kind == "blob":
                await store.put(large)
            else:
                await store.append(address, b" two")
            return await content(store, address), await after_a_power_cut(tmp_path / "data", address)

    before, after = asyncio.run(run())

    assert before == after == (large if kind == "blob" else large + b" two")


def test_a_process_that_asked_for_less_durability_follows_the_journal_of_another(tmp_path: Path) -> None:
    async def run() -> tuple[bytes, bytes | None]:
        lax = await DirectoryStore.open(str(tmp_path / "data"), durability=Durability.OS, disk=SolidDisk)
        async with journaled(tmp_path / "data") as strict:
            address = fresh_address()
            await strict.write(address, b"the first value")
            await lax.write(address, b"two")
            await strict.append(address, b" three")
            found = await content(strict, address), await after_a_power_cut(tmp_path / "data", address)
            await lax.aclose()
            return found

    before, after = asyncio.run(run())

    assert before == after == b"two three"


def test_a_checkpoint_leaves_nothing_to_replay(tmp_path: Path) -> None:
    async def run() -> int:
        async with journaled(tmp_path / "data") as store:
            for number in range(20):
                await put_now(store, b"blob %d" % number)
            journal = store._shelf.changes.journal
            assert journal is not None
            journal.checkpoint()
            shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=shutil.ignore_patterns(CONTROL_NAME))
            again = await DirectoryStore.open(str(tmp_path / "copy"))
            await again.aclose()
            return again.replayed

    assert asyncio.run(run()) == 0


def test_a_record_that_no_segment_holds_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(SolidDisk(str(tmp_path)), journal=True)
    try:
        assert shelf.changes.journal is not None
        with pytest.raises(OSError, match="more at once than the journal holds"):
            shelf.changes.journal.commit(bytes(SEGMENT_BYTES))
    finally:
        shelf.close()


def test_a_failing_disk_is_reported_to_every_writer_and_the_next_write_goes_through(tmp_path: Path) -> None:
    failing: list[int] = []

    class Failing(SolidDisk):
        def sync_data(self, fd: int) -> None:
            if failing:
                raise OSError(failing.pop(), "Input/output error")
            super().sync_data(fd)

    async def run() -> None:
        async with journaled(tmp_path, disk=Failing) as store, asyncio.timeout(HANG_SECONDS):
            failing.append(errno.EIO)
            outcomes = await asyncio.gather(
                *(put_now(store, b"lost %d" % number) for number in range(10)), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} == {StoreError}
            assert await content(store, await put_now(store, b"kept")) == b"kept"

    asyncio.run(run())


records = st.builds(
    Record,
    st.sampled_from(Change),
    st.binary(min_size=32, max_size=32).map(Address),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=6000),
)


@given(st.lists(st.lists(records, min_size=1, max_size=4), max_size=6), st.data())
def test_whole_batches_are_read_back_and_torn_ones_passed_over(
    batches: list[list[Record]], data: st.DataObject
) -> None:
    nonce = os.urandom(NONCE_BYTES)
    written = [
        encode_batch([record.encode() for record in batch], nonce, number) for number, batch in enumerate(batches)
    ]
    torn = data.draw(st.sets(st.integers(0, max(0, len(batches) - 1))) if batches else st.just(set()))
    for number in torn:
        at = data.draw(st.integers(8, 60))
        written[number] = written[number][:at] + bytes([written[number][at] ^ 1]) + written[number][at + 1 :]
    segment = b"".join((encode_segment_header(nonce, 1), *written)).ljust(64 * KIB, b"\0")

    found = list(decode_segment(memoryview(segment)))

    assert found == [(number, batch) for number, batch in enumerate(batches) if number not in torn]
