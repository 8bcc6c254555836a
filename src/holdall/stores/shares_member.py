"""The members of a composite: a store with a name and a place, and what it was found to do wrong."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from holdall.core.shares import HEAD_BYTES
from holdall.errors import (
    AccessError,
    HoldallError,
    NotFoundError,
    RangeError,
    SettingError,
    StoreError,
    UnreachableError,
)
from holdall.limits.stores import SHARES_FAULTS_MAX, SHARES_MEMBERS_MAX, SHARES_REST_SECONDS
from holdall.stores.base import Span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Info, Store

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a member did wrong.

    Attributes:
        member: Its name.
        address: Of the entry it was asked for, or None where it matters to all.
        reason: `damaged`: its bytes are not those that were written; `missing`: it has lost them; `unreachable`: it
            did not answer; `refused`: it could not do it.
    """

    member: str
    address: Address | None
    reason: str


class Faults:
    """Each fault once, the newest `SHARES_FAULTS_MAX` of them."""

    def __init__(self) -> None:
        self._faults: dict[Fault, None] = {}

    def note(self, fault: Fault) -> None:
        """Remembers a fault."""
        self._faults.pop(fault, None)
        self._faults[fault] = None
        if len(self._faults) > SHARES_FAULTS_MAX:
            del self._faults[next(iter(self._faults))]

    def all(self) -> list[Fault]:
        """Every fault remembered, oldest first."""
        return list(self._faults)


class Member:
    """One store of a composite.

    Args:
        store: The store.
        index: Its place among the members, from 0.
        name: What a person calls it.
        faults: Where its faults are noted.
    """

    def __init__(self, store: Store, index: int, name: str, faults: Faults) -> None:
        self.store = store
        self.index = index
        self.name = name
        self._faults = faults
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it did not answer a short while ago."""
        return time.monotonic() < self._rests_until

    def note(self, address: Address | None, reason: str) -> None:
        """Notes a fault of it."""
        self._faults.note(Fault(self.name, address, reason))

    def note_error(self, address: Address | None, error: HoldallError) -> None:
        """Notes that it did not do what it was asked."""
        self.note(address, "unreachable" if isinstance(error, UnreachableError) else "refused")

    @contextmanager
    def asked(self, address: Address | None = None) -> Iterator[None]:
        """Watches a call to the store: one that fails is noted and named, one that does not answer rests."""
        try:
            yield
        except (StoreError, AccessError) as error:
            if isinstance(error, UnreachableError):
                self._rests_until = time.monotonic() + SHARES_REST_SECONDS
            self.note_error(address, error)
            if self.name not in error.message:
                error.message = f"{self.name}: {error.message}"
                error.args = (error.message,)
            raise
        self._rests_until = 0.0

    async def holds(self, name: Address, address: Address | None = None, *, use: bool = True) -> bool:
        """Whether it has something under `name`.

        Raises:
            StoreError: It did not say.
        """
        with self.asked(address):
            try:
                await self.store.stat(name, use=use)
            except NotFoundError:
                return False
        return True

    async def head(self, name: Address, address: Address | None = None, *, use: bool = True) -> tuple[bytes, Info]:
        """The first `HEAD_BYTES` under `name`, or fewer where there are no more, and what it says of them.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: It did not say.
        """
        with self.asked(address):
            try:
                async with await self.store.get(name, Span(0, HEAD_BYTES), use=use) as reading:
                    return await reading.read(), reading.info
            except RangeError:
                return b"", await self.store.stat(name, use=False)

    async def remove(self, name: Address, address: Address | None = None) -> bool:
        """Removes what is under `name`; whether it was there, as far as the member says.

        Raises:
            StoreError: It could not.
        """
        with self.asked(address):
            try:
                await self.store.delete(name)
            except NotFoundError:
                return False
        return True


def members_of(stores: Sequence[Store], names: Sequence[str] | None, faults: Faults) -> list[Member]:
    """The members of a composite, in their order.

    Args:
        stores: Each once.
        names: What a person calls them; by default their URL, or their number from 1.
        faults: Where their faults are noted.

    Raises:
        SettingError: They are too many, or not all different.
    """
    if len(stores) > SHARES_MEMBERS_MAX:
        raise SettingError(f"{len(stores)} stores were named; a composite has at most {SHARES_MEMBERS_MAX}.")
    if len({id(store) for store in stores}) < len(stores):
        raise SettingError("A store was named twice.", hint="Each share needs a store of its own.")
    if names is None:
        names = [str(getattr(store, "url", None) or f"member {number}") for number, store in enumerate(stores, 1)]
    if len(names) != len(stores) or len(set(names)) < len(names):
        raise SettingError("Each store needs a name of its own.")
    return [Member(store, index, name, faults) for index, (store, name) in enumerate(zip(stores, names, strict=True))]


async def all_of(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """What each of these calls answers, all at once; the first error is raised when all have ended."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return list(answers)  # type: ignore[arg-type]  # no error is left among them


async def outcomes(calls: Iterable[Awaitable[_T]], *losses: type[Exception]) -> list[Any]:
    """As `all_of`, with errors of the kinds `losses` as answers."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, losses):
            raise answer
    return list(answers)
