"""Copying whole stores: what arrives, what is left alone, what is reported, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import (
    AccessError,
    BlobInTheWayError,
    DamageError,
    OutOfSpaceError,
    StoreError,
    TooLargeError,
    UnreachableError,
)
from holdall.limits import CHUNK_BYTES, MIB, SMALL_BYTES_MAX
from holdall.snapshot import whole_store
from holdall.snapshot.backup import Backup, BackupReport
from holdall.stores import http_session
from holdall.stores.base import WHOLE, Kind, Span
from holdall.stores.directory import DirectoryStore
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryReading, MemoryStore
from ports import closed_port
from support import running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Store

KEY = "a key of the tests of backups"
SIZES = [0, 1, 1000, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 3 * CHUNK_BYTES + 7]
LONG_AGO = 1_600_000_000


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two servers with one key would share a directory: this is the only one, and it is never emptied."""
    data = tmp_path_factory.mktemp("keyed") / "data"
    data.mkdir()
    (data / "apikey").write_text(KEY)
    with running_server(data, "--retention", "off") as server:
        yield server.url


async def fill(store: Store, *, blobs: int = 20, slots: int = 5) -> dict[Address, bytes]:
    """Stores blobs and slots of many sizes; what they are."""
    filled: dict[Address, bytes] = {}
    for number in range(blobs):
        data = secrets.token_bytes(SIZES[number % len(SIZES)])
        filled[await store.put(data)] = data
    for number in range(slots):
        address, value = Address(secrets.token_bytes(32)), secrets.token_bytes(SIZES[number % len(SIZES)])
        await store.write(address, value)
        filled[address] = value
    return filled


async def content(store: Store, addresses: dict[Address, bytes]) -> dict[Address, bytes]:
    """What a store has at each of these addresses."""
    found = {}
    for address in addresses:
        async with await store.get(address, use=False) as reading:
            found[address] = await reading.read()
    return found


async def kinds(store: Store, addresses: dict[Address, bytes]) -> dict[Address, Kind]:
    return {address: (await store.stat(address, use=False)).kind for address in addresses}


async def run(backup: Backup) -> list[Trouble]:
    return [trouble async for trouble in backup.troubles()]


def damage(data: Path, address: Address, content: bytes) -> None:
    """Changes a blob's file, which keeps its name, mode and time."""
    path = data / address.name
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("jobs", [1, 16])
@pytest.mark.parametrize("way", ["directory to directory", "directory to memory", "to a server", "from a server"])
def test_everything_arrives_and_is_then_there(tmp_path: Path, keyed: str, way: str, jobs: int) -> None:
    async def scenario() -> None:
        source: Store = HTTPStore(keyed, api_key=KEY) if way == "from a server" else await opened(tmp_path / "from")
        target: Store
        if way == "to a server":
            target = HTTPStore(keyed, api_key=KEY)
        else:
            target = MemoryStore() if way.endswith("memory") else await opened(tmp_path / "to")
        filled = await fill(source)

        first = Backup(source, target, jobs=jobs)
        troubles = await run(first)
        second = Backup(source, target, jobs=jobs)
        troubles += await run(second)

        assert troubles == []
        assert await content(target, filled) == filled
        assert await kinds(target, filled) == await kinds(source, filled)
        total = len([info async for info in source.entries()])
        assert (first.report.seen, first.report.copied + first.report.there) == (total, total)
        assert second.report == BackupReport(there=total)
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


async def opened(path: Path) -> DirectoryStore:
    return await DirectoryStore.open(str(path))


def test_a_backup_between_servers_takes_what_has_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = HTTPStore(one.url, api_key=KEY), HTTPStore(other.url, api_key=KEY)
        filled = await fill(source, blobs=3, slots=2)
        await run(Backup(source, target))
        slot = next(address for address, kind in (await kinds(source, filled)).items() if kind is Kind.SLOT)
        filled[slot] = b"changed"
        await source.write(slot, b"changed")

        again = Backup(source, target)

        assert await run(again) == []
        assert again.report == BackupReport(copied=1, copied_bytes=7, there=4)
        assert await content(target, filled) == filled
        await source.aclose()
        await target.aclose()

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "apikey").write_text(KEY)
    with running_server(tmp_path / "one") as one, running_server(tmp_path / "other") as other:
        asyncio.run(scenario())


