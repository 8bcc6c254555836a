"""The sweeper: removes what has expired, at a pace that no request notices."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from holdall.errors import HoldallError
from holdall.server.metrics import ENTRIES, ENTRY_BYTES, EXPIRED, SWEEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.server.log import Log
    from holdall.server.metrics import Metrics
    from holdall.server.settings import Settings
    from holdall.stores.directory import DirectoryStore

_T = TypeVar("_T")
_SECOND_NS: Final = 1_000_000_000
_PAUSE_SHARE: Final = 3
"""After each batch the sweep rests this many times as long as the batch took: it uses a quarter of a core at most."""
_PERIOD_SECONDS_MIN: Final = 0.2
_PERIOD_SECONDS_MAX: Final = 3600.0


class Sweeper:
    """Sweeps one store, in one worker of the server, for as long as the server runs.

    Args:
        store: What is swept.
        settings: The retention, and the pause between sweeps.
        metrics: Where what it sees is counted.
        log: Where it says what goes wrong.
    """

    def __init__(self, store: DirectoryStore, settings: Settings, metrics: Metrics, log: Log) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log
        self._period = settings.sweep_seconds or _period_seconds(settings.retention_ns)

    async def run(self) -> None:
        """Sweeps, rests, and sweeps again, until cancelled."""
        while True:
            try:
                if await _in_thread(self._store.may_sweep):
                    await self._sweep()
            except (HoldallError, OSError) as error:
                self._log.say(f"A sweep failed and will be tried again: {error}")
            await asyncio.sleep(self._period)

    async def _sweep(self) -> None:
        report, removed = None, 0
        sweep = self._store.sweep()
        while True:
            started = time.monotonic()
            report = await _in_thread(partial(next, sweep, None))
            if report is None:
                break
            self._metrics.add(EXPIRED, report.removed - removed)
            removed, entries, size_bytes = report.removed, report.entries, report.size_bytes
            await asyncio.sleep((time.monotonic() - started) * _PAUSE_SHARE)
        self._metrics.add(SWEEPS)
        self._metrics.set(ENTRIES, entries)
        self._metrics.set(ENTRY_BYTES, size_bytes)


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Calls on a thread; cancelled, it waits for the call to end, lest the store be closed under it."""
    under_way = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        await asyncio.wait([under_way])
        raise


def _period_seconds(retention_ns: int | None) -> float:
    """The rest between sweeps: a small part of the retention, so that what has expired goes soon after."""
    if retention_ns is None:
        return _PERIOD_SECONDS_MAX
    return min(max(retention_ns / _SECOND_NS / 32, _PERIOD_SECONDS_MIN), _PERIOD_SECONDS_MAX)
