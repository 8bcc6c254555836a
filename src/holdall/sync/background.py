"""Large files, moved beside the rounds of a daemon, so that small ones never wait for them."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Final

from holdall.errors import HoldallError
from holdall.limits.sync import SYNC_BACKOFF_SECONDS_MIN, SYNC_KEPT_SECONDS
from holdall.sync.large import FROM_STORE, NO_STORE, TO_STORE
from holdall.sync.transfer import Mover
from holdall.sync.transport import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdall.sync.folder import Folder
    from holdall.sync.transfer import Opener

_WAITS: Final = {TO_STORE, FROM_STORE, NO_STORE}


class Runner:
    """Moves large files beside the rounds of a daemon, and tries again what did not succeed.

    Args:
        folder: As for `Mover`.
        open_store: As there.
        gives: As there.
        say: As there.
        wake: Called when `moved` has something.
    """

    def __init__(
        self,
        folder: Folder,
        open_store: Opener,
        *,
        gives: Callable[[], bool],
        say: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._mover = Mover(folder, open_store, gives=gives, say=say, tell=self._tell)
        self._say = say
        self._wake = wake
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._known: set[str] = set()
        self._news = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, skipped: Mapping[str, str]) -> None:
        """Hears what a round left alone, and has it moved if that is new."""
        waits = {path for path, why in skipped.items() if why in _WAITS}
        is_new = not waits <= self._known or any(skipped[path] == TO_STORE for path in waits)
        self._known = waits
        if is_new:
            self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def moved(self) -> set[str]:
        """The paths for which a round is due; each is told once."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def stop(self) -> None:
        """Ends what is under way."""
        self._over.set()
        self._news.set()
        self._mover.stop()
        if self._thread is not None:
            self._thread.join(SYNC_BACKOFF_SECONDS_MIN)

    def _tell(self, path: str) -> None:
        with self._lock:
            self._paths.add(path)
        self._wake()

    def _work(self) -> None:
        failures, said = 0, ""
        while not self._over.is_set():
            self._news.clear()
            try:
                error = self._mover.run()
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is said and tried again
                error = failure.sentence() if isinstance(failure, HoldallError) else f"Large files wait: {failure!r}."
            if error and error != said and not self._over.is_set():
                self._say(f"{error} Trying again until it works.")
            said, failures = error, failures + 1 if error else 0
            if error:  # what changes all the time is not read all the time
                self._over.wait(SYNC_BACKOFF_SECONDS_MIN)
            wait_seconds = backoff_seconds(failures, random.random()) if error else SYNC_KEPT_SECONDS  # noqa: S311
            self._news.wait(wait_seconds)
