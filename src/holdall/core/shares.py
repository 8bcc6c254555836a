"""Values cut into shares: the head that each share begins with, where its blocks lie, and the two codes.

A value is cut into stripes of `STRIPE_BYTES`; each stripe gives every share one block. A share is a head of
`HEAD_BYTES` and then its blocks in order, each sealed by `core.envelope`, so that any part of it can be read and
checked alone: a share that lies is found at its first wrong block, and named by whose it is.

`Xor` needs every share: all but one are random, the one is what is left when they are taken from the value. `Erasure`
needs any k of n. Randomness is given from outside.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from holdall.core.address import Address
from holdall.core.envelope import HEAD_OVERHEAD_BYTES, TAG_BYTES
from holdall.errors import DamageError, SettingError
from holdall.limits.stores import SHARES_MEMBERS_MAX, STRIPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_BYTES: Final = 16
"""Random bytes that tell one writing from every other."""

NO_ID: Final = bytes(ID_BYTES)
"""The id of what is the same at every writing."""

HEAD_BYTES: Final = 400
"""Length of a sealed head, the same for all."""

_FIELDS: Final = struct.Struct(f">BBBBBB2x32s32sQQ{ID_BYTES}s{ID_BYTES * SHARES_MEMBERS_MAX}s")
_PLAIN_BYTES: Final = HEAD_BYTES - HEAD_OVERHEAD_BYTES
_SLOT: Final = 1


class Role(IntEnum):
    """What a head stands before.

    `ENTRY`: what the first member holds, the entry itself with its own share; `SHARE`: a blob's share at another
    member; `PART`: a share of one version of a slot; `POINTER`: nothing; it says which version a slot has.
    """

    ENTRY = 1
    SHARE = 2
    PART = 3
    POINTER = 4


@dataclass(frozen=True, slots=True)
class Head:
    """What a share says of itself and of the value it belongs to.

    Attributes:
        role: What follows it.
        address: Of the entry.
        is_slot: Whether the entry is a slot; else it is a blob.
        size_bytes: Length of the value.
        digest: SHA-256 of the value, 32 bytes; a blob's address.
        index: Which of the shares this is, from 0.
        needed: How many shares rebuild the value.
        total: How many there are.
        version: Of a slot, `ID_BYTES`; of a blob's `SHARE`, its id.
        sequence: Grows with every writing of a slot.
        ids: Of a blob's `ENTRY`, the id of each share, in order; else empty.
        code: Which code made the share.
    """

    role: Role
    address: Address
    is_slot: bool
    size_bytes: int
    digest: bytes
    index: int
    needed: int
    total: int
    version: bytes = NO_ID
    sequence: int = 0
    ids: tuple[bytes, ...] = ()
    code: int = 0

    def pack(self) -> bytes:
        """The head as bytes of one length, to be sealed to `HEAD_BYTES`."""
        return _FIELDS.pack(
            self.role,
            _SLOT if self.is_slot else 0,
            self.code,
            self.index,
            self.needed,
            self.total,
            self.address,
            self.digest,
            self.size_bytes,
            self.sequence,
            self.version,
            b"".join(self.ids),
        ).ljust(_PLAIN_BYTES, b"\0")

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Reads what `pack` wrote.

        Raises:
            DamageError: It was written by a later version, or is no head.
        """
        if len(packed) != _PLAIN_BYTES:
            raise DamageError("A share's head has the wrong length.")
        role, flags, code, index, needed, total, address, digest, size, sequence, version, ids = _FIELDS.unpack_from(
            packed
        )
        if role not in set(Role) or flags > _SLOT or not index < total <= SHARES_MEMBERS_MAX or not needed:
            raise DamageError("A share's head was written by another version of holdall.")
        count = total if role == Role.ENTRY and not flags else 0
        return cls(
            role=Role(role),
            address=Address(address),
            is_slot=bool(flags),
            size_bytes=size,
            digest=digest,
            index=index,
            needed=needed,
            total=total,
            version=version,
            sequence=sequence,
            ids=tuple(ids[at * ID_BYTES : (at + 1) * ID_BYTES] for at in range(count)),
            code=code,
        )

    def share_id(self, index: int) -> bytes:
        """What tells this writing of share `index` from others: for an `ENTRY`, a `PART` or a `POINTER`."""
        return self.ids[index] if self.ids else self.version

    def at(self, index: int, role: Role) -> Self:
        """The head of share `index` of the same value, for another role."""
        return replace(self, index=index, role=role, version=self.share_id(index), ids=())


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the blocks of a share lie.

    Attributes:
        size_bytes: Length of the value.
        pieces: How many shares one stripe is cut over: k of an `Erasure`, 1 where each share is as long as the value.
    """

    size_bytes: int
    pieces: int

    @property
    def stripes(self) -> int:
        """How many stripes there are; none in an empty value."""
        return -(-self.size_bytes // STRIPE_BYTES)

    def stripe_bytes(self, number: int) -> int:
        """Length of a stripe of the value."""
        return min(STRIPE_BYTES, self.size_bytes - number * STRIPE_BYTES)

    def block_bytes(self, number: int) -> int:
        """Length of a stripe's block in each share, before it is sealed."""
        return -(-self.stripe_bytes(number) // self.pieces)

    def offset(self, number: int) -> int:
        """Where the sealed block of a stripe begins in a share; for the number of stripes, where the share ends."""
        if number == self.stripes and number:
            return self.offset(number - 1) + self.block_bytes(number - 1) + TAG_BYTES
        return HEAD_BYTES + number * (-(-STRIPE_BYTES // self.pieces) + TAG_BYTES)


class Code(Protocol):
    """How stripes become blocks of shares and blocks become stripes.

    Attributes:
        number: Its number in heads.
        needed: How many shares rebuild a value.
        total: How many there are.
        pieces: As `Layout.pieces`.
    """

    number: int
    needed: int
    total: int
    pieces: int

    def join(self, blocks: Mapping[int, bytes], size_bytes: int) -> bytes:
        """The stripe of `size_bytes` that `needed` blocks, by the index of their share, are of."""
        ...


class Xor:
    """All of n shares are needed: n - 1 pads, and the value with every pad taken from it.

    Args:
        total: How many shares there are.
    """

    number = 1
    pieces = 1

    def __init__(self, total: int) -> None:
        self.needed = self.total = total

    def join(self, blocks: Mapping[int, bytes], size_bytes: int) -> bytes:
        """The stripe that all blocks together are; see `Code.join`."""
        number = 0
        for block in blocks.values():
            number ^= int.from_bytes(block, "little")
        return number.to_bytes(size_bytes, "little")


class Erasure:
    """Any `needed` of `total` shares rebuild a value (zfec: a Reed-Solomon code over GF(2^8)).

    Args:
        needed: How many rebuild it; with 1, each share is a copy, and zfec is not needed.
        total: How many there are.

    Raises:
        SettingError: The package zfec is needed and not installed.
    """

    number = 2

    def __init__(self, needed: int, total: int) -> None:
        self.needed = self.pieces = needed
        self.total = total
        if needed > 1:
            _ = self._encoder

    def block(self, stripe: bytes, index: int) -> bytes:
        """The block of share `index` of a stripe."""
        if self.needed == 1:
            return stripe
        size = -(-len(stripe) // self.needed)
        padded = stripe.ljust(size * self.needed, b"\0")
        if index < self.needed:
            return padded[index * size : (index + 1) * size]
        cut = tuple(padded[at : at + size] for at in range(0, len(padded), size))
        return bytes(self._encoder.encode(cut, (index,))[0])

    def join(self, blocks: Mapping[int, bytes], size_bytes: int) -> bytes:
        """The stripe that any `needed` blocks are of; see `Code.join`."""
        chosen = sorted(blocks)[: self.needed]
        if self.needed == 1:
            return blocks[chosen[0]][:size_bytes]
        if chosen[-1] < self.needed:
            return b"".join(blocks[index] for index in chosen)[:size_bytes]
        return b"".join(self._decoder.decode([blocks[index] for index in chosen], chosen))[:size_bytes]

    @cached_property
    def _encoder(self) -> Any:
        return _zfec().Encoder(self.needed, self.total)

    @cached_property
    def _decoder(self) -> Any:
        return _zfec().Decoder(self.needed, self.total)


def xored(one: bytes, other: bytes) -> bytes:
    """Two byte strings of one length, bit by bit either but not both."""
    number = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def _zfec() -> Any:
    try:
        import zfec  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingError(
            "Shares of which some are enough need the package zfec.", hint="Install it: pip install 'holdall[spread]'"
        ) from None
    return zfec
