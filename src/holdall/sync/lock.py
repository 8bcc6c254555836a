"""One process at a time works on a synced folder, and what a killed one left locked is set free.

The lock is the kernel's and ends with its holder. Its file tells whether the last holder came to its end: if not, the
lock files of git that only a holder makes are left-overs. Others, which a push or a git command of the user may hold,
are left-overs when they are old and no process has them open.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdall.errors import BusyError, LocalFileError
from holdall.limits.sync import SYNC_LOCK_SECONDS_MAX, SYNC_STALE_LOCK_SECONDS
from holdall.stores.locks import take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUSY: Final = b"1"
_DONE: Final = b"0"
_POLL_SECONDS: Final = 0.01
_OTHERS: Final = ("HEAD.lock", "config.lock", "index.lock", "packed-refs.lock", "shallow.lock")


def wait_for_turn(take_it: Callable[[], bool]) -> None:
    """Tries to take a lock until that works.

    Args:
        take_it: Says whether it did.

    Raises:
        BusyError: Another process held it for too long.
    """
    deadline = time.monotonic() + SYNC_LOCK_SECONDS_MAX
    while not take_it():
        if time.monotonic() > deadline:
            raise BusyError("Another process is working on this folder.")
        time.sleep(_POLL_SECONDS)


@contextmanager
def locked(git_dir: str, node: str) -> Iterator[None]:
    """Holds the lock of a folder for the length of the block.

    Args:
        git_dir: The folder's git directory.
        node: This node, whose refs nobody writes but the holder of the lock.

    Raises:
        BusyError: Another process held it for too long.
        LocalFileError: The lock's file cannot be opened.
    """
    try:
        fd = os.open(os.path.join(git_dir, "holdall", "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalFileError(f"The folder's lock cannot be opened: {error.strerror or error}.") from error
    try:
        wait_for_turn(lambda: take(fd, 0, wait=False))
        _clear(git_dir, node, was_cut_short=os.pread(fd, 1, 0) == _BUSY)
        with suppress(OSError):  # on a full disk the first byte has no place; then age decides next time
            os.pwrite(fd, _BUSY, 0)
        yield
        with suppress(OSError):
            os.pwrite(fd, _DONE, 0)
    finally:
        os.close(fd)


def was_cut_short(git_dir: str, *, since: float) -> bool:
    """Whether the last holder of a folder's lock, not before a time in seconds since 1970, did not come to its end."""
    with suppress(OSError), open(os.path.join(git_dir, "holdall", "lock"), "rb") as file:
        is_free = take(file.fileno(), 0, shared=True, wait=False)  # and let go as it is closed
        return is_free and file.read(1) == _BUSY and os.fstat(file.fileno()).st_mtime >= since
    return False


def _clear(git_dir: str, node: str, *, was_cut_short: bool) -> None:
    """Removes lock files of git that nobody holds."""
    own = ("refs/heads/", "refs/sync-keep/", f"refs/sync/{node}/")
    for path in _lock_files(git_dir):
        ours = path.startswith(own) or path.endswith("/seen.lock")
        full = os.path.join(git_dir, path)
        with suppress(OSError):
            old = time.time() - os.stat(full).st_mtime > SYNC_STALE_LOCK_SECONDS
            if (was_cut_short and ours) or (old and not is_open(full)):
                os.unlink(full)


def _lock_files(git_dir: str) -> list[str]:
    """The lock files there are, relative to the git directory."""
    found = [name for name in _OTHERS if os.path.lexists(os.path.join(git_dir, name))]
    for folder, _, names in os.walk(os.path.join(git_dir, "refs")):
        found += [os.path.relpath(os.path.join(folder, name), git_dir) for name in names if name.endswith(".lock")]
    return found


def is_open(path: str) -> bool:
    """Whether a process that can be looked into has the file open; where none can be, its age alone decides."""
    wanted = os.path.realpath(path)
    for process in os.listdir("/proc") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{int(process)}/fd") if process.isdigit() else ():
                with suppress(FileNotFoundError):
                    if os.readlink(f"/proc/{process}/fd/{fd}") == wanted:
                        return True
    return False
