"""Losing power on purpose: records what a directory store does to its disk, for `power_states` to cut short.

`RecordingDisk` is a `Disk` that notes, in order, every change of a file and of a name and every sync. Open a store
with `disk=recording.disk`, note with `recording.mark` what was asked of it and what it acknowledged, and hand the
`Recording` to `power_states.states_after_a_cut`. Nothing here knows what a store is.

    recording = Recording()
    store = await DirectoryStore.open(path, disk=recording.disk)
    recording.mark("asked")
    address = await store.put(b"hello")
    recording.mark(address)

The syncs are recorded and not carried out: what they would have made durable is worked out from the record.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from holdall.stores.disk import Disk


class Syncs(Enum):
    """What a sync makes durable."""

    DATA = "data"
    """One file's contents and length."""
    FILE = "file"
    """One file's contents, length, mode and times."""
    NAMES = "names"
    """The names in the directory."""
    ALL = "all"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Created:
    """A file came to be, without a name.

    Attributes:
        file: Its number, never used again.
        mode: Its permission bits.
        modified_ns: Its modification time.
    """

    file: int
    mode: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes were written to a file, which also moved its modification time."""

    file: int
    offset: int
    data: bytes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file's length was set, which also moved its modification time."""

    file: int
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class ModeSet:
    """A file's permission bits were set."""

    file: int
    mode: int


@dataclass(frozen=True, slots=True)
class TimesSet:
    """A file's times were set."""

    file: int
    accessed_ns: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Named:
    """A name was given to a file, or, where `file` is None, removed; a rename is one of each."""

    name: str
    file: int | None


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync returned.

    Attributes:
        what: What it covers.
        before: It covers the events numbered below this: those that came before it was called.
        file: The file, where it covers one.
    """

    what: Syncs
    before: int
    file: int | None = None


@dataclass(frozen=True, slots=True)
class Marked:
    """Something that the test wants to know of a cut: did it come before?"""

    note: object


Event: TypeAlias = "Created | Written | Truncated | ModeSet | TimesSet | Named | Synced | Marked"


class Recording:
    """What happened to one directory, in order.

    Concurrency: any number of threads may record; the order of events is the order in which the changes happened.

    Attributes:
        events: What happened so far.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.RLock()

    def disk(self, path: str) -> RecordingDisk:
        """A disk that records here, as `DirectoryStore.open` wants it.

        Args:
            path: The directory; what is in it counts as durable.
        """
        return RecordingDisk(path, self)

    def mark(self, note: object) -> None:
        """Notes that something of the test's own has happened."""
        self.add(Marked(note))

    def add(self, event: Event) -> None:
        """Records one event."""
        with self._lock:
            self.events.append(event)

    @property
    def lock(self) -> threading.RLock:
        """Held around a change and its event, so that no other comes between."""
        return self._lock


class RecordingDisk(Disk):
    """A `Disk` that records its changes and carries out none of its syncs.

    Args:
        path: The directory; what is in it counts as durable.
        recording: Where to record.
    """

    def __init__(self, path: str, recording: Recording) -> None:
        self._recording = recording
        self._numbers: dict[int, int] = {}
        self._names: dict[str, int] = {}
        self._next = 0
        super().__init__(path)
        self.volatile = False
        for name in sorted(os.listdir(path)):
            self._find(name)
        recording.add(Synced(Syncs.ALL, len(recording.events)))

    # --- contents ---

    def create_unnamed(self, mode: int) -> int:
        """See `Disk.create_unnamed`."""
        with self._recording.lock:
            fd = super().create_unnamed(mode)
            self._created(fd)
            return fd

    def create(self, name: str, mode: int) -> int:
        """See `Disk.create`."""
        with self._recording.lock:
            fd = super().create(name, mode)
            self._named(name, self._created(fd))
            return fd

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """See `Disk.write`."""
        with self._recording.lock:
            super().write(fd, data, offset)
            self._recording.add(Written(self._number(fd), offset, bytes(data), time.time_ns()))

    def truncate(self, fd: int, size_bytes: int) -> None:
        """See `Disk.truncate`."""
        with self._recording.lock:
            super().truncate(fd, size_bytes)
            self._recording.add(Truncated(self._number(fd), size_bytes, time.time_ns()))

    def set_mode(self, fd: int, mode: int) -> None:
        """See `Disk.set_mode`."""
        with self._recording.lock:
            super().set_mode(fd, mode)
            self._recording.add(ModeSet(self._number(fd), mode))

    def set_times(self, fd: int, accessed_ns: int, modified_ns: int) -> None:
        """See `Disk.set_times`."""
        with self._recording.lock:
            super().set_times(fd, accessed_ns, modified_ns)
            self._recording.add(TimesSet(self._number(fd), accessed_ns, modified_ns))

    # --- names ---

    def link(self, fd: int, name: str) -> None:
        """See `Disk.link`."""
        with self._recording.lock:
            super().link(fd, name)
            self._named(name, self._number(fd))

    def link_name(self, source: str, name: str) -> None:
        """See `Disk.link_name`."""
        with self._recording.lock:
            super().link_name(source, name)
            self._named(name, self._names[source])

    def rename(self, source: str, name: str) -> None:
        """See `Disk.rename`."""
        with self._recording.lock:
            super().rename(source, name)
            self._named(name, self._names[source])
            self._named(source, None)

    def unlink(self, name: str) -> None:
        """See `Disk.unlink`."""
        with self._recording.lock:
            super().unlink(name)
            self._named(name, None)

    # --- durability ---

    def sync_data(self, fd: int) -> None:
        """Records that the contents of a file are durable."""
        self._synced(Syncs.DATA, fd)

    def sync_file(self, fd: int) -> None:
        """Records that a file is durable, its mode and times included."""
        self._synced(Syncs.FILE, fd)

    def sync_names(self) -> None:
        """Records that the directory's names are durable."""
        self._synced(Syncs.NAMES)

    def sync_all(self) -> None:
        """Records that everything is durable."""
        self._synced(Syncs.ALL)

    # --- inside ---

    def _synced(self, what: Syncs, fd: int | None = None) -> None:
        before = len(self._recording.events)
        self._recording.add(Synced(what, before, None if fd is None else self._number(fd)))

    def _find(self, name: str) -> None:
        """Records a file that was there from the start."""
        status = self.look(name)
        if not stat.S_ISREG(status.st_mode):
            return
        fd = self.open_read(name)
        try:
            number = self._created(fd)
            content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
            self._recording.add(Written(number, 0, content, status.st_mtime_ns))
            self._recording.add(TimesSet(number, status.st_atime_ns, status.st_mtime_ns))
            self._named(name, number)
        finally:
            os.close(fd)

    def _created(self, fd: int) -> int:
        status = os.fstat(fd)
        self._next += 1
        self._numbers[status.st_ino] = self._next  # a file long gone may have had the same inode
        self._recording.add(Created(self._next, stat.S_IMODE(status.st_mode), status.st_mtime_ns))
        return self._next

    def _number(self, fd: int) -> int:
        return self._numbers[os.fstat(fd).st_ino]

    def _named(self, name: str, number: int | None) -> None:
        if number is None:
            self._names.pop(name, None)
        else:
            self._names[name] = number
        self._recording.add(Named(name, number))
