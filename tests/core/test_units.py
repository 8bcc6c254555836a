"""Durations and sizes: what people write, what they are shown, and that the two agree."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.units import (
    SECOND_NS,
    format_duration,
    format_size,
    parse_duration_ns,
    parse_retention_ns,
    parse_size_bytes,
)
from holdall.errors import DurationError, SizeError

MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
WEEK_NS = 7 * DAY_NS


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1ms", 1_000_000),
        ("250ms", 250_000_000),
        ("1s", SECOND_NS),
        ("0.5s", SECOND_NS // 2),
        ("10m", 10 * MINUTE_NS),
        ("36h", 36 * HOUR_NS),
        ("1h30m", 90 * MINUTE_NS),
        ("1h 30m", 90 * MINUTE_NS),
        ("1.5h", 90 * MINUTE_NS),
        ("2w", 2 * WEEK_NS),
        ("2W", 2 * WEEK_NS),
        (" 2w\n", 2 * WEEK_NS),
        ("1w1d1h1m1s1ms", WEEK_NS + DAY_NS + HOUR_NS + MINUTE_NS + SECOND_NS + 1_000_000),
        ("366000d", 366_000 * DAY_NS),
    ],
)
def test_a_duration_is_read(text: str, expected_ns: int) -> None:
    assert parse_duration_ns(text) == expected_ns
    assert parse_retention_ns(text) == expected_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10",
        "m",
        "-1s",
        "+1s",
        "1y",
        "1 week",
        "1e3s",
        "inf",
        "nan",
        "1..5h",
        ".5h",
        "5.h",
        "0s",
        "0w",
        "0.0000000001s",
        "366001d",
        "999999999999w",
        "1" * 1000 + "s",
        "\N{ARABIC-INDIC DIGIT FIVE}s",
        "5s\0",
        "off!",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_duration_is_refused_with_advice(text: str) -> None:
    with pytest.raises(DurationError) as refused:
        parse_retention_ns(text)

    assert len(refused.value.sentence()) < 400
    assert "\n" not in refused.value.sentence()
    assert refused.value.hint


@pytest.mark.parametrize("text", ["off", "OFF", " off ", "never", "none"])
def test_retention_may_be_off(text: str) -> None:
    assert parse_retention_ns(text) is None


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("0", 0),
        ("65536", 65536),
        ("512B", 512),
        ("64k", 65536),
        ("64K", 65536),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("64kb", 64000),
        ("1.5MiB", 1_572_864),
        ("1GB", 1_000_000_000),
        ("1g", 1 << 30),
        ("1TiB", 1 << 40),
        (" 2tb ", 2_000_000_000_000),
        ("9223372036854775807", (1 << 63) - 1),
    ],
)
def test_a_size_is_read(text: str, expected_bytes: int) -> None:
    assert parse_size_bytes(text) == expected_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "-1",
        "+1",
        "1e9",
        "1.",
        ".5k",
        "1 000",
        "1,5k",
        "1ib",
        "1kbb",
        "1pib",
        "1k 2k",
        "0x10",
        "inf",
        "9223372036854775808",
        "9999999999999999999TiB",
        "9" * 1000,
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "5\0",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_what_is_no_size_is_refused_with_advice(text: str) -> None:
    with pytest.raises(SizeError) as refused:
        parse_size_bytes(text)

    assert len(refused.value.sentence()) < 400
    assert "\n" not in refused.value.sentence()
    assert refused.value.hint


@pytest.mark.parametrize(
    ("duration_ns", "expected"),
    [
        (None, "off"),
        (1_000_000, "1ms"),
        (SECOND_NS, "1s"),
        (90 * MINUTE_NS, "1h30m"),
        (36 * HOUR_NS, "1d12h"),
        (2 * WEEK_NS, "2w"),
        (WEEK_NS + DAY_NS + HOUR_NS, "1w1d"),
    ],
)
def test_a_duration_is_shown_in_its_largest_units(duration_ns: int | None, expected: str) -> None:
    assert format_duration(duration_ns) == expected


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (1_503_238_553, "1.4 GiB"),
        (1 << 40, "1.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_a_size_is_shown_in_its_largest_unit(size_bytes: int, expected: str) -> None:
    assert format_size(size_bytes) == expected


@given(st.integers(1, 500 * 52), st.sampled_from([WEEK_NS, DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, 1_000_000]))
def test_a_duration_that_two_units_can_say_is_read_back(count: int, unit_ns: int) -> None:
    duration_ns = count * unit_ns
    shown = format_duration(duration_ns)

    if sum(letter.isalpha() for letter in shown.replace("ms", "m")) < 2 or unit_ns in {WEEK_NS, DAY_NS}:
        assert parse_duration_ns(shown) == duration_ns


@given(st.integers(1_000_000, 1000 * 52 * WEEK_NS))
def test_a_shown_duration_is_never_longer_and_nearly_as_long(duration_ns: int) -> None:
    shown_ns = parse_duration_ns(format_duration(duration_ns))

    assert 0.9 * duration_ns < shown_ns <= duration_ns or duration_ns - shown_ns < 1_000_000


@given(st.integers(0, (1 << 53) - 1))
def test_a_shown_size_is_nearly_the_size(size_bytes: int) -> None:
    shown_bytes = parse_size_bytes(format_size(size_bytes))

    assert abs(shown_bytes - size_bytes) <= 0.05 * size_bytes


@given(st.integers(0, (1 << 63) - 1))
def test_a_plain_number_of_bytes_is_read_back(size_bytes: int) -> None:
    assert parse_size_bytes(str(size_bytes)) == parse_size_bytes(f"{size_bytes}b") == size_bytes


@given(st.text(st.characters(exclude_categories=())) | st.from_regex(r"\A[0-9.]{0,30} ?[a-zA-Z]{0,4}\Z"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DurationError):
        assert (parse_retention_ns(text) or 1) > 0
    with suppress(SizeError):
        assert 0 <= parse_size_bytes(text) < 1 << 63
