"""Several providers: real servers with a key, which die, lie and lose everything on demand; and reading from them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from holdall.stores.http import HTTPStore
from support import Server, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from holdall.core.address import Address
    from holdall.stores.base import Store

T = TypeVar("T", bound="Store")
KEY = "the key of all providers"


class Providers:
    """Running servers.

    Args:
        place: Where their data directories are made.
        count: How many.
        running: Ends them.

    Attributes:
        urls: Theirs, in order.
        secret: For a composite of them.
    """

    def __init__(self, place: Path, count: int, running: ExitStack) -> None:
        self._running = running
        with ThreadPoolExecutor() as threads:
            self._servers = list(threads.map(lambda number: self._started(place / f"provider{number}"), range(count)))
        self.urls = [server.url for server in self._servers]
        self.secret = secrets.token_bytes(32)

    def renew(self) -> None:
        """Starts those that were ended, and draws a secret under which they hold nothing yet."""
        self.secret = secrets.token_bytes(32)
        for number, server in enumerate(self._servers):
            if server.process.poll() is not None:
                self.revive(number)

    def members(self) -> list[Store]:
        """New clients, one of each."""
        return [HTTPStore(url, api_key=KEY) for url in self.urls]

    def files(self, number: int) -> list[Path]:
        """The files of one server's entries."""
        return sorted(self._servers[number].data.glob("*.tig"))

    def kill(self, number: int) -> None:
        """Ends one, as a loss of power would."""
        self._servers[number].stop(signal.SIGKILL)

    def revive(self, number: int) -> None:
        """Starts one again where it was."""
        server = self._servers[number]
        self._servers[number] = self._started(server.data, "--port", str(server.port))

    def wipe(self, number: int) -> None:
        """Takes all that one holds; it runs again, with nothing."""
        self.kill(number)
        shutil.rmtree(self._servers[number].data)
        self.revive(number)

    def make_lie(self, number: int) -> None:
        """Flips a bit in each 4 KiB and at the end of every entry of one."""
        for path in self.files(number):
            data = bytearray(path.read_bytes())
            for at in {*range(0, len(data), 4096), len(data) - 1}:
                data[at] ^= 0x20
            overwrite(path, bytes(data))

    def _started(self, data: Path, *options: str) -> Server:
        return self._running.enter_context(running_server(data, *options, env={"HOLDALL_API_KEY": KEY}))


@contextmanager
def providers(place: Path, count: int) -> Iterator[Providers]:
    """Runs so many servers until the end of the block."""
    with ExitStack() as running:
        yield Providers(place, count, running)


@asynccontextmanager
async def opened(make: Callable[[list[Store]], T], members: list[Store]) -> AsyncIterator[T]:
    """A composite of these members until the end of the block."""
    store = make(members)
    try:
        yield store
    finally:
        await store.aclose()


async def content(store: Store, address: Address) -> bytes:
    """All bytes at `address`."""
    async with await store.get(address) as reading:
        return await reading.read()


def overwrite(path: Path, data: bytes) -> None:
    """Changes an entry's file behind its server's back, its times and mode left as they are."""
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
