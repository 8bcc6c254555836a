"""How `holdall timeline` writes times, names files by them, and counts blobs over time: values only."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from holdall.core.units import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_WIDTHS: Final = (
    *(1, 5, 15, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 7 * _DAY, 28 * _DAY, 91 * _DAY, 364 * _DAY),
)
"""Widths of the steps of a histogram in seconds; beyond, years in powers of ten."""


def moment(timestamp_ns: int) -> str:
    """A time in this machine's zone to the microsecond, as it is also taken for START; `@SECONDS` out of all years."""
    found = _datetime(timestamp_ns)
    if found is None:
        return f"@{seconds(timestamp_ns)}"
    try:
        return found.astimezone().isoformat(" ", "microseconds")
    except (OverflowError, ValueError, OSError):  # at the edges of what the calendar has
        return found.isoformat(" ", "microseconds")


def seconds(timestamp_ns: int) -> str:
    """A time in seconds since 1970, all nine decimals of it."""
    sign, rest = "-" if timestamp_ns < 0 else "", abs(timestamp_ns)
    return f"{sign}{rest // SECOND_NS}.{rest % SECOND_NS:09}"


def step(timestamp_ns: int) -> str:
    """The beginning of a step of a histogram: as `moment`, to the second."""
    return moment(timestamp_ns).replace(".000000", "")


def file_name(timestamp_ns: int, name: str) -> str:
    """A name for an exported file, by time in UTC; those of one time differ in their end.

    Args:
        timestamp_ns: Since 1970.
        name: The blob's own name, which is unique.
    """
    unique = hashlib.sha256(name.encode()).hexdigest()[:12]
    found = _datetime(timestamp_ns)
    if found is None:
        return f"{timestamp_ns:+}ns-{unique}"
    return f"{found.year:04}{found:%m%dT%H%M%S}.{timestamp_ns % SECOND_NS:09}Z-{unique}"


def histogram(times_ns: Iterable[int], first_ns: int, last_ns: int, steps_max: int) -> list[tuple[int, int]]:
    """Counts times in steps of equal length, such as a minute or a day, those with none included.

    Args:
        times_ns: In any order; those that are not between the first and the last do not count.
        first_ns: The earliest.
        last_ns: The latest.
        steps_max: How many steps there may be.

    Returns:
        The beginning of each step, in ns since 1970 and at midnight or a part of the day in this machine's zone, and
        how many times are in it.
    """
    midnight_ns = -_offset_ns(first_ns)
    span = last_ns - first_ns
    widths = itertools.chain(_WIDTHS, (3640 * _DAY * 10**power for power in itertools.count()))
    width_ns = next(width * SECOND_NS for width in widths if span // (width * SECOND_NS) + 2 <= steps_max)
    begin = (first_ns - midnight_ns) // width_ns
    counts = [0] * ((last_ns - midnight_ns) // width_ns - begin + 1)
    for time_ns in times_ns:
        if first_ns <= time_ns <= last_ns:
            counts[(time_ns - midnight_ns) // width_ns - begin] += 1
    return [((begin + number) * width_ns + midnight_ns, count) for number, count in enumerate(counts)]


def _offset_ns(timestamp_ns: int) -> int:
    """How far this machine's zone is ahead of UTC at that time; 0 where the calendar does not say."""
    found = _datetime(timestamp_ns)
    try:
        offset = found.astimezone().utcoffset() if found else None
    except (OverflowError, ValueError, OSError):
        offset = None
    return int(offset.total_seconds()) * SECOND_NS if offset else 0


def _datetime(timestamp_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(timestamp_ns // SECOND_NS, UTC).replace(
            microsecond=timestamp_ns % SECOND_NS // 1000
        )
    except (OverflowError, ValueError, OSError):
        return None
