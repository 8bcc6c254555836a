"""What is stored, although its names say nothing: every head is opened, and tells what it belongs to."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import TYPE_CHECKING

from holdall.core.shares import Role
from holdall.errors import AccessError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.limits.stores import CLIENT_CONNECTIONS, LISTING_SORT_ENTRIES
from holdall.stores.abilities import addresses as addresses_of
from holdall.stores.ordered import in_order
from holdall.stores.shares_finding import info_of
from holdall.stores.shares_keyring import FIRST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from holdall.core.address import Address
    from holdall.core.shares import Head
    from holdall.stores.base import Info
    from holdall.stores.shares_finding import Finder
    from holdall.stores.shares_member import Member


async def heads_of(
    member: Member, finder: Finder, unless: Callable[[Head], Awaitable[bool]] | None = None
) -> AsyncGenerator[tuple[Head, Info], None]:
    """Yields the head of each entry that a member knows of, in the order of its own listing.

    An entry is at the first member an `ENTRY`, at the others the `SHARE` of a blob or the `POINTER` of a slot.

    Args:
        member: Whose entries.
        finder: Opens heads.
        unless: Which heads to leave out.

    Raises:
        AccessError: The member does not list itself to this caller.
        StoreError: It does not list itself now.
    """
    keyring, names = finder.keyring, 0

    async def look(name: Address) -> tuple[Head, Info] | None:
        nonlocal names
        names += 1
        try:
            sealed, info = await member.head(name, use=False)
            head = keyring.opened(sealed, name)
        except (NotFoundError, DamageError):
            return None  # gone, or not ours
        if head.role is Role.PART or (unless is not None and await unless(head)):
            return None
        return head, info

    with member.asked():
        found = in_order(addresses_of(member.store), look, width=CLIENT_CONNECTIONS)
        async with aclosing(found):
            async for known in found:
                if known is not None:
                    yield known
    if not names and await finder.labels.has(member):  # not even its label
        raise AccessError(f"{member.name} does not list what it holds.", hint="Give it its API key.")


async def entries_of(finder: Finder) -> AsyncIterator[Info]:
    """Yields every entry; see `Blobs.entries`.

    The first member is asked. Where some shares are enough, so many are asked that one of them must know an entry
    although the others lost it; each adds what those before it do not know.
    """
    listings = _Listings(finder)
    async with AsyncExitStack() as stack:
        await listings.begin(stack)
        anything = False
        async with aclosing(_sorted(listings.merged())) as infos:
            async for info in infos:
                anything = True
                yield info
    if not anything:
        await finder.labels.check_secret()


class _Listings:
    """The listings of several members, merged.

    Args:
        finder: Opens heads.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._members: list[Member] = []
        self._streams: list[AsyncGenerator[tuple[Head, Info], None]] = []
        self._next: list[tuple[Head, Info] | None] = []

    async def begin(self, stack: AsyncExitStack) -> None:
        """Begins as many as are needed; `stack` ends them.

        Raises:
            AccessError: No member lists itself to this caller.
            StoreError: None does now.
        """
        finder = self._finder
        wanted = finder.keyring.code.total - finder.keyring.code.needed + 1
        lost = await finder.labels.lost() if finder.redundant else []
        refusals: list[HoldallError] = []
        for member in sorted(finder.members, key=lambda member: (member in lost, member.rests, member.index)):
            if len(self._streams) + (0 if finder.redundant else len(refusals)) == wanted:
                break
            unless = None if member.index == FIRST else partial(self._is_superfluous, tuple(self._members))
            stream = heads_of(member, finder, unless)
            await stack.enter_async_context(aclosing(stream))
            try:
                self._next.append(await anext(stream, None))
            except (AccessError, StoreError) as error:
                member.note_error(None, error)
                refusals.append(error)
                continue
            self._members.append(member)
            self._streams.append(stream)
        if not self._streams:
            raise refusals[0]

    async def merged(self) -> AsyncGenerator[tuple[Head, Info], None]:
        """Yields the heads of all, newest use first."""
        while True:
            waiting = [(-found[1].used_ns, number) for number, found in enumerate(self._next) if found is not None]
            if not waiting:
                return
            number = min(waiting)[1]
            found = self._next[number]
            if found is not None:
                yield found
            self._next[number] = await anext(self._streams[number], None)

    async def _is_superfluous(self, members: tuple[Member, ...], head: Head) -> bool:
        """Whether one of `members` lists the entry of a head, or there is none."""
        for member in members:
            if await self._finder.knows(member, head):
                return True
        try:
            found = await self._finder.find(head.address)
        except NotFoundError:
            return True
        except HoldallError:  # it could be, but the first member would know; unless that one knows nothing
            first = self._finder.arbiter.member
            return not first.rests and first not in await self._finder.labels.lost()
        return found.head.is_slot is not head.is_slot


async def _sorted(heads: AsyncGenerator[tuple[Head, Info], None]) -> AsyncGenerator[Info, None]:
    """The entries in order; members list ties by names of their own, so those are sorted anew, so far as they fit."""
    ties: list[Info] = []
    async with aclosing(heads):
        async for head, seen in heads:
            info = info_of(head, seen)
            if ties and (info.used_ns != ties[0].used_ns or len(ties) == LISTING_SORT_ENTRIES):
                for tie in sorted(ties, key=lambda info: info.address):
                    yield tie
                ties.clear()
            ties.append(info)
    for tie in sorted(ties, key=lambda info: info.address):
        yield tie
