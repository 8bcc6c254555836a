"""Kills a server and all its workers in the middle of their work, and looks at what the next one finds."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import sys
from contextlib import suppress
from itertools import repeat
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import pytest

from holdall.core.address import Address, is_entry_name
from holdall.stores.entry_file import BLOB_MODE, SLOT_MODE, TEMPORARY_PREFIX
from plain_client import PlainClient
from support import running_server, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support import Server

LONG = bool(os.environ.get("HOLDALL_TEST_LONG"))
KILLS = 100 if LONG else 20
CLIENTS = 8
KEY = "a key for tests"
SMALL, LARGE = (20, 200, 3000, 60_000), (70_000, 300_000, 1_500_000)

Value: TypeAlias = "bytes | None"


class Client:
    """Changes entries of its own over HTTP, and knows what was acknowledged and what may have happened since.

    Attributes:
        acknowledged: What each address must hold.
        asked: What it may hold instead: the one change that got no answer.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)
        self._blobs = [self._random.randbytes(size) for size in (*SMALL, *SMALL, *LARGE)]
        self._slots = [Address(self._random.randbytes(32)) for _ in range(5)]
        self.acknowledged: dict[Address, Value] = {}
        self.asked: dict[Address, Value] = {}

    async def work(self, port: int, begun: asyncio.Event) -> int:
        """Sends requests until the server is gone; returns how many were answered.

        Args:
            port: The server's.
            begun: Set at the first answer.
        """
        answered = 0
        with suppress(ConnectionError):
            connection = await PlainClient.connect(port)
            try:
                while True:
                    await (self._blob(connection) if self._random.random() < 0.5 else self._slot(connection))
                    answered += 1
                    begun.set()
            finally:
                connection.close()
        return answered

    async def _blob(self, connection: PlainClient) -> None:
        data = self._random.choice(self._blobs) if self._random.random() < 0.8 else self._random.randbytes(500)
        address = Address.of(data)
        if self.acknowledged.get(address) is not None and self._random.random() < 0.5:
            await self._change(connection, f"DELETE {address.path}", address, None)
        else:
            await self._change(connection, "PUT /", address, data)

    async def _slot(self, connection: PlainClient) -> None:
        address = self._random.choice(self._slots)
        before = self.acknowledged.get(address)
        data = self._random.randbytes(self._random.choice(SMALL if self._random.random() < 0.9 else LARGE))
        way = self._random.random()
        if before is None:
            await self._change(connection, f"PUT {address.path}?setifnot=1", address, data)
        elif way < 0.35:
            await self._change(connection, f"PUT {address.path}", address, data)
        elif way < 0.8 and len(before) < LARGE[-1]:
            await self._change(connection, f"PUT {address.path}?append=1", address, before + data, data)
        else:
            await self._change(connection, f"GET {address.path}?take=1", address, None)

    async def _change(
        self, connection: PlainClient, request: str, address: Address, value: Value, body: Value = None
    ) -> None:
        method, target = request.split()
        before = self.acknowledged.get(address)
        self.asked[address] = value
        sent = body if body is not None else value or b""
        answer = await connection.ask(method, target, sent, Authorization=f"Bearer {KEY}")
        assert answer.status == 200, (method, target, answer)
        if method == "GET":
            assert answer.body == before
        self.acknowledged[address] = value
        del self.asked[address]

    async def check(self, connection: PlainClient) -> list[str]:
        """What the server holds that it must not, or does not hold that it must; takes what is as acknowledged."""
        faults = []
        for address in self.acknowledged.keys() | self.asked.keys():
            answer = await connection.ask("GET", address.path + "?chtimes=0")
            found = answer.body if answer.status == 200 else None
            allowed = [self.acknowledged.get(address)]
            if address in self.asked:
                allowed.append(self.asked.pop(address))
            if found not in allowed:
                faults.append(f"{address} is {_shown(found)}, not {' or '.join(map(_shown, allowed))}")
            self.acknowledged[address] = found
        return faults


