"""Names of files: the table was written by gitblobts 0.0.7 itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.instant import Name, decode, encode, folder, key_of, keys, name_of, newer_version

RANDOM = int.from_bytes(bytes(range(32)), "big")

timestamps = st.integers(-(1 << 127) + 1, (1 << 127) - 1) | st.integers(-(10**19), 10**19)
randoms = st.integers(0, (1 << 256) - 1)


@pytest.mark.parametrize(
    ("timestamp_ns", "name"),
    [
        (0, "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==.AQ=="),
        (1, "AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f.AQ=="),
        (-1, "_wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f.AQ=="),
        (1_552_681_472_000_000_001, "FYw7koPkAAEAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==.AQ=="),
        (-(10**20), "-pQ4odKc8AAAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=.AQ=="),
    ],
)
def test_names_are_those_of_the_original(timestamp_ns: int, name: str) -> None:
    assert encode(timestamp_ns, RANDOM) == name
    assert decode(name) == Name(timestamp_ns, RANDOM)


@given(timestamps, randoms)
def test_a_name_says_what_it_was_made_of(timestamp_ns: int, random: int) -> None:
    assert decode(encode(timestamp_ns, random)) == Name(timestamp_ns, random)


@given(st.text(max_size=100) | st.from_regex(r"[A-Za-z0-9_-]{0,64}={0,2}\.AQ==", fullmatch=True))
def test_a_name_that_encode_does_not_make_is_somebody_elses(name: str) -> None:
    found = decode(name)

    assert found is None or encode(*found) == name


@given(st.lists(st.tuples(timestamps, randoms), max_size=20), st.lists(st.text(max_size=70), max_size=5))
def test_keys_sort_as_times_do_and_are_those_of_single_names(pairs: list[tuple[int, int]], others: list[str]) -> None:
    names = [encode(*pair) for pair in pairs]
    found = keys([name.encode() for name in names] + [name.encode() for name in others])

    assert found[: len(pairs)] == [key_of(Name(*pair)) for pair in pairs]
    assert [name_of(key) for key in found if key is not None] == [Name(*pair) for pair in pairs]
    assert sorted(map(key_of, (Name(*pair) for pair in pairs))) == [key_of(Name(*pair)) for pair in sorted(pairs)]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        ".AQ==",
        "data.json",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw.AQ==",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHx==.AQ==",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=.AQ==",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==.AR==",
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==.AA==",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json",
        "é" * 44 + ".AQ==",
    ],
)
def test_other_names_are_of_no_version(name: str) -> None:
    assert decode(name) is None
    assert keys([name.encode()]) == [None]
    assert newer_version(name) is None


def test_a_later_version_is_told_from_other_files() -> None:
    name = encode(1, RANDOM)

    assert newer_version(name) is None
    assert newer_version(name.replace(".AQ==", ".Ag==")) == 2
    assert newer_version(name.replace(".AQ==", "._w==")) == 255
    assert decode(name.replace(".AQ==", ".Ag==")) is None


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - they get one
def test_the_folder_is_the_hour_in_utc(moment: datetime) -> None:
    timestamp_ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000

    assert folder(timestamp_ns) == (f"{moment.year:04}", *moment.strftime("%m %d %H").split())


def test_a_year_without_four_digits_has_no_folder() -> None:
    assert folder(10**21) == ()
    assert folder(-(10**20)) == ()
