"""Names, heads and blocks: only who has the secret can compute or open them, and only as they were sealed."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.core.envelope import HEAD_OVERHEAD_BYTES, TAG_BYTES, Secret
from holdall.errors import DamageError, SettingError

SECRET = Secret(bytes(range(32)))
OTHER = Secret(bytes(range(1, 33)))
NAME = Address.of(b"a name")


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_secret_is_refused(length: int) -> None:
    with pytest.raises(SettingError, match=f"has {length} bytes"):
        Secret(bytes(length))


def test_names_are_of_the_secret_the_role_and_all_parts() -> None:
    names = {
        secret.name(role, *parts)
        for secret in (SECRET, OTHER)
        for role in (b"entry", b"share")
        for parts in ((NAME,), (Address.of(b""),), (b"\x00", NAME), (b"\x01", NAME))
    }

    assert len(names) == 16
    assert SECRET.name(b"entry", NAME) == SECRET.name(b"entry", NAME)
    assert SECRET.fingerprint != OTHER.fingerprint


@given(head=st.binary(max_size=400))
def test_a_head_is_opened_as_it_was_sealed_and_sealed_the_same_again(head: bytes) -> None:
    sealed = SECRET.seal_head(NAME, head)

    assert SECRET.open_head(NAME, sealed) == head
    assert SECRET.seal_head(NAME, head) == sealed
    assert len(sealed) == len(head) + HEAD_OVERHEAD_BYTES
    assert len(head) < 16 or head not in sealed


@given(head=st.binary(max_size=50), data=st.data())
def test_a_head_with_any_bit_flipped_is_damage(head: bytes, data: st.DataObject) -> None:
    sealed = SECRET.seal_head(NAME, head)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))

    with pytest.raises(DamageError):
        SECRET.open_head(NAME, flipped(sealed, bit))


@given(sealed=st.binary(max_size=500))
def test_no_bytes_of_a_stranger_open_as_a_head(sealed: bytes) -> None:
    for found in (sealed, b"holdall\x01" + sealed):
        with pytest.raises(DamageError):
            SECRET.open_head(NAME, found)


def test_a_head_opens_only_under_its_name_and_with_its_secret() -> None:
    sealed = SECRET.seal_head(NAME, b"head")

    with pytest.raises(DamageError):
        SECRET.open_head(Address.of(b"another name"), sealed)
    with pytest.raises(DamageError):
        OTHER.open_head(NAME, sealed)
    with pytest.raises(DamageError):
        SECRET.open_head(NAME, sealed[:-1])


@given(block=st.binary(max_size=300), number=st.integers(0, 1 << 40))
def test_a_block_is_opened_as_it_was_sealed(block: bytes, number: int) -> None:
    sealed = SECRET.blocks(b"run", NAME).seal(number, block)

    assert SECRET.blocks(b"run", NAME).open(number, sealed) == block
    assert len(sealed) == len(block) + TAG_BYTES


def test_equal_blocks_differ_by_secret_run_and_number() -> None:
    sealed = {
        blocks.seal(number, b"the same block")
        for blocks in (SECRET.blocks(b"run"), SECRET.blocks(b"other"), OTHER.blocks(b"run"))
        for number in range(3)
    }

    assert len(sealed) == 9


@given(block=st.binary(max_size=50), data=st.data())
def test_a_block_that_was_changed_moved_or_cut_is_damage(block: bytes, data: st.DataObject) -> None:
    blocks = SECRET.blocks(b"run")
    sealed = blocks.seal(3, block)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))

    for opener, number, found in (
        (blocks, 3, flipped(sealed, bit)),
        (blocks, 2, sealed),
        (blocks, 3, sealed[:-1]),
        (blocks, 3, b""),
        (SECRET.blocks(b"other"), 3, sealed),
        (OTHER.blocks(b"run"), 3, sealed),
    ):
        with pytest.raises(DamageError):
            opener.open(number, found)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)

    with pytest.raises(SettingError) as missing:
        Secret(bytes(32))

    assert missing.value.sentence() == (
        "Stores with a secret need the package cryptography. Install it: pip install 'holdall[spread]'"
    )
