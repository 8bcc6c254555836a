"""A progress bar for work that takes longer than a second, on a terminal's standard error and nowhere else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PATIENCE_SECONDS: Final = 1.0


class Progress:
    """Counts bytes, and shows how many, how fast and how long still once the work has lasted a second.

    Args:
        label: What is going on, one or two words.
        total_bytes: How much there is, or None if that is not known.
        quiet: Never show anything.
    """

    def __init__(self, label: str, total_bytes: int | None, *, quiet: bool) -> None:
        self._label = label
        self._total = total_bytes
        self._done = 0
        self._hidden = quiet or not sys.stderr.isatty()
        self._since = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def add(self, size_bytes: int) -> None:
        """Counts bytes that have gone."""
        self._done += size_bytes
        if self._hidden:
            return
        if self._bar is None and time.monotonic() - self._since > _PATIENCE_SECONDS:
            self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)

    def expect(self, total_bytes: int) -> None:
        """Says how much there is, once that is known."""
        self._total = total_bytes
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total_bytes)

    def relabel(self, label: str) -> None:
        """Says anew what is going on."""
        self._label = label
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=label)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> None:
        from rich import progress  # noqa: PLC0415 - rich is slow to import and seldom needed
        from rich.console import Console  # noqa: PLC0415 - as above

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._total, completed=self._done)
        self._bar.start()
