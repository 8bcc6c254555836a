"""How an entry is one plain file: its name, mode bits, times, and what they say.

A blob's file is read-only (0444) and its mtime is its last use. A slot's file is 0644, its mtime is its revision and
its atime its last read. Any other mode means that another program wrote the file: its bytes are hashed once to tell
which it is, and the mode is set. Anything at an entry's name that is not a regular file is not an entry.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from holdall.limits import CHUNK_BYTES
from holdall.stores.base import Info, Kind
from holdall.stores.disk import unless_read_only

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.core.retention import Retention
    from holdall.stores.disk import Disk

BLOB_MODE: Final = 0o444
SLOT_MODE: Final = 0o644
TEMPORARY_PREFIX: Final = ".holdall-tmp-"
DAMAGED_PREFIX: Final = ".holdall-damaged-"
"""What is kept of a damaged blob; no entry, and never removed."""


_KIND_OF_MODE: Final = {stat.S_IFREG | BLOB_MODE: Kind.BLOB, stat.S_IFREG | SLOT_MODE: Kind.SLOT}


def kind_of(status: os.stat_result) -> Kind | None:
    """What type and mode bits say a file is, or None where they do not say, or it is no regular file."""
    return _KIND_OF_MODE.get(status.st_mode)


def is_entry(status: os.stat_result) -> bool:
    """Whether the status is that of a regular file."""
    return stat.S_ISREG(status.st_mode)


def last_use_ns(status: os.stat_result, kind: Kind) -> int:
    """The recorded last use, nanoseconds since 1970."""
    return status.st_mtime_ns if kind is Kind.BLOB else max(status.st_mtime_ns, status.st_atime_ns)


def version_of(address: Address, status: os.stat_result, kind: Kind) -> str:
    """The version token: the hash for a blob; revision and length for a slot."""
    return address.hex() if kind is Kind.BLOB else f"{status.st_mtime_ns:x}-{status.st_size:x}"


def info_of(address: Address, status: os.stat_result, kind: Kind, retention: Retention) -> Info:
    """What the file's status says of the entry."""
    used = last_use_ns(status, kind)
    return Info(
        address=address,
        kind=kind,
        size_bytes=status.st_size,
        version=version_of(address, status, kind),
        used_ns=used,
        expires_ns=retention.expires_ns(used),
    )


def classify(disk: Disk, address: Address) -> Kind:
    """Hashes a file of unknown mode, sets the mode, and says what it is; the caller holds the address's lock.

    Raises:
        OSError: It cannot be read or changed.
    """
    fd = disk.open_read(address.name)
    try:
        status = os.fstat(fd)
        kind = kind_of(status)
        if kind is None:
            digest = hashlib.sha256()
            while piece := os.read(fd, CHUNK_BYTES):
                digest.update(piece)
            kind = Kind.BLOB if digest.digest() == address else Kind.SLOT
            with unless_read_only():  # then it is hashed at each read
                disk.set_mode(fd, BLOB_MODE if kind is Kind.BLOB else SLOT_MODE)
        return kind
    finally:
        os.close(fd)
