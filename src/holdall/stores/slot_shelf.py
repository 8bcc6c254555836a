"""A data directory's slots: the blocking calls that replace, append to and take mutable values.

Each holds the lock of the address from its first look to its last change, so that conditions mean what they say.
A reader needs no lock: a replaced slot is a new file under the old name, and an append shows by the stripe's sequence.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from holdall.errors import (
    AlreadySetError,
    BlobInTheWayError,
    NotFoundError,
    TooLargeError,
    VersionMismatchError,
)
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Info, Kind
from holdall.stores.changes import Durability
from holdall.stores.disk import translated
from holdall.stores.entry_file import SLOT_MODE, info_of, version_of
from holdall.stores.journal_format import Change, Record

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.base import Condition
    from holdall.stores.blob_shelf import BlobShelf
    from holdall.stores.shelf import Shelf
    from holdall.stores.spool import Spool
    from holdall.stores.stripes import Stripe

_COPY_BYTES: Final = CHUNK_BYTES


class SlotShelf:
    """The blocking slot calls on one data directory.

    Args:
        shelf: The directory.
        blobs: Its blobs.
    """

    def __init__(self, shelf: Shelf, blobs: BlobShelf) -> None:
        self._shelf = shelf
        self._blobs = blobs
        self._disk = shelf.disk

    def write(self, address: Address, spool: Spool, when: Condition) -> Info:
        """Replaces the slot at `address` by what was spooled, and closes the spool; errors as `Slots.write`."""
        try:
            with translated():
                if spool.address == address:
                    return self._write_blob(address, spool, when)
                if spool.size_bytes > SMALL_BYTES_MAX and self._shelf.durability is Durability.SYNC:
                    self._disk.sync_data(spool.fd)  # so that it takes no time under the lock
                with self._shelf.locked(address) as stripe:
                    found = self._shelf.look_locked(address)
                    _check(address, found, when)
                    return self._replace_locked(stripe, address, spool, taken=found is not None)
        finally:
            spool.close()

    def append(self, address: Address, spool: Spool) -> Info:
        """Adds what was spooled to the slot at `address`, and closes the spool; errors as `Slots.append`."""
        try:
            with translated(), self._shelf.locked(address) as stripe:
                found = self._shelf.look_locked(address)
                if found is None:
                    return self._replace_locked(stripe, address, spool, taken=False)
                kind, status = found
                if kind is Kind.BLOB:
                    raise _blob_in_the_way(address)
                if status.st_size + spool.size_bytes > self._shelf.size_bytes_max:
                    raise TooLargeError(f"The slot would pass {self._shelf.size_bytes_max} bytes.")
                in_place = self._shelf.durability is Durability.OS or self._shelf.changes.follow() is not None
                if in_place and spool.size_bytes <= SMALL_BYTES_MAX:
                    data = os.pread(spool.fd, spool.size_bytes, 0)
                    return self._append_in_place(stripe, address, status, data)
                return self._append_by_copy(stripe, address, spool)
        finally:
            spool.close()

    def take(self, address: Address) -> tuple[int, os.stat_result]:
        """Removes the slot at `address` and returns its open descriptor and status; errors as `Slots.take`."""
        with translated(), self._shelf.locked(address) as stripe:
            found = self._shelf.look_locked(address)
            if found is None:
                raise NotFoundError(f"Nothing is stored at {address}.")
            if found[0] is Kind.BLOB:
                raise _blob_in_the_way(address)
            fd = self._disk.open_read(address.name)
            try:
                self._shelf.remove_locked(stripe, address, Kind.SLOT)
                return fd, os.fstat(fd)
            except BaseException:
                os.close(fd)
                raise

    # --- inside; the caller holds the lock ---

    def _write_blob(self, address: Address, spool: Spool, when: Condition) -> Info:
        """What was written to this address is the address's blob, so that is what it is stored as."""
        if when is ALWAYS:
            self._blobs.put_spool(spool)
        else:
            with self._shelf.locked(address) as stripe:
                found = self._shelf.look_locked(address)
                if isinstance(when, IfVersion):
                    _check_version(address, found, when)
                else:
                    _check(address, found, when)
                self._blobs.put_locked(stripe, spool, address, absent=when is ABSENT)
        return self._shelf.stat(address, use=False)

    def _replace_locked(self, stripe: Stripe, address: Address, spool: Spool, *, taken: bool) -> Info:
        """Makes the spool the slot's file; `taken` says whether the name has one now."""
        revision = stripe.next_revision(time.time_ns())
        disk, shelf = self._disk, self._shelf
        disk.set_mode(spool.fd, SLOT_MODE)
        disk.set_times(spool.fd, revision, revision)
        status = os.fstat(spool.fd)
        if shelf.durability is Durability.OS:
            _name(spool, address, taken=taken)
        elif spool.size_bytes <= SMALL_BYTES_MAX and shelf.changes.follow() is not None:
            data = os.pread(spool.fd, spool.size_bytes, 0)
            with shelf.changes.journaled(stripe, Record(Change.SLOT, address, revision, data=data)):
                _name(spool, address, taken=taken)
        else:
            disk.sync_file(spool.fd)  # by its mtime, the revision, a replay of the journal will know it
            with shelf.changes.filed(stripe, address, Record(Change.COMING, address, revision)):
                _name(spool, address, taken=taken)
                disk.sync_names()
        return info_of(address, status, Kind.SLOT, shelf.retention)

    def _append_in_place(self, stripe: Stripe, address: Address, status: os.stat_result, data: bytes) -> Info:
        """Adds to the end of the slot's own file, such that a reader or a kill sees all of it or nothing."""
        revision = stripe.next_revision(time.time_ns())
        end = status.st_size
        fd = self._disk.open_write(address.name)
        try:
            with self._shelf.changes.journaled(stripe, Record(Change.APPEND, address, revision, offset=end, data=data)):
                stripe.begin_append(address, end)
                try:
                    self._disk.write(fd, data, end)
                except BaseException:
                    self._disk.truncate(fd, end)
                    raise
                finally:
                    self._disk.set_times(fd, revision, revision)
                    stripe.end_append()
            return info_of(address, os.fstat(fd), Kind.SLOT, self._shelf.retention)
        finally:
            os.close(fd)

    def _append_by_copy(self, stripe: Stripe, address: Address, spool: Spool) -> Info:
        """Makes a new file of the old value and what is added: for bodies too large to journal."""
        whole = self._shelf.spool()
        try:
            old = self._disk.open_read(address.name)
            try:
                for fd in (old, spool.fd):
                    os.lseek(fd, 0, os.SEEK_SET)
                    while piece := os.read(fd, _COPY_BYTES):
                        whole.keep(piece)
            finally:
                os.close(old)
            return self._replace_locked(stripe, address, whole, taken=True)
        finally:
            whole.close()


