"""The conformance suite finds what it is for: each of these stores breaks one promise, and a test notices."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from holdall.errors import HoldallError
from holdall.stores.base import ALWAYS, Kind, pieces
from holdall.stores.memory import MemoryReading, MemoryStore
from holdall.testing.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from holdall.core.address import Address
    from holdall.stores.base import Condition, Info, Source, Store


class KeepsWhatIsTaken(MemoryStore):
    async def take(self, address: Address) -> MemoryReading:
        return await self.get(address)


class IgnoresWhatIsExpected(MemoryStore):
    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        del expected
        return await super().put(source)


class ChecksBeforeTheSourceEnds(MemoryStore):
    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        self._check(address, when, is_blob=False)
        return await super().write(address, source)


class LosesConcurrentAppends(MemoryStore):
    async def append(self, address: Address, source: Source) -> Info:
        _, before = self._entries.get(address, (None, b""))
        return self._keep_slot(address, before + await self._received(source))


class RepeatsVersions(MemoryStore):
    def _keep_slot(self, address: Address, data: bytes) -> Info:
        self._writes = len(data)
        return super()._keep_slot(address, data)


class DeletesAnyKind(MemoryStore):
    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        del kind
        await super().delete(address)


class CountsEveryLook(MemoryStore):
    async def stat(self, address: Address, *, use: bool = True) -> Info:
        del use
        return await super().stat(address)


class ListsOldestFirst(MemoryStore):
    async def entries(self) -> AsyncIterator[Info]:
        for info in reversed([info async for info in super().entries()]):
            yield info


class AnswersTwice(MemoryStore):
    async def missing(self, addresses: Iterable[Address]) -> list[Address]:
        return [address for address in addresses if address not in self._entries]


class KeepsHalves(MemoryStore):
    async def _received(self, source: Source) -> bytes:
        data = b""
        try:
            async for piece in pieces(source):
                data += piece
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - this is its fault
            pass
        return data


class Suite(StoreConformance):
    shows_use = True

    def __init__(self, store: type[MemoryStore]) -> None:
        self._store = store

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        yield self._store()


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        (KeepsWhatIsTaken, "test_one_of_many_takers_gets_the_value", {"sizes_bytes": (40,)}),
        (KeepsWhatIsTaken, "test_take_answers_the_value_and_removes_it", {"size_bytes": 100}),
        (
            IgnoresWhatIsExpected,
            "test_put_of_other_bytes_than_expected_leaves_nothing",
            {"size_bytes": 20, "as_stream": True},
        ),
        (ChecksBeforeTheSourceEnds, "test_one_of_many_exclusive_creates_wins", {"sizes_bytes": (40,)}),
        (
            LosesConcurrentAppends,
            "test_concurrent_appends_leave_whole_lines_in_each_senders_order",
            {"long_line_bytes": 0},
        ),
        (RepeatsVersions, "test_every_write_of_the_same_bytes_has_a_version_of_its_own", {"size_bytes": 100}),
        (RepeatsVersions, "test_a_value_that_went_away_and_came_back_is_not_mistaken_for_the_first", {}),
        (DeletesAnyKind, "test_delete_of_the_other_kind_removes_nothing", {"kind": Kind.BLOB, "other": Kind.SLOT}),
        (CountsEveryLook, "test_looking_without_use_leaves_the_timer", {"kind": Kind.BLOB}),
        (ListsOldestFirst, "test_entries_come_newest_use_first_and_ties_by_address", {}),
        (AnswersTwice, "test_missing_answers_in_the_order_asked_and_each_once", {}),
    ],
)
def test_a_broken_promise_is_noticed(store: type[MemoryStore], test: str, arguments: dict[str, object]) -> None:
    getattr(Suite(MemoryStore), test)(**arguments)

    with pytest.raises((AssertionError, ValueError, HoldallError, pytest.fail.Exception)):
        getattr(Suite(store), test)(**arguments)


def test_a_half_value_is_noticed() -> None:
    async def send(store: Store, address: Address, source: Source) -> object:
        return await store.write(address, source)

    Suite(MemoryStore).test_a_source_that_raises_leaves_the_slot_as_it_was(before_bytes=10, send=send)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Suite(KeepsHalves).test_a_source_that_raises_leaves_the_slot_as_it_was(before_bytes=10, send=send)


def test_a_suite_that_does_not_open_its_store_says_what_is_missing() -> None:
    class Empty(StoreConformance):
        pass

    with pytest.raises(TypeError, match=r"Empty does not say how to open its store: define open_store\(\)"):
        Empty().test_closing_twice_is_harmless()


@pytest.mark.parametrize(
    ("module", "absent", "advice"),
    [
        ("conformance", "pytest", "pip install pytest"),
        ("model", "pytest", "pip install pytest hypothesis"),
        ("model", "hypothesis", "pip install pytest hypothesis"),
    ],
)
def test_without_its_library_a_module_says_what_to_install(module: str, absent: str, advice: str) -> None:
    program = f"import sys; sys.modules[{absent!r}] = None; import holdall.testing.{module}"

    failed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert failed.stderr.splitlines()[-1].endswith(f": {advice}")
