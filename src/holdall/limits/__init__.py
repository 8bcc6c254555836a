"""Every bound in holdall, with its unit in its name and the reason beside it.

Nothing a stranger sends may make memory, disk, time or file names unbounded; what keeps it so is listed here and
nowhere else: here what all rooms share, in the modules the bounds of one room each.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

SMALL_BYTES_MAX: Final = 64 * KIB
"""A body up to this size is handled whole in memory: journaled when written, cached when read."""

CHUNK_BYTES: Final = 256 * KIB
"""How much of a large body is held at once; larger gains nothing measurable (server-performance, 256 KiB reads)."""

BODY_BYTES_MAX: Final = 1 << 40
"""Default of --max-size: 1 TiB, above any single archive seen, below what fills a file system unnoticed."""
