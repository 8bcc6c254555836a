"""A data directory's entries, whatever their kind: the blocking calls that read, lock, journal and remove plain files.

`BlobShelf` and `SlotShelf` add what writes each kind; `DirectoryStore` is the asynchronous face. The rules that keep
several processes from undoing each other's work:

* a blob gets its name by link(2), which never replaces anything;
* whatever replaces or removes a name holds the lock of its address, and so does a use that restarts a timer, so that
  a sweep cannot remove what was used since it looked;
* whatever is small and must be durable is in the journal before it is visible (see `journal`).
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from holdall.core.address import HEX_CHARS
from holdall.core.retention import Retention
from holdall.errors import ConflictError, KindError, NotFoundError
from holdall.limits import BODY_BYTES_MAX, SMALL_BYTES_MAX
from holdall.stores.abilities import Glimpse
from holdall.stores.base import Info, Kind
from holdall.stores.changes import Changes, Durability
from holdall.stores.control import SWEEP_LOCK, Control
from holdall.stores.disk import translate, translated, unless_read_only
from holdall.stores.entry_file import classify, info_of, is_entry, kind_of, last_use_ns, version_of
from holdall.stores.journal_format import Change, Record
from holdall.stores.recovery import recover, repair_append
from holdall.stores.spool import Spool, temporary_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.core.address import Address
    from holdall.stores.disk import Disk
    from holdall.stores.stripes import Stripe

UNKNOWN_RETENTION: Final = Retention(None, lag_ns_max=1_000_000_000)
"""For who opens a directory beside its server and is not told: deletes nothing, and writes every use down."""

_NOT_AN_ENTRY: Final = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR}


class Shelf:
    """The blocking calls on one data directory.

    Args:
        disk: The directory; closed with the shelf.
        durability: What a write survives when it returns.
        retention: When entries expire; decides how often a read is written down.
        journal: Whether to make small writes durable in groups; worth its file for a server, not for one command.
        size_bytes_max: Largest entry.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        durability: Durability = Durability.SYNC,
        retention: Retention = UNKNOWN_RETENTION,
        journal: bool = False,
        size_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self.disk = disk
        self.retention = retention
        self.size_bytes_max = size_bytes_max
        self.unrecorded_uses = 0
        with translated():
            self.control = Control(disk.path)
            disk.frozen = self.control.private  # its locks would exclude nobody
            try:
                self.replayed = recover(disk, self.control) if self.control.alone else 0
                self.changes = Changes(disk, self.control, durability)
                self.changes.begin(journal=journal)
            except BaseException:
                self.control.close()
                raise
        self._temporary = temporary_prefix(self.control.index, self.control.incarnation)

    def close(self) -> None:
        """Retires the journal and lets go; the last process to leave removes it."""
        with translated():
            try:
                self.changes.close()
            finally:
                self.control.close()
                self.disk.close()

    @property
    def durability(self) -> Durability:
        """What a change survives when its call returns."""
        return self.changes.durability

    def spool(self) -> Spool:
        """Begins a body whose address is not known yet.

        Raises:
            StoreError: The disk cannot take it.
        """
        return Spool(self.disk, self._temporary, self.size_bytes_max)

    # --- reading ---

    def open_entry(self, address: Address, *, use: bool) -> tuple[int, Kind, os.stat_result]:
        """Opens an entry: its descriptor, kind, and a status whose length and revision belong together.

        Raises:
            NotFoundError: Nothing is there, or nothing that is a plain file.
            StoreError: The disk failed.
        """
        known: Kind | None = None
        with translated():
            while True:
                fd, looked = self._open_or_missing(address)
                try:
                    kind = kind_of(looked) or known
                    status = self._slot_status(address, fd) if kind is Kind.SLOT else looked
                    if kind is not None and status is not None and not (use and self.must_record(kind, status)):
                        return fd, kind, status
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
                known = self._settle(address, use=use)
                use = False

    def glimpse(self, address: Address) -> Glimpse | None:
        """Reads a small entry as a use of it, or returns None where that takes a lock or a large read.

        Written out flat: of all calls this is the one whose own time shows.

        Raises:
            NotFoundError: Nothing is there.
            StoreError: The disk failed.
        """
        name = address.name
        try:
            fd = self.disk.open_read(name)
            try:
                status = os.fstat(fd)
                kind = kind_of(status)
                if kind is Kind.BLOB:
                    used_ns, version = status.st_mtime_ns, name[:HEX_CHARS]
                elif kind is Kind.SLOT and (settled := self._slot_status(address, fd)) is not None:
                    status = settled
                    used_ns, version = last_use_ns(status, kind), version_of(address, status, kind)
                else:
                    return None
                size = status.st_size
                if size > SMALL_BYTES_MAX or time.time_ns() - used_ns > self.retention.grain_ns:
                    return None
                data = os.read(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _NOT_AN_ENTRY:
                raise _missing(address) from None
            translate(error)
        return Glimpse(kind, version, used_ns, data) if len(data) == size else None

    def _slot_status(self, address: Address, fd: int) -> os.stat_result | None:
        """A slot's status in which length and revision belong together, or None while an append is under way."""
        stripe = self.control.stripe(address)
        sequence = stripe.sequence
        status = os.fstat(fd)
        return status if not sequence & 1 and stripe.sequence == sequence else None

    def stat(self, address: Address, *, use: bool) -> Info:
        """Looks at an entry; errors as `open_entry`."""
        kind, status = Kind.BLOB, self._blob_status(address, use=use)
        if status is None:
            fd, kind, status = self.open_entry(address, use=use)
            os.close(fd)
        return info_of(address, status, kind, self.retention)

    def delete(self, address: Address, *, kind: Kind | None) -> None:
        """Removes an entry.

        Raises:
            NotFoundError: Nothing is there.
            KindError: It is of another kind than `kind`.
            StoreError: The disk failed.
        """
        with translated(), self.locked(address) as stripe:
            found = self.look_locked(address)
            if found is None:
                raise _missing(address)
            if kind is not None and found[0] is not kind:
                raise KindError(f"{address} is a {found[0].value}, not a {kind.value}.")
            self.remove_locked(stripe, address, found[0])

    def remove_locked(self, stripe: Stripe, address: Address, kind: Kind) -> None:
        """Removes an entry durably and tells the caches; the caller holds its lock.

        Raises:
            OSError: The disk failed.
        """
        with self.changes.journaled(stripe, Record(Change.REMOVED, address)) as journaled:
            self.disk.unlink(address.name)
        if self.durability is Durability.SYNC and not journaled:
            self.disk.sync_names()
        if kind is Kind.BLOB:
            self.control.removals.note(address)

    def may_sweep(self) -> bool:
        """Whether this process is the one that sweeps; once it is, it stays so until it closes."""
        return self.control.claim(SWEEP_LOCK)

    @contextmanager
    def locked(self, address: Address) -> Iterator[Stripe]:
        """Holds the lock of an address, first mending what a killed holder left."""
        stripe = self.control.stripe(address)
        with self.control.locks.held(stripe.lock):
            repair_append(self.disk, stripe)
            self.changes.settle(stripe)
            yield stripe

    def look_locked(self, address: Address) -> tuple[Kind, os.stat_result] | None:
        """What is at an address whose lock the caller holds, its kind made certain.

        Raises:
            ConflictError: Something that is no plain file is there.
            OSError: The disk failed.
        """
        try:
            status = self.disk.look(address.name)
        except FileNotFoundError:
            return None
        if not is_entry(status):
            raise ConflictError(
                f"Something that is not a plain file lies at {address}.",
                hint="Remove it from the data directory.",
            )
        kind = kind_of(status)
        return (kind, status) if kind is not None else (classify(self.disk, address), self.disk.look(address.name))

    def must_record(self, kind: Kind, status: os.stat_result) -> bool:
        """Whether a use now must be written down."""
        return self.retention.must_record(last_use_ns(status, kind), time.time_ns())

    # --- inside ---

    def _blob_status(self, address: Address, *, use: bool) -> os.stat_result | None:
        """The status of what its mode says is a blob, without opening it; None for what is not known to be one."""
        with translated():
            while True:
                try:
                    status = self.disk.look(address.name)
                except FileNotFoundError:
                    raise _missing(address) from None
                if kind_of(status) is not Kind.BLOB:
                    return None
                if not (use and self.must_record(Kind.BLOB, status)):
                    return status
                self._settle(address, use=True)
                use = False

    def _settle(self, address: Address, *, use: bool) -> Kind:
        """Does, under the lock, what `open_entry` could not do without it: classify, wait for an append, touch."""
        try:
            with self.locked(address):
                found = self.look_locked(address)
                if found is None:
                    raise _missing(address)
                kind, status = found
                if use and self.must_record(kind, status):
                    self._touch_locked(address, kind, status)
                return kind
        except OSError as error:
            # On a read-only disk no lock is to be had, nor is one needed: nobody can change anything.
            if error.errno != errno.EROFS or self.control.stripe(address).sequence & 1:
                raise
            found = self.look_locked(address)
            if found is None:
                raise _missing(address) from None
            self.unrecorded_uses += use
            return found[0]

    def _touch_locked(self, address: Address, kind: Kind, status: os.stat_result) -> None:
        fd, is_recorded = self.disk.open_read(address.name), False
        try:
            now = time.time_ns()
            with unless_read_only():
                self.disk.set_times(fd, now, now if kind is Kind.BLOB else status.st_mtime_ns)
                is_recorded = True
            self.unrecorded_uses += not is_recorded
        finally:
            os.close(fd)

    def _open_or_missing(self, address: Address) -> tuple[int, os.stat_result]:
        try:
            fd = self.disk.open_read(address.name)
        except OSError as error:
            if error.errno in _NOT_AN_ENTRY:
                raise _missing(address) from None
            raise
        status = os.fstat(fd)
        if not is_entry(status):
            os.close(fd)
            raise _missing(address)
        return fd, status


def _missing(address: Address) -> NotFoundError:
    return NotFoundError(f"Nothing is stored at {address}.")
