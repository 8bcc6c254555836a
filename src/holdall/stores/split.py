"""A store split over several: each holds noise, and all of them together hold the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.shares import Xor
from holdall.errors import SettingError
from holdall.stores.shares_base import SharesBase
from holdall.stores.shares_keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.stores.base import Store


class SplitStore(SharesBase):
    """Splits every value by exclusive or: the members but the first hold pads, the first what these leave of it.

    What it promises, besides what every `Store` does:

    * Secrecy. A pad is drawn at random for each value and never derived from anything, so the bytes that any n - 1
      members hold are noise: who has them, this store's secret and any amount of time learns sizes and nothing else
      from them. Heads and the names of slots tell which entry they belong to, only to who has the secret: nobody who
      has a file, and not the secret, can ask a member for it.
    * All or nothing. Every member is needed to read and to write; if one loses a share, the value is lost. Keep a
      mirror of a split, or shares instead, where that matters.
    * Damage is found and named. Every block of a share is sealed, so a member that lies or has lost something is named
      by a `DamageError` and in `faults`.
    * Equal blobs are stored once: who stores a blob again finds its shares.

    Each member holds as many bytes as the value has, and 16 for each MiB and 400 more. A value is spooled on this
    machine, in the clear, before it is split.

    Args:
        members: Two stores or more, in an order that must stay the same; closed with this one. The first decides what
            is stored: take one that compares and swaps, which all but original servers do.
        secret: At least 32 random bytes; without it nothing can be read or found again.
        names: What a person calls the members.

    Raises:
        SettingError: There are too few or too many members, the secret is too short, or a package is not installed.
    """

    def __init__(self, members: Sequence[Store], secret: bytes, *, names: Sequence[str] | None = None) -> None:
        if len(members) < 2:
            raise SettingError("A split needs two stores or more.")
        super().__init__(members, names, Keyring(secret, Xor(len(members))), least=len(members))
