"""Many clients at once against several worker processes: one winner, no lost update, nothing seen half done."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

from holdall.core.address import Address
from holdall.errors import AlreadySetError
from holdall.stores.base import ABSENT
from holdall.stores.directory import DirectoryStore
from holdall.testing.contract import fresh_address, fresh_bytes
from holdall.testing.racing import line, lines_of, outcomes, won
from plain_client import Plain, PlainClient
from support import running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator

    from support import Server

CLIENTS = 50
ROUNDS = 200
LINES = 100
LARGE_BYTES = 1_300_000
RETENTION_SECONDS = 0.6

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("races") / "data", "--workers", "3", "--retention", "off", durable=True
    ) as server:
        yield server


@asynccontextmanager
async def connected(server: Server, count: int) -> AsyncIterator[list[PlainClient]]:
    """Clients, a connection each; the kernel spreads them over the workers."""
    clients = [await PlainClient.connect(server.port) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


async def at_once(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """What all of these calls answer, started together."""
    return await asyncio.gather(*calls)


def statuses(answers: list[Plain]) -> list[int]:
    return sorted(answer.status for answer in answers)


@pytest.mark.parametrize("header", [False, True], ids=["setifnot", "If-None-Match"])
def test_of_fifty_exclusive_creates_exactly_one_wins(server: Server, header: bool) -> None:
    async def race() -> None:
        async with connected(server, CLIENTS) as clients:
            for turn in range(50 if header else ROUNDS):
                path = fresh_address().path
                size_bytes = {0: 70_000, 25: LARGE_BYTES}.get(turn % 50, 40)
                values = [fresh_bytes(size_bytes) for _ in clients]
                if header:
                    calls = [
                        client.ask("PUT", path, value, If_None_Match="*")
                        for client, value in zip(clients, values, strict=True)
                    ]
                else:
                    calls = [
                        client.ask("PUT", f"{path}?setifnot=1", value)
                        for client, value in zip(clients, values, strict=True)
                    ]
                answers = await at_once(calls)
                stored = await clients[turn % CLIENTS].ask("GET", path)

                assert statuses(answers) == [200] + [409] * (CLIENTS - 1)
                assert {answer.body for answer in answers if answer.status == 409} == {b""}
                assert stored.body == values[[answer.status for answer in answers].index(200)]

    asyncio.run(race())


def test_of_fifty_takers_exactly_one_gets_the_value(server: Server) -> None:
    async def race() -> None:
        async with connected(server, CLIENTS) as clients:
            for turn in range(ROUNDS):
                path, value = fresh_address().path, fresh_bytes({0: 70_000, 50: LARGE_BYTES}.get(turn % 100, 40))
                assert (await clients[turn % CLIENTS].ask("PUT", path, value)).status == 200

                answers = await at_once([client.ask("GET", f"{path}?take=1") for client in clients])

                assert statuses(answers) == [200] + [404] * (CLIENTS - 1)
                assert [answer.body for answer in answers if answer.status == 200] == [value]

    asyncio.run(race())


def test_lines_appended_by_fifty_clients_are_whole_and_each_there_once(server: Server) -> None:
    address = fresh_address()

    async def append(client: PlainClient, sender: int) -> None:
        for number in range(LINES):
            size_bytes = 70_000 if (sender, number % 50) == (7, 11) else sender
            answer = await client.ask("PUT", f"{address.path}?append=1", line(sender, number, size_bytes))
            assert answer.status == 200

    async def race() -> bytes:
        async with connected(server, CLIENTS + 2) as [*clients, first, second]:
            writing = asyncio.gather(*(append(client, sender) for sender, client in enumerate(clients)))
            while not writing.done():
                for reader in (first, second):
                    seen = await reader.ask("GET", address.path)
                    lines_of(seen.body if seen.status == 200 else b"")
            await writing
            return (await first.ask("GET", address.path)).body

    found = lines_of(asyncio.run(race()))

    assert sorted(found) == [(sender, number) for sender in range(CLIENTS) for number in range(LINES)]


def value_of(letter: int, size_bytes: int) -> bytes:
    """A value of which every byte says which it is."""
    return b"%d %d " % (letter, size_bytes) + bytes([letter]) * size_bytes


@pytest.mark.parametrize("sizes_bytes", [(0, 10, 3000), (0, 10, 66_000, LARGE_BYTES)], ids=["small", "large"])
def test_a_reader_never_sees_a_mix_of_two_values(server: Server, sizes_bytes: tuple[int, ...]) -> None:
    path = fresh_address().path

    async def write(client: PlainClient, letter: int) -> None:
        for turn in range(60):
            value = value_of(letter, sizes_bytes[(turn + letter) % len(sizes_bytes)])
            assert (await client.ask("PUT", path, value)).status == 200

    async def read(client: PlainClient, writing: asyncio.Future[list[None]]) -> None:
        while not writing.done():
            answer = await client.ask("GET", path)
            letter, size_bytes, _ = answer.body.split(b" ", 2)
            assert answer.body == value_of(int(letter), int(size_bytes))

    async def race() -> None:
        async with connected(server, 12) as clients:
            await clients[0].ask("PUT", path, value_of(97, 1))
            writing = asyncio.gather(*(write(client, 97 + number) for number, client in enumerate(clients[:4])))
            await at_once([read(client, writing) for client in clients[4:]])
            await writing

    asyncio.run(race())


def test_a_part_is_of_the_version_that_the_condition_names(server: Server) -> None:
    path = fresh_address().path

    async def write(client: PlainClient, reading: asyncio.Future[list[int]]) -> None:
        while not reading.done():
            assert (await client.ask("PUT", path, fresh_bytes(100))).status == 200

    async def read(client: PlainClient) -> int:
        parts = 0
        for turn in range(100):
            named = (await client.ask("GET", path)).headers["etag"]
            condition = "If_Match" if turn % 2 else "If_Range"
            answer = await client.ask("GET", path, b"", Range="bytes=5-9", **{condition: named})
            if answer.status == 206:
                assert answer.headers["etag"] == named
                parts += 1
        return parts

    async def race() -> int:
        async with connected(server, 6) as clients:
            await clients[0].ask("PUT", path, b"0123456789")
            reading = asyncio.gather(*(read(client) for client in clients[2:]))
            await at_once([write(client, reading) for client in clients[:2]])
            await reading
            return await read(clients[0])

    assert asyncio.run(race()) == 100  # once nobody writes any more


def test_no_increment_by_compare_and_swap_is_lost(server: Server) -> None:
    path, increments = fresh_address().path, 15

    async def increment(client: PlainClient) -> int:
        refused = 0
        for _ in range(increments):
            while True:
                seen = await client.ask("GET", path)
                answer = await client.ask("PUT", path, b"%d" % (int(seen.body) + 1), If_Match=seen.headers["etag"])
                if answer.status == 200:
                    break
                assert answer.status == 412
                refused += 1
        return refused

    async def race() -> tuple[int, bytes]:
        async with connected(server, 16) as clients:
            await clients[0].ask("PUT", path, b"0")
            refused = sum(await at_once([increment(client) for client in clients]))
            return refused, (await clients[0].ask("GET", path)).body

    refused, total = asyncio.run(race())

    assert total == b"%d" % (16 * increments)
    assert refused > 0


def test_a_store_opened_beside_the_server_takes_part_in_every_race(server: Server) -> None:
    async def race(store: DirectoryStore) -> None:
        async with connected(server, 8) as clients:
            log = fresh_address()
            for turn in range(20):
                address, blob = fresh_address(), fresh_bytes((40, 70_000)[turn % 2])
                from_store = outcomes(
                    (store.write(address, b"store %d" % racer, when=ABSENT) for racer in range(8)), AlreadySetError
                )
                from_clients = at_once(
                    [client.ask("PUT", f"{address.path}?setifnot=1", b"client") for client in clients]
                )
                inside, outside = await asyncio.gather(from_store, from_clients)
                assert len(won(inside)) + [answer.status for answer in outside].count(200) == 1

                await asyncio.gather(
                    *(client.ask("PUT", f"{log.path}?append=1", line(n, turn)) for n, client in enumerate(clients)),
                    *(store.append(log, line(8 + racer, turn)) for racer in range(8)),
                )

                assert await store.put(blob) == Address.of(blob)
                assert (await clients[0].ask("GET", Address.of(blob).path)).body == blob
                await store.delete(Address.of(blob))
                assert statuses(await at_once([client.ask("GET", Address.of(blob).path) for client in clients])) == [
                    404
                ] * len(clients)

            async with await store.get(log) as reading:
                found = lines_of(await reading.read())
            assert sorted(found) == [(sender, turn) for sender in range(16) for turn in range(20)]

    async def run() -> None:
        store = await DirectoryStore.open(str(server.data))
        try:
            await race(store)
        finally:
            await store.aclose()

    asyncio.run(run())


async def store(client: PlainClient, number: int) -> str:
    """Stores a blob or a slot, small or large; its path."""
    data = fresh_bytes(70_000 if number % 8 > 5 else 40)
    return (await client.ask("PUT", fresh_address().path if number % 2 else "/", data)).body.decode()


async def use(client: PlainClient, number: int, gap_seconds: float, until: float) -> None:
    """Reads an entry again and again; where this machine stood still so long it may be missing, rightly."""
    path, last = "", 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await client.ask("GET", path) if path else None
        if answer is None or answer.status == 404:
            assert not path or time.monotonic() - last > RETENTION_SECONDS, f"{path} was used {began - last:g} s before"
            began = time.monotonic()
            path = await store(client, number)
        last = began
        await asyncio.sleep(gap_seconds)


def test_a_sweep_never_deletes_what_was_just_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = ("--workers", "3", "--retention", f"{RETENTION_SECONDS * 1000:g}ms", "--sweep-interval", "10ms")

    async def gone(client: PlainClient, path: str) -> bool:
        return (await client.ask("GET", f"{path}?chtimes=0")).status == 404

    async def race(server: Server) -> None:
        async with connected(server, 9) as [*clients, other]:
            unused = [await store(other, number) for number in range(8)]
            until = time.monotonic() + 8 * RETENTION_SECONDS
            gaps = [0.0, 0.03, 0.2, RETENTION_SECONDS * 0.6]
            await at_once([use(client, n, gaps[n // 2], until) for n, client in enumerate(clients)])
            async with asyncio.timeout(60):
                for path in unused:
                    while not await gone(other, path):
                        pass

    with running_server(tmp_path_factory.mktemp("sweep") / "data", *options, durable=True) as server:
        asyncio.run(race(server))
