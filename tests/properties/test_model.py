"""Any sequence of calls has the same outcome on every store."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import settings

from holdall.limits import MIB
from holdall.stores import journal
from holdall.stores.directory import DirectoryStore, Durability
from holdall.stores.memory import MemoryStore
from holdall.testing.model import StoreMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.stores.base import Store

LONG = "HOLDALL_TEST_LONG" in os.environ
SETTINGS = settings(
    max_examples=400 if LONG else 25,
    stateful_step_count=60 if LONG else 40,
)


class MemoryMachine(StoreMachine):
    """The reference against another of its kind shows that the model is fair."""

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        store = MemoryStore()
        try:
            yield store
        finally:
            await store.aclose()


class DirectoryMachine(StoreMachine):
    lasting = True
    durability: ClassVar[Durability] = Durability.OS
    journal: ClassVar[bool] = False

    def __init__(self) -> None:
        self.place = TemporaryDirectory(prefix="holdall-model-")
        super().__init__()

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        store = await DirectoryStore.open(self.place.name, durability=self.durability, journal=self.journal)
        try:
            yield store
        finally:
            await store.aclose()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.place.cleanup()


class JournaledDirectoryMachine(DirectoryMachine):
    durability = Durability.SYNC
    journal = True

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "JOURNAL_SEGMENT_BYTES", MIB)  # soon full, and soon made
            async with super().open_store() as store:
                yield store


TestMemoryModel = MemoryMachine.TestCase
TestMemoryModel.settings = SETTINGS
TestDirectoryModel = DirectoryMachine.TestCase
TestDirectoryModel.settings = SETTINGS
TestJournaledDirectoryModel = JournaledDirectoryMachine.TestCase
TestJournaledDirectoryModel.settings = SETTINGS
