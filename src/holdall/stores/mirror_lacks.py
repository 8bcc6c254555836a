"""What the members of a mirror are known to lack, or to hold wrongly: bounded, and gone with the object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.limits.stores import MIRROR_LACKS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.core.address import Address
    from holdall.stores.composite import Member


class Lacks:
    """Who lacks what.

    Args:
        members: All members of the mirror.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._known: dict[str, set[Address]] = {member.name: set() for member in members}
        self._overlooked = dict.fromkeys(self._known, 0)
        self._mended = dict.fromkeys(self._known, 0)

    def add(self, member: Member, address: Address) -> None:
        """Remembers that a member's copy is missing or wrong; counts it where too many are remembered already."""
        known = self._known[member.name]
        if address in known:
            return
        if len(known) < MIRROR_LACKS_MAX:
            known.add(address)
        else:
            self._overlooked[member.name] += 1

    def discard(self, member: Member, address: Address) -> None:
        """Forgets it: the member's copy is there and right; where it was not, it has been mended."""
        known = self._known[member.name]
        if address in known:
            known.remove(address)
            self._mended[member.name] += 1

    def forget(self, address: Address) -> None:
        """Forgets it for every member: nothing is there any more."""
        for known in self._known.values():
            known.discard(address)

    def known(self) -> dict[str, set[Address]]:
        """The addresses that each member lacks, by its name; a copy."""
        return {name: set(addresses) for name, addresses in self._known.items()}

    def overlooked(self) -> dict[str, int]:
        """How many more each member lacks that are not remembered, by its name; some may be counted twice."""
        return dict(self._overlooked)

    def mended(self) -> dict[str, int]:
        """How many copies each member was given that it was known to lack, by its name."""
        return dict(self._mended)

    def count_anew(self) -> None:
        """Forgets how many were overlooked: everything is about to be looked at."""
        self._overlooked = dict.fromkeys(self._known, 0)
