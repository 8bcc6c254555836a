"""Which of several members an address lives on: rendezvous hashing over SHA-256.

Each member draws a lot for each address, `SHA-256(name of the member in UTF-8, then the 32 bytes of the address)`, and
the highest lot has it (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). So a place
depends on nothing but the names and the address: not on the order of the members, nor on who asks. A new member takes
over only what it now draws highest for, about one address in as many as there are members; nothing moves between the
others. A member that goes leaves its addresses to the others in even parts.

The rule must never change: what was stored by it is found by it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.core.address import Address


class Placement:
    """The places of all addresses among some members.

    Args:
        names: The members' names, all different, in any order.

    Raises:
        ValueError: There is none, or two are the same.
    """

    def __init__(self, names: Iterable[str]) -> None:
        listed = list(names)
        if not listed or len(set(listed)) != len(listed):
            raise ValueError("Places need members with names of their own.")
        # Hashed once each, and copied for every address.
        self._urns = [(name, hashlib.sha256(name.encode())) for name in listed]

    def home(self, address: Address) -> str:
        """The name of the member that `address` lives on."""
        return max((self._lot(urn, address), name) for name, urn in self._urns)[1]

    def ranked(self, address: Address) -> list[str]:
        """The names of all members, the home first; each is the home where those before it are no members."""
        lots = sorted(((self._lot(urn, address), name) for name, urn in self._urns), reverse=True)
        return [name for _, name in lots]

    @staticmethod
    def _lot(urn: hashlib._Hash, address: Address) -> bytes:
        lot = urn.copy()
        lot.update(address)
        return lot.digest()
