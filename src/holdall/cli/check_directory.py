"""What `holdall doctor` looks at where the store is a directory of this machine."""

from __future__ import annotations

import os
import resource
import secrets
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.cli.findings import (
    Finding,
    Outcome,
    judge_clock,
    judge_descriptors,
    judge_inodes,
    judge_key,
    judge_space,
)
from holdall.limits.server import API_KEY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

_ODD_NS: Final = 1_735_689_600_123_456_789
_APART_NS_MAX: Final = 2 * 1_000_000_000
_IN_MEMORY: Final = {"tmpfs", "ramfs"}
_JOURNALED: Final = {"ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs"}


def check_directory(path: str) -> Iterator[Finding]:
    """Yields what is found of a data directory and its machine; nothing is left behind in it.

    Args:
        path: The directory; where it is missing, what it would be made in is looked at.
    """
    there = path
    while not os.path.isdir(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    yield _permissions(path, there)
    with suppress(OSError):
        space = os.statvfs(there)
        yield judge_space(space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize)
        yield judge_inodes(space.f_favail, space.f_files)
    yield _file_system(there)
    if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
        yield from _abilities(path)
    yield judge_descriptors(_soft_limit())
    yield _key(path)


def _permissions(path: str, there: str) -> Finding:
    if there != path:
        if os.path.lexists(path):
            return Finding("directory", Outcome.FAIL, f"{path} is not a directory", "Name another.")
        if os.access(there, os.W_OK | os.X_OK):
            return Finding("directory", Outcome.OK, f"{path} is missing and can be made")
        return Finding(
            "directory",
            Outcome.FAIL,
            f"{path} is missing, and {there} cannot be written",
            f"Make it: sudo mkdir {path}",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        owner = f"sudo chown $(id -un) {path}"
        return Finding("directory", Outcome.FAIL, f"{path} cannot be read and written", f"Check its mount, or {owner}")
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return Finding("directory", Outcome.WARN, f"{path} can be written by everybody here", f"chmod o-w {path}")
    return Finding("directory", Outcome.OK, f"{path} can be read and written")


def _file_system(there: str) -> Finding:
    kind = _file_system_kind(there)
    if kind is None:
        return Finding("file system", Outcome.OK, "its kind is not known")
    if kind in _IN_MEMORY:
        return Finding("file system", Outcome.OK, f"{kind}: in memory, gone at power-off")
    return Finding("file system", Outcome.OK, f"{kind}, journaled" if kind in _JOURNALED else kind)


def _file_system_kind(there: str) -> str | None:
    """The type of the mount that a directory is on, from Linux's table of mounts."""
    with suppress(OSError, ValueError, IndexError):
        device = os.stat(there).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                words = line.split()
                if words[2] == wanted:
                    return words[words.index("-") + 1]
    return None


def _abilities(path: str) -> Iterator[Finding]:
    """Tries what the directory store does to files, on a file of its own."""
    name = os.path.join(path, f".holdall-doctor-{secrets.token_hex(8)}")
    try:
        yield _unnamed(path)
        with open(name, "xb") as file:
            file.write(b"holdall doctor")
        now_ns, file_ns = time.time_ns(), os.stat(name).st_mtime_ns
        yield judge_clock(now_ns, file_ns, "the file system's", apart_ns_max=_APART_NS_MAX)
        yield _links(name)
        os.utime(name, ns=(_ODD_NS, _ODD_NS))
        yield _times(os.stat(name).st_mtime_ns)
    except OSError as error:
        yield Finding(
            "files", Outcome.FAIL, f"a file cannot be made: {error.strerror}", "Check the mount and its room."
        )
    finally:
        with suppress(OSError):
            os.unlink(name)


def _unnamed(path: str) -> Finding:
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except (OSError, AttributeError):
        return Finding("unnamed files", Outcome.OK, "not here; temporary names are used instead")
    return Finding("unnamed files", Outcome.OK, "an aborted write leaves nothing")


def _links(name: str) -> Finding:
    other = f"{name}-link"
    try:
        os.link(name, other)
        os.unlink(other)
    except OSError as error:
        advice = "Use a file system that has hard links: exclusive creation stands on them."
        return Finding("hard links", Outcome.FAIL, f"not here: {error.strerror}", advice)
    return Finding("hard links", Outcome.OK, "names are given in one step")


def _times(seen_ns: int) -> Finding:
    if seen_ns == _ODD_NS:
        return Finding("file times", Outcome.OK, "kept to the nanosecond")
    return Finding(
        "file times",
        Outcome.WARN,
        "kept only coarsely",
        "Slot versions are made of them: use ext4, xfs, btrfs or tmpfs for slots that many write.",
    )


def _soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def _key(path: str) -> Finding:
    name = os.path.join(path, "apikey")
    try:
        with open(name, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(API_KEY_BYTES_MAX + 2).strip()
    except FileNotFoundError:
        return Finding(
            "API key", Outcome.OK, "none in the directory: a server here lets everybody write who reaches it"
        )
    except OSError as error:
        return Finding("API key", Outcome.FAIL, f"{name}: {error.strerror}", f"sudo chown $(id -un) {name}")
    if not 0 < len(key) <= API_KEY_BYTES_MAX:
        return Finding("API key", Outcome.FAIL, "empty or too long: nobody can bring it", f"Write one to {name}")
    if mode & 0o077:
        return Finding("API key", Outcome.WARN, "others on this machine can read it", f"chmod 600 {name}")
    return judge_key(key.decode("utf-8", "replace"))
