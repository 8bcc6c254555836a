"""A mirror of real servers: one is killed and comes back, a file goes bad, and plain servers will do."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from foreign import OriginalServer, foreign
from unplugged import awaited

from holdall.core.address import Address
from holdall.errors import AccessError, DamageError, UnreachableError
from holdall.limits import KIB, MIB
from holdall.stores.base import ABSENT, Kind, Span
from holdall.stores.bursts import plan
from holdall.stores.http import HTTPStore
from holdall.stores.mirror import MirrorStore
from holdall.stores.ordered import in_order
from holdall.testing.conformance import StoreConformance
from holdall.testing.conformance_lasting import LastingContract
from holdall.testing.conformance_races import RacesContract
from holdall.testing.contract import StoreContract, content, cut, fresh_address, fresh_bytes, streamed
from support import Server, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from holdall.stores.base import Store

KEY = "a key that only these tests know"
NAMES = ("attic", "barn", "cellar")


def serve(stack: ExitStack, place: Path, name: str, *options: str, key: str | None = KEY) -> Server:
    """A server with a directory of its own."""
    data = place / name
    data.mkdir(exist_ok=True)
    if key is not None:
        (data / "apikey").write_text(key)
    return stack.enter_context(running_server(data, "--retention", "off", *options))


@asynccontextmanager
async def mirror_of(servers: Sequence[Server], key: str | None = KEY) -> AsyncIterator[MirrorStore]:
    members = [(name, HTTPStore(server.url, api_key=key)) for name, server in zip(NAMES, servers, strict=False)]
    store = MirrorStore(members)
    try:
        yield store
    finally:
        await store.aclose()


def damage(path: Path) -> None:
    """Turns a bit of a blob's file over, as a failing disk does."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    place = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        yield [serve(stack, place, name, "--max-size", "8MiB") for name in NAMES[:2]]


class OverServers(StoreContract):
    """A mirror of two servers that every test of a class shares."""

    lasting = True
    body_bytes_max = 8 * MIB
    repeats = 5 if "HOLDALL_TEST_LONG" in os.environ else 1

    @pytest.fixture(autouse=True)
    def _where(self, pair: list[Server]) -> None:
        self.servers = pair

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        async with mirror_of(self.servers) as store:
            yield store


class TestRacesOverServers(OverServers, RacesContract, LastingContract):
    """What is most likely to differ where members are far away."""


@pytest.mark.skipif("HOLDALL_TEST_LONG" not in os.environ, reason="the long form runs all of it")
class TestMirrorOfServers(OverServers, StoreConformance):
    """All of the contracts."""


def test_a_server_killed_amid_many_puts_holds_nothing_up_and_is_mended_when_it_is_back(tmp_path: Path) -> None:
    blobs = [fresh_bytes(300 * KIB if number % 40 == 0 else 500 + number) for number in range(400)]

    async def work(servers: list[Server], back: ExitStack) -> None:
        async with mirror_of(servers) as store:
            done = 0

            async def put(data: bytes) -> None:
                nonlocal done
                source = streamed(*cut(data, 64 * KIB)) if len(data) % 2 else data
                assert await store.put(source, expected=Address.of(data)) == Address.of(data)
                done += 1
                if done == 150:
                    servers[1].process.send_signal(signal.SIGKILL)

            async for _ in in_order(blobs, put, width=8):
                pass
            log = (await store.append(fresh_address(), b"a line of the night\n")).address

            assert servers[1].process.wait() == -signal.SIGKILL
            addresses = [*map(Address.of, blobs), log]
            assert len(store.degraded["barn"]) >= 240
            assert store.degraded["attic"] == store.degraded["cellar"] == set()
            for data in blobs:
                assert await content(store, Address.of(data)) == data

            again = serve(back, tmp_path, "barn", "--port", str(servers[1].port))
            assert await store.repair_degraded() == {}

            assert store.degraded == {"attic": set(), "barn": set(), "cellar": set()}
        async with closing(again) as barn:
            assert await barn.missing(addresses) == []
            for data in blobs:
                assert await content(barn, Address.of(data)) == data
            assert await content(barn, log) == b"a line of the night\n"
            assert len([info async for info in barn.entries()]) == len(addresses)

    with ExitStack() as back, ExitStack() as stack:
        servers = [serve(stack, tmp_path, name) for name in NAMES]
        asyncio.run(work(servers, back))


@asynccontextmanager
async def closing(server: Server, key: str | None = KEY) -> AsyncIterator[HTTPStore]:
    store = HTTPStore(server.url, api_key=key)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.mark.parametrize("size", [1000, 300 * KIB, 5 * MIB])
