"""Which of many addresses are not stored, by the members' own answers to that question."""

from __future__ import annotations

from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final

from holdall.errors import AccessError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.limits.stores import CLIENT_CONNECTIONS
from holdall.stores.base import missing as missing_of
from holdall.stores.ordered import in_order
from holdall.stores.shares_member import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdall.core.address import Address
    from holdall.stores.shares_finding import Finder
    from holdall.stores.shares_member import Member

_BATCH: Final = 1 << 13
"""Addresses whose names are held at once, for each member."""


async def missing_from(finder: Finder, addresses: Iterable[Address]) -> list[Address]:
    """Which of `addresses` are missing; see `BatchExistence.missing`.

    A blob counts as stored only if every member that answers has its share, and those are enough to read it: what has
    lost a share is reported, so that whoever has the bytes stores them again and makes it good.
    """
    absent: list[Address] = []
    left = iter(dict.fromkeys(addresses))
    while batch := list(islice(left, _BATCH)):
        absent += await _missing(finder, batch)
    return absent


async def _missing(finder: Finder, asked: list[Address]) -> list[Address]:
    keyring = finder.keyring
    gone = await _lacking(finder, finder.arbiter.member, asked, keyring.entry)
    if isinstance(gone, HoldallError):
        candidates, silent, answers = asked, [gone], 0
    else:
        candidates, silent, answers = [address for address in asked if address not in gone], [], 1

    async def lacks(member: Member) -> set[Address] | HoldallError:
        return await _lacking(finder, member, candidates, lambda address: keyring.share(address, member.index))

    incomplete: set[Address] = set()
    for answer in await outcomes((lacks(member) for member in finder.others), StoreError, AccessError):
        if isinstance(answer, HoldallError):
            silent.append(answer)
        else:
            incomplete |= answer
            answers += 1
    if answers < keyring.code.needed:
        raise silent[0]
    doubtful = [address for address in candidates if address in incomplete]
    found = in_order(doubtful, lambda address: _is_whole_slot(finder, address), width=CLIENT_CONNECTIONS)
    async with aclosing(found):
        here = [is_here async for is_here in found]
    stored = {address for address in candidates if address not in incomplete}
    stored |= {address for address, is_here in zip(doubtful, here, strict=True) if is_here}
    return [address for address in asked if address not in stored]


async def _lacking(
    finder: Finder, member: Member, addresses: list[Address], name_of: Callable[[Address], Address]
) -> set[Address] | HoldallError:
    """Which of `addresses` a member has nothing of, or why it does not say, where others may say it."""
    names = {name_of(address): address for address in addresses}
    try:
        with member.asked():
            return {names[name] for name in await missing_of(member.store, names)} if names else set()
    except (StoreError, AccessError) as error:
        if not finder.redundant:
            raise
        return error


async def _is_whole_slot(finder: Finder, address: Address) -> bool:
    """Whether a slot is stored with all its parts, so far as its members answer; a blob here has lost a share."""
    try:
        found = await finder.find(address, use=True)
    except (NotFoundError, DamageError):
        return False
    return found.head.is_slot and await finder.has_parts(found.head)
