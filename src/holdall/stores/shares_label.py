"""Labels: a slot at each member that says which composites it belongs to, and as what.

Its name is the same for everybody, so that a wrong secret, members in another order and a member that has lost all it
held are noticed instead of looking like empty stores. Its lines are a fingerprint of a secret, and sealed words that
only who has that secret can read.
"""

from __future__ import annotations

import asyncio
import re
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

    `OURS`: it belongs to this composite; `NONE`: it belongs to none; `OTHERS`: only to others; `DAMAGED`: it was a
    label once; `SILENT`: the member did not answer.
    """

    OURS = "ours"
    NONE = "none"
    OTHERS = "others"
    DAMAGED = "damaged"
    SILENT = "silent"


_WITHOUT: Final = {Standing.NONE, Standing.OTHERS, Standing.DAMAGED}
_LINE: Final = re.compile(rb"[0-9a-f]{32} (?:[0-9a-f]{2})+")


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
        """Raises an error if all that is stored there was stored with other secrets, or nothing tells with which.

        Raises:
            SecretError: So it is.
            DamageError: The labels are damaged.
        """
        standings = await self.read()
        if Standing.OURS in standings:
            return
        if Standing.OTHERS in standings:
            raise SecretError("These stores hold only what was stored with another secret.")
        if Standing.DAMAGED in standings:
            raise DamageError(
                f"{self._members[standings.index(Standing.DAMAGED)].name} has a damaged label, "
                "so it cannot be told whether the secret is the right one.",
                hint="Whatever is stored next writes the label anew.",
            )

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
        return self._judged(member, [line for line in text.splitlines() if line])

    def _judged(self, member: Member, lines: list[bytes]) -> Standing:
        """What the lines of a member's label say; of one of ours, one part may be damaged.

        Raises:
            SettingError: As `read`.
        """
        ours = self._keyring.fingerprint.hex().encode()
        standing = Standing.NONE
        for line in lines:
            words = self._words_of(line.partition(b" ")[2])
            if words not in {None, self._words(member)}:
                raise SettingError(
                    f"{member.name} was set up as something else than store {member.index + 1} of these.",
                    hint="Name the same stores in the same order, for the same spread.",
                )
            if words is not None or line.startswith(ours):
                standing = Standing.OURS
            elif standing is not Standing.OURS and _LINE.fullmatch(line):
                standing = Standing.OTHERS
            elif standing is Standing.NONE:
                standing = Standing.DAMAGED
        return standing

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
