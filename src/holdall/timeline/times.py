"""What a user may give as a time, as integer nanoseconds since 1970."""

from __future__ import annotations

import calendar
import math
import time
from datetime import datetime
from decimal import Context, Decimal, DecimalException
from typing import Any, Final, TypeAlias

from holdall.limits.timeline import TIME_TEXT_CHARACTERS_MAX, TIMESTAMP_BITS_MAX
from holdall.timeline.exc import TimeInvalid, TimeUnhandledType

Timestamp: TypeAlias = "int | float | Decimal | str | time.struct_time | datetime | None"
"""Seconds since 1970, exactly if they are a Decimal; text in many languages, a broken-down time, a datetime with a time
zone; None for now."""

_TYPES: Final = (int, float, Decimal, str, time.struct_time, datetime)
_SECOND_NS: Final = 1_000_000_000
_EXACT: Final = Context(prec=60)
"""More digits than a time may have."""
_EPOCH_ORDINAL: Final = datetime(1970, 1, 1).toordinal()  # noqa: DTZ001 - only its day counts
_TEXT_SETTINGS: Final = {"TO_TIMEZONE": "UTC", "RETURN_AS_TIMEZONE_AWARE": True, "PREFER_DATES_FROM": "past"}


def to_ns(moment: Timestamp) -> int:
    """The time of a blob in nanoseconds since 1970.

    Args:
        moment: None is now. Text is read by dateparser: the past is preferred, and without a time zone it is local. A
            `struct_time` that does not know its offset is local.

    Raises:
        TimeInvalid: It is infinite, NaN, out of range, a datetime without a time zone, or no text that names a time.
        TimeUnhandledType: It is of another type.
    """
    if moment is None:
        return time.time_ns()
    if isinstance(moment, bool) or not isinstance(moment, _TYPES):
        raise TimeUnhandledType(
            f"A time is seconds since 1970, text, a struct_time, a datetime or None, not {type(moment).__name__}."
        )
    if isinstance(moment, str):
        # Rounded as a float, as gitblobts does: to the nanosecond, the same text has to find what was stored with it.
        moment = _of_text(moment).timestamp()
    if isinstance(moment, datetime):
        timestamp_ns = _of_datetime(moment)
    elif isinstance(moment, time.struct_time):
        timestamp_ns = _of_struct(moment) * _SECOND_NS
    elif not _is_finite(moment):
        raise TimeInvalid(f"A blob cannot have the time {moment}.")
    else:
        timestamp_ns = _of_seconds(moment)
    if timestamp_ns.bit_length() >= TIMESTAMP_BITS_MAX:
        raise TimeInvalid("The time is out of range.")
    return timestamp_ns


def bound_ns(moment: Timestamp, default: float) -> int | float:
    """An end of a range in nanoseconds since 1970; infinities stay what they are.

    Args:
        moment: As for `to_ns`; None and NaN mean that the range is open.
        default: What open means.

    Raises:
        TimeInvalid: As `to_ns`, but for infinities and NaN.
        TimeUnhandledType: As `to_ns`.
    """
    if moment is None:
        return default
    if isinstance(moment, float | Decimal) and not _is_finite(moment):
        return default if Decimal(moment).is_nan() else float(moment)
    return to_ns(moment)


def _is_finite(moment: float | Decimal) -> bool:
    return moment.is_finite() if isinstance(moment, Decimal) else isinstance(moment, int) or math.isfinite(moment)


def _of_seconds(seconds: float | Decimal) -> int:
    try:
        if isinstance(seconds, Decimal):
            return int(_EXACT.multiply(seconds, _SECOND_NS).to_integral_value())
        return round(seconds * _SECOND_NS)
    except (OverflowError, DecimalException):
        raise TimeInvalid("The time is out of range.") from None


def _of_struct(moment: time.struct_time) -> int:
    try:
        if moment.tm_zone == "GMT":  # `strptime` knows the name alone
            return calendar.timegm(moment)
        offset: Any = moment.tm_gmtoff  # None in one that was made of nine numbers
        if offset is not None:
            return calendar.timegm(moment) - int(offset)
        return int(time.mktime(moment))
    except (OverflowError, ValueError):
        raise TimeInvalid("The time is out of range.") from None


def _of_datetime(moment: datetime) -> int:
    offset = moment.utcoffset()
    if offset is None:
        raise TimeInvalid("A datetime without a time zone is ambiguous.", hint="Give it one: datetime.now(UTC).")
    since = moment.toordinal() - _EPOCH_ORDINAL
    seconds = since * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
    microseconds = seconds * 1_000_000 + moment.microsecond
    microseconds -= (offset.days * 86_400 + offset.seconds) * 1_000_000 + offset.microseconds
    return microseconds * 1_000


def _of_text(text: str) -> datetime:
    import dateparser  # type: ignore[import-untyped] # noqa: PLC0415 - half a second that only text has to pay

    found: datetime | None = None
    if len(text) <= TIME_TEXT_CHARACTERS_MAX:
        try:
            found = dateparser.parse(text, settings=_TEXT_SETTINGS)
        except (ValueError, OverflowError, RecursionError):
            found = None
    if found is None:
        raise TimeInvalid(f"{text[:100]!r} names no time.", hint="Write it as 2024-03-01 12:00 UTC, or 2 hours ago.")
    return found
