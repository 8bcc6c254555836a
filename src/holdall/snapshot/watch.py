"""Committing a tree again whenever it was changed.

What the system tells of changes starts a commit once the tree has been still for a moment; a timer starts one whatever
it tells. Each commit opens the store anew, so that a server that was away or a disk that was unmounted is taken up
again when it is back. A tree that is away itself, or was replaced by nothing, is waited for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from holdall.errors import ChangedError, HoldallError, LocalFileError, StoreError
from holdall.limits.snapshot import (
    WATCH_BLIND_SECONDS,
    WATCH_EVERY_SECONDS,
    WATCH_LOOK_SECONDS,
    WATCH_RETRY_SECONDS_MAX,
    WATCH_SETTLE_SECONDS,
    WATCH_SETTLE_SECONDS_MAX,
)
from holdall.snapshot.commit_directory import commit_directory
from holdall.snapshot.tree_events import TreeEvents, why_blind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from holdall.snapshot.commit import Report
    from holdall.snapshot.commit_directory import CommitOptions
    from holdall.stores.base import Store

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a tree is committed.

    Attributes:
        settle_seconds: It has to be still for this long.
        every_seconds: It is walked so often whatever is known of changes.
    """

    settle_seconds: float = WATCH_SETTLE_SECONDS
    every_seconds: float = WATCH_EVERY_SECONDS


class Watcher:
    """The watching of one tree.

    Args:
        root: Its directory.
        options: What of it is committed, and how.
        opened: Opens the store for one commit; told whether it may make a directory that is missing.
        on_commit: Told of each commit when all of it is durable, whether it differs from the last or not, with the
            store, which is open still. It is never cancelled; if it fails as a store does, the commit is made again.
        say: Told in a sentence what goes wrong, once, and when it is well again.
        pace: How often.

    Raises:
        SettingError: The package watchdog is not installed.
    """

    def __init__(
        self,
        root: str,
        options: CommitOptions,
        opened: Callable[[bool], AbstractAsyncContextManager[Store]],
        *,
        on_commit: Callable[[Store, Report], Awaitable[None]],
        say: Callable[[str], None],
        pace: Pace | None = None,
    ) -> None:
        self._root = root
        self._options = options
        self._opened = opened
        self._on_commit = on_commit
        self._say = say
        self._pace = pace or Pace()
        self._events: TreeEvents | None = None
        self._place = _Place(root)
        self._changes = _Changes()
        self._blind = False
        self._watched_turn = 0
        self._stored = False
        self._failures = 0
        self._told = ""
        """The slug of the error that was last told of, until it is mended."""
        self._away = False
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ends it: a commit that is under way is abandoned, and what it sent is there for the next. Called in the loop.

        Nothing of an abandoned commit can be seen, since its address comes last.
        """
        self._stop.set()
        self._changes.wake()

    async def run(self) -> None:
        """Commits the tree now, and then whenever it was changed, until `stop` is called.

        Raises:
            HoldallError: What waiting does not mend: it is wrongly used, refused for want of the API key, or damaged.
        """
        self._changes.begin()
        await asyncio.to_thread(self._place.look)
        try:
            while not self._stop.is_set():
                if await self._is_away():
                    await self._pause(WATCH_LOOK_SECONDS)
                    continue
                retry_seconds = await self._commit()
                await self._wait_for_change(retry_seconds)
        finally:
            await self._end_events()

    # --- the tree ---

    async def _is_away(self) -> bool:
        """Whether the tree is not in its place; says so once."""
        why = await asyncio.to_thread(self._place.why_away)
        if why is not None and not self._away:
            self._say(f"{self._root!r} {why}: waiting until it is back, and committing nothing.")
        elif why is None and self._away:
            self._say(f"{self._root!r} is back.")
        self._away = why is not None
        if self._away:
            await self._end_events()  # what is unmounted takes its watches along
        return self._away

    async def _see_to_events(self) -> None:
        """Watches the tree, if that is not done; falls back to walking where the system does not tell of all."""
        if self._place.turn != self._watched_turn:
            await self._end_events()
        error = None
        if self._events is None:
            self._watched_turn = self._place.turn
            self._events = await asyncio.to_thread(TreeEvents, self._root, self._options, self._changes.note)
            try:
                await asyncio.to_thread(self._events.start)
            except OSError as found:
                error = found
            if error is not None and error.errno in {errno.ENOENT, errno.ENOTDIR}:
                await self._end_events()
                raise LocalFileError(f"{self._root!r} cannot be read: {error.strerror}.") from error
        else:
            await asyncio.to_thread(self._events.refresh)
        blind = error is not None or not await asyncio.to_thread(self._events.is_whole)
        if blind and not self._blind:
            seconds = f"{min(self._pace.every_seconds, WATCH_BLIND_SECONDS):g}"
            self._say(f"Not all changes are told of, since {why_blind(error)}: walking the tree every {seconds} s.")
        self._blind = blind

    async def _end_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            await asyncio.to_thread(events.stop)

    # --- commits ---

    async def _commit(self) -> float | None:
        """Commits the tree; after how many seconds to try again, or None when it was done."""
        turn = self._place.turn
        try:
            await self._see_to_events()
            self._changes.forget()  # what has come until here will be seen by the walk
            async with self._opened(not self._stored) as store:
                self._stored = True
                report = await self._unless_stopped(commit_directory(store, self._root, self._options))
                if report is None or not await self._is_still(turn):
                    return 0.0
                await self._on_commit(store, report)
        except HoldallError as error:
            if not await self._is_still(turn):
                return 0.0
            if not isinstance(error, (StoreError, ChangedError, LocalFileError)):
                raise
            return self._failed(error)
        if self._told:
            self._say("Committing again.")
        self._told, self._failures = "", 0
        return None

    async def _is_still(self, turn: int) -> bool:
        """Whether the tree is the one that it was, and in its place."""
        return await asyncio.to_thread(self._place.why_away) is None and self._place.turn == turn

    def _failed(self, error: HoldallError) -> float:
        if self._told != error.slug:
            self._told = error.slug
            self._say(f"{error.sentence()} Trying again until it works.")
        self._failures += 1
        return float(min(2 ** min(self._failures - 1, 16), WATCH_RETRY_SECONDS_MAX))

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Does something to its end, or until `stop` is called: then it has been cancelled and has ended."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
        with suppress(asyncio.CancelledError):
            return await task
        return None

    # --- waiting ---

    async def _wait_for_change(self, retry_seconds: float | None) -> None:
        """Waits until the tree is to be committed again, or is not in its place."""
        every = min(self._pace.every_seconds, WATCH_BLIND_SECONDS) if self._blind else self._pace.every_seconds
        latest = time.monotonic() + (every if retry_seconds is None else retry_seconds)
        turn = self._place.turn
        while not self._stop.is_set():
            due = latest if retry_seconds is not None else min(latest, self._changes.due(self._pace.settle_seconds))
            left = due - time.monotonic()
            if left <= 0 or not await self._is_still(turn):
                return
            await self._pause(min(left, WATCH_LOOK_SECONDS), heed_changes=retry_seconds is None)

    async def _pause(self, seconds: float, *, heed_changes: bool = False) -> None:
        """Waits, but no longer than until `stop` is called, or the first change comes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changes.wait() if heed_changes else self._stop.wait(), seconds)


