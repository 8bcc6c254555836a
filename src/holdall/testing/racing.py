"""What the tests of concurrency share: many calls at once, and lines that prove that they are whole."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

import pytest

from holdall.limits import MIB, SMALL_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

RACERS: Final = 20
VALUE_BYTES: Final = (10, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, MIB + 7)

mixed_sizes = pytest.mark.parametrize("sizes_bytes", [(40,), VALUE_BYTES], ids=["small", "mixed"])


async def outcomes(calls: Iterable[Awaitable[object]], *losers: type[Exception]) -> list[object]:
    """What each of these calls answers when all run at once; a loser is its error, other errors are raised."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, losers):
            raise answer
    return list(answers)


def won(answers: Iterable[object]) -> list[tuple[int, object]]:
    """The answers that are no errors, each with the number of its call."""
    return [(racer, answer) for racer, answer in enumerate(answers) if not isinstance(answer, BaseException)]


def line(sender: int, number: int, size_bytes: int = 0) -> bytes:
    """A line that says whose it is and carries its own proof of being whole."""
    text = b"%d %d %s" % (sender, number, b"x" * size_bytes)
    return text + b" " + hashlib.sha256(text).hexdigest().encode() + b"\n"


def lines_of(data: bytes) -> list[tuple[int, int]]:
    """Sender and number of each line of `data`, all of which must be whole."""
    found = []
    for text in data.splitlines():
        said, _, proof = text.rpartition(b" ")
        assert proof == hashlib.sha256(said).hexdigest().encode()
        sender, number, _ = said.split(b" ", 2)
        found.append((int(sender), int(number)))
    assert not data or data.endswith(b"\n")
    return found
