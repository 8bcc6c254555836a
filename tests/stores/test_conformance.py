"""Every store there is, held to the contracts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from holdall.core.retention import Retention
from holdall.limits import MIB
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.memory import MemoryStore
from holdall.testing.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from holdall.stores.base import Store

BODY_BYTES_MAX = 32 * MIB
SHORT = Retention(length_ns=64_000_000)
"""So short that a use is written down a millisecond after the last."""


class TestMemoryStore(StoreConformance):
    shows_use = True
    body_bytes_max = BODY_BYTES_MAX

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        store = MemoryStore(size_bytes_max=BODY_BYTES_MAX)
        try:
            yield store
        finally:
            await store.aclose()


class DirectoryConformance(StoreConformance):
    lasting = True
    shows_use = True
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
