"""The address: the SHA-256 of some bytes, as a value.

Written `/<64 lowercase hex>.tig` on the wire and `<64 lowercase hex>.tig` as a file name. Text becomes an `Address`
at the edge, once; inside, nothing else names an entry.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Self

from holdall.errors import AddressError

DIGEST_BYTES: Final = 32
SUFFIX: Final = ".tig"
HEX_CHARS: Final = 2 * DIGEST_BYTES
NAME_CHARS: Final = HEX_CHARS + len(SUFFIX)
PATH_CHARS: Final = 1 + NAME_CHARS

_NAME: Final = re.compile(r"[0-9a-f]{64}\.tig", re.ASCII)


class Address(bytes):
    """The 32 bytes of a SHA-256, comparable and hashable like the bytes they are.

    Construct one with `of`, `parse_path`, `parse_name` or `parse_text`; the bare constructor trusts its 32 bytes.
    """

    __slots__ = ()

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """The address of `data`.

        Args:
            data: Any number of bytes.
        """
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def parse_path(cls, path: str) -> Self:
        """Reads the wire form, `/<64 lowercase hex>.tig`, exactly.

        Raises:
            AddressError: The text is anything else.
        """
        if len(path) == PATH_CHARS and path[0] == "/":
            return cls.parse_name(path[1:])
        raise AddressError(f"{_shown(path)} is not an address.")

    @classmethod
    def parse_name(cls, name: str) -> Self:
        """Reads a file name, `<64 lowercase hex>.tig`, exactly.

        Raises:
            AddressError: The text is anything else.
        """
        if _NAME.fullmatch(name):
            return cls(bytes.fromhex(name[:64]))
        raise AddressError(f"{_shown(name)} is not an address.")

    @classmethod
    def parse_text(cls, text: str) -> Self:
        """Reads an address as a person may give it: a path, a file name, bare hex, or a URL that ends in a path.

        Raises:
            AddressError: None of these.
        """
        found = re.fullmatch(r"(?:https?://[^/\s?#]+)?/?([0-9a-f]{64})(?:\.tig)?", text.strip(), re.ASCII)
        if found is None:
            raise AddressError(f"{_shown(text)} is not an address.")
        return cls(bytes.fromhex(found[1]))

    @property
    def name(self) -> str:
        """The file name, `<64 lowercase hex>.tig`."""
        return self.hex() + SUFFIX

    @property
    def path(self) -> str:
        """The wire form, `/<64 lowercase hex>.tig`."""
        return f"/{self.hex()}{SUFFIX}"

    def __repr__(self) -> str:
        return f"Address({self.hex()!r})"

    def __str__(self) -> str:
        return self.path


def is_entry_name(name: str) -> bool:
    """Whether a file name is that of an entry; no other name in a data directory is ever touched."""
    return _NAME.fullmatch(name) is not None


def _shown(text: str) -> str:
    """A stranger's text, cut short and escaped for an error message."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
