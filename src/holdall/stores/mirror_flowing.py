"""A long blob of a mirror, or part of one, as it comes: from one member after the other if need be."""

from __future__ import annotations

import hashlib
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Protocol

from holdall.errors import AccessError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.stores.base import Info, Kind, Span
from holdall.stores.closing_reading import ClosingReading
from holdall.stores.mirror_leading import told

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Reading
    from holdall.stores.composite import Member


class Mending(Protocol):
    """Who replaces copies that are missing or wrong."""

    async def mend(self, address: Address, source: Member, holder: Member, targets: dict[Member, bool]) -> None:
        """See `MirrorBlobs.mend`."""
        ...

    async def repair(self, address: Address) -> list[Member]:
        """See `MirrorBlobs.repair`."""
        ...


class FlowingReading(ClosingReading):
    """A reading that goes on at another member where one breaks off, and holds a whole blob to its address.

    Its last piece is yielded only when all of them hash to the address. Where they do not, every member's copy is
    looked at and the wrong ones are replaced, so that the next reading is right. Part of a blob cannot be checked.

    Args:
        mending: Who replaces what is missing or wrong.
        address: The blob.
        opened: The member that it is read from first, and its reading.
        others: Who may have it too, in the order to try.
        verify: Whether all of it is read.
        lacking: Who lacks it, to be given it at the end, and whether there is something else in its place.
    """

    def __init__(
        self,
        mending: Mending,
        address: Address,
        opened: tuple[Member, Reading],
        others: Sequence[Member],
        *,
        verify: bool,
        lacking: Mapping[Member, bool],
    ) -> None:
        self._member, self._reading = opened
        info = self._reading.info
        blob = Info(address, Kind.BLOB, info.size_bytes, "", info.used_ns, info.expires_ns)
        self.info = told(self._member, blob)
        self.start, self.stop = self._reading.start, self._reading.stop
        self._mending = mending
        self._address = address
        self._others = list(others)
        self._verify = verify
        self._lacking = dict(lacking)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to `stop`.

        Raises:
            DamageError: They do not hash to the address.
            StoreError: No member can give the rest.
        """
        digest, last = hashlib.sha256(), b""
        async with aclosing(self._flow()) as flow:
            async for piece in flow:
                if self._verify:
                    digest.update(piece)
                if last:
                    yield last
                last = piece
        if self._verify and digest.digest() != self._address:
            raise await self._damage()
        if last:
            yield last
        if self._verify:
            with suppress(HoldallError):  # the bytes are right; who could not be mended is remembered
                await self._mending.mend(self._address, self._member, self._member, self._lacking)

    async def aclose(self) -> None:
        """Closes the member's reading."""
        await self._reading.aclose()

    async def _flow(self) -> AsyncGenerator[bytes, None]:
        """The bytes, from wherever they can be had."""
        at = self.start
        while True:
            broken: HoldallError | None = None
            try:
                with self._member.asked():
                    async for piece in self._reading:
                        at += len(piece)
                        yield piece
            except (DamageError, StoreError) as error:
                broken = error
            if at >= self.stop:
                return  # whether it is right is seen by who asked
            await self._go_on(at, broken or DamageError(f"{self._address} ended {self.stop - at} bytes early."))

    async def _go_on(self, at: int, error: HoldallError) -> None:
        """Opens the rest at the next member that has it, or raises what broke off the reading before."""
        await self._reading.aclose()
        while self._others:
            member = self._others.pop(0)
            try:
                reading = await member.ask(member.store.get(self._address, Span(at, self.stop), use=False))
            except NotFoundError:
                self._lacking[member] = False
            except (AccessError, DamageError, StoreError):
                continue
            else:
                self._member, self._reading = member, reading
                return
        raise error

    async def _damage(self) -> DamageError:
        """Mends what is damaged; the error that says that this reading was."""
        message = f"What was read of {self._address} does not hash to it."
        try:
            mended = await self._mending.repair(self._address)
        except HoldallError as error:
            return DamageError(message, hint=error.sentence())
        names = " and ".join(member.name for member in mended)
        hint = f"The wrong copy of {names} was replaced: read it again." if names else "Read it again."
        return DamageError(message, hint=hint)
