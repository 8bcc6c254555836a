"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Final

from holdall.errors import DurationError, SizeError

SECOND_NS: Final = 1_000_000_000

_DURATION_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE_BYTES: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
    **{letter: 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_DURATION_NS_MAX: Final = 1000 * 366 * 86400 * SECOND_NS
"""A thousand years: beyond it, `off` is what was meant, and file times overflow."""
_SIZE_BYTES_MAX: Final = 1 << 63


def parse_duration_ns(text: str) -> int:
    """Reads `10m`, `36h`, `2w`, `1h30m` as nanoseconds.

    Raises:
        DurationError: Not of that form, zero, or over a thousand years.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = re.findall(r"(\d{1,12}(?:\.\d{1,9})?)(ms|[smhdw])", compact, re.ASCII)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise DurationError(f"{text[:40]!r} is not a duration.")
    total = round(sum(float(number) * _DURATION_SECONDS[unit] for number, unit in parts) * SECOND_NS)
    if not 0 < total <= _DURATION_NS_MAX:
        raise DurationError(f"{text[:40]!r} is not between a moment and a thousand years.")
    return total


def parse_retention_ns(text: str) -> int | None:
    """Reads a retention: a duration in nanoseconds, or None for `off`.

    Raises:
        DurationError: Neither a duration nor `off`.
    """
    return None if text.strip().lower() in {"off", "never", "none"} else parse_duration_ns(text)


def parse_size_bytes(text: str) -> int:
    """Reads `65536`, `64KiB`, `64k` (binary) or `1GB` (decimal) as bytes.

    Raises:
        SizeError: Not of that form, or 2**63 and more.
    """
    found = re.fullmatch(r"(\d{1,19}(?:\.\d{1,6})?)\s*([a-z]{0,3})", text.strip().lower(), re.ASCII)
    factor = _SIZE_BYTES.get(found[2]) if found else None
    if found is None or factor is None:
        raise SizeError(f"{text[:40]!r} is not a size.")
    size = int(found[1]) * factor if found[1].isdigit() else int(float(found[1]) * factor)
    if size >= _SIZE_BYTES_MAX:
        raise SizeError(f"{text[:40]!r} is too large.")
    return size


def format_duration(duration_ns: int | None) -> str:
    """A duration as the largest units that say it exactly enough to read: `2w`, `1h30m`, `off` for None."""
    if duration_ns is None:
        return "off"
    rest, words = duration_ns, []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        step = round(_DURATION_SECONDS[unit] * SECOND_NS)
        count, rest = divmod(rest, step)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words[:2]) or "0s"


def format_size(size_bytes: int) -> str:
    """A size in the largest binary unit, such as `1.4 GiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size_bytes} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
