"""Lines of standard input for `holdall timeline add --each-line`: in batches, so that a slow pipe shows up promptly."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from holdall.errors import UsageError
from holdall.limits import CHUNK_BYTES
from holdall.limits.timeline import (
    TIMELINE_BATCH_BYTES,
    TIMELINE_BATCH_LINES,
    TIMELINE_BATCH_SECONDS,
    TIMELINE_LINE_BYTES_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def batches(fd: int) -> Iterator[list[tuple[bytes, int]]]:
    """Yields lines as they come, without their newlines, each with the time at which it was read.

    The times are nanoseconds since 1970, and no two lines have the same, so that they keep their order.

    A batch is at most a second old, and has no more than so many lines and bytes. What follows the last newline is a
    line too, unless it is empty.

    Args:
        fd: A file, a pipe or a terminal.

    Raises:
        UsageError: A line is too long to be kept in memory; those before it have been yielded.
    """
    lines: list[tuple[bytes, int]] = []
    begun, size, since, last_ns = bytearray(), 0, 0.0, 0
    ended = False
    while not ended:
        left = max(0.0, since + TIMELINE_BATCH_SECONDS - time.monotonic()) if lines else None
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, CHUNK_BYTES)
            ended = not piece
            *whole, rest = piece.split(b"\n")
            if ended and begun:
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
