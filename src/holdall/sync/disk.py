"""What the disk under a folder does: with modes, with names in two cases, and with what was written just now."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_WRITTEN_SECONDS
from holdall.sync.ignore import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterable


class Disk(NamedTuple):
    """What a file system does.

    Attributes:
        has_modes: Whether it tells programs from other files.
        folds: Whether names that differ only in case are one name to it.
    """

    has_modes: bool = True
    folds: bool = False


def probe(folder: bytes) -> Disk:
    """Finds out what the file system of a folder does.

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
    return Disk(modes == [0o700, 0o600], folds)


def has_name(folder: int, name: bytes) -> bool:
    """Whether an open directory has something of this very name, not of another that stands for the same."""
    return name in map(os.fsencode, os.listdir(folder))


def cleared(folder: int, name: bytes) -> bool:
    """Removes what an open directory has under a name, if it is directories and nothing else; False where it is not."""
    try:
        if any(files for _, _, files, _ in os.fwalk(name, dir_fd=folder)):
            return False
        for _, folders, _, below in os.fwalk(name, topdown=False, dir_fd=folder):
            for empty in folders:
                os.rmdir(empty, dir_fd=below)
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


def secure(git_dir: str, blobs: Iterable[bytes], *, are_new: bool) -> None:
    """Lets objects that were written lately survive a power cut; the others the system has written by now.

    Args:
        git_dir: Where they are.
        blobs: Their ids.
        are_new: Whether they are known to have been; else the times of their files tell.

    Raises:
        LocalFileError: The disk does not take them.
    """
    by_folder: dict[str, set[str]] = {}
    for blob in blobs:
        by_folder.setdefault(blob.hex()[:2], set()).add(blob.hex()[2:])
    for name, wanted in by_folder.items():
        folder = os.path.join(git_dir, "objects", name)
        try:
            loose = wanted.intersection(os.listdir(folder))  # the others are in packs, which are on the disk
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _not_written(folder, error) from error
        for path in (*(os.path.join(folder, one) for one in loose), *([folder] if loose else ())):
            _sync(path, is_new=are_new)


def _sync(path: str, *, is_new: bool) -> None:
    try:
        if is_new or time.time() - os.stat(path).st_mtime < SYNC_WRITTEN_SECONDS:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except FileNotFoundError:  # packed just now
        return
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: str, error: OSError) -> LocalFileError:
    return LocalFileError(f"{path} cannot be written to the disk: {error.strerror or error}.")
