"""The time of a blob as the name of its file: the format of gitblobts, byte for byte.

A name is `<stem>.<suffix>`. The stem is the URL-safe base64 of one signed big-endian integer, the nanoseconds since
1970 shifted left by 256 bits with a random number below them; so names are unique, whoever makes them. The suffix is
the same base64 of the format's version.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.limits.timeline import TIMESTAMP_BITS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1
RANDOM_BITS: Final = 256
RANDOM_BYTES: Final = RANDOM_BITS // 8

KEY_BYTES: Final = TIMESTAMP_BITS_MAX // 8 + RANDOM_BYTES
"""Length of a name as a sort key."""

_SUFFIX: Final = ".AQ=="
_NEWER: Final = re.compile(r"([A-Za-z0-9_-]+={0,2})\.([A-Za-z0-9_-]{2}==)")
_STEM_BYTES_MIN: Final = RANDOM_BYTES + 1
"""A shorter stem under another version than ours is taken for somebody else's file."""

_USUAL: Final = re.compile(rb"[A-Za-z0-9_-]{54}==\.AQ==")
"""A name of 40 bytes: every time from 1972 to 2262, and some before."""
_USUAL_STEM: Final = 54
_USUAL_BYTES: Final = 40
_KEY_ZERO: Final = 1 << (TIMESTAMP_BITS_MAX - 1)
_KEY_HEAD: Final = b"\x80".ljust(KEY_BYTES - _USUAL_BYTES, b"\0")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")

_SECOND_NS: Final = 1_000_000_000
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 24 * _HOUR_SECONDS


class Name(NamedTuple):
    """What a file's name says.

    Attributes:
        timestamp_ns: Nanoseconds since 1970; negative before.
        random: What makes it unique, `RANDOM_BITS` bits.
    """

    timestamp_ns: int
    random: int


def encode(timestamp_ns: int, random: int) -> str:
    """The name of the file of a blob.

    Args:
        timestamp_ns: Nanoseconds since 1970, of at most `TIMESTAMP_BITS_MAX` bits.
        random: A random number of `RANDOM_BITS` bits.
    """
    return _stem(timestamp_ns << RANDOM_BITS | random) + _SUFFIX


def decode(name: str) -> Name | None:
    """What a name says, or None if it is not exactly what `encode` makes of something."""
    if not name.endswith(_SUFFIX):
        return None
    found = _number(name[: -len(_SUFFIX)])
    if found is None:
        return None
    timestamp_ns = found >> RANDOM_BITS
    if timestamp_ns.bit_length() >= TIMESTAMP_BITS_MAX:
        return None
    return Name(timestamp_ns, found & ((1 << RANDOM_BITS) - 1))


def keys(names: Sequence[bytes]) -> list[bytes | None]:
    """What names are sorted by, `KEY_BYTES` each: first the time, then the random number; None for other names.

    It is `decode` for many at once: the usual ones are decoded as one text.
    """
    usual = [place for place, name in enumerate(names) if _USUAL.fullmatch(name)]
    joined = b"".join([names[place][:_USUAL_STEM] + b"AA" for place in usual])
    decoded = binascii.a2b_base64(joined.translate(_STANDARD))
    found: list[bytes | None] = [None] * len(names)
    step = _USUAL_BYTES + 2
    for start, place in zip(range(0, len(decoded), step), usual, strict=True):
        # Above zero, of no fewer bytes than it takes, and with nothing in the bits that fill the last character.
        if 0 < decoded[start] < 128 and not decoded[start + _USUAL_BYTES] and not decoded[start + _USUAL_BYTES + 1]:
            found[place] = _KEY_HEAD + decoded[start : start + _USUAL_BYTES]
    for place, key in enumerate(found):
        if key is None and names[place].endswith(_SUFFIX.encode()):
            name = decode(names[place].decode("utf-8", "replace"))
            found[place] = None if name is None else key_of(name)
    return found


def key_of(name: Name) -> bytes:
    """What a name is sorted by."""
    return ((name.timestamp_ns + _KEY_ZERO) << RANDOM_BITS | name.random).to_bytes(KEY_BYTES, "big")


def name_of(key: bytes) -> Name:
    """What `key_of` was made of."""
    number = int.from_bytes(key, "big")
    return Name((number >> RANDOM_BITS) - _KEY_ZERO, number & ((1 << RANDOM_BITS) - 1))


def newer_version(name: str) -> int | None:
    """The version that a name carries if it is a later one than this code knows, else None."""
    matched = _NEWER.fullmatch(name)
    if matched is None:
        return None
    version = urlsafe_b64decode(matched[2])[0]
    if version <= VERSION or urlsafe_b64encode(bytes((version,))).decode() != matched[2]:
        return None
    found = _number(matched[1])
    return None if found is None or _length(found) < _STEM_BYTES_MIN else version


def folder(timestamp_ns: int) -> tuple[str, ...]:
    """The directories `YYYY`, `MM`, `DD`, `HH` of a time in UTC; none for years that have not four digits."""
    seconds = timestamp_ns // _SECOND_NS
    days, rest = divmod(seconds, _DAY_SECONDS)
    year, month, day = _civil(days)
    if not 0 <= year <= 9999:
        return ()
    return f"{year:04}", f"{month:02}", f"{day:02}", f"{rest // _HOUR_SECONDS:02}"


def _stem(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes(_length(number), "big", signed=True)).decode()


def _length(number: int) -> int:
    return (number.bit_length() + 7 + 1) // 8


def _number(stem: str) -> int | None:
    """The integer of a stem, or None if it is not the one way to write it."""
    try:
        found = int.from_bytes(urlsafe_b64decode(stem), "big", signed=True)
    except (binascii.Error, ValueError):
        return None
    return found if _stem(found) == stem else None


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of the proleptic Gregorian calendar, of a number of days since 1970.

    After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    """
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return year, month, of_year - (153 * shifted + 2) // 5 + 1
