"""What the disk under a folder does: with modes, with names in two cases, and with what was written just now."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_WRITTEN_SECONDS
from holdall.sync.ignore import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterable


def probe(folder: bytes) -> tuple[bool, bool]:
    """Whether a file system tells programs from other files, and whether it takes names in two cases for one.

    Args:
        folder: A directory on it, in which a file is made for a moment.

    Raises:
        LocalFileError: None can be made.
    """
    path = os.path.join(folder, TEMPORARY + secrets.token_hex(4).encode() + b"-probe")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            modes = []
            for mode in (0o700, 0o600):
                with suppress(OSError):
                    os.fchmod(fd, mode)
                modes.append(os.fstat(fd).st_mode & 0o777)
            folds = os.path.exists(os.path.join(folder, os.path.basename(path).upper()))
        finally:
            os.close(fd)
            os.unlink(path)
    except OSError as error:
        raise LocalFileError(f"{os.fsdecode(path)} cannot be made: {error.strerror or error}.") from error
    return modes == [0o700, 0o600], folds


def has_name(folder: int, name: bytes) -> bool:
    """Whether an open directory has something of this very name, not of another that stands for the same."""
    return name in map(os.fsencode, os.listdir(folder))


def secure(git_dir: str, blobs: Iterable[bytes]) -> None:
    """Lets objects that were written lately survive a power cut; the others the system has written by now.

    Raises:
        LocalFileError: The disk does not take them.
    """
    for blob in blobs:
        folder = os.path.join(git_dir, "objects", blob.hex()[:2])
        for path in (os.path.join(folder, blob.hex()[2:]), folder):
            try:
                if time.time() - os.stat(path).st_mtime < SYNC_WRITTEN_SECONDS:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)
            except FileNotFoundError:  # packed
                break
            except OSError as error:
                raise LocalFileError(f"{path} cannot be written to the disk: {error.strerror or error}.") from error
