"""What stands in a history for a large file: its SHA-256 and its length, as Git LFS writes them.

A blob that reads so, byte for byte, is a pointer and nothing else: a file whose own contents read so is a large file
too, with a pointer to them in the history.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from holdall.core.address import Address

_TEXT: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\n"
)
POINTER_BYTES_MAX: Final = 144
"""The longest there is: 19 digits are 9 EB."""


class Pointer(NamedTuple):
    """A large file.

    Attributes:
        address: Of its bytes.
        size_bytes: How many they are.
    """

    address: Address
    size_bytes: int

    @property
    def text(self) -> bytes:
        """The blob that stands for it."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (
            self.address.hex().encode(),
            self.size_bytes,
        )


def parse(data: bytes) -> Pointer | None:
    """The pointer that a blob is; None where it is anything else."""
    found = _TEXT.fullmatch(data) if len(data) <= POINTER_BYTES_MAX else None
    return None if found is None else Pointer(Address(bytes.fromhex(found[1].decode())), int(found[2]))
