"""Where a large file is cut: at places that its contents say, so that an insertion moves no later cut.

FastCDC (Xia et al., 2020) with normalisation, as the pyfastcdc package does it in C. The parameters are part of the
commit format: they depend on the file's length alone, so equal files have equal chunks in every tree.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

import pyfastcdc

from holdall.errors import HoldallError
from holdall.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

_HUGE_BYTES_MIN: Final = 1 << 30
"""From here on chunks are larger, and there are half as many of them."""


class Readable(Protocol):
    """What is cut: fills a buffer with the next bytes, and returns how many, 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the buffer."""
        ...


def cut(stream: Readable, size_bytes: int) -> Iterator[bytes]:
    """Yields the chunks of a file in order.

    Args:
        stream: Its contents.
        size_bytes: Its length.
    """
    chunker = _chunker(256 * KIB if size_bytes < _HUGE_BYTES_MIN else 512 * KIB)
    for chunk in chunker.cut_stream(stream):
        yield bytes(chunk.data)


@cache
def _check_compiled() -> None:
    """The package falls back to Python where its C part is missing, a hundred times slower: that is refused."""
    if not pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise HoldallError(
            "The chunker is installed without its compiled part.", hint="Reinstall pyfastcdc from a wheel."
        )


def _chunker(average_bytes: int) -> pyfastcdc.FastCDC:
    _check_compiled()
    return pyfastcdc.FastCDC(average_bytes, min_size=average_bytes // 4, max_size=average_bytes * 4)
