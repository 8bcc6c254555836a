"""What a loss of power leaves of a disk, and a host's clock: the parts of `chaos` that stand for hardware.

A file system writes by itself within about 30 s, in any order, what nobody had it write. So at a loss of power a moment
is drawn in the last 30 s, and what was on the disk by then stays. Of what changed later, some part is lost, each file
by itself, the drawn part being small, half or everything:

* A name that was given, given to another file, or taken away later, may be as it was before: the file is not there, or
  there in the older version, or there again. It stays if its directory was synced after that, or the file that has it.
* Contents that were written later may be missing: the file is empty, or cut off. They stay if the file was synced after
  they were written.

Real file systems lose less: most keep the order of names, and sync older names along with newer ones. What a program
syncs is noted by `clock.c`. What the disk had, and when, is known from looks at it: what came and went between two of
them is not restored. Where an older version would come from before a sync of its directory, the newer one stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from pathlib import Path

UNWRITTEN_SECONDS_MAX = 30.0
SHARES = (0.1, 0.5, 1.0)
SPANS = 240
_ROW = struct.Struct("@qqq")
_SECOND_NS = 1_000_000_000


class Version(NamedTuple):
    """What a name stood for."""

    inode: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    data: bytes


class Syncs(NamedTuple):
    """When files were synced last, and when those were written that only got another time since; both by inode."""

    synced: dict[int, int]
    written: dict[int, int]


class Clock:
    """A host's clock, as `clock.c` reads it."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self.synced = control.with_name(f"{control.name}.synced")
        self.spans: list[tuple[int, int]] = []

    def begin(self, seconds: int) -> None:
        """Lets it be off by so many seconds, and always have been."""
        self.spans = []
        self.synced.unlink(missing_ok=True)
        self.jump(seconds)
        self.boot()

    def jump(self, seconds: int) -> None:
        """Puts it forward or back, while programs run, to be off by so many seconds."""
        assert len(self.spans) < SPANS
        self.spans.append((time.time_ns(), seconds * _SECOND_NS))
        self._write(16 * len(self.spans), struct.pack("@qq", *self.spans[-1]))
        self._write(0, struct.pack("@q", len(self.spans)))

    def boot(self) -> None:
        """Lets the host have been switched on now."""
        self._write(8, struct.pack("@q", time.time_ns()))

    def _write(self, at: int, data: bytes) -> None:
        fd = os.open(self.control, os.O_WRONLY | os.O_CREAT)
        try:
            os.truncate(fd, 16 + 16 * SPANS)  # to read beyond the end would kill who does
            os.pwrite(fd, data, at)
        finally:
            os.close(fd)

    def syncs(self) -> Syncs:
        """What programs had written to the disk."""
        synced, written = dict[int, int](), dict[int, int]()
        with contextlib.suppress(FileNotFoundError):
            rows = self.synced.read_bytes()
            for moment, inode, before in _ROW.iter_unpack(rows[: len(rows) // _ROW.size * _ROW.size]):
                if synced.get(inode, 0) >= before:
                    synced[inode] = moment
                if before:
                    written.setdefault(inode, before)
        return Syncs(synced, written)


class Disk:
    """A host's disk, and what was on it a while ago."""

    def __init__(self, root: Path, spared: set[str]) -> None:
        self.root = os.fspath(root)
        self.spared = spared
        self.looks: list[tuple[int, dict[str, Version]]] = []

    def look(self) -> None:
        """Takes down what is there now."""
        before = self.looks[-1][1] if self.looks else {}
        began, found = time.time_ns(), dict[str, Version]()
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    seen = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)
                    was = before.get(path)
                    if name in self.spared or stat.S_ISSOCK(status.st_mode):
                        continue
                    found[path] = was if was is not None and was[:4] == seen else Version(*seen, _read(path, status))
        if found != before or not self.looks:
            self.looks.append((began, found))

    def lose(self, chance: random.Random, syncs: Syncs) -> list[str]:
        """Loses power; returns what became of files, in words. Nothing writes to it any more."""
        self.look()
        now = self.looks[-1][1]
        since = time.time_ns() - int(chance.uniform(0, UNWRITTEN_SECONDS_MAX) * _SECOND_NS)
        since = max(since, self.looks[0][0])
        synced, written = syncs
        share, told = chance.choice(SHARES), list[str]()
        for path in sorted({path for _, look in self.looks for path in look}):
            there = now.get(path)
            folder = synced.get(_inode(os.path.dirname(path)), 0)
            older = self._older(path, since, max(folder, 0 if there is None else synced.get(there.inode, 0)))
            if older is not there and chance.random() < share:
                self._put(path, older)
                told.append(f"{path}: {'gone' if older is None else 'older' if there else 'there again'}")
                there = older
            if there is None or not stat.S_ISREG(there.mode) or not there.data:
                continue
            written_ns = min(there.mtime_ns, written.get(there.inode, there.mtime_ns))
            if written_ns > max(since, synced.get(there.inode, 0)) and chance.random() < share:
                left = there.data[: chance.choice([0, 0, len(there.data) // 2, len(there.data) - 1])]
                self._put(path, there._replace(data=left))
                told.append(f"{path}: {len(left)} bytes of {len(there.data)}")
        self.looks = []
        self.look()
        return told

    def _older(self, path: str, since: int, synced: int) -> Version | None:
        """What a name stood for at a moment, or at the first look after it was synced; what it stands for, if never."""
        past = [look for began, look in self.looks[:-1] if began <= since]
        if synced > since or not past:
            past = [look for began, look in self.looks if began > max(since, synced)][:1]
        return (past[-1] if past else self.looks[-1][1]).get(path)

    def _put(self, path: str, version: Version | None) -> None:
        """Lets a name stand for something else, or for nothing."""
        with contextlib.suppress(OSError):  # what has another kind of thing above it or below stays
            if version is None:
                os.unlink(path)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path):
                os.unlink(path)
            if stat.S_ISLNK(version.mode):
                os.symlink(version.data, path)
                return
            with open(path, "xb") as file:
                file.write(version.data)
            os.chmod(path, stat.S_IMODE(version.mode))
            os.utime(path, ns=(version.mtime_ns, version.mtime_ns))


def _read(path: str, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.fsencode(os.readlink(path))
    with open(path, "rb") as file:
        return file.read()


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
