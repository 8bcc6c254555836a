"""Where a large file is cut: at places that its contents say, so that an insertion moves no later cut.

FastCDC (Xia et al., 2020) with normalisation, as the pyfastcdc package does it in C. The parameters are part of the
commit format: they depend on the file's length alone, so equal files have equal chunks in every tree.

Where a chunk ends depends on nothing before its beginning, and zeros alone are never a reason to end one: a chunk that
begins in a long hole is as long as chunks get, and all zeros. So most of a hole need not be read to be cut.
"""

from __future__ import annotations

from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Final, Protocol

from holdall.errors import HoldallError
from holdall.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfastcdc import FastCDC

_HUGE_BYTES_MIN: Final = 1 << 30
"""From here on chunks are larger, and there are half as many of them."""
_SKIPPED_MIN: Final = 4
"""Chunks of zeros that are worth skipping: beginning anew behind them costs reading two again."""


class Readable(Protocol):
    """What is cut: fills a buffer with the next bytes, and returns how many, 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the buffer."""
        ...

    def seek(self, offset: int, /) -> object:
        """Goes on from there."""
        ...


def cut(stream: Readable, size_bytes: int, hole_bytes: Callable[[int], int] = lambda _: 0) -> Iterator[bytes]:
    """Yields the chunks of a file in order; those in one hole are one object.

    Args:
        stream: Its contents.
        size_bytes: Its length.
        hole_bytes: How many bytes from an offset on are zeros, known without reading them.
    """
    chunker = _chunker(256 * KIB if size_bytes < _HUGE_BYTES_MIN else 512 * KIB)
    at, longest = 0, chunker.max_size
    while True:
        chunks_skipped = hole_bytes(at) // longest
        if chunks_skipped:
            blank = bytes(longest)
            yield from repeat(blank, chunks_skipped)
            at += chunks_skipped * longest
            stream.seek(at)
        for chunk in chunker.cut_stream(stream):
            yield bytes(chunk.data)
            at += chunk.length
            if hole_bytes(at) >= _SKIPPED_MIN * longest:
                break
        else:
            return


@cache
def _chunkers() -> type[FastCDC]:
    """The package's C part; without it the package falls back to Python, a hundred times slower: that is refused."""
    import pyfastcdc  # noqa: PLC0415 - slow to import, and most commits cut no large file

    if not pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise HoldallError(
            "The chunker is installed without its compiled part.", hint="Reinstall pyfastcdc from a wheel."
        )
    return pyfastcdc.FastCDC


def _chunker(average_bytes: int) -> FastCDC:
    return _chunkers()(average_bytes, min_size=average_bytes // 4, max_size=average_bytes * 4)
