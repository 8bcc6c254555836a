"""A data directory's blobs: the blocking calls that store them.

A blob gets its name by link(2), which never replaces anything, so a small one that is new takes no lock: it is in the
journal, then it has its file. Whatever else a blob may meet (a slot in its place, a change of the same entry under way,
a timer to restart) is settled under the lock of its address.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from contextlib import suppress
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.errors import AlreadySetError, DigestMismatchError
from holdall.limits import CHUNK_BYTES, SMALL_BYTES_MAX
from holdall.stores.base import Kind
from holdall.stores.changes import Durability
from holdall.stores.disk import translated
from holdall.stores.entry_file import BLOB_MODE, DAMAGED_PREFIX, kind_of
from holdall.stores.journal_format import Change, Record
from holdall.stores.placer import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdall.stores.shelf import Shelf
    from holdall.stores.spool import Spool
    from holdall.stores.stripes import Stripe

_UNREADABLE: Final = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
"""What a disk or its file system says of bytes that it has lost."""

_GROUP_BLOBS: Final = 64
"""Blobs that share their syncs; each holds a descriptor until it has its name."""

_SYNCED_ALONE_MAX: Final = 2
"""So few are synced by themselves: a sync of the file system waits for all that other programs have written, too."""


class BlobShelf:
    """The blocking blob calls on one data directory.

    Args:
        shelf: The directory.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._disk = shelf.disk

    def put_small(self, address: Address, data: bytes) -> None:
        """Stores bytes that hash to `address`, at most `SMALL_BYTES_MAX` of them.

        Raises:
            StoreError: The disk cannot take it.
        """
        with translated():
            sync = self._shelf.durability is Durability.SYNC
            if self._shelf.changes.follow() is None and self.place_quickly(address, data, sync=sync):
                return
            spool = self._shelf.spool()
            try:
                spool.keep(data)
                self._commit_blob(spool, address)
            finally:
                spool.close()

    def holds(self, address: Address) -> bool:
        """Whether a blob is there that need not be touched, as far as can be told without a lock.

        Raises:
            OSError: The disk failed.
        """
        try:
            status = self._disk.look(address.name)
        except FileNotFoundError:
            return False
        return kind_of(status) is Kind.BLOB and not self._shelf.must_record(Kind.BLOB, status)

    def change_sequence(self, address: Address) -> int:
        """Differs, once a journaled change of the entry at `address` has begun, from what it was, and is then odd.

        It is even and the same before a blob's record is in the journal and after the blob has its file where no
        change came between the two, which would be undone, or undo the blob, when the journal is replayed.
        """
        return self._shelf.control.change_sequence(address)

    def place_quickly(self, address: Address, data: bytes, *, sync: bool = False) -> bool:
        """Gives a small blob its file if nothing has its name; returns False otherwise, having done nothing.

        Raises:
            OSError: The disk failed.
        """
        if not self._disk.unnamed:
            return False
        placed = place(self._disk, address.name, data, sync=sync)
        if placed and sync:
            self._disk.sync_names()
        return placed

    def put_spool(self, spool: Spool, *, expected: Address | None = None) -> Address:
        """Stores what was spooled under its own hash, and closes the spool.

        Raises:
            DigestMismatchError: It does not hash to `expected`.
            StoreError: The disk cannot take it.
        """
        try:
            address = spool.address
            if expected is not None and address != expected:
                raise DigestMismatchError(f"The bytes hash to {address}, not to {expected}.")
            with translated():
                self._commit_blob(spool, address)
            return address
        finally:
            spool.close()

    def put_many(self, blobs: Sequence[bytes]) -> list[Address]:
        """Stores many blobs, with one sync for the contents of a large group and one for the names of any.

        Raises:
            TooLargeError: One is more than the store takes.
            StoreError: The disk cannot take it.
        """
        addresses = [Address.of(data) for data in blobs]
        todo = dict(zip(addresses, blobs, strict=True))
        with translated():
            while todo:
                group = [(address, todo.pop(address)) for address in list(islice(todo, _GROUP_BLOBS))]
                self._put_group(group)
        return addresses

    def _put_group(self, group: list[tuple[Address, bytes]]) -> None:
        sync = self._shelf.durability is Durability.SYNC
        spools: list[tuple[Address, Spool]] = []
        try:
            for address, data in group:
                if not self.holds(address):
                    spool = self._shelf.spool()
                    spools.append((address, spool))
                    spool.keep(data)
                    self._disk.set_mode(spool.fd, BLOB_MODE)
            if sync:
                self._sync_contents([spool for _, spool in spools], all_new=len(spools) == len(group))
            journaled = self._shelf.changes.follow() is not None
            for address, spool in spools:
                if journaled:
                    self._commit_blob(spool, address)
                    continue
                try:
                    spool.link(address.name)
                except FileExistsError:
                    self._commit_blob(spool, address)
            if sync and spools:
                self._disk.sync_names()
        finally:
            for _, spool in spools:
                spool.close()

    def _sync_contents(self, spools: list[Spool], *, all_new: bool) -> None:
        """Makes the contents of a group durable; if not all of it is new, also of what is there already.

        Its first writer may still be waiting for a sync of its own.
        """
        if all_new and len(spools) <= _SYNCED_ALONE_MAX:
            for spool in spools:
                self._disk.sync_data(spool.fd)
        else:
            self._disk.sync_all()

    def quarantine(self, address: Address) -> str | None:
        """Takes a blob that does not hash to its address out of the way, and keeps its file under another name.

        The other name is durable before the entry's goes, so whatever happens the bytes have one of the two.

        Returns:
            The other name, or None where nothing was done: no blob is there, it is whole, or it is being written.

        Raises:
            StoreError: The disk failed.
        """
        with translated():
            try:
                fd = self._disk.open_read(address.name)
            except FileNotFoundError:
                return None
            try:
                # Hashed without the lock, which would hold up others; the descriptor is what the look below goes by.
                if not _is_damaged_blob(fd, address):
                    return None
                with self._shelf.locked(address) as stripe:
                    found = self._shelf.look_locked(address)
                    if found is None or not os.path.samestat(found[1], os.fstat(fd)):
                        return None
                    name = self._give_other_name(address, found[1])
                    self._shelf.remove_locked(stripe, address, Kind.BLOB)
                return name
            finally:
                os.close(fd)

    def _give_other_name(self, address: Address, status: os.stat_result) -> str:
        """Links an entry's file to a name that is no entry's, or finds the link that a killed process left."""
        for number in count(1):
            name = f"{DAMAGED_PREFIX}{address.hex()}" + (f"-{number}" if number > 1 else "")
            try:
                self._disk.link_name(address.name, name)
            except FileExistsError:
                if not os.path.samestat(self._disk.look(name), status):
                    continue  # an earlier damaged copy, which may hold what this one lacks
            self._disk.sync_names()
            return name
        raise AssertionError  # count() does not end

    def put_locked(self, stripe: Stripe, spool: Spool, address: Address, *, absent: bool) -> None:
        """Stores a spooled blob; the caller holds the lock and closes the spool.

        Args:
            stripe: The address's, locked.
            spool: The blob.
            address: Its address.
            absent: Refuse if the blob has come meanwhile; its writers may take no lock.

        Raises:
            AlreadySetError: It has.
            OSError: The disk failed.
        """

        def link(spool: Spool, address: Address) -> None:
            try:
                spool.link(address.name)
            except FileExistsError:
                raise AlreadySetError(f"{address} is already set.") from None

        self._commit_blob_locked(stripe, spool, address, link if absent else self._link_or_keep)

    def _commit_blob(self, spool: Spool, address: Address) -> None:
        """Makes a spooled blob durable and visible, or keeps the blob that is there already."""
        self._disk.set_mode(spool.fd, BLOB_MODE)
        if self._shelf.durability is Durability.SYNC:
            if spool.size_bytes > SMALL_BYTES_MAX:
                self._disk.sync_data(spool.fd)  # so that it takes no time under the lock
        else:
            with suppress(FileExistsError):
                spool.link(address.name)
                return
        with self._shelf.locked(address) as stripe:
            self._commit_blob_locked(stripe, spool, address, self._link_or_keep)

    def _commit_blob_locked(
        self, stripe: Stripe, spool: Spool, address: Address, name_it: Callable[[Spool, Address], None]
    ) -> None:
        """Makes a spooled blob durable and, by `name_it`, visible, in the order that its size asks for."""
        disk, sync = self._disk, self._shelf.durability is Durability.SYNC
        disk.set_mode(spool.fd, BLOB_MODE)
        if sync and spool.size_bytes <= SMALL_BYTES_MAX and self._shelf.changes.follow() is not None:
            data = os.pread(spool.fd, spool.size_bytes, 0)
            with self._shelf.changes.journaled(stripe, Record(Change.BLOB, address, data=data)):
                name_it(spool, address)
            return
        if not sync:
            name_it(spool, address)
            return
        disk.sync_data(spool.fd)
        with self._shelf.changes.filed(stripe, address):
            name_it(spool, address)
            disk.sync_names()

    def _link_or_keep(self, spool: Spool, address: Address) -> None:
        """Gives a blob its name, or keeps the blob that has it; a slot gives way; the caller holds the lock."""
        while True:
            with suppress(FileExistsError):
                spool.link(address.name)
                return
            found = self._shelf.look_locked(address)
            if found is None:
                continue
            if found[0] is Kind.SLOT:
                spool.rename(address.name)
            else:
                self._keep_locked(address, found[1])
            return

    def _keep_locked(self, address: Address, status: os.stat_result) -> None:
        """Restarts the timer of a blob that is stored again, and makes sure that it is durable."""
        fd = self._disk.open_read(address.name)
        try:
            now = time.time_ns()
            if self._shelf.retention.must_record(status.st_mtime_ns, now):
                self._disk.set_times(fd, now, now)
            # Its first writer may still be waiting for a sync of its own, which we must not run ahead of.
            if self._shelf.durability is Durability.SYNC:
                self._disk.sync_data(fd)
        finally:
            os.close(fd)


def _is_damaged_blob(fd: int, address: Address) -> bool:
    """Whether an open file is a blob's, at rest, and its bytes are others than those of the address, or unreadable."""
    status, digest = os.fstat(fd), hashlib.sha256()
    if kind_of(status) is not Kind.BLOB:
        return False
    try:
        while piece := os.read(fd, CHUNK_BYTES):
            digest.update(piece)
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return True
    return digest.digest() != address and os.fstat(fd).st_size == status.st_size
