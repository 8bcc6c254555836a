"""Where the parts of an entry are, and how they are sealed: one secret and one code, applied to addresses.

All names are keyed hashes, so what members hold tells them nothing of what is stored, and nobody who has a file can
ask them for it. At the first member an entry has one name for ever; a blob's shares too. The parts of a slot are named
by its version, so two writers never meet at one name and a part never changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdall.core.envelope import Blocks, Secret
from holdall.core.shares import HEAD_BYTES, NO_ID, Head, Layout, Role
from holdall.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from holdall.core.address import Address
    from holdall.core.shares import Code
    from holdall.stores.base import Source

FIRST: Final = 0
"""The member that holds entries, and so decides what is stored."""


class Keyring:
    """Names and seals.

    Args:
        secret: See `core.envelope.Secret`.
        code: How values are cut.

    Raises:
        SettingError: The secret is too short, or a package is not installed.
    """

    def __init__(self, secret: bytes, code: Code) -> None:
        self._secret = Secret(secret)
        self.code = code
        self.fingerprint = self._secret.fingerprint

    def entry(self, address: Address) -> Address:
        """Where the first member holds the entry."""
        return self._secret.name(b"entry", address)

    def share(self, address: Address, index: int) -> Address:
        """Where another member holds its share of a blob."""
        return self._secret.name(b"share", bytes((index,)), address)

    def part(self, head: Head, index: int) -> Address:
        """Where a member holds what belongs to an entry's head: the entry, a blob's share, a part of a slot."""
        if index == FIRST:
            return self.entry(head.address)
        if head.is_slot:
            return self._secret.name(b"part", bytes((index,)), head.version, head.address)
        return self.share(head.address, index)

    def pointer(self, address: Address, index: int) -> Address:
        """Where another member is told which version a slot has."""
        return self._secret.name(b"pointer", bytes((index,)), address)

    def lock(self, name: Address) -> Address:
        """Where those meet who change what is at `name`, on a server that cannot compare and swap."""
        return self._secret.name(b"lock", name)

    def label(self, text: bytes, name: Address) -> bytes:
        """Seals a member's label."""
        return self._secret.seal_head(name, text)

    def read_label(self, sealed: bytes, name: Address) -> bytes:
        """Opens what `label` sealed.

        Raises:
            DamageError: It was changed, or sealed with another secret.
        """
        return self._secret.open_head(name, sealed)

    def layout(self, head: Head) -> Layout:
        """Where the blocks of the value's shares lie."""
        return Layout(head.size_bytes, self.code.pieces)

    def sealed(self, head: Head, name: Address) -> bytes:
        """A head, sealed for its name: `HEAD_BYTES`."""
        return self._secret.seal_head(name, head.pack())

    def opened(self, sealed: bytes, name: Address) -> Head:
        """The head that a share under `name` begins with.

        Raises:
            DamageError: It is none of ours, was changed, or is of another composite of the same secret.
        """
        head = Head.unpack(self._secret.open_head(name, sealed[:HEAD_BYTES]))
        made = (head.code, head.needed, head.total)
        if made != (self.code.number, self.code.needed, self.code.total):
            raise DamageError(f"What is stored as {name} was cut for other stores than these.")
        return head

    def head(self, address: Address, *, size_bytes: int, digest: bytes, version: bytes = NO_ID) -> Head:
        """The head of an entry to be written; of a slot if it has a version."""
        is_slot = version != NO_ID
        return Head(
            role=Role.ENTRY,
            address=address,
            is_slot=is_slot,
            size_bytes=size_bytes,
            digest=digest,
            index=FIRST,
            needed=self.code.needed,
            total=self.code.total,
            version=version,
            ids=() if is_slot else (NO_ID,) * self.code.total,
            code=self.code.number,
        )

    def blocks(self, head: Head, index: int, share_id: bytes) -> Blocks:
        """What seals the blocks of one share of one writing."""
        made = bytes((self.code.number, head.needed, head.total, index, head.is_slot))
        return self._secret.blocks(made, share_id, head.address)

    def source(self, head: Head, name: Address, block: Callable[[int], bytes]) -> Source:
        """A share as bytes to be written: whole while it is short, so that a client may send it again.

        Args:
            head: Of the share, its role and index included.
            name: What it is written to.
            block: The block of a stripe, asked for once each and in order.
        """
        layout = self.layout(head)
        blocks = self.blocks(head, head.index, head.share_id(head.index))
        sealed = self.sealed(head, name)
        if layout.stripes <= 1:
            return sealed + b"".join(blocks.seal(number, block(number)) for number in range(layout.stripes))

        async def pieces() -> AsyncIterator[bytes]:
            yield sealed
            for number in range(layout.stripes):
                yield blocks.seal(number, block(number))

        return pieces()
