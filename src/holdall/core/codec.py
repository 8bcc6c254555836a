"""How a chunk is compressed: by a codec whose outputs, put one after the other, decompress as one stream.

So a burst of chunks is a stream that `zstd -d`, `gzip -d` or nothing at all reads, and so does `tar`.
"""

from __future__ import annotations

import sys
import zlib
from enum import Enum
from typing import Final

from holdall.errors import DamageError
from holdall.limits.snapshot import CHUNK_RAW_BYTES_MAX

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL: Final = 3
_GZIP_LEVEL: Final = 6
_GZIP_WINDOW: Final = 31
_GZIP_SYSTEM_AT: Final = 9
_GZIP_SYSTEM_UNKNOWN: Final = b"\xff"
_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: CHUNK_RAW_BYTES_MAX.bit_length() - 1}
"""A frame that asks for more memory than the longest chunk takes is refused before it gets it."""


class Codec(Enum):
    """How chunks are compressed."""

    ZSTD = "zstd"
    GZIP = "gzip"
    NONE = "none"

    def compress(self, data: bytes) -> bytes:
        """The chunk's bytes as they are stored: the same for the same data and the same version of the library."""
        match self:
            case Codec.ZSTD:
                return zstd.compress(data, level=_LEVEL)
            case Codec.GZIP:
                return _gzip(data)
            case Codec.NONE:
                return data

    def decompress(self, data: bytes, bytes_max: int = CHUNK_RAW_BYTES_MAX) -> bytes:
        """The chunk as it was.

        Args:
            data: As `compress` gave it.
            bytes_max: Unpack no more than this.

        Raises:
            DamageError: It is not what this codec makes, or larger than it may be.
        """
        try:
            match self:
                case Codec.ZSTD:
                    found, whole = _unzstd(data, bytes_max)
                case Codec.GZIP:
                    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
                    found = unpacker.decompress(data, bytes_max + 1)
                    whole = unpacker.eof and not unpacker.unused_data
                case Codec.NONE:
                    found, whole = data, True
        except (zstd.ZstdError, zlib.error) as error:
            raise DamageError(f"A chunk is not {self.value}: {error}.") from error
        if len(found) > bytes_max:
            raise DamageError(f"A chunk unpacks to more than {bytes_max} bytes.")
        if not whole:
            raise DamageError(f"A chunk is not one whole {self.value} frame.")
        return found


def _unzstd(data: bytes, bytes_max: int) -> tuple[bytes, bool]:
    unpacker = zstd.ZstdDecompressor(options=_OPTIONS)
    found = unpacker.decompress(data, bytes_max + 1)
    return found, unpacker.eof and not unpacker.unused_data


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    found = packer.compress(data) + packer.flush()
    return found[:_GZIP_SYSTEM_AT] + _GZIP_SYSTEM_UNKNOWN + found[_GZIP_SYSTEM_AT + 1 :]
