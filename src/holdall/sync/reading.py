"""The contents of files in a folder, believed only where they stay what they were while they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.limits import CHUNK_BYTES
from holdall.sync.merge import EXECUTABLE, FILE, Entry
from holdall.sync.pointer import parse
from holdall.sync.state import Signature
from holdall.sync.trees import blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.sync.large import Large

CHANGING: Final = "changes while it is read"
UNKNOWN: Final = b""
"""Stands for the blob of a large file of which it is not known what it holds."""

READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file of a folder is opened: through no symlink, and without waiting for what is no file."""


def identified(
    path: bytes, signature: Signature, entries: Iterable[Entry | None], large: Large, *, within: int | None = None
) -> tuple[bytes, bytes | None] | None:
    """The blob that stands for a file: one of the entries', where it is what that stands for, whatever its size.

    So a file that one node takes for large and another does not is no edit on either.

    Args:
        path: Where it is.
        signature: What it was.
        entries: What it may be.
        large: What is known of large files.
        within: An open directory that the path is relative to.

    Returns:
        The blob's id, `UNKNOWN` for a large file that is not known; and its bytes, where they are those of the file and
        may not be kept yet. None where the file changes meanwhile.

    Raises:
        OSError: It cannot be read.
    """
    size_bytes = signature.size_bytes
    may_be = [entry for entry in entries if entry is not None and entry.mode in {FILE, EXECUTABLE}]
    if stat.S_ISREG(signature.mode) and size_bytes > large.size_max_bytes:
        plain = {entry.blob for entry in may_be if large.size_bytes(entry.blob) == size_bytes}
        blob = _hashed(path, signature, within) if plain else UNKNOWN
        return None if blob is None else (blob if blob in plain else UNKNOWN, None)
    data = contents(path, signature, within=within)
    if data is None or stat.S_ISLNK(signature.mode):
        return None if data is None else (blob_id(data), data)
    blob, is_alike = blob_id(data), parse(data) is not None
    for entry in may_be:
        if entry.blob == blob and not is_alike:
            return blob, data
        pointer = large.pointer(entry)
        if pointer is not None and pointer.size_bytes == size_bytes and pointer.address == Address.of(data):
            return entry.blob, None
    return (UNKNOWN, None) if is_alike else (blob, data)


def _hashed(path: bytes, signature: Signature, within: int | None) -> bytes | None:
    """The id that a blob of a file's bytes has, read piece by piece; None where it is not, or does not stay, so."""
    fd = os.open(path, READ, dir_fd=within)
    try:
        if Signature.of(os.fstat(fd)) != signature:
            return None
        digest = hashlib.sha1(b"blob %d\0" % signature.size_bytes, usedforsecurity=False)
        while piece := os.read(fd, CHUNK_BYTES):
            digest.update(piece)
        return digest.digest() if Signature.of(os.fstat(fd)) == signature else None
    finally:
        os.close(fd)


def contents(path: bytes, signature: Signature, *, within: int | None = None) -> bytes | None:
    """The bytes of a file, or what a symlink says; None where it is not, or does not stay, what it was.

    Args:
        path: Where it is.
        signature: What it was.
        within: An open directory that the path is relative to.

    Raises:
        OSError: It cannot be read.
    """
    if stat.S_ISLNK(signature.mode):
        data = os.readlink(path, dir_fd=within)
        now = os.lstat(path) if within is None else os.lstat(path, dir_fd=within)
        return data if Signature.of(now) == signature else None
    fd = os.open(path, READ, dir_fd=within)
    try:
        if Signature.of(os.fstat(fd)) != signature:
            return None
        pieces = []
        left = signature.size_bytes + 1
        while left > 1 and (piece := os.read(fd, left)):  # whether it grew is told by its status
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces) if left == 1 and Signature.of(os.fstat(fd)) == signature else None
    finally:
        os.close(fd)
