"""Every store there is, held to the contracts."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from holdall.core.retention import Retention
from holdall.limits import MIB
from holdall.stores import journal
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.encrypted import EncryptedStore
from holdall.stores.memory import MemoryStore
from holdall.stores.mirror import MirrorStore
from holdall.stores.shares import SharesStore
from holdall.stores.split import SplitStore
from holdall.stores.stripe import StripeStore
from holdall.testing.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdall.stores.base import Store

BODY_BYTES_MAX = 8 * MIB
MEMORY_BYTES_MAX = 32 * MIB
REPEATS = 5 if "HOLDALL_TEST_LONG" in os.environ else 1
SHORT = Retention(length_ns=64_000_000)
"""So short that a use is written down a millisecond after the last."""


class TestMemoryStore(StoreConformance):
    shows_use = True
    repeats = REPEATS
    body_bytes_max = MEMORY_BYTES_MAX

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        store = MemoryStore(size_bytes_max=MEMORY_BYTES_MAX)
        try:
            yield store
        finally:
            await store.aclose()


class DirectoryConformance(StoreConformance):
    lasting = True
    shows_use = True
    repeats = REPEATS
    body_bytes_max = BODY_BYTES_MAX
    durability: ClassVar[Durability]
    journal: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path / "data"

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        store = await DirectoryStore.open(
            str(self.place),
            durability=self.durability,
            journal=self.journal,
            retention=SHORT,
            size_bytes_max=BODY_BYTES_MAX,
        )
        try:
            yield store
        finally:
            await store.aclose()


class TestDirectoryStore(DirectoryConformance):
    durability = Durability.OS


class TestDurableDirectoryStore(DirectoryConformance):
    durability = Durability.SYNC


class TestJournaledDirectoryStore(DirectoryConformance):
    durability = Durability.SYNC
    journal = True

    @pytest.fixture(autouse=True)
    def _small_journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that is soon full, so that it is retired more often, and soon made."""
        monkeypatch.setattr(journal, "JOURNAL_SEGMENT_BYTES", MIB)


SECRET = bytes(range(32))


class SharedConformance(StoreConformance):
    """Composites of three directories, or of one."""

    lasting = True
    shows_use = True
    repeats = REPEATS
    members: ClassVar[int] = 3

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    def composite(self, members: list[Store]) -> Store:
        raise AssertionError(members)

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        members: list[Store] = [
            await DirectoryStore.open(str(self.place / str(number)), durability=Durability.OS, retention=SHORT)
            for number in range(self.members)
        ]
        store = self.composite(members)
        try:
            yield store
        finally:
            await store.aclose()


class TestSplitStore(SharedConformance):
    def composite(self, members: list[Store]) -> Store:
        return SplitStore(members, SECRET)


class TestSharesStore(SharedConformance):
    def composite(self, members: list[Store]) -> Store:
        return SharesStore(members, 2, SECRET)


class TestEncryptedStore(SharedConformance):
    members = 1

    def composite(self, members: list[Store]) -> Store:
        return EncryptedStore(members[0], SECRET)


class CompositeConformance(StoreConformance):
    """Two stores as one; `MIRROR` or `STRIPE` of memory or of directories."""

    shows_use = True
    repeats = REPEATS
    body_bytes_max = MEMORY_BYTES_MAX
    composite: ClassVar[type[MirrorStore | StripeStore]]

    @asynccontextmanager
    async def open_member(self, name: str) -> AsyncIterator[Store]:
        del name
        yield MemoryStore(size_bytes_max=MEMORY_BYTES_MAX)

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        async with AsyncExitStack() as stack:
            members = [(name, await stack.enter_async_context(self.open_member(name))) for name in ("one", "two")]
            store = self.composite(members)
            try:
                yield store
            finally:
                await store.aclose()


class DirectoriesConformance(CompositeConformance):
    lasting = True
    body_bytes_max = BODY_BYTES_MAX

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    @asynccontextmanager
    async def open_member(self, name: str) -> AsyncIterator[Store]:
        path = str(self.place / name)
        yield await DirectoryStore.open(path, durability=Durability.OS, retention=SHORT, size_bytes_max=BODY_BYTES_MAX)


class TestMirrorOfMemory(CompositeConformance):
    composite = MirrorStore


class TestMirrorOfDirectories(DirectoriesConformance):
    composite = MirrorStore


class TestStripeOfMemory(CompositeConformance):
    composite = StripeStore


class TestStripeOfDirectories(DirectoriesConformance):
    composite = StripeStore
