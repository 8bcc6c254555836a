"""A stripe: what all processes know of one share of the addresses, in a few words of shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.address import Address

if TYPE_CHECKING:
    import mmap

STRIPE_BYTES: Final = 64

# Words of a stripe; the first is the last revision given out, the fourth to the seventh are an address.
SEQUENCE: Final = 1
_SIZE: Final = 2
_ADDRESS_IN_STRIPE: Final = 24
CHANGE_SEQUENCE: Final = 7


class PendingAppend(NamedTuple):
    """An append that a killed process left unfinished: the slot was `size_bytes` long before it."""

    address: Address
    size_bytes: int


class Stripe:
    """One share of the addresses; its words may be changed only by the holder of its lock.

    The append sequence is odd while an append is under way, so a reader that finds it even and unchanged around a
    look at a file saw no append in the middle. The change sequence is odd while a journaled change is under way, so a
    writer that takes no lock can tell that none came between its own record in the journal and its file.

    Args:
        mapping: What it lies in.
        words: The same as unsigned 64-bit integers.
        at: Its first word.
        lock: The byte to lock.
    """

    __slots__ = ("_at", "_map", "_words", "lock")

    def __init__(self, mapping: mmap.mmap, words: memoryview, at: int, lock: int) -> None:
        self._map = mapping
        self._words = words
        self._at = at
        self.lock = lock

    @property
    def sequence(self) -> int:
        """The append sequence; odd while an append is under way."""
        return self._words[self._at + SEQUENCE]

    @property
    def change_sequence(self) -> int:
        """The change sequence; odd while a journaled change is under way."""
        return self._words[self._at + CHANGE_SEQUENCE]

    def begin_change(self, address: Address) -> None:
        """Notes which entry may soon be one thing in the journal and another in its file."""
        offset = self._at * 8 + _ADDRESS_IN_STRIPE
        self._map[offset : offset + 32] = address
        self._words[self._at + CHANGE_SEQUENCE] += 1

    def end_change(self) -> None:
        """Notes that journal and file agree."""
        self._words[self._at + CHANGE_SEQUENCE] += 1

    def pending_change(self) -> Address | None:
        """The entry whose change the last holder of the lock died in, if it did."""
        if not self.change_sequence & 1:
            return None
        offset = self._at * 8 + _ADDRESS_IN_STRIPE
        return Address(self._map[offset : offset + 32])

    def next_revision(self, now_ns: int) -> int:
        """A revision above all this stripe has given out, and no earlier than the clock."""
        revision = max(now_ns, self._words[self._at] + 1)
        self._words[self._at] = revision
        return revision

    def begin_append(self, address: Address, size_bytes: int) -> None:
        """Notes what a repair must cut the slot back to."""
        self._words[self._at + _SIZE] = size_bytes
        offset = self._at * 8 + _ADDRESS_IN_STRIPE
        self._map[offset : offset + 32] = address
        self._words[self._at + SEQUENCE] += 1

    def end_append(self) -> None:
        """Notes that the append is whole, or undone."""
        self._words[self._at + SEQUENCE] += 1

    def pending_append(self) -> PendingAppend | None:
        """The append that the last holder of the lock died in, if it did."""
        if not self.sequence & 1:
            return None
        offset = self._at * 8 + _ADDRESS_IN_STRIPE
        return PendingAppend(Address(self._map[offset : offset + 32]), self._words[self._at + _SIZE])
