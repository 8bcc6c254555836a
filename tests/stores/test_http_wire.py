"""The words of the HTTP contract: URLs, headers and versions, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.errors import BusyError, ConflictError, UsageError
from holdall.stores.base import WHOLE, Info, Kind, Span
from holdall.stores.http_wire import (
    check_key,
    cleaned,
    content_range,
    entity_tag,
    error_from,
    health_from,
    info_from,
    range_header,
    split_url,
)

ADDRESS = Address.of(b"")
SECRET = "a-key-that-is-never-shown"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host", ("http://host", None)),
        ("http://host/", ("http://host", None)),
        ("https://host:8443//", ("https://host:8443", None)),
        ("http://host/below/here/", ("http://host/below/here", None)),
        ("http://[::1]:7777/?apikey=k%20y", ("http://[::1]:7777", "k y")),
        ("http://host?apikey=abc", ("http://host", "abc")),
    ],
)
def test_a_store_url_is_a_base_and_perhaps_a_key(url: str, expected: tuple[str, str | None]) -> None:
    assert split_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:host",
        "ftp://host",
        "http://host:0",
        "http://host:99999",
        "http://host:port",
        "http://[::1",
        "http://ho st",
        "http://host/\n",
        f"http://user:{SECRET}@host",
        f"http://host?apikey={SECRET}&more=1",
        f"http://host?apikey={SECRET}&apikey={SECRET}",
        f"http://host?key={SECRET}",
        f"http://host/?apikey={SECRET}#part",
        f"http://[::1?apikey={SECRET}",
        "http://host?apikey=",
        "http://host?apikey=%00",
    ],
)
def test_what_is_no_store_url_is_refused_without_showing_a_key(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        split_url(url)

    assert SECRET not in refused.value.sentence()


@pytest.mark.parametrize("key", ["", " key", "key\r\nX-Header: 1", "schlüssel", "k" * 1025])
def test_a_key_that_would_break_a_header_is_refused(key: str) -> None:
    with pytest.raises(UsageError):
        check_key(key)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (WHOLE, None),
        (Span(0, 1), "bytes=0-0"),
        (Span(5), "bytes=5-"),
        (Span(5, 7), "bytes=5-6"),
        (Span(-3), "bytes=-3"),
        (Span(-3, 9), "bytes=-3"),
        (Span(5, 5), None),
        (Span(5, 1), None),
        (Span(0, -1), None),
    ],
)
def test_a_span_is_asked_for_in_the_words_of_http(span: Span, expected: str | None) -> None:
    assert range_header(span) == expected


@given(st.text(max_size=30))
def test_a_version_is_sent_as_it_is_or_not_at_all(version: str) -> None:
    tag = entity_tag(version)

    assert tag is None or (tag == f'"{version}"' and version.isascii() and version.isprintable())


HEADERS = {
    "ETag": '"v7"',
    "X-Holdall-Kind": "slot",
    "X-Holdall-Used-Ns": "1700000000000000001",
    "X-Holdall-Expires-Ns": "1800000000000000002",
    "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
}
KNOWN = Info(ADDRESS, Kind.SLOT, 9, "v7", 1_700_000_000_000_000_001, 1_800_000_000_000_000_002)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, KNOWN),
        ({"ETag": 'W/"v7"'}, KNOWN),
        (
            {"X-Holdall-Used-Ns": "", "X-Holdall-Expires-Ns": "soon"},
            Info(ADDRESS, Kind.SLOT, 9, "v7", 1_700_000_000_000_000_000, None),
        ),
        ({"X-Holdall-Used-Ns": "-1", "Last-Modified": "today"}, Info(ADDRESS, Kind.SLOT, 9, "v7", 0, KNOWN.expires_ns)),
        ({"X-Holdall-Kind": "thing"}, None),
        ({"ETag": "v7"}, None),
    ],
)
def test_an_entry_is_known_once_its_kind_and_version_are(changes: dict[str, str], expected: Info | None) -> None:
    assert info_from(HEADERS | changes, ADDRESS, 9) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/100", (0, 100)),
        ("bytes 5-9/10", (5, 10)),
        ("bytes 0-9/*", None),
        ("bytes */10", None),
        ("lines 0-9/100", None),
        ("", None),
    ],
)
def test_a_part_says_where_it_belongs(value: str, expected: tuple[int, int] | None) -> None:
    assert content_range({"Content-Range": value}) == expected


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:27 GMT"}, 7),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:07 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-1"}, 0),
        ({}, 0),
    ],
)
def test_how_long_a_busy_server_wants_to_be_left_alone(said: dict[str, str], seconds: float) -> None:
    error = error_from(429, {"Date": "Tue, 14 Nov 2023 22:13:20 GMT"} | said, "", ConflictError)

    assert isinstance(error, BusyError)
    assert error.retry_seconds == seconds


@given(st.binary(max_size=2000))
def test_whatever_a_server_says_is_one_printable_line(body: bytes) -> None:
    line = cleaned(body, "text/plain")

    assert line == "" or line.isprintable()
    assert len(line) <= 500


@given(st.text(max_size=200))
def test_whatever_a_server_says_of_its_health_is_read(body: str) -> None:
    assert health_from({}, body).status


def test_a_servers_health_is_read() -> None:
    told = '{"status": "full", "free_bytes": 0, "version": "0.1.0"}'

    health = health_from({"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}, told)

    assert (health.status, health.free_bytes, health.version) == ("full", 0, "0.1.0")
    assert health.clock_ns == 1_700_000_000_000_000_000