def test_the_next_backup_copies_new_blobs_and_changed_slots_and_removes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = await opened(tmp_path / "from"), await opened(tmp_path / "to")
        filled = await fill(source)
        longer, as_long, gone = (Address(secrets.token_bytes(32)) for _ in range(3))
        for slot in (longer, as_long, gone):
            await source.write(slot, b"1")
        old = await source.put(b"old")
        await run(Backup(source, target))
        await source.append(longer, b"2")
        await source.write(as_long, b"2")
        for address in (old, gone):
            await source.delete(address)
        new = await source.put(b"new")

        backup = Backup(source, target)

        assert await run(backup) == []
        assert backup.report == BackupReport(copied=3, copied_bytes=6, there=len(set(filled)))
        expected = {**filled, longer: b"12", as_long: b"2", gone: b"1", old: b"old", new: b"new"}
        assert await content(target, expected) == expected
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("into", ["directory", "memory"])
@pytest.mark.parametrize("size", [1000, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("how", ["changed", "cut short", "emptied"])
def test_a_damaged_blob_is_named_and_left_out_and_the_rest_goes_on(
    tmp_path: Path, into: str, size: int, how: str
) -> None:
    async def scenario() -> None:
        source = await opened(tmp_path / "from")
        target: Store = MemoryStore() if into == "memory" else await opened(tmp_path / "to")
        filled = await fill(source)
        data = secrets.token_bytes(size)
        bad = await source.put(data)
        damage(tmp_path / "from", bad, {"changed": data[:-1] + b"?", "cut short": data[:-1], "emptied": b""}[how])
        if data[-1:] == b"?":
            damage(tmp_path / "from", bad, data[:-1] + b"!")

        backup = Backup(source, target)
        (trouble,) = await run(backup)

        assert (trouble.address, trouble.is_damage, bad.path in trouble.error.message) == (bad, True, True)
        assert isinstance(trouble.error, DamageError)
        assert (backup.report.damaged, backup.report.copied) == (1, len(set(filled)))
        assert await content(target, filled) == filled
        assert {info.address async for info in target.entries()} == set(filled)
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


def test_a_damaged_blob_behind_a_server_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = HTTPStore(server.url, api_key=KEY), MemoryStore()
        small, large = secrets.token_bytes(1000), secrets.token_bytes(MIB)
        bad = {await source.put(small), await source.put(large)}
        for address, data in zip((Address.of(small), Address.of(large)), (small, large), strict=True):
            damage(server.data, address, data[:-1] + bytes([data[-1] ^ 1]))
        good = await source.put(b"good")

        troubles = await run(Backup(source, target))

        assert {trouble.address for trouble in troubles if trouble.is_damage} == bad
        assert [info.address async for info in target.entries()] == [good]
        await source.aclose()

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "apikey").write_text(KEY)
    with running_server(tmp_path / "data") as server:
        asyncio.run(scenario())


@pytest.mark.parametrize("keep", [False, True])
def test_the_timers_of_the_source_restart_only_if_asked(tmp_path: Path, keep: bool) -> None:
    async def scenario() -> None:
        source = await DirectoryStore.open(str(tmp_path / "from"), retention=Retention(10**18))
        filled = await fill(source)
        for address in filled:
            os.utime(tmp_path / "from" / address.name, (LONG_AGO, LONG_AGO))

        for _ in range(2):  # once for what is copied, once for what is there
            target = await opened(tmp_path / "to")
            await run(Backup(source, target, keep=keep))
            await target.aclose()

            used = {(await source.stat(address, use=False)).used_ns == LONG_AGO * 10**9 for address in filled}
            assert used == {not keep}
            for address in filled:
                os.utime(tmp_path / "from" / address.name, (LONG_AGO, LONG_AGO))
        await source.aclose()

    asyncio.run(scenario())


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = await opened(tmp_path / "from"), await opened(tmp_path / "to")
        filled = await fill(source)
        slot = Address.of(b"key")
        await source.write(slot, b"new")
        await target.write(slot, b"old")

        dry = Backup(source, target, dry_run=True)
        await run(dry)

        assert [info.address async for info in target.entries()] == [slot]
        assert await content(target, {slot: b""}) == {slot: b"old"}
        real = Backup(source, target)
        await run(real)
        assert dry.report == real.report
        assert real.report.copied_bytes == sum(map(len, filled.values())) + 3
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


def test_slots_can_be_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = await opened(tmp_path / "from"), await opened(tmp_path / "to")
        filled = await fill(source, blobs=6, slots=3)

        backup = Backup(source, target, blobs_only=True)

        assert await run(backup) == []
        assert (backup.report.copied, backup.report.left_out) == (len(set(filled)) - 3, 3)
        assert {info.kind async for info in target.entries()} == {Kind.BLOB}
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


def test_a_server_that_lists_nothing_is_not_taken_for_an_empty_store(tmp_path: Path) -> None:
    async def scenario(url: str, **key: str) -> None:
        source = HTTPStore(url, **key)  # type: ignore[arg-type]
        try:
            with pytest.raises(AccessError, match="key"):
                await run(Backup(source, MemoryStore()))
        finally:
            await source.aclose()

    with running_server(tmp_path / "open") as server:
        asyncio.run(scenario(server.url))
    (tmp_path / "keyed").mkdir()
    (tmp_path / "keyed" / "apikey").write_text(KEY)
    with running_server(tmp_path / "keyed") as server:
        asyncio.run(scenario(server.url))
        asyncio.run(scenario(server.url, api_key="another"))


def test_a_target_that_fills_up_ends_it_and_the_next_run_goes_on() -> None:
    async def scenario() -> None:
        source, small = MemoryStore(), MemoryStore(size_bytes_max=MIB)
        filled = await fill(source, blobs=60, slots=0)

        backup = Backup(source, small)
        with pytest.raises(OutOfSpaceError):
            await run(backup)

        assert 0 < backup.report.copied < len(filled)
        small._size_bytes_max = None
        again = Backup(source, small)
        assert await run(again) == []
        assert again.report.copied + again.report.there == len(set(filled))
        assert await content(small, filled) == filled

    asyncio.run(scenario())


@pytest.mark.parametrize("source_is", ["directory", "memory"])
def test_what_the_target_does_not_take_is_reported_and_the_rest_goes_on(tmp_path: Path, source_is: str) -> None:
    async def scenario() -> None:
        source: Store = await opened(tmp_path / "from") if source_is == "directory" else MemoryStore()
        target = await DirectoryStore.open(str(tmp_path / "to"), size_bytes_max=MIB)
        large = await source.put(secrets.token_bytes(MIB + 1))
        there = await target.put(b"a blob where the source has a slot")
        await source.write(there, b"a slot")
        good = await source.put(b"good")

        backup = Backup(source, target)
        troubles = {trouble.address: trouble for trouble in await run(backup)}

        assert {address: type(trouble.error) for address, trouble in troubles.items()} == {
            large: TooLargeError,
            there: BlobInTheWayError,
        }
        assert not any(trouble.is_damage for trouble in troubles.values())
        assert (backup.report.refused, backup.report.copied) == (2, 1)
        assert (await target.stat(good)).size_bytes == 4
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


def test_a_too_large_blob_does_not_keep_out_those_that_go_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = MemoryStore()
        target = await DirectoryStore.open(str(tmp_path), size_bytes_max=500)
        fits = {await source.put(secrets.token_bytes(100)) for _ in range(10)}
        large = {await source.put(secrets.token_bytes(600)) for _ in range(3)}

        troubles = await run(Backup(source, target))

        assert {trouble.address for trouble in troubles} == large
        assert {type(trouble.error) for trouble in troubles} == {TooLargeError}
        assert {info.address async for info in target.entries()} == fits
        await target.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["directory to memory", "memory to directory", "memory to memory"])
