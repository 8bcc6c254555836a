"""Retention: nothing expires early, and a use is written down often enough for that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.retention import Retention
from holdall.core.units import SECOND_NS
from holdall.limits.stores import TOUCH_FRACTION, TOUCH_NS_MAX

DAY_NS = 86_400 * SECOND_NS
DAY = Retention(length_ns=64 * 1000)

moments = st.integers(0, 1 << 62)
retentions = st.builds(Retention, st.integers(1, 1 << 60), moments)


@pytest.mark.parametrize(
    ("length_ns", "grain_ns"),
    [
        (None, TOUCH_NS_MAX),
        (1, 0),
        (TOUCH_FRACTION, 1),
        (600 * SECOND_NS, 600 * SECOND_NS // TOUCH_FRACTION),
        (14 * DAY_NS, TOUCH_NS_MAX),
    ],
)
def test_the_recorded_use_may_lag_by_a_small_part_of_the_retention_and_never_by_more_than_an_hour(
    length_ns: int | None, grain_ns: int
) -> None:
    assert Retention(length_ns).grain_ns == grain_ns


@pytest.mark.parametrize(
    ("recorded_ns", "now_ns", "expected"),
    [(5000, 5000, False), (5000, 6000, False), (5000, 6001, True), (5000, 4000, False)],
)
def test_a_use_is_written_down_once_it_is_a_grain_later(recorded_ns: int, now_ns: int, expected: bool) -> None:
    assert DAY.must_record(recorded_ns, now_ns) is expected


@pytest.mark.parametrize(
    ("start_ns", "recorded_ns", "expires_ns"),
    [
        (0, 10_000, 10_000 + 64_000 + 1000),
        (9_000, 10_000, 10_000 + 64_000 + 1000),
        (50_000, 10_000, 50_000 + 64_000 + 1000),
    ],
    ids=["used", "used since the start", "not used since the start"],
)
def test_an_entry_expires_one_length_and_one_grain_after_use_or_start(
    start_ns: int, recorded_ns: int, expires_ns: int
) -> None:
    retention = Retention(64_000, start_ns)

    assert retention.expires_ns(recorded_ns) == expires_ns
    assert not retention.expired(recorded_ns, expires_ns)
    assert retention.expired(recorded_ns, expires_ns + 1)


@given(moments, moments, moments)
def test_without_a_length_nothing_expires(start_ns: int, recorded_ns: int, now_ns: int) -> None:
    retention = Retention(None, start_ns)

    assert retention.expires_ns(recorded_ns) is None
    assert not retention.expired(recorded_ns, now_ns)


@given(retentions, moments, moments, moments)
def test_nothing_used_within_the_length_expires(
    retention: Retention, recorded_ns: int, used_ns: int, now_ns: int
) -> None:
    if used_ns >= recorded_ns and retention.must_record(recorded_ns, used_ns):
        recorded_ns = used_ns
    last_ns = max(recorded_ns, used_ns)
    assert retention.length_ns is not None

    if now_ns - last_ns <= retention.length_ns or now_ns - retention.start_ns <= retention.length_ns:
        assert not retention.expired(recorded_ns, now_ns)


@given(retentions, moments, moments)
def test_what_is_unused_for_long_enough_does_expire(retention: Retention, recorded_ns: int, after_ns: int) -> None:
    expires_ns = retention.expires_ns(recorded_ns)
    assert expires_ns is not None

    assert retention.expired(recorded_ns, expires_ns + 1 + after_ns)
