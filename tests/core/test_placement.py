"""Rendezvous hashing: where an address lives depends on names alone, and little moves when members come and go."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.address import Address
from holdall.core.placement import Placement

names = st.lists(st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable()), min_size=1, unique=True)
addresses = st.binary(min_size=32, max_size=32).map(Address)

MANY = [Address.of(b"%d" % number) for number in range(6000)]


@given(names.flatmap(lambda listed: st.tuples(st.just(listed), st.permutations(listed))), addresses)
def test_the_order_of_the_members_does_not_matter(orders: tuple[list[str], list[str]], address: Address) -> None:
    one, other = orders

    assert Placement(one).ranked(address) == Placement(other).ranked(address)


@given(names, addresses)
def test_each_member_has_one_rank_and_the_first_is_the_home(listed: list[str], address: Address) -> None:
    placement = Placement(listed)

    assert sorted(placement.ranked(address)) == sorted(listed)
    assert placement.ranked(address)[0] == placement.home(address)


@given(names.filter(lambda listed: len(listed) > 1), addresses)
def test_a_new_member_takes_over_an_address_or_leaves_it_where_it_is(listed: list[str], address: Address) -> None:
    *old, new = listed

    assert Placement(listed).home(address) in {new, Placement(old).home(address)}


@given(names.filter(lambda listed: len(listed) > 1), addresses)
def test_the_ranks_without_a_member_are_those_with_it(listed: list[str], address: Address) -> None:
    *rest, gone = listed

    assert Placement(rest).ranked(address) == [name for name in Placement(listed).ranked(address) if name != gone]


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_addresses_spread_evenly(count: int) -> None:
    placement = Placement(f"member {number}" for number in range(count))

    shares = Counter(map(placement.home, MANY))

    even = len(MANY) / count
    assert all(abs(share - even) < 4 * math.sqrt(even) for share in shares.values())
    assert len(shares) == count


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_a_new_member_takes_its_share_and_no_more(count: int) -> None:
    before = Placement(f"member {number}" for number in range(count))
    after = Placement(f"member {number}" for number in range(count + 1))

    moved = sum(before.home(address) != after.home(address) for address in MANY)

    share = len(MANY) / (count + 1)
    assert abs(moved - share) < 4 * math.sqrt(share)


def test_places_are_those_of_the_rule_for_ever() -> None:
    listed = ["attic", "cellar", "übersee"]
    address = Address.of(b"hello")

    lots = {name: hashlib.sha256(name.encode("utf-8") + address).hexdigest() for name in listed}

    assert Placement(listed).ranked(address) == sorted(listed, key=lots.__getitem__, reverse=True)
    assert Placement(listed).ranked(address) == ["übersee", "cellar", "attic"]
    homes = [Placement(listed).home(Address.of(data)) for data in (b"", b"one", b"two", b"three")]
    assert homes == ["übersee", "cellar", "attic", "attic"]


@pytest.mark.parametrize("listed", [[], ["same", "same"]])
def test_members_need_names_of_their_own(listed: list[str]) -> None:
    with pytest.raises(ValueError, match="names"):
        Placement(listed)
