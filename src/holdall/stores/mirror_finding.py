"""Finding an entry in a mirror: at once where the first member has the blob, else by asking everybody."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from holdall.errors import AccessError, DamageError, HoldallError, NotFoundError, StoreError
from holdall.limits.snapshot import UPLOADS_MAX
from holdall.limits.stores import CLIENT_CONNECTIONS, MIRROR_CHECKED_BYTES_MAX
from holdall.stores.base import WHOLE, Info, Kind, Span
from holdall.stores.base import missing as missing_in
from holdall.stores.composite import at_once, due, looks, raise_first
from holdall.stores.composite_bodies import RetoldReading
from holdall.stores.mirror_leading import told
from holdall.stores.mirror_looking import Look, look_at
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Reading
    from holdall.stores.composite import Member
    from holdall.stores.mirror_blobs import MirrorBlobs
    from holdall.stores.mirror_lacks import Lacks
    from holdall.stores.mirror_slots import MirrorSlots


class Finder:
    """Reading and looking, for both kinds.

    Args:
        members: All members, in the order in which they are asked.
        lacks: Where it is remembered who lacks what.
        blobs: How blobs are read and mended.
        slots: How slots are brought up to date.
    """

    def __init__(self, members: Sequence[Member], lacks: Lacks, blobs: MirrorBlobs, slots: MirrorSlots) -> None:
        self._members = members
        self._lacks = lacks
        self._blobs = blobs
        self._slots = slots

    async def get(self, address: Address, span: Span, *, use: bool) -> Reading:
        """Opens an entry; see `MirrorStore.get`."""
        first, *others = due(self._members)
        [opened], used = await asyncio.gather(
            at_once([first.ask(first.store.get(address, span, use=use))]),
            at_once(member.ask(member.store.stat(address)) for member in others if use),
        )
        if isinstance(opened, HoldallError):
            return await self._get_anywhere(address, span, use=use)
        if opened.info.kind is Kind.SLOT:
            await opened.aclose()
            return await self._get_anywhere(address, span, use=use)
        lacking = {
            member: isinstance(answer, Info)
            for member, answer in zip(others, used, strict=False)
            if isinstance(answer, NotFoundError) or (isinstance(answer, Info) and answer.kind is Kind.SLOT)
        }
        for member in lacking:
            self._lacks.add(member, address)
        holders = [member for member in (first, *others) if member not in lacking]
        try:
            return await self._blobs.open(address, span, holders, lacking=lacking, opened=opened, use=use)
        except (AccessError, DamageError, NotFoundError, StoreError):
            return await self._get_anywhere(address, span, use=use)

    async def stat_many(self, addresses: list[Address], *, use: bool) -> list[Info | HoldallError]:
        """What is at each of `addresses`, in their order, or the error that says why that is not known."""
        infos = await self._stat_blobs(addresses, use=use)

        async def settle(item: tuple[Address, Info | None]) -> Info | HoldallError:
            address, info = item
            if info is not None:
                return info
            source = (look := await self._look(address)).source
            return look.nothing() if source is None or source.info is None else told(source.member, source.info)

        settled = in_order(zip(addresses, infos, strict=True), settle, width=CLIENT_CONNECTIONS)
        async with aclosing(settled) as found:
            return [info async for info in found]

    async def missing(self, addresses: list[Address], *, everybody: bool = False) -> list[Address]:
        """Which of `addresses`, all different, no member has; see `MirrorStore.missing`.

        Args:
            addresses: What to ask for.
            everybody: Raise if a member cannot be asked, instead of passing over it.
        """
        asked = self._members if everybody else due(self._members)
        answers = await at_once(member.ask(missing_in(member.store, addresses)) for member in asked)
        absent = [set(answer) for answer in answers if not isinstance(answer, HoldallError)]
        if everybody or not absent:
            raise_first(answers)
        nowhere = set.intersection(*absent)
        uneven = set.union(*absent) - nowhere
        async with aclosing(in_order(uneven, self._even, width=UPLOADS_MAX)) as gone:
            nowhere |= {address async for address in gone if address is not None}
        return [address for address in addresses if address in nowhere]

    # --- inside ---

    async def _look(self, address: Address) -> Look:
        """What the members say of an address; those that rest are asked only if the others have nothing."""
        asked = due(self._members)
        look = await look_at(address, asked)
        if len(asked) < len(self._members) and (look.source is None or look.source.info is None):
            look = await look_at(address, self._members)
        return look

    async def _get_anywhere(self, address: Address, span: Span, *, use: bool) -> Reading:
        """Opens an entry once it is known who has it, and who should."""
        look = await self._look(address)
        source = look.source
        if source is not None and not source.is_blob and source is not look.standings[0]:
            with suppress(HoldallError):  # it is brought up to date if that can be
                await self._slots.even(address)
            look = await self._look(address)
            source = look.source
        if source is None or source.info is None:
            raise look.nothing()
        member = source.member
        if not source.is_blob:
            reading = await member.ask(member.store.get(address, span, use=use))
            if reading.info.kind is Kind.SLOT:
                return RetoldReading(member, reading, told(member, reading.info))
            await reading.aclose()  # its blob has come meanwhile, and stays
            return await self.get(address, span, use=use)
        holders = [standing.member for standing in look.standings if standing.is_blob]
        return await self._blobs.open(address, span, holders, lacking=_lacking(look), use=use)

    async def _stat_blobs(self, addresses: list[Address], *, use: bool) -> list[Info | None]:
        """What can be told of entries without asking around: which are blobs. A use asks everybody."""
        members = due(self._members)
        asked = members if use else members[:1]
        answers = await at_once(member.ask(looks(member.store, addresses, use=use)) for member in asked)
        seen = [
            (member, answer)
            for member, answer in zip(asked, answers, strict=True)
            if not isinstance(answer, HoldallError)
        ]
        found: list[Info | None] = []
        for at in range(len(addresses)):
            infos = [(member, answer[at]) for member, answer in seen]
            blob = next((told(member, info) for member, info in infos if info and info.kind is Kind.BLOB), None)
            found.append(blob)
            for member, info in infos if blob else ():
                if info is None or info.kind is Kind.SLOT:
                    self._lacks.add(member, addresses[at])
        return found

    async def _even(self, address: Address) -> Address | None:
        """Gives the members that can be asked what others have; the address if there was nothing to give."""
        try:
            look = await self._look(address)
            source = look.source
            if source is None or source.info is None:
                return address
            if not source.is_blob:
                await self._slots.even(address)
            elif source.info.size_bytes > MIRROR_CHECKED_BYTES_MAX:
                await self._blobs.repair(address)
            else:
                holders = [standing.member for standing in look.standings if standing.is_blob]
                reading = await self._blobs.open(address, WHOLE, holders, lacking=_lacking(look), use=False)
                await reading.aclose()
        except NotFoundError:
            return address
        except HoldallError:
            return None  # it is somewhere; who lacks it is remembered
        return None


def _lacking(look: Look) -> dict[Member, bool]:
    """Who does not have the blob that others have, and whether a slot lies in its place."""
    return {standing.member: standing.info is not None for standing in look.standings if not standing.is_blob}
