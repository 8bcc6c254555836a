"""The HTTP store against a live holdall server, held to the contracts of every store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from holdall.limits import MIB
from holdall.stores.http import HTTPStore
from holdall.testing.conformance import StoreConformance
from support import Server, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = "a key that only these tests know"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("served") / "data"
    data.mkdir()
    (data / "apikey").write_text(KEY)
    with running_server(data, "--max-size", "16MiB", "--retention", "1h", "--workers", "2") as running:
        yield running


class TestHTTPStore(StoreConformance):
    lasting = True
    shows_use = False
    body_bytes_max = 16 * MIB

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
