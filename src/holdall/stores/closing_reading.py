"""What readings share that come piece by piece: reading whole, and closing as a context manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType


class ClosingReading:
    """Base of readings: `__aiter__` is theirs and, where there is something to let go, `aclose`."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise TypeError(f"{type(self).__name__} yields nothing.")

    async def read(self) -> bytes:
        """All bytes from `start` to `stop`; see `Reading.read`."""
        return b"".join([piece async for piece in self])

    async def aclose(self) -> None:
        """Lets go of the entry; closing twice is harmless."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