class _Changes:
    """When the tree was changed since the last commit began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first = self._last = float("inf")
        self._woken = asyncio.Event()

    def begin(self) -> None:
        self._loop = asyncio.get_running_loop()

    def note(self) -> None:
        """Notes a change, on any thread."""
        with self._lock:
            self._last = time.monotonic()
            if self._first > self._last:
                self._first = self._last
                with suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._woken.set)

    def forget(self) -> None:
        with self._lock:
            self._first = self._last = float("inf")
            self._woken.clear()

    def due(self, settle_seconds: float) -> float:
        """When the tree will have been still for long enough, or restless for too long."""
        with self._lock:
            return min(self._last + settle_seconds, self._first + max(settle_seconds, WATCH_SETTLE_SECONDS_MAX))

    def wake(self) -> None:
        self._woken.set()

    async def wait(self) -> None:
        """Waits for the first change; there may have been one already."""
        await self._woken.wait()
        self._woken.clear()


class _Place:
    """Where the tree is, so that it is known when something else is there.

    A mount point without its disk is an empty directory, and a tree that was swapped for another is not taken for it
    while that one is empty: a tree that was emptied in place is.

    Attributes:
        turn: How often a tree was found there that is not the one before.
    """

    def __init__(self, root: str) -> None:
        self.turn = 0
        self._root = root
        self._identity: tuple[int, int] | None = None
        self._mounted = False

    def look(self) -> None:
        """Remembers what is there now.

        Raises:
            LocalFileError: No directory is there.
        """
        try:
            self._remember(os.stat(self._root))
            os.scandir(self._root).close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LocalFileError(f"Cannot read the directory {self._root!r}: {reason}.") from error

    def why_away(self) -> str | None:
        """Why what is there is not the tree, or None if it is, or one that took its place."""
        try:
            status = os.stat(self._root)
            if (status.st_dev, status.st_ino) == self._identity:
                return None
            with os.scandir(self._root) as entries:
                empty = next(entries, None) is None
            if self._mounted and not os.path.ismount(self._root):
                return "is not mounted"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if empty:
            return "is another directory now, and empty"
        self._remember(status)
        return None

    def _remember(self, status: os.stat_result) -> None:
        self._identity = status.st_dev, status.st_ino
        self.turn += 1
        self._mounted = os.path.ismount(self._root)
