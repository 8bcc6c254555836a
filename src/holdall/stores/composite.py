"""What every store made of stores stands on: members with names, several asked at once, one at a time for an address.

What a composite does with its members is its own affair; here is only how it speaks to them, and how their errors come
to say whose they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from holdall.errors import (
    AccessError,
    DamageError,
    DigestMismatchError,
    HoldallError,
    NotFoundError,
    SettingError,
    StoreError,
    UnreachableError,
)
from holdall.limits.snapshot import UPLOADS_MAX
from holdall.limits.stores import CLIENT_CONNECTIONS, COMPOSITE_MEMBERS_MAX, MIRROR_REST_SECONDS
from holdall.stores.abilities import BatchStat, BulkStoring, Quarantining
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Blobs, Info, Store

_T = TypeVar("_T")


class Member:
    """One of the stores that a composite is made of.

    Args:
        name: What it is called; errors and places go by it.
        store: The store.

    Attributes:
        name: As given.
        store: As given.
        tag: Its name as 16 hexadecimal digits, for where a name might not go or should not be seen.
        failure: What it said when it failed last, if it ever did.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = store
        self.tag = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.failure: str | None = None
        self._rests_until = 0.0

    def is_due(self) -> bool:
        """Whether it is worth asking: it answered when it was last asked, or has rested since.

        When it has rested, the one who is told so finds out for all; the others are told that it rests on.
        """
        if self._rests_until:
            now = time.monotonic()
            if now < self._rests_until:
                return False
            self._rests_until = now + MIRROR_REST_SECONDS
        return True

    async def ask(self, call: Awaitable[_T], *, source: object = None) -> _T:
        """What one of the member's calls answers; see `asked`."""
        with self.asked(source=source):
            return await call

    @contextmanager
    def asked(self, *, source: object = None) -> Iterator[None]:
        """Puts the member's name into its errors, and notes whether it can be reached.

        Args:
            source: What is sent meanwhile; an error that is its attribute `error` is not the member's.
        """
        try:
            yield
        except HoldallError as error:
            if getattr(source, "error", None) is not error:
                if isinstance(error, UnreachableError):
                    self._rests_until = time.monotonic() + MIRROR_REST_SECONDS
                if isinstance(error, (StoreError, AccessError)):
                    self.failure = error.message.removeprefix(f"{self.name}: ")
                if isinstance(error, (StoreError, DamageError, AccessError)) and type(error) is not DigestMismatchError:
                    say_whose(self.name, error)
            raise
        self._rests_until = 0.0


def say_whose(name: str, error: HoldallError) -> None:
    """Puts a member's name before an error's message, unless it is there."""
    if error.message.startswith(f"{name}: "):
        return
    error.message = f"{name}: {error.message}"
    error.args = (error.message,)


def members_of(members: Sequence[tuple[str, Store]]) -> list[Member]:
    """The members of a composite, in the order given.

    Raises:
        SettingError: There is none, there are too many, or their names are not all different and printable.
    """
    names = [name for name, _ in members]
    if not 1 <= len(names) <= COMPOSITE_MEMBERS_MAX:
        raise SettingError(f"A store is made of 1 to {COMPOSITE_MEMBERS_MAX} others, not of {len(names)}.")
    for name in names:
        if not name or not name.isprintable():
            raise SettingError(f"{name[:80]!r} cannot be the name of a member.")
        if names.count(name) > 1:
            raise SettingError(f"Two members are called {name[:80]!r}.", hint="Give each a name of its own.")
    return [Member(name, store) for name, store in members]


def due(members: Sequence[Member]) -> Sequence[Member]:
    """The members worth asking, in their order; all of them where none is."""
    return [member for member in members if member.is_due()] or members


def names_of(members: Iterable[Member]) -> str:
    """The members' names, for a sentence."""
    return " and ".join(member.name for member in members)


async def at_once(calls: Iterable[Awaitable[_T]]) -> list[_T | HoldallError]:
    """What each of these calls answers or raises when all run at once, in their order.

    Raises:
        BaseException: What is none of holdall's errors, once all calls have ended.
    """
    answers: list[_T | HoldallError] = []
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, BaseException) and not isinstance(answer, HoldallError):
            raise answer
        answers.append(answer)
    return answers


def raise_first(answers: Iterable[object]) -> None:
    """Raises the first error among these answers, if there is one."""
    for answer in answers:
        if isinstance(answer, HoldallError):
            raise answer


async def close_all(members: Iterable[Member]) -> None:
    """Closes every member's store, whatever the others do.

    Raises:
        HoldallError: The first that one raised.
    """
    raise_first(await at_once(member.ask(member.store.aclose()) for member in members))


async def looks(store: Blobs, addresses: list[Address], *, use: bool) -> list[Info | None]:
    """What is at each of `addresses`, in their order, None where nothing is; by batch where the store can.

    Args:
        store: Where to look.
        addresses: What to look at.
        use: Whether this counts as a use.

    Raises:
        StoreError: See `holdall.stores.base`.
    """
    if isinstance(store, BatchStat):
        return await store.stat_many(addresses, use=use)

    async def look(address: Address) -> Info | None:
        try:
            return await store.stat(address, use=use)
        except NotFoundError:
            return None

    async with aclosing(in_order(addresses, look, width=CLIENT_CONNECTIONS)) as found:
        return [info async for info in found]


async def put_all(store: Blobs, blobs: Sequence[bytes]) -> list[Address]:
    """Stores many blobs, at once where the store can; their addresses, in order. See `BulkStoring`."""
    if isinstance(store, BulkStoring):
        return await store.put_many(blobs)
    async with aclosing(in_order(blobs, store.put, width=UPLOADS_MAX)) as stored:
        return [address async for address in stored]


async def quarantine_at(member: Member, address: Address) -> str | None:
    """Takes a damaged blob out of the way if the member can keep it; see `Quarantining`."""
    store = member.store
    return await member.ask(store.quarantine(address)) if isinstance(store, Quarantining) else None


class Turns:
    """Locks by address, for the tasks of one event loop; an address that nobody waits for costs nothing."""

    def __init__(self) -> None:
        self._locks: dict[Address, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, address: Address) -> AsyncIterator[None]:
        """A block that one task at a time runs for an address, in the order in which they came."""
        lock, users = self._locks.get(address, (asyncio.Lock(), 0))
        self._locks[address] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[address]
            if users > 1:
                self._locks[address] = (lock, users - 1)
            else:
                del self._locks[address]
