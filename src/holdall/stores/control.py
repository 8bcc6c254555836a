"""What the processes that share a data directory share besides its files: locks and a small mapping.

`.holdall-control` is mapped by every process that opens the directory. It survives the death of a process, not of the
machine; whoever opens the directory first after that starts it afresh. It holds

* one **stripe** per share of the addresses: the last revision given out, and the append under way, so that a reader
  sees an append whole or not at all and a killed appender's half line is cut off by whoever comes next;
* the **removals**: a ring of the addresses last removed, so that caches can drop just those;
* one **process** record for each process: which journal epoch it still has to turn into files;
* the **journal's** epoch and tail.

Locks (see `locks`) are on bytes of the same file.
Nothing here knows what an entry's file looks like.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from contextlib import suppress
from typing import Final

from holdall.core.address import Address
from holdall.limits.stores import LOCK_STRIPES, REMOVALS_REMEMBERED
from holdall.stores.locks import Locks, let_go, take
from holdall.stores.stripes import CHANGE_SEQUENCE, SEQUENCE, STRIPE_BYTES, Stripe

CONTROL_NAME: Final = ".holdall-control"
PROCESSES_MAX: Final = 256

_MAGIC: Final = b"holdall control\x01"
_HEADER_BYTES: Final = 4096
_PROCESS_BYTES: Final = 16
_PROCESSES_AT: Final = 1024
_RING_AT: Final = _PROCESSES_AT + PROCESSES_MAX * _PROCESS_BYTES
_STRIPES_AT: Final = _RING_AT + REMOVALS_REMEMBERED * 32
_STRIPE_WORDS: Final = STRIPE_BYTES // 8
_CHANGES_AT: Final = _STRIPES_AT // 8 + CHANGE_SEQUENCE
_SIZE_BYTES: Final = -(-(_STRIPES_AT + LOCK_STRIPES * STRIPE_BYTES) // _HEADER_BYTES) * _HEADER_BYTES

# Words of the header, as indexes of unsigned 64-bit integers.
_REMOVALS_WORD: Final = 8
_INCARNATION_WORD: Final = 9
EPOCH_WORD: Final = 10
TAIL_WORD: Final = 11
SEQUENCE_WORD: Final = 12
RETIRED_WORD: Final = 13
JOURNALED_WORD: Final = 14

# Bytes that are locked, never read or written.
_LOCK_BASE: Final = 1 << 30
OPENING_LOCK: Final = _LOCK_BASE
ALIVE_LOCK: Final = _LOCK_BASE + 1
REMOVALS_LOCK: Final = _LOCK_BASE + 2
JOURNAL_LOCK: Final = _LOCK_BASE + 3
CHECKPOINT_LOCK: Final = _LOCK_BASE + 4
SWEEP_LOCK: Final = _LOCK_BASE + 5
_PROCESS_LOCKS: Final = _LOCK_BASE + 1024
_STRIPE_LOCKS: Final = _LOCK_BASE + 65536


class Removals:
    """The addresses last removed from the directory, for caches in any process.

    `position` counts all removals ever; a cache remembers it and asks for what came `since`.
    """

    def __init__(self, mapping: mmap.mmap, words: memoryview, locks: Locks) -> None:
        self._map = mapping
        self._words = words
        self._locks = locks
        self.counter = words[_REMOVALS_WORD : _REMOVALS_WORD + 1]

    @property
    def position(self) -> int:
        """How many removals there have been."""
        return self._words[_REMOVALS_WORD]

    def note(self, address: Address) -> None:
        """Tells every cache that `address` no longer holds what it held; call it after the file has changed."""
        with self._locks.held(REMOVALS_LOCK):
            position = self._words[_REMOVALS_WORD]
            offset = _RING_AT + position % REMOVALS_REMEMBERED * 32
            self._map[offset : offset + 32] = address
            self._words[_REMOVALS_WORD] = position + 1

    def since(self, position: int) -> list[Address] | None:
        """What was removed after `position`, or None if that is more than is remembered."""
        now = self.position
        # One place less than the ring has: the oldest may be being overwritten while it is read.
        if now - position >= REMOVALS_REMEMBERED:
            return None
        places = (_RING_AT + number % REMOVALS_REMEMBERED * 32 for number in range(position, now))
        found = [Address(self._map[place : place + 32]) for place in places]
        return found if self.position - position < REMOVALS_REMEMBERED else None


class Control:
    """One process's hold on the shared mapping of a data directory.

    Args:
        path: The directory.

    Attributes:
        alone: Whether no other process had the directory open; until `settle` is called none can open it, so that
            this one may recover what a crash left.
        private: Whether the directory could not be written, so that the mapping and the locks are this process's own.
        fresh: Whether the mapping is new to this boot of the machine, so that files may have lost unsynced data.
    """

    def __init__(self, path: str) -> None:
        self._fd, control_path = _open_control(path)
        self.private = control_path != os.path.join(path, CONTROL_NAME)
        self._opening: int | None = None
        try:
            self.locks = Locks(control_path)
            self._opening = self.locks.descriptor()
            take(self._opening, OPENING_LOCK)
            self.alone = take(self._fd, ALIVE_LOCK, wait=False)
            if not self.alone:
                take(self._fd, ALIVE_LOCK, shared=True)  # waits for one that is just leaving
                self.alone = take(self._fd, ALIVE_LOCK, wait=False)
            if os.fstat(self._fd).st_size != _SIZE_BYTES:
                os.ftruncate(self._fd, _SIZE_BYTES)
            # Allocated, so that a full disk cannot turn a store into the mapping into a bus error.
            os.posix_fallocate(self._fd, 0, _SIZE_BYTES)
            # Mapped through a descriptor of its own: a mapping keeps a duplicate, and with it every lock taken by it.
            mapped = self.locks.descriptor()
            try:
                self._map = mmap.mmap(mapped, _SIZE_BYTES)
            finally:
                os.close(mapped)
        except BaseException:
            os.close(self._fd)
            if self._opening is not None:
                os.close(self._opening)
            raise
        self.words = memoryview(self._map).cast("Q")
        identity = _MAGIC + boot_id()
        self.fresh = self._map[: len(identity)] != identity
        self.removals = Removals(self._map, self.words, self.locks)
        self._identity = identity
        self._index = -1
        self.incarnation = 0

    def settle(self, *, journaled: bool) -> None:
        """Joins the processes that share the directory, and lets further ones in.

        Call it once, after whatever recovery `alone` and `fresh` ask for.

        Args:
            journaled: Whether there is a journal now.
        """
        if self.fresh and self.alone:
            self._map[:] = bytes(_SIZE_BYTES)
            self._map[: len(self._identity)] = self._identity
            # Never one that was given out before: temporary files of an earlier boot may still lie about.
            self.words[_INCARNATION_WORD] = time.time_ns()
        if self.alone:
            for index in range(PROCESSES_MAX):
                self._process(index)[1] = 0
            for word in (EPOCH_WORD, TAIL_WORD, SEQUENCE_WORD, RETIRED_WORD):
                self.words[word] = 0
        self.words[JOURNALED_WORD] = journaled
        take(self._fd, ALIVE_LOCK, shared=True)
        for index in range(PROCESSES_MAX):
            if take(self._fd, _PROCESS_LOCKS + index, wait=False):
                self._index = index
                break
        else:
            raise OSError(errno.EMFILE, f"over {PROCESSES_MAX} processes share the directory")
        self.words[_INCARNATION_WORD] += 1
        self.incarnation = self.words[_INCARNATION_WORD]
        record = self._process(self._index)
        record[0], record[1] = self.incarnation, 0
        self._end_opening()

    def claim(self, offset: int) -> bool:
        """Takes a lock until this process closes the directory; False if another process has it."""
        return take(self._fd, offset, wait=False)

    def leave(self) -> bool:
        """Returns whether this is the last process; if so, none can join before `close`.

        Of several that leave at once one is the last: each is out before the next may ask.
        """
        opening = self.locks.descriptor()
        take(opening, OPENING_LOCK)
        if take(self._fd, ALIVE_LOCK, wait=False):
            self._opening = opening
            return True
        let_go(self._fd, ALIVE_LOCK)
        os.close(opening)
        return False

    def close(self) -> None:
        """Lets go of the mapping and of every lock. Closing twice is harmless."""
        if self._fd < 0:
            return
        self._end_opening()
        self.removals.counter.release()
        self.words.release()
        with suppress(BufferError):  # a Stripe may still hold its words; the mapping then goes with it
            self._map.close()
        os.close(self._fd)
        self._fd = -1

    def stripe(self, address: Address) -> Stripe:
        """The stripe that `address` belongs to."""
        return self._stripe(int.from_bytes(address[:2], "big") % LOCK_STRIPES)

    def change_sequence(self, address: Address) -> int:
        """The change sequence of the stripe of `address`, twice for each durable small write: no stripe is made."""
        return self.words[_CHANGES_AT + (address[0] << 8 | address[1]) % LOCK_STRIPES * _STRIPE_WORDS]

    def broken_stripes(self) -> list[Stripe]:
        """The stripes whose last holder died in an append or another change, for recovery."""
        first, step = _STRIPES_AT // 8, STRIPE_BYTES // 8
        stop = first + LOCK_STRIPES * step
        appends, changes = (self.words[first + word : stop : step].tolist() for word in (SEQUENCE, CHANGE_SEQUENCE))
        broken = (index for index, pair in enumerate(zip(appends, changes, strict=True)) if (pair[0] | pair[1]) & 1)
        return [self._stripe(index) for index in broken]

    def pin(self, epoch: int) -> None:
        """Says that this process holds journal records of `epoch` (0: none) that are not files yet."""
        self._process(self._index)[1] = epoch

    def pinned(self, epoch: int) -> bool:
        """Whether any live process still pins `epoch` or an earlier one; what a dead one pinned is let go."""
        found = False
        for index in range(PROCESSES_MAX):
            record = self._process(index)
            if 0 < record[1] <= epoch:
                if index == self._index or self._is_alive(index):
                    found = True
                else:
                    record[1] = 0
        return found

    def is_current(self, index: int, incarnation: int) -> bool:
        """Whether process `index` is alive and still the one of that incarnation."""
        return self._process(index)[0] == incarnation and (index == self._index or self._is_alive(index))

    @property
    def index(self) -> int:
        """This process's place among those that share the directory."""
        return self._index

    def _is_alive(self, index: int) -> bool:
        fd = self.locks.descriptor()
        try:
            return not take(fd, _PROCESS_LOCKS + index, wait=False)
        finally:
            os.close(fd)

    def _stripe(self, index: int) -> Stripe:
        return Stripe(self._map, self.words, (_STRIPES_AT + index * STRIPE_BYTES) // 8, _STRIPE_LOCKS + index)

    def _process(self, index: int) -> memoryview:
        at = (_PROCESSES_AT + index * _PROCESS_BYTES) // 8
        return self.words[at : at + 2]

    def _end_opening(self) -> None:
        if self._opening is not None:
            os.close(self._opening)
            self._opening = None


def _open_control(path: str) -> tuple[int, str]:
    """Opens the control file, or, where the directory cannot be written, one in memory that nobody shares."""
    control_path = os.path.join(path, CONTROL_NAME)
    try:
        return os.open(control_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), control_path
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM} or not hasattr(os, "memfd_create"):
            raise
    fd = os.memfd_create("holdall-control", os.MFD_CLOEXEC)
    return fd, f"/proc/self/fd/{fd}"


def boot_id() -> bytes:
    """What tells this run of the machine from another; 36 bytes."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(36)
    except OSError:  # not Linux: the time the machine started
        import subprocess  # noqa: PLC0415 - only there

        text = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.boottime"], capture_output=True, check=True)
        return text.stdout.split(b"}")[0].strip().ljust(36)[:36]
