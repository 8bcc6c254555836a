"""What `holdall doctor` finds, and the judgements that need nothing but numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from holdall.core.units import format_size
from holdall.limits import MIB
from holdall.limits.server import CONNECTIONS_MAX
from holdall.limits.stores import JOURNAL_SEGMENT_BYTES

_KEY_BITS_MIN: Final = 80
"""A key that can be tried over a network needs no more; the least that OWASP wants of session tokens is 64."""
_FREE_BYTES_LOW: Final = 1024 * MIB
_FREE_BYTES_MIN: Final = 2 * JOURNAL_SEGMENT_BYTES
_INODES_LOW: Final = 10_000
_INODES_MIN: Final = 100
_DESCRIPTORS_SPARE: Final = 256
_YEAR_2025_NS: Final = 1_735_689_600 * 1_000_000_000


class Outcome(Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked at.
        outcome: How it is.
        detail: What was seen.
        advice: What to do; empty where nothing need be done.
    """

    check: str
    outcome: Outcome
    detail: str
    advice: str = ""


def judge_space(free_bytes: int, total_bytes: int | None) -> Finding:
    """Whether there is room for more data."""
    detail = f"{format_size(free_bytes)} free" + ("" if total_bytes is None else f" of {format_size(total_bytes)}")
    advice = "Free some space, or shorten the retention."
    if free_bytes < _FREE_BYTES_MIN:
        return Finding("free space", Outcome.FAIL, detail, advice)
    low = free_bytes < _FREE_BYTES_LOW or (total_bytes is not None and free_bytes * 20 < total_bytes)
    return Finding("free space", Outcome.WARN, detail, advice) if low else Finding("free space", Outcome.OK, detail)


def judge_inodes(free: int, total: int) -> Finding:
    """Whether there is room for more files; some file systems do not count them."""
    if total == 0:
        return Finding("free inodes", Outcome.OK, "not limited on this file system")
    detail = f"{free} free of {total}"
    if free >= _INODES_LOW and free * 20 >= total:
        return Finding("free inodes", Outcome.OK, detail)
    outcome = Outcome.FAIL if free < _INODES_MIN else Outcome.WARN
    return Finding("free inodes", outcome, detail, "Each entry takes one: shorten the retention or use another disk.")


def judge_descriptors(soft_limit: int) -> Finding:
    """Whether a server may open as many connections as it allows by default."""
    detail = f"{soft_limit} open files at once"
    if soft_limit >= CONNECTIONS_MAX + _DESCRIPTORS_SPARE:
        return Finding("descriptors", Outcome.OK, detail)
    advice = f"For up to {CONNECTIONS_MAX} clients: ulimit -n {2 * CONNECTIONS_MAX}, or LimitNOFILE= in systemd."
    return Finding("descriptors", Outcome.WARN, detail, advice)


def judge_clock(now_ns: int, other_ns: int | None, other: str, *, apart_ns_max: int) -> Finding:
    """Whether the clock is one that retention can count by.

    Args:
        now_ns: This machine's time.
        other_ns: The time of what the store is on, if it tells.
        other: What that is.
        apart_ns_max: How far the two may be apart.
    """
    advice = "Set the clock, by NTP for instance: what entries live by is their last use."
    if now_ns < _YEAR_2025_NS:
        return Finding("clock", Outcome.FAIL, "it shows a year before 2025", advice)
    if other_ns is None:
        return Finding("clock", Outcome.OK, "it shows a likely time")
    apart = abs(now_ns - other_ns)
    if apart > apart_ns_max:
        return Finding("clock", Outcome.WARN, f"{apart / 1e9:.1f} s apart from {other}", advice)
    return Finding("clock", Outcome.OK, f"agrees with {other}")


def key_bits(key: str) -> float:
    """An upper bound of what a guesser has to guess of a key, in bits: by its length and its variety of characters."""
    alphabet = 0
    for present, size in (
        (any(character.islower() for character in key), 26),
        (any(character.isupper() for character in key), 26),
        (any(character.isdigit() for character in key), 10),
        (any(not character.isalnum() for character in key), 33),
    ):
        alphabet += size if present else 0
    length = min(len(key), 3 * len(set(key)))  # one character over and over is not much longer than the character
    return length * math.log2(alphabet) if alphabet else 0.0


def judge_key(key: str) -> Finding:
    """Whether an API key is hard to guess; the key itself is never shown."""
    bits = key_bits(key)
    if bits >= _KEY_BITS_MIN:
        return Finding("API key", Outcome.OK, f"{len(key)} characters")
    advice = "Take a random one: head -c 24 /dev/urandom | base64 > apikey"
    return Finding("API key", Outcome.WARN, f"{len(key)} characters, at most {bits:.0f} bits to guess", advice)
