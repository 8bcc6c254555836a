"""Bursts: which lines name members, in what order, and that any bytes are read or refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.core.burst import BurstParser, members
from holdall.errors import BurstError
from holdall.limits.stores import BURST_LINE_BYTES_MAX

A = Address.of(b"a")
B = Address.of(b"b")
PATH_A = A.path.encode()
PATH_B = B.path.encode()

addresses = st.binary(min_size=32, max_size=32).map(Address)
noise = st.sampled_from(
    [b"", b"\n", b"\r\n", b"# a comment\n", b"#\n", b"#" + bytes(range(32, 127)) + b"\n", b"# \xff\xfe\r\n"]
)
hosts = st.sampled_from([b"", b"http://host", b"https://host:7777", b"http://127.0.0.1", b"https://[::1]:1"])
ends = st.sampled_from([b"\n", b"\r\n"])


def outcome(pieces: list[bytes]) -> list[Address] | str:
    """The members that a burst fed in these pieces names, or why it is none."""
    parser = BurstParser()
    found: list[Address] = []
    try:
        for piece in pieces:
            found.extend(parser.feed(piece))
        found.extend(parser.finish())
    except BurstError as refused:
        return refused.message
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"\n\n\r\n", []),
        (PATH_A, [A]),
        (PATH_A + b"\n", [A]),
        (PATH_A + b"\r\n", [A]),
        (PATH_A + b"\n" + PATH_B, [A, B]),
        (PATH_B + b"\n" + PATH_A + b"\n", [B, A]),
        (PATH_A + b"\n" + PATH_A + b"\n", [A, A]),
        (b"# made on a Monday\n" + PATH_A + b"\n\n#" + PATH_B + b"\n", [A]),
        (b"#\xff\x00\n" + PATH_A, [A]),
        (b"http://host" + PATH_A, [A]),
        (b"https://host:7777" + PATH_A + b"\nhttp://[::1]" + PATH_B, [A, B]),
        (b"#" + b"x" * (BURST_LINE_BYTES_MAX - 1) + b"\n" + PATH_A, [A]),
    ],
)
def test_the_lines_of_a_burst_name_its_members(text: bytes, expected: list[Address]) -> None:
    assert members(text) == expected


@pytest.mark.parametrize(
    ("text", "line_number"),
    [
        (b"x", 1),
        (b" ", 1),
        (b"\x00\n", 1),
        (b" " + PATH_A, 1),
        (PATH_A + b" ", 1),
        (PATH_A + b"\r\r\n", 1),
        (PATH_A + b"\n\n# fine\n" + PATH_A[1:], 4),
        (A.hex().encode(), 1),
        (PATH_A.upper(), 1),
        (PATH_A + b"?burst=1", 1),
        (PATH_A + PATH_B, 1),
        (PATH_A + b" " + PATH_B, 1),
        (b"/dir" + PATH_A, 1),
        (b"http://" + PATH_A, 1),
        (b"http://host/dir" + PATH_A, 1),
        (b"http://" + b"h" * 256 + PATH_A, 1),
        (b"ftp://host" + PATH_A, 1),
        (b"//host" + PATH_A, 1),
        (PATH_A + b"\n#" + b"x" * BURST_LINE_BYTES_MAX, 2),
        (b"\x1f\x8b\x08\x00binary\nrubbish", 1),
    ],
)
def test_a_line_that_names_nothing_is_refused_by_its_number(text: bytes, line_number: int) -> None:
    with pytest.raises(BurstError, match=f"^Line {line_number} of the burst"):
        members(text)


def test_a_line_without_an_end_is_refused_before_it_fills_memory() -> None:
    parser = BurstParser()
    assert list(parser.feed(b"#" * BURST_LINE_BYTES_MAX)) == []

    with pytest.raises(BurstError):
        list(parser.feed(b"#"))


@given(st.lists(st.tuples(noise, hosts, addresses, ends)), noise)
def test_what_is_written_as_a_burst_is_read_back(lines: list[tuple[bytes, bytes, Address, bytes]], last: bytes) -> None:
    text = b"".join(before + host + address.path.encode() + end for before, host, address, end in lines) + last

    assert members(text) == [address for _, _, address, _ in lines]


@given(
    st.lists(
        noise
        | addresses.map(lambda address: address.path.encode() + b"\n")
        | st.binary(max_size=100)
        | st.just(b"#" * (BURST_LINE_BYTES_MAX - 2)),
        max_size=8,
    ),
    st.lists(st.integers(1, 5000), max_size=8),
)
@example([b"#" * BURST_LINE_BYTES_MAX, b"\n"], [1])
@example([PATH_A, b"\r", b"\n"], [69, 1])
def test_how_a_burst_is_cut_makes_no_difference(parts: list[bytes], sizes_bytes: list[int]) -> None:
    text = b"".join(parts)
    pieces = []
    rest = text
    for size_bytes in sizes_bytes:
        pieces.append(rest[:size_bytes])
        rest = rest[size_bytes:]
    pieces.append(rest)

    assert outcome(pieces) == outcome([text])


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_are_a_burst_or_are_refused(pieces: list[bytes]) -> None:
    found = outcome(pieces)

    if not isinstance(found, str):
        assert all(address.path.encode() in b"".join(pieces) for address in found)
