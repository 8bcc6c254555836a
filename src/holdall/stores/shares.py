"""A store in shares over several, of which some are enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.shares import Erasure
from holdall.errors import SettingError
from holdall.stores.shares_base import SharesBase
from holdall.stores.shares_keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from holdall.core.address import Address
    from holdall.stores.base import Store
    from holdall.stores.shares_repair import Repair


class SharesStore(SharesBase):
    """Cuts every value to n shares of which any k rebuild it, by a Reed-Solomon code (zfec).

    What it promises, besides what every `Store` does:

    * What is stored outlives the loss of any n - k members: a read asks the first k that answer, checks every block
      that comes, and goes on with another member from the block at which one fails. Whoever was dead, lost something
      or lied is named in `faults`.
    * `repair` makes the shares of an entry anew that are damaged or gone, `repair_all` those of all entries.
    * A write is done when `least` members have it. By default that is all of them, so an entry that is stored is
      whole; with fewer, a write goes on without members that fail, and notes them in `faults`.
    * The first member decides what is stored, so changes need it; reads do not.
    * Shares are encrypted and their names are keyed hashes, as in an `EncryptedStore`: fewer than all members learn no
      more than sizes, and neither do all together without the secret. (That is computational secrecy, under a key; a
      split's needs no assumption.)

    Each member holds 1/k of the bytes, and 16 for each MiB and 400 more. A value is spooled on this machine, in the
    clear, before it is cut.

    Args:
        members: n stores, in an order that must stay the same; closed with this one. The first decides: take one that
            compares and swaps, which all but original servers do.
        needed: k, from 1 (every member has all) to n (all are needed).
        secret: At least 32 random bytes; without it nothing can be read or found again.
        least: How many members a write needs, from k to n; at least n - k + 1, so that what could not be removed
            everywhere cannot come back.
        names: What a person calls the members.

    Raises:
        SettingError: The numbers do not fit, the secret is too short, or a package is not installed.
    """

    def __init__(
        self,
        members: Sequence[Store],
        needed: int,
        secret: bytes,
        *,
        least: int | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        total = len(members)
        least = total if least is None else least
        if total < 2 or not 1 <= needed <= total:
            raise SettingError(f"{needed} of {total} stores cannot be what shares need.", hint="Take 2 of 3, say.")
        if not max(needed, total - needed + 1) <= least <= total:
            raise SettingError(
                f"A write to {least} of {total} stores is too few or too many where {needed} are needed.",
                hint=f"Take {max(needed, total - needed + 1)} to {total}.",
            )
        super().__init__(members, names, Keyring(secret, Erasure(needed, total)), least=least)

    async def check(self, address: Address) -> dict[str, str]:
        """Reads every share of an entry.

        Returns:
            By the name of each member whose share is not what was written, or that did not say: `damaged`,
            `missing` or `unreachable`.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: Too few members answered.
        """
        await self._labels.read()
        return await self._repairing().check(address)

    async def repair(self, address: Address) -> list[str]:
        """Makes anew every share of an entry that is damaged or gone.

        Returns:
            The names of the members that got one.

        Raises:
            NotFoundError: Nothing is there.
            DamageError: Too few shares are left.
            StoreError: Too few members answered, or one did not take its share.
        """
        await self._labels.read()
        async with self._locked(address):
            return await self._repairing().repair(address)

    async def repair_all(self) -> AsyncIterator[Repair]:
        """Repairs every entry that any member knows of; a member that had lost everything is then one again.

        Raises:
            AccessError: A member does not list itself to this caller.
            StoreError: A member does not list itself now.
        """
        await self._labels.read()
        async for repair in self._repairing().repair_all():
            yield repair
