"""The timeline for asyncio: adds return when they are committed here, pushes follow behind them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from holdall.errors import HoldallError
from holdall.timeline.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
    from types import TracebackType

    from holdall.timeline.store import Blob, Problem, Stats
    from holdall.timeline.times import Timestamp

_Result = TypeVar("_Result")
_END: Final = object()


class AsyncStore:
    """A `Store` whose calls do not block the event loop.

    Concurrency: any number of calls at once, of one event loop. They are done one after the other on a thread; pushes
    are done on another, and one push takes all that was added before it began.

    Args:
        args: Those of `Store`.
        options: Those of `Store`; `push` says whether adds are pushed behind.
    """

    def __init__(self, *args: Any, push: bool = True, **options: Any) -> None:
        self._store = Store(*args, push=push, **options)
        self._push = push
        self._work = ThreadPoolExecutor(1, "holdall-timeline")
        self._pushes = ThreadPoolExecutor(1, "holdall-timeline-push")
        self._pushing: asyncio.Task[None] | None = None
        self._unpushed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits for the last push, whether it succeeds or not, and lets go of the store."""
        if self._pushing is not None:
            await asyncio.wait([self._pushing])
        await self._do(self._store.close)
        self._work.shutdown()
        self._pushes.shutdown()

    async def addblob(self, blob: bytes, timestamp: Timestamp = None, *, label: str | None = None) -> None:
        """Adds a blob; see `Store.addblob`. It is durable here when this returns, and pushed behind."""
        await self.addblobs((blob,), (timestamp,), label=label)

    async def addblobs(
        self, blobs: Iterable[bytes], timestamps: Iterable[Timestamp] | None = None, *, label: str | None = None
    ) -> None:
        """Adds blobs; see `Store.addblobs`. They are durable here when this returns, and pushed behind."""
        await self._do(partial(self._store.addblobs, blobs, timestamps, label=label, push=False))
        if self._push and self._store.has_remote():
            self._unpushed = True
            if self._pushing is None or self._pushing.done():
                self._pushing = asyncio.create_task(self._push_behind())

    async def getblobs(self, *args: Any, **options: Any) -> AsyncGenerator[Blob, None]:
        """Yields blobs; arguments and errors are those of `Store.getblobs`."""
        blobs = self._store.getblobs(*args, **options)
        while (blob := await self._next(blobs)) is not _END:
            yield blob

    async def verify(self) -> AsyncGenerator[Problem, None]:
        """Yields what is wrong; see `Store.verify`."""
        problems = self._store.verify()
        while (problem := await self._next(problems)) is not _END:
            yield problem

    async def stats(self) -> Stats:
        """What the timeline holds; see `Store.stats`."""
        return await self._do(self._store.stats)

    async def pull(self) -> None:
        """Fetches from the remote; see `Store.pull`."""
        await self._do(self._store.pull)

    async def push(self) -> None:
        """Pushes now; see `Store.push`."""
        await self._push_all(sure=True)

    async def flush(self) -> None:
        """Returns when all that was added is pushed.

        Raises:
            RepoPushError: The remote did not take it; it is stored here, and goes out with the next push.
        """
        while self._pushing is not None and not self._pushing.done():
            await asyncio.wait([self._pushing])
        if self._store.push_error is not None:
            await self.push()

    async def _push_all(self, *, sure: bool) -> None:
        self._unpushed = False
        await asyncio.get_running_loop().run_in_executor(self._pushes, partial(self._store.push, sure=sure))

    async def _push_behind(self) -> None:
        while self._unpushed:
            try:
                await self._push_all(sure=False)
            except HoldallError as error:
                self._store.report(error)

    async def _next(self, values: Iterator[_Result]) -> Any:
        return await self._do(partial(next, values, _END))

    async def _do(self, call: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._work, call)
