"""What goes through a whole store stands on this: every address, another try, and the word for what is wrong."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from random import SystemRandom
from typing import TYPE_CHECKING, Final, TypeVar

from holdall.errors import AccessError, BusyError, DamageError, NotFoundError, StoreError, UnreachableError
from holdall.limits.stores import CLIENT_BACKOFF_SECONDS, CLIENT_CONNECTIONS, CLIENT_RETRIES
from holdall.stores.abilities import AddressListing, BatchStat, Keyed
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from holdall.core.address import Address
    from holdall.errors import HoldallError
    from holdall.stores.base import Blobs, Info

_T = TypeVar("_T")
_random: Final = SystemRandom()


class GarbledError(StoreError):
    """Bytes were right where they are kept and wrong where they arrived."""

    default_hint = "Look at the memory of this machine and at what lies between the two stores."


PASSING: Final = (BusyError, GarbledError, UnreachableError)
"""What another try may mend, and what, if it does not, concerns the store and not one entry."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An entry that could not be treated as the others.

    Attributes:
        address: The entry's.
        error: What was wrong; its message names the address.
        set_aside: Whether it was taken out of the way.
    """

    address: Address
    error: HoldallError
    set_aside: bool = False

    @property
    def is_damage(self) -> bool:
        """Whether its bytes are wrong or its disk cannot read them; otherwise it was only refused."""
        return isinstance(self.error, DamageError) or type(self.error) is StoreError


def trouble_with(address: Address, error: HoldallError) -> Trouble:
    """The error as a `Trouble` whose message names the address."""
    if address.path not in error.message:
        error.message = f"{address}: {error.message}"
    return Trouble(address, error)


async def every_address(store: Blobs) -> AsyncGenerator[Address, None]:
    """Yields the address of every entry in the order of `Blobs.entries`, the cheapest way the store has.

    Raises:
        AccessError: The store does not list itself to this caller; a server without an API key lists nothing, which
            must not pass for a store in which nothing is.
        StoreError: See `holdall.stores.base`.
    """
    found = store.addresses() if isinstance(store, AddressListing) else _of_entries(store)
    empty = True
    async with aclosing(found) as addresses:  # type: ignore[type-var]
        async for address in addresses:
            empty = False
            yield address
    if empty and isinstance(store, Keyed) and not store.has_key:
        raise AccessError(
            "The server lists nothing, as one without an API key does, so what it holds cannot be known.",
            hint="Start it with a key and bring it, or name its directory.",
        )


async def persistently(call: Callable[[], Awaitable[_T]]) -> _T:
    """Calls until what fails is not a matter of the moment, at most `CLIENT_RETRIES` times more.

    Raises:
        HoldallError: As the last call.
    """
    for attempt in count():
        try:
            return await call()
        except PASSING:
            if attempt == CLIENT_RETRIES:
                raise
        await asyncio.sleep(CLIENT_BACKOFF_SECONDS * 2**attempt * _random.uniform(0.5, 1.5))
    raise AssertionError  # count() does not end


async def looks(store: Blobs, addresses: list[Address]) -> list[Info | None]:
    """What is at each of `addresses`, in their order, None where nothing is; no use of them.

    Raises:
        StoreError: See `holdall.stores.base`.
    """
    if isinstance(store, BatchStat):
        return await store.stat_many(addresses, use=False)

    async def look(address: Address) -> Info | None:
        try:
            return await store.stat(address, use=False)
        except NotFoundError:
            return None

    async with aclosing(in_order(addresses, look, width=CLIENT_CONNECTIONS)) as found:
        return [info async for info in found]


async def _of_entries(store: Blobs) -> AsyncIterator[Address]:
    async with aclosing(store.entries()) as infos:  # type: ignore[type-var]
        async for info in infos:
            yield info.address