@pytest.mark.timeout(3000 if LONG else 900)
def test_a_killed_server_has_lost_nothing_and_left_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = os.environ.get("HOLDALL_TEST_SEED") or str(secrets.randbelow(1 << 32))
    random, data = Random(seed), tmp_path / "data"
    clients = [Client(f"{seed} {number}") for number in range(CLIENTS)]
    answered, faults = 0, []

    for kill in range(KILLS + 1):
        durability = random.choice(("sync", "sync", "os"))
        # Sweeps come often, for one may see what was killed while it is still on its way out.
        often = ("--sweep-interval", "1s")
        options = ("--workers", "3", "--retention", "off", "--durability", durability, *often)
        with running_server(data, *options, env={"HOLDALL_API_KEY": KEY}) as server:
            faults += [f"after kill {kill}: {fault}" for fault in asyncio.run(_checked(server, clients))]
            faults += [f"after kill {kill}: {fault}" for fault in _damaged(data)]
            wait_until(lambda: not _leftovers(data), "the sweep has removed temporary files of killed processes")
            if kill < KILLS:
                answered += asyncio.run(_work_until_killed(server, clients, random))
        assert faults == [], f"HOLDALL_TEST_SEED={seed}"
    _say(capsys, f"{KILLS} kills, {answered} answers, HOLDALL_TEST_SEED={seed}")

    held = {address.name for client in clients for address, value in client.acknowledged.items() if value is not None}
    assert {name for name in os.listdir(data) if is_entry_name(name)} == held
    assert {name for name in os.listdir(data) if not is_entry_name(name)} == {".holdall-control"}
    assert answered >= KILLS * CLIENTS


async def _checked(server: Server, clients: list[Client]) -> list[str]:
    connection = await PlainClient.connect(server.port)
    try:
        assert (await connection.ask("GET", "/-/health")).status == 200
        return [fault for client in clients for fault in await client.check(connection)]
    finally:
        connection.close()


async def _work_until_killed(server: Server, clients: list[Client], random: Random) -> int:
    """Lets all clients work, kills everything at a moment of chance, and returns how many requests were answered."""
    delay_seconds, with_children = random.uniform(0.02, 0.6), random.random() < 0.7
    each_begun = [asyncio.Event() for _ in clients]
    working = asyncio.gather(*map(Client.work, clients, repeat(server.port), each_begun))
    all_begun = asyncio.gather(*(begun.wait() for begun in each_begun))
    await asyncio.wait((working, all_begun), return_when=asyncio.FIRST_COMPLETED)
    asyncio.get_running_loop().call_later(delay_seconds, _kill, server, with_children)
    answered = sum(await working)
    server.process.wait()
    return answered


def _kill(server: Server, with_children: bool) -> None:
    """Kills the supervisor first, so that it starts no further worker, then the workers.

    Args:
        server: The server.
        with_children: Also what the workers started; else that ends by itself, in the middle of the next server.
    """
    workers = _children(server.process.pid)
    helpers = [helper for worker in workers for helper in _children(worker)] if with_children else []
    for pid in (server.process.pid, *workers, *helpers):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
    return []


def _damaged(data: Path) -> list[str]:
    """The blobs that do not hash to their names, and the entries that are neither blob nor slot."""
    faults = []
    for path in data.iterdir():
        if is_entry_name(path.name):
            mode, digest = path.stat().st_mode & 0o777, hashlib.sha256(path.read_bytes()).hexdigest()
            if mode not in {BLOB_MODE, SLOT_MODE}:
                faults.append(f"{path.name} has mode {mode:o}")
            if mode == BLOB_MODE and digest != path.name[:64]:
                faults.append(f"{path.name} does not match its name")
    return faults


def _leftovers(data: Path) -> list[str]:
    return [name for name in os.listdir(data) if name.startswith(TEMPORARY_PREFIX)]


def _shown(value: Value) -> str:
    return "missing" if value is None else f"{len(value)} bytes ({hashlib.sha256(value).hexdigest()[:8]})"


def _say(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {sentence} ")
