"""Verifying whole stores: what is found, what is taken out of the way, and what stops it."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.core.retention import Retention
from holdall.errors import AccessError, DamageError, NotFoundError, ReadOnlyError
from holdall.limits import CHUNK_BYTES, MIB
from holdall.limits.snapshot import UNDOUBTED_DELETIONS_MAX
from holdall.snapshot.verify_store import StoreVerification, VerifyReport, examine
from holdall.stores.base import WHOLE, Kind, Span
from holdall.stores.directory import DirectoryStore
from holdall.stores.entry_file import DAMAGED_PREFIX
from holdall.stores.http import HTTPStore
from holdall.stores.memory import MemoryReading, MemoryStore
from support import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Store

KEY = "a key of the tests of verification"
SIZES = [0, 1, 1000, CHUNK_BYTES, 9 * MIB]
LONG_AGO = 1_600_000_000


async def fill(store: Store, sizes: list[int]) -> list[Address]:
    """Stores a blob of each size."""
    return [await store.put(secrets.token_bytes(size)) for size in sizes]


async def run(verification: StoreVerification) -> list[Trouble]:
    return [trouble async for trouble in verification.troubles()]


def damage(data: Path, address: Address, content: bytes | None = None) -> None:
    """Changes one byte of a blob's file, or all of them; it keeps its name, mode and time."""
    path = data / address.name
    status = path.stat()
    before = path.read_bytes()
    middle = len(before) // 2
    path.chmod(0o644)
    changed = before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :] if content is None else content
    path.write_bytes(changed)
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("jobs", [1, 16])
def test_a_store_that_is_whole_is_read_whole_and_not_used(tmp_path: Path, jobs: int) -> None:
    async def scenario() -> None:
        store = await DirectoryStore.open(str(tmp_path), retention=Retention(10**18))
        blobs = await fill(store, SIZES)
        await store.write(Address.of(b"key"), b"value")
        for address in blobs:
            os.utime(tmp_path / address.name, (LONG_AGO, LONG_AGO))
        read: list[int] = []

        verification = StoreVerification(store, jobs=jobs, count=read.append)

        assert await run(verification) == []
        assert verification.report == VerifyReport(blobs=len(SIZES), blobs_bytes=sum(SIZES), slots=1)
        assert sum(read) == sum(SIZES) + len(b"value")
        assert await verification.size_bytes() == sum(read)
        assert {(await store.stat(address, use=False)).used_ns for address in blobs} == {LONG_AGO * 10**9}
        await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["directory", "server"])
def test_each_damaged_blob_is_found(tmp_path: Path, where: str) -> None:
    async def scenario(store: Store, data: Path) -> None:
        whole = await fill(store, [size for size in SIZES if size != 1])  # of one byte the bad one may be the same
        bad = await fill(store, [1, 1000, CHUNK_BYTES + 1, 9 * MIB])
        for address in bad[:-1]:
            damage(data, address)
        damage(data, bad[-1], b"far shorter")

        verification = StoreVerification(store)
        troubles = await run(verification)

        assert {trouble.address for trouble in troubles} == set(bad)
        assert all(trouble.is_damage and trouble.address.path in trouble.error.message for trouble in troubles)
        assert (verification.report.blobs, verification.report.damaged) == (len(whole), len(bad))
        await store.aclose()

    async def in_a_directory() -> None:
        await scenario(await DirectoryStore.open(str(tmp_path)), tmp_path)

    if where == "directory":
        asyncio.run(in_a_directory())
        return
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "apikey").write_text(KEY)
    with running_server(tmp_path / "data") as server:
        asyncio.run(scenario(HTTPStore(server.url, api_key=KEY), server.data))


def test_what_the_disk_has_lost_is_damage_and_what_it_refuses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pread = os.pread
    failures: dict[int, int] = {}

    def failing_pread(fd: int, size: int, at: int) -> bytes:
        number = failures.get(os.fstat(fd).st_ino)
        if number is not None:
            raise OSError(number, os.strerror(number))
        return real_pread(fd, size, at)

    async def scenario() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        whole, lost, refused = await fill(store, [10, 20, 30])
        for address, number in ((lost, errno.EIO), (refused, errno.EACCES)):
            failures[(tmp_path / address.name).stat().st_ino] = number
        with monkeypatch.context() as context:
            context.setattr(os, "pread", failing_pread)
            verification = StoreVerification(store)
            troubles = {trouble.address: trouble for trouble in await run(verification)}

        assert {address: trouble.is_damage for address, trouble in troubles.items()} == {lost: True, refused: False}
        assert isinstance(troubles[refused].error, ReadOnlyError)
        assert verification.report == VerifyReport(blobs=1, blobs_bytes=10, damaged=1, refused=1)
        assert (await examine(store, whole)).info.kind is Kind.BLOB
        await store.aclose()

    asyncio.run(scenario())


