"""Removing entries: deleting blobs and slots, taking slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.errors import AlreadySetError, DamageError, KindError, NotFoundError, VersionMismatchError
from holdall.stores.base import ALWAYS, WHOLE, Kind
from holdall.stores.shares_finding import Found, info_of, nothing_at
from holdall.stores.shares_ground import attempts
from holdall.stores.shares_reading import Share
from holdall.stores.shares_value import Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.base import Info
    from holdall.stores.shares_ground import Ground
    from holdall.stores.shares_member import Member
    from holdall.stores.shares_placing import Members
    from holdall.stores.shares_reading import SharesReading


class Kept:
    """What was taken from the first member, kept here until it is known to be used or put back; see `Reading`.

    Args:
        info: What the member said of it.
        value: All of its bytes.

    Attributes:
        may_go: Whether it is known by now that they need not be put back.
    """

    def __init__(self, info: Info, value: Value) -> None:
        self.info = info
        self.value = value
        self.may_go = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.value.whole()

    async def aclose(self) -> None:
        """Lets go of the bytes, once they may go."""
        if self.may_go:
            self.value.close()


class Remover:
    """Removes entries; the caller sees to it that it changes one entry once at a time.

    Args:
        ground: The steps.
        members: Calls the members but the first.
    """

    def __init__(self, ground: Ground, members: Members) -> None:
        self._ground = ground
        self._members = members

    async def take(self, address: Address) -> SharesReading:
        """Opens a slot and removes it; see `Slots.take`."""
        ground = self._ground
        async for _ in attempts(address):
            standing = await ground.standing(address)
            if standing.info is None:
                await self._say_nothing_is_there(address)
            standing.check(address, ALWAYS, is_blob=False)
            if standing.head is not None:
                await self._all_answer(standing.head)
            # Opened before it is removed: what cannot be read must not go.
            reading = await ground.finder.open(address, WHOLE, use=False)
            try:
                taken = await self._unlink(address)
            except BaseException:
                await reading.aclose()
                raise
            if taken is not None and taken[0] == reading.head:
                await taken[1].aclose()
            else:
                await reading.aclose()
                if taken is None or not taken[0].is_slot:
                    continue
                reading = await self._opened(*taken)
            await ground.forget(reading.head)
            return reading
        raise AssertionError  # attempts() ends by raising

    async def delete(self, address: Address, kind: Kind | None) -> None:
        """Removes an entry; see `Blobs.delete`."""
        ground = self._ground
        async for _ in attempts(address):
            try:
                standing = await ground.standing(address)
            except DamageError:  # beyond repair
                standing = await ground.standing(address, heal=False)
            if standing.info is None:
                await self._say_nothing_is_there(address)
            if standing.head is None:
                await self._delete_damaged(address, kind)
                return
            if kind is not None and standing.head.is_slot is not (kind is Kind.SLOT):
                found = Kind.SLOT if standing.head.is_slot else Kind.BLOB
                raise KindError(f"{address} is a {found.value}, not a {kind.value}.")
            await self._all_answer(standing.head)
            if not standing.head.is_slot:
                await self._delete_blob(standing.head)
                return
            taken = await self._unlink(address)
            if taken is not None and taken[0].is_slot:
                await taken[1].aclose()
                await ground.forget(taken[0])
                return
        raise AssertionError  # attempts() ends by raising

    async def _all_answer(self, head: Head) -> None:
        """Asks the members for their shares before any is removed.

        Raises:
            StoreError: Too few answered.
        """

        async def answer(member: Member) -> bool:
            await member.holds(self._ground.keyring.part(head, member.index), head.address, use=False)
            return True

        await self._members.each(head.address, answer)

    async def _delete_blob(self, head: Head) -> None:
        """Removes a blob, its entry last."""
        ground, address = self._ground, head.address

        async def remove(member: Member) -> bool:
            await member.remove(ground.keyring.part(head, member.index), address)
            return True

        await self._members.each(address, remove)
        if not await ground.arbiter.member.remove(ground.keyring.entry(address), address):
            raise nothing_at(address)

    async def _delete_damaged(self, address: Address, kind: Kind | None) -> None:
        """Removes what cannot be read, so that its address can be used again."""
        ground = self._ground
        if kind is not None:
            raise DamageError(f"What is stored at {address} is damaged, so it cannot be said of which kind it is.")
        for member in self._members.others:
            await member.remove(ground.keyring.share(address, member.index), address)
        await ground.unpoint(address)
        if not await ground.arbiter.member.remove(ground.keyring.entry(address), address):
            raise nothing_at(address)

    async def _unlink(self, address: Address) -> tuple[Head, Share] | None:
        """Takes a slot away at the first member; what was there, or None where nothing is any more.

        A blob, or what is damaged, is put back; a blob is returned all the same.
        """
        ground, name = self._ground, self._ground.keyring.entry(address)
        member = ground.arbiter.member
        await ground.unpoint(address)
        try:
            share = Share(member, await ground.arbiter.take(name), address)
        except NotFoundError:
            return None
        sealed = b""
        try:
            sealed = await share.head()
            head = ground.finder.checked(sealed, name, address, member)
        except BaseException:
            await self._put_back(address, None, await _kept(share, sealed))
            raise
        if not head.is_slot:
            await self._put_back(address, head, await _kept(share, sealed))
        return head, share

    async def _opened(self, head: Head, share: Share) -> SharesReading:
        """Opens a version that was taken away unopened; puts it back if that fails."""
        ground, info = self._ground, share.info
        kept = await _kept(share, ground.keyring.sealed(head, ground.keyring.entry(head.address)))
        stream = Kept(info, kept)
        again = Share(ground.arbiter.member, stream, head.address)
        await again.head()
        try:
            reading = await ground.finder.reading(Found(head, info_of(head, info), None, again))
        except BaseException:
            await self._put_back(head.address, head, kept)
            raise
        stream.may_go = True
        return reading

    async def _put_back(self, address: Address, head: Head | None, kept: Value) -> None:
        """Gives the first member back what was taken; a blob wins over what has come there meanwhile."""
        ground, name = self._ground, self._ground.keyring.entry(address)
        try:
            token = None
            async for _ in attempts(address):
                try:
                    await ground.arbiter.change(name, kept.whole, token)
                except (AlreadySetError, VersionMismatchError):
                    standing = await ground.standing(address, heal=False)
                    if head is None or head.is_slot or (standing.head is not None and not standing.head.is_slot):
                        return
                    token = standing.token
                    continue
                return
        finally:
            kept.close()

    async def _say_nothing_is_there(self, address: Address) -> NoReturn:
        await self._ground.finder.labels.check_secret()
        raise nothing_at(address)


async def _kept(share: Share, sealed: bytes) -> Value:
    """All of a share, from its head on; it is closed."""
    value = Value(sealed)
    try:
        await value.add(share.rest())
    except BaseException:
        value.close()
        raise
    finally:
        await share.aclose()
    return value
