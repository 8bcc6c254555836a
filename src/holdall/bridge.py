"""From code that waits to code that runs in an event loop: a loop on a thread of its own.

What a caller brings (a file, a generator) is read on the caller's own thread, and what he iterates over is handed to
him there, so his objects never see another thread. Ctrl-C while he waits ends the work he waits for, and then reaches
him.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from holdall.errors import BusyError, HoldallError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

_T = TypeVar("_T")


class _Closable(Protocol):
    async def aclose(self) -> None: ...


_C = TypeVar("_C", bound=_Closable)
_BATCH_MAX: Final = 1024
"""Items that cross from the loop's thread at once; the first crosses alone."""


def _closed_error() -> UsageError:
    return UsageError("The store is closed.", hint="Open it again with holdall.open.")


class _Call(Generic[_T]):
    """Something that the loop does and a thread waits for."""

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self.outcome: Future[_T] = Future()
        self._work = work
        self._task: asyncio.Task[_T] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[_T]) -> None:
        if task.cancelled():
            self.outcome.set_exception(_closed_error())
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class LoopThread:
    """An event loop on a thread of its own.

    Concurrency: any number of threads may call at once. A fork takes no thread along, so a child cannot use it.

    Raises:
        BusyError: The machine has no thread or descriptors left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._process = os.getpid()
        self._owned: dict[int, Any] = {}
        """What has to be closed before the loop ends, oldest first."""
        self._closing: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        begun: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._main, args=(begun,), name="holdall-loop", daemon=True)
        try:
            self._thread.start()
            self._loop = begun.result()
        except (OSError, RuntimeError) as error:
            raise BusyError(f"No event loop can be started: {error}.") from error

    # --- for threads that wait ---

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Does something in the loop and waits for it.

        Raises:
            UsageError: The loop has ended or ends meanwhile, is another process's, or waits for this very thread.
            BaseException: As the work, or what interrupts the waiting; then the work has been cancelled and has ended.
        """
        return self._wait(self._begin(work))

    def run_fed(self, take: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, _T]], pieces: Iterator[bytes]) -> _T:
        """Does something in the loop that takes in pieces of bytes, which are made on the calling thread.

        Raises:
            BaseException: As `run`, or what making a piece raised; then the work has been cancelled and has ended.
        """
        asked: queue.SimpleQueue[asyncio.Future[bytes] | None] = queue.SimpleQueue()

        async def body() -> AsyncIterator[bytes]:
            while True:
                wanted = asyncio.get_running_loop().create_future()
                asked.put(wanted)
                piece = await wanted
                if not piece:
                    return
                yield piece

        call = self._begin(take(body()))
        call.outcome.add_done_callback(lambda _: asked.put(None))
        try:
            while (wanted := asked.get()) is not None:
                self._tell(_give, wanted, next((piece for piece in pieces if piece), b""))
        except BaseException:
            self._abort(call)
            raise
        return self._wait(call)

    def iterate(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        """Yields what an asynchronous iterator yields; errors as `run`."""
        size = 1
        self._tell(self._own, items)
        try:
            while True:
                batch, error = self.run(some(items, size))
                yield from batch
                if error is not None:
                    raise error
                if len(batch) < size:
                    return
                size = min(2 * size, _BATCH_MAX)
        finally:
            self.let_go(items)

    def let_go(self, thing: Any) -> None:
        """Has something closed by the loop, without waiting: any thread may get here while it collects garbage."""
        if self._process == os.getpid():
            self._tell(self._begin_closing, thing)

    def close(self, *, waiting: bool = True) -> None:
        """Ends what is under way, closes what is open, the oldest last, and ends the loop. Twice is harmless.

        Raises:
            HoldallError: The oldest could not be closed as it should.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._tell(self._over.set)
        if waiting:
            self._thread.join()
            if self._failure is not None:
                raise self._failure

    @property
    def is_open(self) -> bool:
        """Whether it takes calls."""
        return not self._closed and self._process == os.getpid()

    # --- for what runs in the loop ---

    async def owned(self, opening: Callable[[], Awaitable[_C]]) -> _C:
        """What is opened, which is closed before the loop ends unless that was done before."""
        thing = await opening()
        self._own(thing)
        return thing

    async def disown(self, thing: _C) -> None:
        """Closes something that is owned, once all that was let go of before is closed; errors as of closing it."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        try:
            await thing.aclose()
        finally:
            self._owned.pop(id(thing), None)

    # --- inside ---

    def _begin(self, work: Coroutine[Any, Any, _T]) -> _Call[_T]:
        call = _Call(work)
        try:
            self._check()
            with self._lock:
                self._check_open()
                self._loop.call_soon_threadsafe(call.begin)
        except BaseException:
            work.close()
            raise
        return call

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _own(self, thing: Any) -> None:
        self._owned[id(thing)] = thing

    def _check(self) -> None:
        if self._process != os.getpid():
            raise UsageError("The store was opened by another process.", hint="Open it anew after a fork.")
        if threading.get_ident() == self._thread.ident:
            raise UsageError("A callback cannot use the store that called it.", hint="Do it when the call returns.")

    def _wait(self, call: _Call[_T]) -> _T:
        try:
            return call.outcome.result()
        except BaseException:
            self._abort(call)
            raise

    def _abort(self, call: _Call[Any]) -> None:
        """Ends a call, unless it has ended, and waits for that."""
        if not call.outcome.done():
            self._tell(call.cancel)
            wait([call.outcome])

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all that could be told
            self._loop.call_soon_threadsafe(what, *args)

    def _main(self, begun: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(begun))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the thread shall have it
            if begun.done():
                self._failure = error
            else:
                begun.set_exception(error)
        finally:
            self._closed = True

    async def _serve(self, begun: Future[asyncio.AbstractEventLoop]) -> None:
        self._over = asyncio.Event()
        begun.set_result(asyncio.get_running_loop())
        await self._over.wait()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks - self._closing:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        *newer, oldest = self._owned.values() or (None,)
        for thing in reversed(newer):
            with suppress(HoldallError):
                await thing.aclose()
        if oldest is not None:
            await oldest.aclose()

    def _begin_closing(self, thing: Any) -> None:
        if id(thing) in self._owned:
            closing = asyncio.get_running_loop().create_task(self._close_one(thing))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_one(self, thing: Any) -> None:
        with suppress(HoldallError):
            await thing.aclose()
        self._owned.pop(id(thing), None)


def _give(wanted: asyncio.Future[bytes], piece: bytes) -> None:
    if not wanted.done():
        wanted.set_result(piece)


async def some(items: AsyncIterator[_T], size: int) -> tuple[list[_T], BaseException | None]:
    """The next items, and the error, if any, that ended them before there were `size`."""
    found: list[_T] = []
    try:
        async for item in items:
            found.append(item)
            if len(found) == size:
                break
    except Exception as error:  # noqa: BLE001 - raised again when what came before it has been handed over
        return found, error
    return found, None
