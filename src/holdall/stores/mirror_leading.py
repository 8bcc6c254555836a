"""Whose word counts for an address of a mirror: decided from what its members say, and from the notes they keep.

A slot cannot be held to its address as a blob can, so nothing in two differing copies says which is the right one. What
says so is a *note*: where a slot changes while a member cannot be asked, those that can be keep a slot of their own
beside it that names the member that is behind, and when it last missed a change. It lies at `note_address`, is text,
and goes when the member has caught up. A slot's removal leaves a note for as long as it takes, so that a member that
lost its disk can be told from one that was first to remove.

Everything here is a function of its arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.stores.base import Info, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdall.stores.composite import Member

_LINE: Final = re.compile(rb"(\d{1,19}) ([0-9a-f]{16})")
_TITLE: Final = b"# holdall mirror: members whose copy of %b is not the latest\n"


@dataclass(slots=True)
class Standing:
    """What one member says of an address.

    Attributes:
        member: Who.
        info: What it holds there, at the last look; None for nothing.
        held: Whether it held something at the first look or the last.
        behind: The members that its note names, by tag, with when they last missed a change, in nanoseconds
            since 1970.
    """

    member: Member
    info: Info | None
    held: bool
    behind: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_blob(self) -> bool:
        """Whether it holds a blob."""
        return self.info is not None and self.info.kind is Kind.BLOB


def source_of(standings: Sequence[Standing]) -> Standing:
    """The member whose state of an address is the mirror's.

    In this order: a blob wins over anything. Whoever is named in a note does not count while there are others. The
    first of those that count decides; only where it never held the entry, and a later one does, has it lost its copy,
    for a removal would have left a note. Where all are named, each has changed without the others, and the newest
    change wins: it is with the one that has missed nothing for longest.

    Args:
        standings: What the members that can be asked say, in the order of the mirror's members; at least one.
    """
    for standing in standings:
        if standing.is_blob:
            return standing
    missed = _missed(standings)
    counting = [standing for standing in standings if standing.member.tag not in missed]
    if not counting:
        return min(standings, key=lambda standing: missed[standing.member.tag])
    if counting[0].held:
        return counting[0]
    return next((standing for standing in counting if standing.info is not None), counting[0])


def looks_lost(standings: Sequence[Standing]) -> bool:
    """Whether one that counts has lost what a later one has, or another client is just changing it.

    A client that is slow to tell the others what the first member did may tell them of a slot that is removed by now,
    and puts that right a moment later.
    """
    missed = _missed(standings)
    counting = [standing for standing in standings if standing.member.tag not in missed]
    return bool(counting) and not counting[0].held and source_of(standings) is not counting[0]


def _missed(standings: Sequence[Standing]) -> dict[str, int]:
    """When each member that a note names last missed a change."""
    missed: dict[str, int] = {}
    for standing in standings:
        for tag, missed_ns in standing.behind.items():
            missed[tag] = max(missed_ns, missed.get(tag, 0))
    return missed


def note_address(address: Address) -> Address:
    """Where the note about an address lies, in each member that keeps one."""
    return Address.of(b"holdall mirror note\0" + address)


def note_text(address: Address, behind: Mapping[str, int]) -> bytes:
    """The note that names these members; see `Standing.behind`."""
    lines = [b"%d %b\n" % (missed_ns, tag.encode()) for tag, missed_ns in behind.items()]
    return _TITLE % address.path.encode() + b"".join(lines)


def note_from(text: bytes) -> dict[str, int]:
    """The members that a note names; lines that are something else are passed over."""
    found = filter(None, map(_LINE.fullmatch, text.splitlines()))
    return {match[2].decode(): int(match[1]) for match in found}


def told(member: Member, info: Info) -> Info:
    """A member's `Info` as the mirror's: the version of a slot says whose it is, for others count for themselves."""
    version = info.address.hex() if info.kind is Kind.BLOB else f"{member.tag}-{info.version}"
    return Info(info.address, info.kind, info.size_bytes, version, info.used_ns, info.expires_ns)


def version_at(member: Member, version: str) -> str | None:
    """What a member itself calls a version of the mirror's, or None if it is another member's or nobody's."""
    tag, dash, own = version.partition("-")
    return own if dash and tag == member.tag else None