def _name(spool: Spool, address: Address, *, taken: bool) -> None:
    """Gives the spool its name: over the slot that has it, or, by link, only if nothing has."""
    if taken:
        spool.rename(address.name)
        return
    try:
        spool.link(address.name)
    except FileExistsError:  # a blob's writer takes no lock
        raise _blob_in_the_way(address) from None


def _check(address: Address, found: tuple[Kind, os.stat_result] | None, when: Condition) -> None:
    """Holds what is there against the condition of the write.

    Raises:
        BlobInTheWayError: A blob is there.
        AlreadySetError: Something is there that must not be.
        VersionMismatchError: It has another version.
    """
    if when is ABSENT and found is not None:
        raise AlreadySetError(f"{address} is already set.")
    if isinstance(when, IfVersion):
        _check_version(address, found, when)
    if found is not None and found[0] is Kind.BLOB:
        raise _blob_in_the_way(address)


def _check_version(address: Address, found: tuple[Kind, os.stat_result] | None, when: IfVersion) -> None:
    current = None if found is None else version_of(address, found[1], found[0])
    if current != when.version:
        raise VersionMismatchError(f"{address} does not have the version named.")


def _blob_in_the_way(address: Address) -> BlobInTheWayError:
    return BlobInTheWayError(f"{address} holds a blob, which never changes.")
