"""The journal: how small writes become durable in groups.

A file each with a sync each reaches a few thousand durable writes a second; one file that all waiting writers append
to, with one sync for all of them, reaches as many as a database. So a small write goes

1. into a batch of everything that waits, appended to the journal and synced: now it is **durable**;
2. into its plain file, not synced: now it is **visible**, and its writer is answered;
3. out of the journal, when a checkpoint has synced the file system: now the plain file is all that is needed.

The order of 1 and 2 is what makes a torn file harmless: whatever name a power cut leaves half written, the journal
holds its bytes. Batches of all processes go to the same file; who reserves its place first is the order of changes.

The journal has two segments. One is filled while the other is retired; `pin` (in the control mapping) keeps a
segment from being retired while a process still has to turn its records into files.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from holdall.limits.stores import CHECKPOINT_SECONDS, JOURNAL_BLOCK_BYTES, JOURNAL_SEGMENT_BYTES
from holdall.stores.control import (
    CHECKPOINT_LOCK,
    EPOCH_WORD,
    JOURNAL_LOCK,
    RETIRED_WORD,
    SEQUENCE_WORD,
    TAIL_WORD,
)
from holdall.stores.journal_format import (
    JOURNAL_NAME,
    NONCE_BYTES,
    RETIRED_NONCE,
    batch_bytes,
    decode_segment_header,
    encode_batch,
    encode_segment_header,
)
from holdall.stores.locks import holding, let_go, take

if TYPE_CHECKING:
    from holdall.stores.control import Control
    from holdall.stores.disk import Disk

_BATCH_PAYLOAD_BYTES_MAX: Final = 2 * 1024 * 1024
"""A batch is cut here, so that a flood of 64 KiB writes cannot make one sync take for ever."""
_BATCH_SHARE: Final = 4
"""A batch takes at most one part in this many of a segment."""
_POLL_SECONDS: Final = 0.001
_FREE_SHARE: Final = 16
"""The journal takes at most one part in this many of what is free."""


class Done(Protocol):
    """Called from the journal's thread when a submission is durable, or has failed.

    If `error` is None the submitter must call `Journal.release(epoch)` once the changes are plain files.
    """

    def __call__(self, epoch: int, error: OSError | None) -> None:
        """Takes the outcome: the epoch to release, or the error."""
        ...


def create_journal(disk: Disk) -> bool:
    """Makes the journal's file, written out in full so that later syncs have no metadata to write.

    Returns:
        False if the disk is read-only or has too little room for one; then every write must sync by itself.
    """
    segment_bytes = min(JOURNAL_SEGMENT_BYTES, disk.free_bytes() // _FREE_SHARE // 2)
    segment_bytes -= segment_bytes % JOURNAL_BLOCK_BYTES
    if segment_bytes < JOURNAL_SEGMENT_BYTES // 4:
        return False
    making = JOURNAL_NAME + "-new"
    try:
        with suppress(FileNotFoundError):
            disk.unlink(making)
        fd = disk.create(making, 0o600)
    except OSError:  # what is stored can still be read
        return False
    try:
        zeros = bytes(1024 * 1024)
        for at in range(0, 2 * segment_bytes, len(zeros)):
            disk.write(fd, zeros[: 2 * segment_bytes - at], at)
        disk.sync_data(fd)
    except OSError:
        disk.unlink(making)
        return False
    finally:
        os.close(fd)
    disk.rename(making, JOURNAL_NAME)
    disk.sync_names()
    return True


class Journal:
    """One process's hold on the directory's journal.

    Concurrency: `submit`, `release` and `checkpoint` may be called from any thread.

    Args:
        disk: The directory, with a journal file in it.
        control: The directory's shared mapping.
    """

    def __init__(self, disk: Disk, control: Control) -> None:
        self._disk = disk
        self._control = control
        self._words = control.words
        self._fd = disk.open_write(JOURNAL_NAME)
        self._segment_bytes = os.fstat(self._fd).st_size // 2
        self._commit_lock_fd = control.locks.descriptor()
        self._checkpoint_lock_fd = control.locks.descriptor()
        self._nonces: dict[int, bytes] = {}
        self._wake = threading.Condition()
        self._waiting: list[tuple[list[bytes], Done]] = []
        self._closing = threading.Event()
        self._in_flight: Counter[int] = Counter()
        self._in_flight_lock = threading.Lock()
        self._checkpoint_due = threading.Event()
        self._threads = [
            threading.Thread(target=self._commit_forever, name="holdall-journal", daemon=True),
            threading.Thread(target=self._checkpoint_forever, name="holdall-checkpoint", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, records: list[bytes], done: Done) -> None:
        """Makes encoded records durable together with whatever else waits, then calls `done`."""
        with self._wake:
            self._waiting.append((records, done))
            self._wake.notify()

    def commit(self, record: bytes) -> int:
        """Makes one encoded record durable and returns its epoch, to be released once it is a plain file.

        Raises:
            OSError: The disk failed; the record is not durable.
        """
        ready = threading.Event()
        outcome: list[int | OSError] = []

        def done(epoch: int, error: OSError | None) -> None:
            outcome.append(epoch if error is None else error)
            ready.set()

        self.submit([record], done)
        ready.wait()
        if isinstance(outcome[0], OSError):
            raise outcome[0]
        return outcome[0]

    def release(self, epoch: int) -> None:
        """Says that one submission of `epoch` is in plain files."""
        with self._in_flight_lock:
            self._in_flight[epoch] -= 1
            if not self._in_flight[epoch]:
                del self._in_flight[epoch]
                self._control.pin(min(self._in_flight, default=0))

    def checkpoint(self) -> None:
        """Retires every record so far; returns when plain files alone hold all that was acknowledged.

        Raises:
            OSError: The disk failed; the journal keeps what it has.
        """
        with holding(self._checkpoint_lock_fd, CHECKPOINT_LOCK):
            self._checkpoint()

    def close(self) -> None:
        """Commits what waits, and retires it."""
        with self._wake:
            self._closing.set()
            self._wake.notify_all()
        self._checkpoint_due.set()
        for thread in self._threads:
            thread.join()
        try:
            self.checkpoint()
        finally:
            for fd in (self._fd, self._commit_lock_fd, self._checkpoint_lock_fd):
                os.close(fd)

    # --- the commit thread ---

    def _commit_forever(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing.is_set():
                    self._wake.wait()
                if not self._waiting:
                    return
                group = self._next_group()
            try:
                epoch = self._commit_group([record for records, _ in group for record in records], len(group))
            except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
                failure = error if isinstance(error, OSError) else OSError(errno.EIO, repr(error))
                for _, done in group:
                    done(0, failure)
            else:
                for _, done in group:
                    done(epoch, None)
                self._checkpoint_due.set()

    def _next_group(self) -> list[tuple[list[bytes], Done]]:
        room, count = min(_BATCH_PAYLOAD_BYTES_MAX, self._segment_bytes // _BATCH_SHARE), 0
        for records, _ in self._waiting:
            room -= sum(map(len, records))
            if room < 0 and count:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _commit_group(self, records: list[bytes], submissions: int) -> int:
        """Steps 1: reserve a place, write, sync."""
        need = batch_bytes(sum(map(len, records)))
        epoch, at, sequence = self._reserve(need, submissions)
        try:
            batch = encode_batch(records, self._nonce(epoch), sequence)
            self._disk.write(self._fd, batch, epoch % 2 * self._segment_bytes + at)
            self._disk.sync_data(self._fd)
        except BaseException:
            for _ in range(submissions):
                self.release(epoch)
            raise
        return epoch

    def _reserve(self, need: int, submissions: int) -> tuple[int, int, int]:
        """A place for `need` bytes: its epoch, offset in the segment and batch number; pinned until released."""
        words = self._words
        if need > self._segment_bytes - JOURNAL_BLOCK_BYTES:
            raise OSError(errno.EMSGSIZE, "more at once than the journal holds")
        while True:
            with holding(self._commit_lock_fd, JOURNAL_LOCK):
                epoch, tail = words[EPOCH_WORD], words[TAIL_WORD]
                if (not epoch or tail + need > self._segment_bytes) and words[RETIRED_WORD] >= epoch - 1:
                    epoch, tail = epoch + 1, JOURNAL_BLOCK_BYTES
                    self._begin_epoch(epoch)
                if epoch and tail + need <= self._segment_bytes:
                    words[TAIL_WORD] = tail + need
                    words[SEQUENCE_WORD] += 1
                    with self._in_flight_lock:
                        self._in_flight[epoch] += submissions
                        self._control.pin(min(self._in_flight))
                    return epoch, tail, words[SEQUENCE_WORD]
            self._checkpoint_due.set()  # both segments are full: writers wait here for the disk to keep up
            time.sleep(_POLL_SECONDS)

    def _begin_epoch(self, epoch: int) -> None:
        """Starts on the other segment; the caller holds the journal's lock and has seen that it is retired."""
        header = encode_segment_header(os.urandom(NONCE_BYTES), epoch)
        self._disk.write(self._fd, header, epoch % 2 * self._segment_bytes)
        self._words[EPOCH_WORD] = epoch
        self._words[TAIL_WORD] = JOURNAL_BLOCK_BYTES

    def _nonce(self, epoch: int) -> bytes:
        nonce = self._nonces.get(epoch)
        if nonce is None:
            header = decode_segment_header(os.pread(self._fd, JOURNAL_BLOCK_BYTES, epoch % 2 * self._segment_bytes))
            if header is None or header[1] != epoch:
                raise OSError(errno.EIO, "the journal was changed by another program")
            nonce = header[0]
            self._nonces = {epoch: nonce}
        return nonce

    # --- the checkpoint thread ---

    def _checkpoint_forever(self) -> None:
        while not self._closing.is_set():
            self._checkpoint_due.wait()
            self._checkpoint_due.clear()
            deadline = time.monotonic() + CHECKPOINT_SECONDS
            while not self._closing.is_set() and time.monotonic() < deadline and not self._segment_waits():
                self._checkpoint_due.wait(deadline - time.monotonic())
                self._checkpoint_due.clear()
            if self._closing.is_set():
                return
            try:
                if take(self._checkpoint_lock_fd, CHECKPOINT_LOCK, wait=False):  # else another process is at it
                    try:
                        self._checkpoint()
                    finally:
                        let_go(self._checkpoint_lock_fd, CHECKPOINT_LOCK)
            except OSError:
                time.sleep(CHECKPOINT_SECONDS)  # the disk is in trouble; the journal keeps what it has

    def _checkpoint(self) -> None:
        """Retires every record so far; the caller holds the checkpoint's lock."""
        with holding(self._checkpoint_lock_fd, JOURNAL_LOCK):
            epoch = self._words[EPOCH_WORD]
            used = self._words[TAIL_WORD] > JOURNAL_BLOCK_BYTES
            if epoch and used and self._words[RETIRED_WORD] == epoch - 1:
                self._begin_epoch(epoch + 1)
        for retiring in range(self._words[RETIRED_WORD] + 1, self._words[EPOCH_WORD]):
            self._retire(retiring)

    def _segment_waits(self) -> bool:
        """Whether a full segment waits to be retired."""
        return self._words[RETIRED_WORD] < self._words[EPOCH_WORD] - 1

    def _retire(self, epoch: int) -> None:
        """Step 3, for one segment; the caller holds the checkpoint's lock."""
        while self._control.pinned(epoch):
            time.sleep(_POLL_SECONDS)
        self._disk.sync_all()
        self._disk.write(self._fd, encode_segment_header(RETIRED_NONCE, epoch), epoch % 2 * self._segment_bytes)
        self._disk.sync_data(self._fd)
        self._words[RETIRED_WORD] = epoch
