"""What keeps a data directory's files and its journal from telling two stories, whoever dies in between.

A change under its address's lock is marked in the shared mapping while journal and file may disagree. Who finds the
mark of a dead process lets the files have the last word. Where a directory has a journal every process follows it,
one that asked for less durability too: a change that the journal does not know could be undone by a replay, and those
after it with it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from typing import TYPE_CHECKING

from holdall.stores.control import JOURNALED_WORD
from holdall.stores.journal import Journal, create_journal
from holdall.stores.journal_format import JOURNAL_NAME, Change, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.core.address import Address
    from holdall.stores.control import Control
    from holdall.stores.disk import Disk
    from holdall.stores.stripes import Stripe


class Durability(Enum):
    """What a write that returned survives."""

    SYNC = "sync"
    """Loss of power."""
    OS = "os"
    """The death of every process."""


class Changes:
    """One process's changes to a data directory: in the journal, if there is one, before they are visible.

    Args:
        disk: The directory.
        control: Its shared mapping, not settled yet.
        durability: What a change is asked to survive.

    Attributes:
        journal: The directory's, once this process has joined it.
    """

    def __init__(self, disk: Disk, control: Control, durability: Durability) -> None:
        self._disk = disk
        self._control = control
        # What lies in RAM is gone with the power whatever is synced, so a sync there would only cost time.
        self._asked = Durability.OS if disk.volatile else durability
        self._joining = threading.Lock()
        self.journal: Journal | None = None

    def begin(self, *, journal: bool) -> None:
        """Joins the processes that share the directory, and their journal if they have one.

        Args:
            journal: Whether to make one where there is none.

        Raises:
            OSError: The disk failed.
        """
        journaled = not self._control.alone and bool(self._control.words[JOURNALED_WORD])
        if journal and self._asked is Durability.SYNC and not journaled:
            journaled = create_journal(self._disk)
        self._control.settle(journaled=journaled)
        self.follow()

    def close(self) -> None:
        """Retires the journal; the last process to leave removes it.

        Raises:
            OSError: The disk failed.
        """
        if self.journal is None:
            return
        self.journal.close()
        self.journal = None
        if self._control.leave():
            self._control.words[JOURNALED_WORD] = 0
            with suppress(FileNotFoundError):
                self._disk.unlink(JOURNAL_NAME)

    @property
    def durability(self) -> Durability:
        """What a change survives: what was asked for, or more where the directory has a journal."""
        return Durability.SYNC if self._control.words[JOURNALED_WORD] else self._asked

    def follow(self) -> Journal | None:
        """The journal, joined now if another process has begun one: its order of changes must know ours."""
        if self.journal is None and self._control.words[JOURNALED_WORD]:
            with self._joining:
                if self.journal is None:
                    self.journal = Journal(self._disk, self._control)
        return self.journal

    @contextmanager
    def journaled(self, stripe: Stripe, record: Record) -> Iterator[bool]:
        """Makes a change durable before the block makes it visible; yields whether there is a journal to do so.

        The caller holds the lock of the address. The block must not wait for another: it keeps the journal from being
        retired, for which the other may be waiting.
        """
        journal = self.follow()
        if journal is None:
            yield False
            return
        with self._changing(stripe, journal, record.address), _committed(journal, record):
            yield True

    @contextmanager
    def filed(self, stripe: Stripe, address: Address, coming: Record | None = None) -> Iterator[None]:
        """Tells the journal of a file that the block makes durable and visible by itself, before and after it.

        The caller holds the lock of the address. A process that dies between the two leaves the change pending, so
        that the next to hold the lock says in its place what the directory has.

        Args:
            stripe: The address's, locked.
            address: The entry's.
            coming: What the journal is told before, where a replay must know whether the file got its name.
        """
        journal = self.follow()
        if journal is None:
            yield
            return
        with self._changing(stripe, journal, address):
            with nullcontext() if coming is None else _committed(journal, coming):
                yield
            with _committed(journal, Record(Change.FILE, address)):
                pass

    def settle(self, stripe: Stripe) -> None:
        """Lets the files have the last word where a killed process changed the journal and perhaps not the file."""
        address = stripe.pending_change()
        if address is not None and (journal := self.follow()) is not None:
            self._take_back(journal, address)
            stripe.end_change()

    # --- inside ---

    @contextmanager
    def _changing(self, stripe: Stripe, journal: Journal, address: Address) -> Iterator[None]:
        """Marks the entry as one that journal and file may disagree on while the block runs."""
        stripe.begin_change(address)
        try:
            yield
        except BaseException:
            self._take_back(journal, address)
            raise
        finally:
            stripe.end_change()

    def _take_back(self, journal: Journal, address: Address) -> None:
        """Makes what the directory has at an address outlast what the journal says of it."""
        with suppress(OSError):  # a disk that takes neither will not take the next change either
            self._disk.sync_all()
            journal.release(journal.commit(Record(Change.FILE, address).encode()))


@contextmanager
def _committed(journal: Journal, record: Record) -> Iterator[None]:
    """Makes a record durable, and keeps it from being retired while the block turns it into a file."""
    epoch = journal.commit(record.encode())
    try:
        yield
    finally:
        journal.release(epoch)
