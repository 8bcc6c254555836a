"""The address as text: what is read, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import DIGEST_BYTES, NAME_CHARS, PATH_CHARS, Address, is_entry_name
from holdall.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY = Address(bytes.fromhex(HEX))

digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES).map(Address)
# Any text, and text that is nearly an address: one character of it replaced, dropped or added.
near = st.builds(
    lambda digest, at, insert, drop: digest.path[:at] + insert + digest.path[at + drop :],
    digests,
    st.integers(0, PATH_CHARS),
    st.text(max_size=2),
    st.integers(0, 2),
)
anything = st.text() | near | near.map(lambda text: text[1:])


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", HEX),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (bytearray(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (memoryview(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_the_address_of_bytes_is_their_sha256(data: bytes, digest: str) -> None:
    assert Address.of(data).hex() == digest


def test_an_address_is_written_as_path_name_and_text() -> None:
    assert EMPTY.path == f"/{HEX}.tig"
    assert EMPTY.name == f"{HEX}.tig"
    assert str(EMPTY) == EMPTY.path
    assert repr(EMPTY) == f"Address('{HEX}')"
    assert (len(EMPTY.path), len(EMPTY.name)) == (PATH_CHARS, NAME_CHARS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        HEX,
        f"/{HEX}",
        f"{HEX}.tig",
        f"//{HEX}.tig",
        f"/{HEX}.tig/",
        f"/{HEX}.tig\n",
        f"/{HEX}.tig\0",
        f"/{HEX}.TIG",
        f"/{HEX}.tig.tig",
        f"/{HEX}.tig?burst=1",
        f" /{HEX}.tig",
        f"/{HEX[:-1]}.tig",
        f"/{HEX}0.tig",
        f"/{HEX.upper()}.tig",
        f"/{HEX[:-1]}g.tig",
        f"/{HEX[:-1]}\N{FULLWIDTH DIGIT FIVE}.tig",
        f"/{HEX[:-1]}\N{ARABIC-INDIC DIGIT FIVE}.tig",
        f"/../{HEX}.tig",
        f"%2f{HEX}.tig",
        "/" + "a" * 64 + ",tig",
        "/apikey",
    ],
)
def test_a_path_that_differs_in_anything_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse_path(text)


@pytest.mark.parametrize("text", ["", "/", f"/{HEX}.tig", HEX, f"{HEX}.tig\n", f".{HEX}.tig", f"{HEX.upper()}.tig"])
def test_a_name_that_differs_in_anything_is_refused(text: str) -> None:
    assert not is_entry_name(text)
    with pytest.raises(AddressError):
        Address.parse_name(text)


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        f"{HEX}.tig",
        f"/{HEX}",
        f"/{HEX}.tig",
        f"  /{HEX}.tig\n",
        f"http://127.0.0.1:7777/{HEX}.tig",
        f"https://example.org/{HEX}.tig",
        f"https://[::1]:7777/{HEX}",
    ],
)
def test_a_person_may_write_an_address_in_many_ways(text: str) -> None:
    assert Address.parse_text(text) == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX[:-1],
        HEX + "0",
        HEX.upper(),
        f"ftp://example.org/{HEX}.tig",
        f"http:///{HEX}.tig",
        f"http://example.org/dir/{HEX}.tig",
        f"http://example.org/{HEX}.tig?burst=1",
        f"http://example.org/{HEX}.tig#",
        f"dir/{HEX}.tig",
        f"../{HEX}.tig",
        f"{HEX}.tig {HEX}.tig",
    ],
)
def test_a_person_is_told_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        Address.parse_text(text)

    assert "is not an address" in refused.value.sentence()
    assert "64 lowercase hex" in refused.value.sentence()


@pytest.mark.parametrize("parse", [Address.parse_path, Address.parse_name, Address.parse_text])
@pytest.mark.parametrize("text", ["x" * 10_000, "a\nb\r\0\x1b[31m", "\ud800", "\N{SNOWMAN}"])
def test_an_error_quotes_a_strangers_text_short_and_harmless(parse: Callable[[str], Address], text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse(text)

    assert len(refused.value.message) < 700
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()


@given(digests)
def test_what_is_written_is_read_back(address: Address) -> None:
    assert Address.parse_path(address.path) == address
    assert Address.parse_name(address.name) == address
    for text in (address.path, address.name, address.hex(), f"http://host{address.path}"):
        assert Address.parse_text(text) == address


@given(anything)
def test_any_text_is_the_one_way_to_write_an_address_or_is_refused(text: str) -> None:
    try:
        assert Address.parse_path(text).path == text
    except AddressError:
        assert not (text[:1] == "/" and is_entry_name(text[1:]))
    try:
        assert Address.parse_name(text).name == text
    except AddressError:
        assert not is_entry_name(text)
    with suppress(AddressError):
        assert Address.parse_text(text).hex() in text


@given(st.binary(max_size=200))
def test_an_address_is_a_value_like_its_bytes(data: bytes) -> None:
    address = Address.of(data)

    assert address == Address.of(data) == hashlib.sha256(data).digest()
    assert hash(address) == hash(Address.parse_path(address.path))
    assert {address: 1}[Address.parse_text(address.hex())] == 1