def test_a_slot_of_the_target_gives_way_to_the_blob_of_its_address(tmp_path: Path, where: str) -> None:
    async def scenario() -> None:
        source: Store = await opened(tmp_path) if where.startswith("directory") else MemoryStore()
        target: Store = await opened(tmp_path) if where.endswith("directory") else MemoryStore()
        address = await source.put(b"bytes")
        await target.write(address, b"a value")
        slot = Address.of(b"key")
        for store in (source, target):
            await store.write(slot, b"the same")

        backup = Backup(source, target)

        assert await run(backup) == []
        assert backup.report == BackupReport(copied=1, copied_bytes=5, there=1)
        assert await content(target, {address: b"", slot: b""}) == {address: b"bytes", slot: b"the same"}
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


class Forgetful(MemoryStore):
    """A store in which entries expire between being listed and being read."""

    async def addresses(self) -> AsyncIterator[Address]:
        """Lists one that is gone, among those that are not."""
        yield Address.of(b"gone")
        async for info in self.entries():
            yield info.address


def test_what_goes_meanwhile_is_no_trouble() -> None:
    async def scenario() -> None:
        source, target = Forgetful(), MemoryStore()
        filled = await fill(source)

        for dry_run in (True, False):
            backup = Backup(source, target, dry_run=dry_run)
            assert await run(backup) == []
            assert backup.report.copied == len(set(filled))

    asyncio.run(scenario())


