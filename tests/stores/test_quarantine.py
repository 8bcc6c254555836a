"""Taking damaged blobs out of the way: nothing else moves, nothing is lost, whenever the power goes."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from random import Random
from typing import TYPE_CHECKING

import pytest

from asking import ask
from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import NotFoundError
from holdall.limits import KIB
from holdall.stores import journal as journal_module
from holdall.stores.abilities import Quarantining
from holdall.stores.base import Kind
from holdall.stores.directory import DirectoryStore
from holdall.stores.entry_file import BLOB_MODE, DAMAGED_PREFIX
from holdall.testing.power import Recording, RecordingDisk
from holdall.testing.power_states import states_after_a_cut
from support import running_server

if TYPE_CHECKING:
    from pathlib import Path

GOOD, BAD = b"the right bytes", b"the wrong bytes"
ADDRESS = Address.of(GOOD)
ASIDE = f"{DAMAGED_PREFIX}{ADDRESS.hex()}"


def damage(data: Path, address: Address, content: bytes = BAD) -> None:
    """Puts a blob's file there whose bytes are not those of its name."""
    path = data / address.name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(BLOB_MODE)


@pytest.mark.parametrize("journal", [True, False], ids=["journaled", "file by file"])
def test_a_damaged_blob_keeps_its_bytes_under_another_name(tmp_path: Path, journal: bool) -> None:
    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path), journal=journal)
        assert isinstance(store, Quarantining)
        damage(tmp_path, ADDRESS)

        kept = await store.quarantine(ADDRESS)

        assert kept == str(tmp_path / ASIDE)
        assert (tmp_path / ASIDE).read_bytes() == BAD
        with pytest.raises(NotFoundError):
            await store.stat(ADDRESS)
        assert [info async for info in store.entries()] == []
        assert await store.put(GOOD) == ADDRESS
        async with await store.get(ADDRESS) as reading:
            assert await reading.read() == GOOD
        await store.aclose()

    asyncio.run(run())


def test_a_second_damaged_copy_does_not_replace_the_first(tmp_path: Path) -> None:
    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        for content in (b"one", b"two", b"three"):
            damage(tmp_path, ADDRESS, content)
            await store.quarantine(ADDRESS)
        await store.aclose()

    asyncio.run(run())

    kept = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name.startswith(DAMAGED_PREFIX)}
    assert kept == {ASIDE: b"one", f"{ASIDE}-2": b"two", f"{ASIDE}-3": b"three"}


def test_what_is_whole_or_a_slot_or_missing_stays_as_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        await store.put(GOOD)
        slot = Address.of(b"key")
        await store.write(slot, b"value")
        before = {name: (tmp_path / name).stat() for name in os.listdir(tmp_path)}

        for address in (ADDRESS, slot, Address.of(b"nothing is there")):
            assert await store.quarantine(address) is None

        after = {name: (tmp_path / name).stat() for name in os.listdir(tmp_path)}
        assert [*map(_identity, after.values())] == [*map(_identity, before.values())]
        await store.aclose()

    asyncio.run(run())


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_nlink


def test_a_link_that_a_killed_process_left_is_used(tmp_path: Path) -> None:
    damage(tmp_path, ADDRESS)
    os.link(tmp_path / ADDRESS.name, tmp_path / ASIDE)

    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        assert await store.quarantine(ADDRESS) == str(tmp_path / ASIDE)
        await store.aclose()

    asyncio.run(run())

    assert [name for name in os.listdir(tmp_path) if not name.startswith(".holdall-control")] == [ASIDE]


def test_bytes_that_the_disk_has_lost_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_read = os.read

    def failing_read(fd: int, size: int) -> bytes:
        if os.fstat(fd).st_ino == (tmp_path / ADDRESS.name).stat().st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read(fd, size)

    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        await store.put(GOOD)
        with monkeypatch.context() as context:
            context.setattr(os, "read", failing_read)
            assert await store.quarantine(ADDRESS) == str(tmp_path / ASIDE)
        await store.aclose()

    asyncio.run(run())


def test_a_sweep_leaves_what_is_kept_of_damage(tmp_path: Path) -> None:
    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path), retention=Retention(1))
        damage(tmp_path, ADDRESS)
        await store.quarantine(ADDRESS)
        os.utime(tmp_path / ASIDE, (0, 0))
        for _ in store.sweep():
            pass
        await store.aclose()

    asyncio.run(run())

    assert (tmp_path / ASIDE).read_bytes() == BAD


def test_a_server_stops_serving_what_another_process_took_away(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:

        async def run() -> None:
            store = await DirectoryStore.open(str(server.data))
            damage(server.data, ADDRESS)
            assert ask(server, "GET", ADDRESS.path).body == BAD
            assert await store.quarantine(ADDRESS) is not None
            await store.aclose()

        asyncio.run(run())

        assert ask(server, "GET", ADDRESS.path).status == 404


@pytest.mark.parametrize("journal", [True, False], ids=["journaled", "file by file"])
def test_whenever_the_power_goes_the_damaged_bytes_have_a_name(
    tmp_path: Path, journal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "JOURNAL_SEGMENT_BYTES", 512 * KIB)
    recording, data = Recording(), tmp_path / "data"

    async def quarantine() -> None:
        store = await DirectoryStore.open(str(data), journal=journal, disk=recording.disk)
        disk = store._shelf.disk
        assert isinstance(disk, RecordingDisk)
        spool = store.spool()
        spool.keep(BAD)
        disk.set_mode(spool.fd, BLOB_MODE)
        disk.sync_file(spool.fd)
        spool.link(ADDRESS.name)
        disk.sync_names()
        spool.close()
        recording.mark("damaged")
        assert await store.quarantine(ADDRESS) is not None
        recording.mark("set aside")
        await store.aclose()

    async def look(place: Path) -> tuple[bool, bool]:
        store = await DirectoryStore.open(str(place))
        try:
            there = (await store.stat(ADDRESS, use=False)).kind is Kind.BLOB
        except NotFoundError:
            there = False
        await store.aclose()
        aside = (place / ASIDE).is_file() and (place / ASIDE).read_bytes() == BAD
        return there, aside

    asyncio.run(quarantine())
    start = next(n for n, event in enumerate(recording.events) if getattr(event, "note", None) == "damaged")
    count, wrong = 0, []
    for state in states_after_a_cut(recording, Random(1), cuts=range(start, len(recording.events) + 1), each=8):
        place = tmp_path / "left"
        state.write_to(str(place))
        there, aside = asyncio.run(look(place))
        shutil.rmtree(place)
        count += 1
        if not (there or aside) or ("set aside" in state.marks and (there or not aside)):
            wrong.append((state.cut, there, aside))

    assert wrong == []
    assert count > 5
