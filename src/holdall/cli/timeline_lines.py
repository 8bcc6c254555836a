"""Lines of standard input for `holdall timeline add --each-line`: in batches, so that a slow pipe shows up promptly.

They are read and committed on a thread of their own, so that neither a push that takes long nor an interrupt, both of
which the main thread has, keeps lines that came from being stored.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Self

from holdall.errors import UsageError
from holdall.limits import CHUNK_BYTES
from holdall.limits.timeline import (
    TIMELINE_BATCH_BYTES,
    TIMELINE_BATCH_LINES,
    TIMELINE_BATCH_SECONDS,
    TIMELINE_LINE_BYTES_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Intake:
    """Lines that are committed as they come, on a thread of its own.

    As a context manager: when the block ends, in any case, the lines that have come are committed; then it raises what
    reading or committing them raised.

    Args:
        fd: Where they come from.
        keep: Commits some, each with its time in nanoseconds since 1970.

    Attributes:
        count: Lines that are committed.
        size_bytes: Their length.
    """

    def __init__(self, fd: int, keep: Callable[[list[tuple[bytes, int]]], None]) -> None:
        self._fd, self._keep = fd, keep
        self.count = self.size_bytes = 0
        self._news = threading.Event()
        self._ended = False
        self._failure: BaseException | None = None
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, name="holdall-lines")

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:  # an interrupt, while the thread may run already: nobody else would end it
            self._finish()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        if self._failure is not None:
            raise self._failure

    def _finish(self) -> None:
        os.close(self._stopper)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._stop)

    def committed(self) -> Iterator[int]:
        """Yields how many lines are committed, whenever there are more, until the input has ended."""
        seen = 0
        while not self._ended or seen < self.count:
            self._news.wait()
            self._news.clear()
            if seen < self.count:
                seen = self.count
                yield seen

    def _run(self) -> None:
        try:
            for lines in batches(self._fd, self._stop):
                self._keep(lines)
                self.size_bytes += sum(len(line) for line, _ in lines)
                self.count += len(lines)
                self._news.set()
        except BaseException as error:  # noqa: BLE001 - raised where the block ends
            self._failure = error
        finally:
            self._ended = True
            self._news.set()


def batches(fd: int, stop: int) -> Iterator[list[tuple[bytes, int]]]:
    """Yields lines as they come, without their newlines, each with the time at which it was read.

    The times are nanoseconds since 1970, and no two lines have the same, so that they keep their order.

    A batch is at most a second old, and has no more than so many lines and bytes. What follows the last newline is a
    line too, unless it is empty.

    Args:
        fd: A file, a pipe or a terminal.
        stop: When this can be read from, no more is awaited; a line that has no newline yet is left out.

    Raises:
        UsageError: A line is too long to be kept in memory; those before it have been yielded.
    """
    lines: list[tuple[bytes, int]] = []
    begun, size, since, last_ns = bytearray(), 0, 0.0, 0
    ended = False
    while not ended:
        left = max(0.0, since + TIMELINE_BATCH_SECONDS - time.monotonic()) if lines else None
        ready = select.select([fd, stop], [], [], left)[0]
        if ready:
            stopped = stop in ready
            piece = os.read(fd, CHUNK_BYTES) if fd in ready else b""
            ended = stopped or not piece
            *whole, rest = piece.split(b"\n")
            if begun and not piece and not stopped:
                whole = [b""]
            for part in whole:
                since = since if lines else time.monotonic()
                last_ns = max(time.time_ns(), last_ns + 1)
                lines.append((bytes(begun + part), last_ns))
                size += len(lines[-1][0])
                begun.clear()
            begun += rest
        too_long = len(begun) > TIMELINE_LINE_BYTES_MAX
        full = len(lines) >= TIMELINE_BATCH_LINES or size >= TIMELINE_BATCH_BYTES
        if lines and (ended or too_long or full or time.monotonic() >= since + TIMELINE_BATCH_SECONDS):
            yield lines
            lines, size = [], 0
        if too_long:
            raise UsageError(
                f"A line is longer than {TIMELINE_LINE_BYTES_MAX} bytes.",
                hint="What is not text is added as a file, without --each-line.",
            )