@pytest.mark.parametrize("part", [False, True])
def test_a_file_that_went_bad_is_noticed_served_from_the_twin_and_replaced(
    tmp_path: Path, size: int, part: bool
) -> None:
    data = fresh_bytes(size)

    async def work(servers: list[Server]) -> None:
        async with mirror_of(servers) as store:
            address = await store.put(data)
            path = servers[0].data / address.name
            damage(path)
            if part and size <= MIB:
                async with await store.get(address, Span(10, 20)) as reading:
                    assert await reading.read() == data[10:20]
            else:
                assert await content(store, address) == data

            assert path.read_bytes() == data
            assert store.degraded == {"attic": set(), "barn": set()}
        async with closing(servers[0]) as attic:
            assert await content(attic, address) == data

    with ExitStack() as stack:
        asyncio.run(work([serve(stack, tmp_path, name) for name in NAMES[:2]]))


def test_a_bad_file_that_the_server_does_not_let_go_is_served_from_the_twin_and_named(tmp_path: Path) -> None:
    data = fresh_bytes()

    async def work(servers: list[Server]) -> None:
        async with mirror_of(servers, key=None) as store:
            address = await store.put(data)
            damage(servers[0].data / address.name)

            assert await content(store, address) == data
            assert store.degraded == {"attic": {address}, "barn": set()}
            with pytest.raises(DamageError, match=r"attic has a damaged copy of .* and does not let it be replaced"):
                await store.repair(address)
            assert await content(store, address) == data
            with pytest.raises(AccessError, match=r"^attic: The server lists nothing"):
                [info async for info in store.entries()]

    with ExitStack() as stack:
        asyncio.run(work([serve(stack, tmp_path, name, key=None) for name in NAMES[:2]]))


def test_a_listing_does_without_a_server_that_has_no_key(tmp_path: Path) -> None:
    async def work(servers: list[Server]) -> None:
        members = [("attic", HTTPStore(servers[0].url)), ("barn", HTTPStore(servers[1].url, api_key=KEY))]
        store = MirrorStore(members)
        try:
            addresses = [await store.put(fresh_bytes()) for _ in range(5)]

            assert sorted([info.address async for info in store.entries()]) == sorted(addresses)
        finally:
            await store.aclose()

    with ExitStack() as stack:
        keyless, keyed = serve(stack, tmp_path, "attic", key=None), serve(stack, tmp_path, "barn")
        asyncio.run(work([keyless, keyed]))


def test_bursts_are_read_through_a_mirror_that_has_lost_a_server(tmp_path: Path) -> None:
    parts = [fresh_bytes(100 * KIB) for _ in range(20)]

    async def work(servers: list[Server]) -> None:
        async with mirror_of(servers) as store:
            addresses = [await store.put(part) for part in parts]
            burst = await store.put("\n".join(map(str, addresses)).encode())
        servers[0].stop(signal.SIGKILL)
        async with mirror_of(servers) as store:
            members = await plan(store, burst, 1)
            pieces = [await reading.read() async for reading in members.readings()]

            assert b"".join(pieces) == b"".join(parts)
            with pytest.raises(UnreachableError):
                await store.stat(fresh_address())

    with ExitStack() as stack:
        asyncio.run(work([serve(stack, tmp_path, name) for name in NAMES[:2]]))


@awaited
async def test_servers_of_the_original_kind_will_do() -> None:
    doubles = [OriginalServer("secret"), OriginalServer("secret")]
    async with AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(foreign(double))).url for double in doubles]
        members = [(name, HTTPStore(url, api_key="secret")) for name, url in zip(NAMES, urls, strict=False)]
        store = MirrorStore(members)
        stack.push_async_callback(store.aclose)
        data, log = fresh_bytes(200 * KIB), fresh_address()

        address = await store.put(streamed(*cut(data, 64 * KIB)))
        await store.append(log, b"one\n")
        await store.append(log, b"two\n")
        await store.write(fresh_address(), b"claimed", when=ABSENT)
        doubles[0].files[address.path] = data[:-1] + b"?"
        del doubles[1].files[log.path]

        assert await content(store, address) == data
        assert doubles[0].files[address.path] == data
        assert (await store.stat(address)).kind is Kind.BLOB
        async with await store.get(address, Span(-10)) as reading:
            assert await reading.read() == data[-10:]
        assert await store.missing([address, log]) == []
        await store.append(log, b"three\n")

        assert doubles[0].files == doubles[1].files
        assert doubles[1].files[log.path] == b"one\ntwo\nthree\n"
        assert {info.address async for info in store.entries()} >= {address, log}
