"""Asking the members of a mirror what they hold at an address, in an order from which the truth can be told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdall.errors import DamageError, HoldallError, NotFoundError, StoreError, UnreachableError
from holdall.limits.stores import MIRROR_LOST_SECONDS, MIRROR_NOTE_BYTES_MAX
from holdall.stores.composite import at_once, names_of
from holdall.stores.mirror_leading import Standing, looks_lost, note_address, note_from, source_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Blobs, Info
    from holdall.stores.composite import Member


@dataclass(slots=True)
class Look:
    """What the members of a mirror say of an address.

    Attributes:
        address: Where they looked.
        standings: Of those that answered, in the order of the members.
        failed: What kept the others from answering.
    """

    address: Address
    standings: list[Standing] = field(default_factory=list)
    failed: dict[Member, HoldallError] = field(default_factory=dict)

    @property
    def source(self) -> Standing | None:
        """Whose state counts, or None where nobody answered."""
        return source_of(self.standings) if self.standings else None

    def nothing(self) -> HoldallError:
        """The error that says that the mirror has nothing there, or that this cannot be known."""
        if not self.failed:
            return NotFoundError(f"No member holds anything at {self.address}.")
        error = next(iter(self.failed.values()))
        if not self.standings:
            return error
        return UnreachableError(
            f"{names_of(standing.member for standing in self.standings)} found nothing at {self.address}, and "
            f"{names_of(self.failed)} cannot be asked ({error.message})",
            hint=error.hint,
        )


async def look_at(address: Address, members: Sequence[Member], *, changing: bool = False) -> Look:
    """Asks members for what they hold at an address, and for their notes where a slot is concerned.

    Whoever removes a slot writes the note first, then removes it from the first member, then from the others, and then
    the note. So who had nothing, had no note after that, and is not alone in having nothing after that either, has lost
    its copy: had it been the first to remove it, its note would have been there, or the others' copies gone. That must
    last for `MIRROR_LOST_SECONDS`, for it also looks so while another client that was overtaken puts things right.

    Args:
        address: Where to look; this is no use of it.
        members: Whom to ask; if it is one alone, nobody can be behind.
        changing: Whether what is seen decides what becomes of a slot. Then the notes are asked for even where nobody
            holds one, and it takes time to tell one that is lost.
    """
    pause = MIRROR_LOST_SECONDS / 15
    look = await _look_once(address, members, changing=changing)
    while changing and looks_lost(look.standings) and pause < MIRROR_LOST_SECONDS:
        await asyncio.sleep(pause)
        look = await _look_once(address, members, changing=changing)
        pause *= 2
    return look


async def info_at(store: Blobs, address: Address) -> Info | None:
    """What a store holds at an address, None for nothing; no use of it."""
    try:
        return await store.stat(address, use=False)
    except NotFoundError:
        return None


async def read_copies(address: Address, members: Sequence[Member]) -> tuple[list[Standing], list[Standing]]:
    """Reads every copy of a slot to its end; no use of it.

    Only what says itself whether it is whole can be found damaged, such as an encrypted copy.

    Returns:
        The members whose copy is whole, and those whose copy is damaged; others hold none, or did not say.
    """

    async def read(member: Member) -> tuple[Standing, bool] | None:
        standing, is_whole = Standing(member, None, held=True), True
        try:
            async with await member.store.get(address, use=False) as reading:
                standing.info = reading.info
                async for _ in reading:
                    pass
        except NotFoundError:
            return None
        except DamageError:
            is_whole = False
        await _read_note(standing, address)
        return standing, is_whole

    whole: list[Standing] = []
    damaged: list[Standing] = []
    for answer in await at_once(member.ask(read(member)) for member in members):
        if answer is not None and not isinstance(answer, HoldallError):
            (whole if answer[1] else damaged).append(answer[0])
    return whole, damaged


async def _look_once(address: Address, members: Sequence[Member], *, changing: bool) -> Look:
    look = Look(address)
    answers = await at_once(member.ask(info_at(member.store, address)) for member in members)
    for member, answer in zip(members, answers, strict=True):
        if isinstance(answer, HoldallError):
            look.failed[member] = answer
        else:
            look.standings.append(Standing(member, answer, held=answer is not None))
    held = [standing.held for standing in look.standings]
    if any(standing.is_blob for standing in look.standings):
        return look
    if changing or any(held):
        await _each(look, _read_note)
    if any(held) and not all(held):
        await _each(look, _look_again)
    return look


async def _each(look: Look, step: Callable[[Standing, Address], Awaitable[None]]) -> None:
    """Takes a step with every member; those that fail at it are among the failed from then on."""
    answers = await at_once(standing.member.ask(step(standing, look.address)) for standing in look.standings)
    for standing, answer in zip(list(look.standings), answers, strict=True):
        if isinstance(answer, HoldallError):
            look.standings.remove(standing)
            look.failed[standing.member] = answer


async def _read_note(standing: Standing, address: Address) -> None:
    place = note_address(address)
    try:
        reading = await standing.member.store.get(place)
    except NotFoundError:
        return
    async with reading:
        if reading.info.size_bytes > MIRROR_NOTE_BYTES_MAX:
            raise StoreError(f"What lies at {place} is too long for a mirror's note.")
        standing.behind = note_from(await reading.read())


async def _look_again(standing: Standing, address: Address) -> None:
    standing.info = await info_at(standing.member.store, address)
    standing.held = standing.held or standing.info is not None