def test_quarantine_moves_what_is_damaged_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        whole = await fill(store, [1000, 2000])
        bad = await fill(store, [3000, 4000])
        slot = (await store.write(Address.of(b"key"), b"value")).address
        for address in bad:
            damage(tmp_path, address)
        damaged_bytes = {(tmp_path / address.name).read_bytes() for address in bad}

        verification = StoreVerification(store, quarantine=True)
        troubles = await run(verification)

        assert {trouble.address for trouble in troubles if trouble.set_aside} == set(bad)
        assert (verification.report.damaged, verification.report.set_aside) == (2, 2)
        assert {info.address async for info in store.entries()} == {*whole, slot}
        names = [name for name in os.listdir(tmp_path) if name.startswith(DAMAGED_PREFIX)]
        assert {(tmp_path / name).read_bytes() for name in names} == damaged_bytes
        again = StoreVerification(store, quarantine=True)
        assert await run(again) == []
        await store.aclose()

    asyncio.run(scenario())


def test_quarantine_of_a_server_deletes_for_the_key_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = HTTPStore(server.url, api_key=KEY)
        whole, bad = await fill(store, [1000, 2000])
        damage(server.data, bad)
        listing_only = await DirectoryStore.open(str(server.data))

        (trouble,) = await run(StoreVerification(store, quarantine=True))

        assert (trouble.address, trouble.set_aside) == (bad, True)
        assert [info.address async for info in store.entries()] == [whole]
        with pytest.raises(NotFoundError):
            await listing_only.stat(bad)
        await store.aclose()
        await listing_only.aclose()

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "apikey").write_text(KEY)
    with running_server(tmp_path / "data") as server:
        asyncio.run(scenario())


class Garbling(MemoryStore):
    """A store behind something that changes what it sends."""

    times = 10**9

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> MemoryReading:
        """Answers the right length and other bytes."""
        reading = await super().get(address, span, use=use)
        if not self.times:
            return reading
        self.times -= 1
        return MemoryReading(reading.info, bytes(reading.info.size_bytes), reading.start, reading.stop)


def test_deleting_stops_when_most_of_what_is_read_is_wrong() -> None:
    async def scenario() -> None:
        store = Garbling()
        await fill(store, [100] * 100)

        verification = StoreVerification(store, quarantine=True)
        with pytest.raises(DamageError, match="nothing more is deleted"):
            await run(verification)

        assert verification.report.set_aside == UNDOUBTED_DELETIONS_MAX
        assert len([info async for info in store.entries()]) == 100 - UNDOUBTED_DELETIONS_MAX

    asyncio.run(scenario())


def test_what_is_read_wrong_once_and_right_the_next_time_is_whole() -> None:
    async def scenario() -> None:
        store = Garbling()
        store.times = 1
        await fill(store, [100] * 5)

        verification = StoreVerification(store, quarantine=True)

        assert await run(verification) == []
        assert verification.report.blobs == 5

    asyncio.run(scenario())


def test_a_sample_is_a_random_part() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await fill(store, [10] * 1000)
        seen = []
        for _ in range(4):
            verification = StoreVerification(store, share=0.3)
            await run(verification)
            seen.append(verification.report.blobs)

        assert all(150 < blobs < 450 for blobs in seen)
        assert await verification.size_bytes() is None

    asyncio.run(scenario())


def test_a_server_that_lists_nothing_is_not_taken_for_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = HTTPStore(server.url)
        with pytest.raises(AccessError, match="key"):
            await run(StoreVerification(store))
        await store.aclose()

    with running_server(tmp_path / "data") as server:
        asyncio.run(scenario())


def test_an_entry_that_has_gone_since_it_was_listed_is_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await DirectoryStore.open(str(tmp_path))
        addresses = await fill(store, [10 + number for number in range(200)])
        troubles = StoreVerification(store, jobs=1, quarantine=True)
        damage(tmp_path, addresses[-1])
        found = []
        async for trouble in troubles.troubles():  # the newest is the first to be found
            found.append(trouble.address)
            for address in addresses[:100]:
                await store.delete(address)

        assert found == [addresses[-1]]
        assert 90 <= troubles.report.blobs <= 199
        await store.aclose()

    asyncio.run(scenario())
