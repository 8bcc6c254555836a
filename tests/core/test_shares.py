"""Cutting values to shares and joining them: any enough of them give the value back, in every size."""

from __future__ import annotations

import sys
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.core.envelope import HEAD_OVERHEAD_BYTES, TAG_BYTES
from holdall.core.shares import HEAD_BYTES, ID_BYTES, Erasure, Head, Layout, Role, Xor, xored
from holdall.errors import DamageError, SettingError
from holdall.limits.stores import SHARES_MEMBERS_MAX, STRIPE_BYTES

ids = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
addresses = st.binary(min_size=32, max_size=32).map(Address)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    total = draw(st.integers(1, SHARES_MEMBERS_MAX))
    role, is_slot = draw(st.sampled_from(Role)), draw(st.booleans())
    return Head(
        role=role,
        address=draw(addresses),
        is_slot=is_slot,
        size_bytes=draw(st.integers(0, (1 << 64) - 1)),
        digest=draw(addresses),
        index=draw(st.integers(0, total - 1)),
        needed=draw(st.integers(1, total)),
        total=total,
        version=draw(ids),
        sequence=draw(st.integers(0, (1 << 64) - 1)),
        ids=tuple(draw(ids) for _ in range(total)) if role is Role.ENTRY and not is_slot else (),
        code=draw(st.integers(0, 255)),
    )


@given(head=heads())
def test_a_head_is_read_as_it_was_written_and_all_are_of_one_length(head: Head) -> None:
    packed = head.pack()

    assert Head.unpack(packed) == head
    assert len(packed) + HEAD_OVERHEAD_BYTES == HEAD_BYTES


@given(packed=st.binary(max_size=500) | st.binary(min_size=364, max_size=364))
def test_any_bytes_are_a_head_or_damage(packed: bytes) -> None:
    try:
        head = Head.unpack(packed)
    except DamageError:
        return
    assert head.index < head.total <= SHARES_MEMBERS_MAX


@given(size=st.integers(0, 5 * STRIPE_BYTES), pieces=st.integers(1, SHARES_MEMBERS_MAX))
def test_blocks_lie_one_after_the_other(size: int, pieces: int) -> None:
    layout = Layout(size, pieces)

    at = HEAD_BYTES
    for number in range(layout.stripes):
        assert layout.offset(number) == at
        at += layout.block_bytes(number) + TAG_BYTES
    assert layout.offset(layout.stripes) == at
    assert sum(layout.stripe_bytes(number) for number in range(layout.stripes)) == size


@given(one=st.binary(max_size=200), data=st.data())
def test_exclusive_or_undoes_itself(one: bytes, data: st.DataObject) -> None:
    other = data.draw(st.binary(min_size=len(one), max_size=len(one)))

    assert xored(xored(one, other), other) == one
    assert xored(one, other) == bytes(a ^ b for a, b in zip(one, other, strict=True))


@given(stripe=st.binary(min_size=1, max_size=200), total=st.integers(2, 6), data=st.data())
def test_a_stripe_is_all_its_pads_and_what_they_leave(stripe: bytes, total: int, data: st.DataObject) -> None:
    sized = st.binary(min_size=len(stripe), max_size=len(stripe))
    blocks = [data.draw(sized) for _ in range(total - 1)]
    rest = stripe
    for pad in blocks:
        rest = xored(rest, pad)

    joined = Xor(total).join(dict(enumerate([rest, *blocks])), len(stripe))

    assert joined == stripe


@given(
    numbers=st.integers(1, SHARES_MEMBERS_MAX).flatmap(lambda total: st.tuples(st.integers(1, total), st.just(total))),
    stripe=st.binary(min_size=1, max_size=500),
    data=st.data(),
)
def test_any_k_blocks_of_n_give_the_stripe_back(numbers: tuple[int, int], stripe: bytes, data: st.DataObject) -> None:
    code = Erasure(*numbers)
    chosen = data.draw(st.permutations(range(code.total)))[: code.needed]

    blocks = {index: code.block(stripe, index) for index in chosen}

    assert {len(block) for block in blocks.values()} == {-(-len(stripe) // code.needed)}
    assert code.join(blocks, len(stripe)) == stripe


def test_every_choice_of_three_of_six_gives_a_long_stripe_back() -> None:
    code = Erasure(3, 6)
    stripe = bytes(range(256)) * (STRIPE_BYTES // 256) + b"odd"
    blocks = [code.block(stripe, index) for index in range(6)]

    joined = {
        code.join({index: blocks[index] for index in chosen}, len(stripe)) for chosen in combinations(range(6), 3)
    }

    assert joined == {stripe}


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zfec", None)

    with pytest.raises(SettingError) as missing:
        Erasure(2, 3)

    assert missing.value.sentence() == (
        "Shares of which some are enough need the package zfec. Install it: pip install 'holdall[spread]'"
    )
    assert Erasure(1, 3).join({2: b"copies need none"}, 16) == b"copies need none"
