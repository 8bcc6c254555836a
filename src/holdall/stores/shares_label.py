"""Labels: a slot at each member that says which composites it belongs to, and as what.

Its name is the same for everybody, so that a wrong secret, members in another order and a member that has lost all it
held are noticed instead of looking like empty stores. Its lines are a fingerprint of a secret, and sealed words that
only who has that secret can read.
"""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.errors import AccessError, DamageError, NotFoundError, RangeError, SecretError, SettingError, StoreError
from holdall.limits.stores import SHARES_LABEL_BYTES_MAX, SHARES_REST_SECONDS
from holdall.stores.base import Span
from holdall.stores.shares_member import all_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.stores.shares_keyring import Keyring
    from holdall.stores.shares_member import Member

LABEL: Final = Address.of(b"holdall: what these stores are members of")


class Standing(Enum):
    """What a member's label says of it.

    `OURS`: it belongs to this composite; `NONE`: it belongs to none; `OTHERS`: only to others; `SILENT`: the member
    did not answer.
    """

    OURS = "ours"
    NONE = "none"
    OTHERS = "others"
    SILENT = "silent"


_WITHOUT: Final = {Standing.NONE, Standing.OTHERS}


class Labels:
    """The labels of all members, read once.

    Args:
        members: The members, in order.
        keyring: Seals and opens their words.
    """

    def __init__(self, members: Sequence[Member], keyring: Keyring) -> None:
        self._members = members
        self._keyring = keyring
        self._standings = [Standing.SILENT] * len(members)
        self._ask_again_at = 0.0
        self._written = False
        self._lock = asyncio.Lock()

    async def read(self) -> list[Standing]:
        """What each label says.

        Raises:
            SettingError: A member belongs to this composite as something else.
        """
        async with self._lock:
            return await self._read()

    async def ready_to_write(self) -> None:
        """Labels the members of a new composite; the first one last, so that it never seems the only one.

        Raises:
            SettingError: As `read`.
            StoreError: A member could not be labelled.
        """
        if self._written:
            return
        async with self._lock:
            if Standing.OURS not in await self._read():
                self._ask_again_at = 0.0
            if Standing.OURS not in await self._read():
                for member in reversed(self._members):
                    await self._label(member)
            self._written = True

    async def label(self, member: Member) -> None:
        """Labels a member that has got back what it had lost."""
        async with self._lock:
            if (await self._read())[member.index] is not Standing.OURS:
                await self._label(member)

    async def lost(self) -> list[Member]:
        """The members that have no label although others have one."""
        standings = await self.read()
        if Standing.OURS not in standings:
            return []
        return [member for member in self._members if standings[member.index] in _WITHOUT]

    async def has(self, member: Member) -> bool:
        """Whether a member is known to hold a label of this composite."""
        return (await self.read())[member.index] is Standing.OURS

    async def check_secret(self) -> None:
        """Raises an error if all that is stored there was stored with other secrets.

        Raises:
            SecretError: So it is.
        """
        standings = await self.read()
        if Standing.OURS not in standings and Standing.OTHERS in standings:
            raise SecretError("These stores hold only what was stored with another secret.")

    async def _read(self) -> list[Standing]:
        if Standing.SILENT in self._standings and time.monotonic() >= self._ask_again_at:
            silent = [member for member in self._members if self._standings[member.index] is Standing.SILENT]
            for member, standing in zip(silent, await all_of(map(self._standing, silent)), strict=True):
                self._standings[member.index] = standing
            self._ask_again_at = time.monotonic() + SHARES_REST_SECONDS
            if Standing.OURS in self._standings:
                for member in self._members:
                    if self._standings[member.index] in _WITHOUT:
                        member.note(None, "missing")
        return self._standings

    async def _standing(self, member: Member) -> Standing:
        try:
            with member.asked():
                async with await member.store.get(LABEL, Span(0, SHARES_LABEL_BYTES_MAX)) as reading:
                    text = await reading.read()
        except (NotFoundError, RangeError):
            return Standing.NONE
        except (StoreError, AccessError):
            return Standing.SILENT
        ours = self._keyring.fingerprint.hex().encode()
        mine = [line.partition(b" ")[2] for line in text.splitlines() if line.startswith(ours)]
        for sealed in mine:
            if self._words_of(sealed) not in {None, self._words(member)}:
                raise SettingError(
                    f"{member.name} was set up as something else than store {member.index + 1} of these.",
                    hint="Name the same stores in the same order, for the same spread.",
                )
        if mine:
            return Standing.OURS
        return Standing.OTHERS if text else Standing.NONE

    async def _label(self, member: Member) -> None:
        sealed = self._keyring.label(self._words(member), LABEL)
        with member.asked():  # a line of its own, whatever became of those before
            await member.store.append(LABEL, f"\n{self._keyring.fingerprint.hex()} {sealed.hex()}\n".encode())
        self._standings[member.index] = Standing.OURS

    def _words(self, member: Member) -> bytes:
        code = self._keyring.code
        return b"%d of %d, %d needed, code %d" % (member.index, code.total, code.needed, code.number)

    def _words_of(self, sealed: bytes) -> bytes | None:
        """What a line says, or None where it is damaged."""
        try:
            return self._keyring.read_label(bytes.fromhex(sealed.decode("ascii", "replace")), LABEL)
        except (DamageError, ValueError):
            return None
