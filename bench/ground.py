"""The directory that is measured on: fresh, on a file system with a journal, quiet before each round, gone afterwards.

A disk without a journal would measure something else than storage is used on: ext4 without one, for instance, takes up
to 400 us to create a file soon after many were deleted. Where the chosen directory is on such a disk and we are root,
the run gets an ext4 image of its own, mounted for as long as it lasts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.peers.base import Place, tool_path
from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

TMPFS: Final = "/dev/shm"
PREFIX: Final = "holdall-bench-"
JOURNALED: Final = frozenset({"ext3", "xfs", "jfs", "reiserfs", "btrfs", "zfs", "bcachefs", "f2fs"})
IMAGE_BYTES_PER_INODE: Final = 8192
IMAGE_BYTES_BASE: Final = 6 << 30
IMAGE_BYTES_PER_SECOND: Final = 2 << 30
IMAGE_BYTES_MAX: Final = 32 << 30
QUIET_SECONDS_MAX: Final = 3.0
QUIET_KIB: Final = 1024
PAUSE_SECONDS: Final = 0.1
TOUCHED_BYTES_MAX: Final = 1 << 30
TOUCHED_BYTES_PER_SECOND: Final = 512 << 20
UNMOUNT_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True)
class Ground:
    """A fresh directory and what is known of its file system."""

    path: str
    filesystem: str
    note: str
    touched_bytes: int
    """How much memory is touched before a measurement."""

    @property
    def kind(self) -> str:
        """`tmpfs` or `disk`."""
        return "tmpfs" if self.filesystem == "tmpfs" else "disk"

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Place]:
        """A peer's directories, removed on the way out.

        Args:
            name: What the directory's begins with.
        """
        place = Place(tempfile.mkdtemp(prefix=f"{name}-", dir=self.path))
        place.make()
        try:
            yield place
        finally:
            shutil.rmtree(place.path, ignore_errors=True)

    def settle(self) -> None:
        """Writes out what is pending and waits for a quiet disk, so that no peer pays for the one before."""
        subprocess.run([tool_path("sync"), "-f", self.path], check=False)
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        time.sleep(PAUSE_SECONDS)
        while self.kind == "disk" and _meminfo_kib("Writeback:") > QUIET_KIB and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        _touch_memory(self.touched_bytes)


@contextlib.contextmanager
def prepared(base: str, *, seconds: float) -> Iterator[Ground]:
    """A fresh directory for the run; on the way out nothing of it is left.

    Args:
        base: The directory to make it in.
        seconds: The length of a round, which tells how large an image must be.

    Raises:
        BenchError: No directory can be made there.
    """
    try:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    except OSError as error:
        raise BenchError(f"no directory can be made in {base}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        filesystem, device = filesystem_of(path)
        touched = min(TOUCHED_BYTES_MAX, int(seconds * TOUCHED_BYTES_PER_SECOND))
        if filesystem == "tmpfs" or is_journaled(filesystem, device):
            yield Ground(path, filesystem, "", touched)
            return
        reason = (
            f"{filesystem} on {device} has no journal" if device else f"{filesystem} is not known to have a journal"
        )
        try:
            mounted = stack.enter_context(_image(path, seconds))
        except BenchError as error:
            ground = Ground(path, filesystem, f"{reason}, and no image can be mounted: {error}", touched)
        else:
            ground = Ground(
                mounted, "ext4", f"an image with a journal, made in {base} for this run, since {reason}", touched
            )
        yield ground


def filesystem_of(path: str) -> tuple[str, str]:
    """The type of the file system that holds a path, and its block device's kernel name, if it has one.

    Args:
        path: Any existing path.
    """
    number = os.stat(path).st_dev
    device = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))
    device = "" if ":" in device else device
    best, kind = "", "unknown"
    real = os.path.realpath(path)
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            mount_point, _, rest = line.split(" ", 4)[4].partition(" ")
            inside = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
            # A later mount on the same point hides the earlier one.
            if inside and len(mount_point) >= len(best):
                best, kind = mount_point, rest.partition(" - ")[2].split(" ", 1)[0]
    return kind, device


def is_journaled(filesystem: str, device: str) -> bool:
    """Whether a crash leaves that file system in order without a full check, by journal or by copy-on-write.

    Args:
        filesystem: Its type.
        device: Its block device's kernel name.
    """
    if filesystem != "ext4":
        return filesystem in JOURNALED
    with contextlib.suppress(OSError):
        return any(name.rpartition("-")[0] == device or name == device for name in os.listdir("/proc/fs/jbd2"))
    return False


@contextlib.contextmanager
def _image(folder: str, seconds: float) -> Iterator[str]:
    if os.geteuid() != 0:
        raise BenchError("only root may")
    space = os.statvfs(folder)
    wanted = IMAGE_BYTES_BASE + int(seconds * IMAGE_BYTES_PER_SECOND)
    size_bytes = min(wanted, IMAGE_BYTES_MAX, space.f_bavail * space.f_frsize * 8 // 10)
    image, mount_point = f"{folder}/image", f"{folder}/mounted"
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    os.mkdir(mount_point)
    # Everything is laid out now: what mkfs puts off would be written during the measurement.
    options = ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-i", str(IMAGE_BYTES_PER_INODE), "-m", "0"]
    _call("mkfs.ext4", "-q", "-F", "-O", "has_journal", *options, image)
    _call("sync", image)
    try:
        _call("mount", "-o", "loop", image, mount_point)
        _write_through(image)
        yield mount_point
    finally:
        _unmount(mount_point)


def _write_through(image: str) -> None:
    """Keeps the image's blocks out of the page cache of the disk below, where one sync would wait for all of them."""
    found = subprocess.run(
        [tool_path("losetup"), "-n", "-O", "NAME", "-j", image], capture_output=True, text=True, check=False
    )
    for device in found.stdout.split():
        with contextlib.suppress(BenchError):  # the disk below may not take direct writes
            _call("losetup", "--direct-io=on", device)


def _unmount(mount_point: str) -> None:
    deadline = time.monotonic() + UNMOUNT_SECONDS_MAX
    while os.path.ismount(mount_point):
        late = time.monotonic() > deadline
        # Detached, it goes away with the last file that is open on it.
        subprocess.run([tool_path("umount"), *(["-l"] if late else []), mount_point], capture_output=True, check=False)
        if late:
            return
        time.sleep(PAUSE_SECONDS)


def _call(tool: str, *arguments: str) -> None:
    try:
        done = subprocess.run([tool_path(tool), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"{tool} is not installed") from error
    if done.returncode:
        raise BenchError(f"{tool} failed: {' '.join(done.stderr.split())}")


def _touch_memory(wanted_bytes: int) -> None:
    """Uses some memory for a moment.

    A virtual machine may hand free memory back to its host, and getting a page again costs more than a whole request:
    whoever happened to be measured then would pay for it.
    """
    size_bytes = min(wanted_bytes, _meminfo_kib("MemAvailable:") * 1024 // 4)
    if size_bytes:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _meminfo_kib(*names: str) -> int:
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(names))
    return 0
