"""The store that is not there: what a composite has in the place of a member that cannot be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from holdall.errors import UnreachableError
from holdall.stores.base import ALWAYS, WHOLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdall.core.address import Address
    from holdall.errors import HoldallError
    from holdall.stores.base import Condition, Info, Kind, Reading, Source, Span


class Absent:
    """A store that could not be opened: whatever it is asked, it does not answer, and says so without delay.

    Args:
        error: Why not.
    """

    def __init__(self, error: HoldallError) -> None:
        self._message = error.message
        self._hint = error.hint

    async def put(self, source: Source, *, expected: Address | None = None) -> Address:
        """Fails."""
        del source, expected
        self._fail()

    async def get(self, address: Address, span: Span = WHOLE, *, use: bool = True) -> Reading:
        """Fails."""
        del address, span, use
        self._fail()

    async def stat(self, address: Address, *, use: bool = True) -> Info:
        """Fails."""
        del address, use
        self._fail()

    async def delete(self, address: Address, *, kind: Kind | None = None) -> None:
        """Fails."""
        del address, kind
        self._fail()

    async def entries(self) -> AsyncIterator[Info]:
        """Fails."""
        self._fail()
        yield  # type: ignore[unreachable]  # which makes it an iterator

    async def write(self, address: Address, source: Source, *, when: Condition = ALWAYS) -> Info:
        """Fails."""
        del address, source, when
        self._fail()

    async def append(self, address: Address, source: Source) -> Info:
        """Fails."""
        del address, source
        self._fail()

    async def take(self, address: Address) -> Reading:
        """Fails."""
        del address
        self._fail()

    async def aclose(self) -> None:
        """Does nothing."""

    def _fail(self) -> NoReturn:
        raise UnreachableError(self._message, hint=self._hint)
