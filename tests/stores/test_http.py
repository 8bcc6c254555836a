"""The HTTP store against a live holdall server, held to the contracts of every store."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import pytest

from holdall import __version__
from holdall.core.address import PATH_CHARS, Address
from holdall.errors import AccessError, UnreachableError
from holdall.limits import MIB
from holdall.limits.server import HAVE_BYTES_MAX
from holdall.stores.base import missing
from holdall.stores.http import HTTPStore
from holdall.testing.conformance import StoreConformance
from support import Server, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from holdall.stores.http_wire import Health

T = TypeVar("T")
KEY = "a key that only these tests know"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("served") / "data"
    data.mkdir()
    (data / "apikey").write_text(KEY)
    with running_server(data, "--max-size", "8MiB", "--retention", "1h", "--workers", "2", durable=True) as running:
        yield running


class TestHTTPStore(StoreConformance):
    lasting = True
    shows_use = False
    body_bytes_max = 8 * MIB
    repeats = 5 if "HOLDALL_TEST_LONG" in os.environ else 1

    @pytest.fixture(autouse=True)
    def _where(self, server: Server) -> None:
        self.url = server.url

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[HTTPStore]:
        store = HTTPStore(self.url, api_key=KEY)
        try:
            yield store
        finally:
            await store.aclose()


async def with_store(url: str, work: Callable[[HTTPStore], Awaitable[T]], *, api_key: str | None = KEY) -> T:
    store = HTTPStore(url, api_key=api_key)
    try:
        return await work(store)
    finally:
        await store.aclose()


@pytest.mark.parametrize("api_key", [None, "wrong"])
def test_a_stream_that_will_be_refused_is_not_asked_for(server: Server, api_key: str | None) -> None:
    asked = []

    async def source() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b"bytes that cannot be had again"

    async def work(store: HTTPStore) -> None:
        with pytest.raises(AccessError):
            await store.put(source())

    asyncio.run(with_store(server.url, work, api_key=api_key))

    assert asked == []


def test_many_more_addresses_than_fit_in_one_question_are_asked_for_in_order(server: Server) -> None:
    absent = [Address(number.to_bytes(32, "big")) for number in range(HAVE_BYTES_MAX // PATH_CHARS + 10)]

    async def work(store: HTTPStore) -> list[Address]:
        here = [await store.put(b"%d" % number) for number in range(2)]
        return await missing(store, [here[0], *absent, here[1], *absent])

    assert asyncio.run(with_store(server.url, work)) == absent


def test_a_server_that_began_to_stop_is_unreachable_and_not_a_traceback(tmp_path: Path) -> None:
    async def work(store: HTTPStore) -> None:
        address = await store.put(b"bytes")
        await asyncio.to_thread(running.stop)
        with pytest.raises(UnreachableError):
            await store.stat(address)

    with running_server(tmp_path / "data") as running:
        asyncio.run(with_store(running.url, work, api_key=None))


def test_a_server_that_was_started_anew_is_used_on(tmp_path: Path) -> None:
    async def work(store: HTTPStore) -> bytes:
        address = await store.put(b"bytes")
        await asyncio.to_thread(first.stop)
        with running_server(tmp_path / "data", "--port", str(first.port)):
            async with await store.get(address) as reading:
                return await reading.read()

    with running_server(tmp_path / "data") as first:
        assert asyncio.run(with_store(first.url, work, api_key=None)) == b"bytes"


def test_a_key_in_the_url_opens_what_it_opens(server: Server) -> None:
    async def work(store: HTTPStore) -> Address:
        return await store.put(b"bytes")

    assert asyncio.run(with_store(f"{server.url}/?apikey={quote(KEY)}", work, api_key=None)) == Address.of(b"bytes")


def test_the_server_says_how_it_is(server: Server) -> None:
    async def work(store: HTTPStore) -> Health:
        return await store.health()

    health = asyncio.run(with_store(server.url, work))

    assert (health.status, health.version) == ("ok", __version__)
    assert health.free_bytes
    assert health.clock_ns
