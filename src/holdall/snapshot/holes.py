"""Long runs of zeros, which a file need not take room for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from holdall.limits.snapshot import HOLE_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOW: Final = HOLE_BYTES_MIN // 2
"""Every run that is long enough has a window of this length, at a multiple of it, in it."""
_ZEROS: Final = bytes(_WINDOW)


def holes(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yields where each run of `HOLE_BYTES_MIN` zeros and more begins, and one past its end.

    Args:
        data: Some bytes.
        start: Look from here.
        stop: To before here.
    """
    at = window = start
    while window + _WINDOW <= stop:
        if data[window] or data[window : window + _WINDOW] != _ZEROS:
            window += _WINDOW
            continue
        before = data[max(at, window - _WINDOW) : window]
        first, last = window - (len(before) - len(before.rstrip(b"\0"))), window + _WINDOW
        while last + _WINDOW <= stop and data[last : last + _WINDOW] == _ZEROS:
            last += _WINDOW
        after = data[last : min(last + _WINDOW, stop)]
        last += len(after) - len(after.lstrip(b"\0"))
        if last - first >= HOLE_BYTES_MIN:
            yield first, last
        at = window = last


def write(fd: int, data: bytes, start: int, stop: int, at: int) -> int:
    """Writes part of `data` into a file whose contents are zeros so far, and leaves holes where it can.

    Args:
        fd: The file.
        data: Some bytes.
        start: Write from here.
        stop: To before here.
        at: Where in the file.

    Returns:
        How many bytes it wrote; where they are not all, the file's length has to be set.

    Raises:
        OSError: It cannot be written.
    """
    view, shift, done, left_bytes = memoryview(data), at - start, start, 0
    if stop - start >= HOLE_BYTES_MIN:
        for first, last in holes(data, start, stop):
            _write_all(fd, view[done:first], done + shift)
            done, left_bytes = last, left_bytes + last - first
    _write_all(fd, view[done:stop], done + shift)
    return stop - start - left_bytes


def _write_all(fd: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
