"""Bursts: text whose lines are addresses, read as the concatenation of what they name.

A line is `/<64 hex>.tig`, or that behind `http(s)://host` (what a write with `format=http://host*` answers); the
host is not contacted, a burst only ever names entries of its own store. `#` starts a comment line; empty lines and a
carriage return before the newline are ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.errors import BurstError
from holdall.limits.stores import BURST_LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMBER: Final = re.compile(rb"(?:https?://[^/\s]{1,255})?/([0-9a-f]{64})\.tig")


class BurstParser:
    """Turns the bytes of a burst, fed in pieces of any size, into addresses in order.

    Holds at most one unfinished line, of at most `BURST_LINE_BYTES_MAX` bytes.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._line_number = 0

    def feed(self, piece: bytes) -> Iterator[Address]:
        """Yields the members on the lines that `piece` completes.

        Raises:
            BurstError: A line is no address, comment or blank, or is too long.
        """
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line:
                yield from self._member(line)
            else:
                self._line_number += 1
        if len(self._rest) > BURST_LINE_BYTES_MAX:
            raise BurstError(f"Line {self._line_number + 1} of the burst is over {BURST_LINE_BYTES_MAX} bytes long.")

    def finish(self) -> Iterator[Address]:
        """Yields the member on a last line that has no newline.

        Raises:
            BurstError: As `feed`.
        """
        rest, self._rest = self._rest, b""
        yield from self._member(rest)

    def _member(self, line: bytes) -> Iterator[Address]:
        self._line_number += 1
        if len(line) > BURST_LINE_BYTES_MAX:
            raise BurstError(f"Line {self._line_number} of the burst is over {BURST_LINE_BYTES_MAX} bytes long.")
        line = line.removesuffix(b"\r")
        if not line or line.startswith(b"#"):
            return
        found = _MEMBER.fullmatch(line)
        if found is None:
            raise BurstError(f"Line {self._line_number} of the burst is not an address.")
        yield Address(bytes.fromhex(found[1].decode("ascii")))


def members(text: bytes) -> list[Address]:
    """The members that a whole burst names, in order.

    Raises:
        BurstError: It is not a burst.
    """
    parser = BurstParser()
    return [*parser.feed(text), *parser.finish()]