class Failing(MemoryStore):
    """A store whose disk cannot read one entry."""

    lost = Address.of(b"lost")

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> MemoryReading:
        """Reads, or fails."""
        if address == self.lost:
            raise StoreError("The disk failed.")
        return await super().get(address, span, use=use)


def test_what_the_disk_of_the_source_has_lost_is_damage_and_the_rest_goes_on() -> None:
    async def scenario() -> None:
        source, target = Failing(), MemoryStore()
        filled = await fill(source)
        await source.put(b"lost")

        (trouble,) = await run(Backup(source, target))

        assert (trouble.address, trouble.is_damage) == (Failing.lost, True)
        assert trouble.error.message == f"{Failing.lost}: The disk failed."
        assert await content(target, filled) == filled

    asyncio.run(scenario())


@asynccontextmanager
async def relay(port: int, *, cuts: int, after_bytes: int) -> AsyncIterator[str]:
    """A way to a server that breaks off the first so many connections after so many bytes towards the server."""
    left = cuts

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        try:
            while piece := await reader.read(16384):
                passed += len(piece)
                if limit is not None and passed > limit:
                    break
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        limit = after_bytes if left else None
        left -= bool(left)
        up = asyncio.create_task(pump(reader, forth, limit))
        down = asyncio.create_task(pump(back, writer, None))
        tasks.update((up, down))
        if limit is not None:
            up.add_done_callback(lambda _: writer.transport.abort())
        await asyncio.gather(up, down)

    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_connections_that_break_are_made_again(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        source = MemoryStore()
        filled = {await source.put(data): data for data in (secrets.token_bytes(2 * MIB) for _ in range(3))}
        async with relay(port, cuts=4, after_bytes=MIB) as url:
            target = HTTPStore(url)
            backup = Backup(source, target)

            assert await run(backup) == []
            assert backup.report.copied == 3
            assert await content(target, filled) == filled
            await target.aclose()

    with running_server(tmp_path / "data") as server:
        asyncio.run(scenario(server.port))


def test_a_target_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (whole_store, http_session):
        monkeypatch.setattr(module, "CLIENT_BACKOFF_SECONDS", 0.001)

    async def scenario(url: str) -> None:
        source, target = MemoryStore(), HTTPStore(url)
        await fill(source)
        with pytest.raises(UnreachableError):
            await run(Backup(source, target))
        await target.aclose()

    with closed_port() as port:
        asyncio.run(scenario(f"http://127.0.0.1:{port}"))


def test_a_caller_that_stops_early_leaves_nothing_running(tmp_path: Path) -> None:
    async def scenario() -> None:
        source, target = await opened(tmp_path / "from"), await opened(tmp_path / "to")
        await fill(source, blobs=200)
        async with aclosing(whole_store.every_address(source)) as addresses:
            damaged = await anext(addresses)
        damage(tmp_path / "from", damaged, hashlib.sha256(damaged).digest())
        troubles = Backup(source, target).troubles()

        await anext(troubles)
        await troubles.aclose()

        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        await source.aclose()
        await target.aclose()

    asyncio.run(scenario())


def test_a_slot_that_the_target_cannot_read_is_written_again() -> None:
    async def scenario() -> None:
        source, target = MemoryStore(), Failing()
        for store in (source, target):
            await store.write(Failing.lost, b"value")

        backup = Backup(source, target)

        assert await run(backup) == []
        assert backup.report == BackupReport(copied=1, copied_bytes=5)

    asyncio.run(scenario())


class Garbling(MemoryStore):
    """A store that answers its first reading with other bytes."""

    times = 1

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> MemoryReading:
        """Reads wrong, then right."""
        reading = await super().get(address, span, use=use)
        self.times -= 1
        return (
            reading if self.times < 0 else MemoryReading(reading.info, bytes(reading.stop), reading.start, reading.stop)
        )


@pytest.mark.parametrize("into", ["directory", "memory"])
@pytest.mark.parametrize("size", [1000, SMALL_BYTES_MAX + 1])
def test_what_was_read_wrong_once_is_copied_when_it_is_read_right(tmp_path: Path, into: str, size: int) -> None:
    async def scenario() -> None:
        source = Garbling()
        target: Store = MemoryStore() if into == "memory" else await opened(tmp_path)
        data = secrets.token_bytes(size)
        address = await source.put(data)

        backup = Backup(source, target)

        assert await run(backup) == []
        assert backup.report == BackupReport(copied=1, copied_bytes=size)
        assert await content(target, {address: data}) == {address: data}
        assert [info.address async for info in target.entries()] == [address]
        await target.aclose()

    asyncio.run(scenario())
