"""Small blobs of many callers, stored together by a store that takes many at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import DigestMismatchError, TooLargeError

if TYPE_CHECKING:
    from holdall.stores.abilities import BulkStoring


class BulkWriter:
    """Stores small blobs; those that come while the store is busy go together.

    Args:
        store: The store.
    """

    def __init__(self, store: BulkStoring) -> None:
        self._store = store
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, address: Address, data: bytes) -> None:
        """Stores a blob; it is as durable as the store was opened to be when this returns.

        Raises:
            DigestMismatchError: The bytes do not hash to `address`.
            StoreError: The store cannot take it.
        """
        if Address.of(data) != address:
            raise DigestMismatchError(f"The bytes do not hash to {address}.")
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, stored))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._store_what_waits())
        await stored

    async def aclose(self) -> None:
        """Waits until the store has answered; what still waits is not stored."""
        self._waiting.clear()
        if self._task is not None:
            await self._task

    async def _store_what_waits(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._store_group(group)

    async def _store_group(self, group: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            await self._store.put_many([data for data, _ in group])
        except Exception as raised:  # noqa: BLE001 - it belongs to those who wait
            error = raised
        if isinstance(error, TooLargeError) and len(group) > 1:  # which does not concern the others
            for one in group:
                await self._store_group([one])
            return
        for _, stored in group:
            if stored.done():
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)
