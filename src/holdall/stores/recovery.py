"""What the first process to open a data directory mends before anyone may look at it.

After the death of processes the files are all there, and only an append that was cut short is cut off. After the
death of the machine the journal is replayed: each address it names gets the state that the journal says was the last.
Nothing here runs while another process has the directory open.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

from holdall.limits import JOURNAL_BLOCK_BYTES
from holdall.stores.entry_file import BLOB_MODE, SLOT_MODE, TEMPORARY_PREFIX
from holdall.stores.journal_format import JOURNAL_NAME, Change, Record, decode_segment

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.control import Control, Stripe
    from holdall.stores.disk import Disk

_TEMPORARY = TEMPORARY_PREFIX + "recovery"


def recover(disk: Disk, control: Control) -> int:
    """Brings the directory to a state in which its plain files are the truth.

    Durability: what a crash left acknowledged is in plain files and survives a further power cut when this returns.

    Returns:
        How many journal records were replayed.

    Raises:
        OSError: The disk failed; the journal is still there for the next try.
    """
    if not control.fresh:
        for stripe in control.stripes():
            repair_append(disk, stripe)
    try:
        records = _read_journal(disk)
    except FileNotFoundError:
        return 0
    if not control.fresh:
        records = []  # only processes died: the files hold all that the journal does, and perhaps more
    by_address: dict[Address, list[Record]] = defaultdict(list)
    for record in records:
        by_address[record.address].append(record)
    for address, changes in by_address.items():
        _replay(disk, address, changes)
    disk.sync_all()
    with suppress(FileNotFoundError):
        disk.unlink(JOURNAL_NAME)
        disk.sync_names()
    return len(records)


def repair_append(disk: Disk, stripe: Stripe) -> None:
    """Cuts off the half of an append whose writer was killed; the caller holds the stripe's lock or is alone."""
    pending = stripe.pending_append()
    if pending is None:
        return
    with suppress(FileNotFoundError):
        fd = disk.open_write(pending.address.name)
        try:
            status = os.fstat(fd)
            if status.st_size > pending.size_bytes:
                disk.truncate(fd, pending.size_bytes)
                disk.set_times(fd, status.st_atime_ns, stripe.next_revision(status.st_mtime_ns))
        finally:
            os.close(fd)
    stripe.end_append()


def _read_journal(disk: Disk) -> list[Record]:
    """Every record of the segments in use, in the order in which the changes happened."""
    fd = disk.open_read(JOURNAL_NAME)
    try:
        half = os.fstat(fd).st_size // 2
        batches: list[tuple[int, list[Record]]] = []
        for start in (0, half):
            segment = memoryview(os.pread(fd, half, start))
            if len(segment) == half >= JOURNAL_BLOCK_BYTES:
                batches += decode_segment(segment)
    finally:
        os.close(fd)
    batches.sort(key=itemgetter(0))
    return [record for _, records in batches for record in records]


def _replay(disk: Disk, address: Address, changes: list[Record]) -> None:
    """Gives one address the last state the journal knows of it."""
    size, mtime_ns = _look(disk, address)
    for number, change in enumerate(changes):
        if change.change is Change.FILE and size is not None and change.revision in {0, mtime_ns}:
            changes = changes[number + 1 :]  # that file became durable by itself: all before it is past
            return _replay(disk, address, changes) if changes else None
    changes = [change for change in changes if change.change is not Change.FILE]
    if not changes:
        return None
    if changes[-1].change is Change.REMOVED:
        with suppress(FileNotFoundError):
            disk.unlink(address.name)
        return None
    blob = next((change for change in changes if change.change is Change.BLOB), None)
    last_removal = max((n for n, change in enumerate(changes) if change.change is Change.REMOVED), default=-1)
    blob = next((change for change in changes[last_removal + 1 :] if change.change is Change.BLOB), None)
    if blob is not None:
        return _place(disk, address, blob.data, BLOB_MODE, None)
    return _replay_slot(disk, address, changes[last_removal + 1 :], size)


def _replay_slot(disk: Disk, address: Address, changes: list[Record], size: int | None) -> None:
    """Rebuilds a slot from its last whole value, or from what the file held before the first append."""
    whole = max((n for n, change in enumerate(changes) if change.change is Change.SLOT), default=None)
    if whole is not None:
        value = bytearray(changes[whole].data)
        appends = changes[whole + 1 :]
    else:
        appends = changes
        value = bytearray(_read(disk, address)[: appends[0].offset] if size is not None else b"")
    for append in appends:
        del value[append.offset :]
        value += append.data
    _place(disk, address, bytes(value), SLOT_MODE, changes[-1].revision)


def _place(disk: Disk, address: Address, data: bytes, mode: int, revision: int | None) -> None:
    """Writes a file whole under its name, whatever was there."""
    with suppress(FileNotFoundError):
        disk.unlink(_TEMPORARY)
    fd = disk.create(_TEMPORARY, 0o600)
    try:
        disk.write(fd, data, 0)
        disk.set_mode(fd, mode)
        if revision is not None:
            disk.set_times(fd, revision, revision)
        disk.sync_data(fd)
    finally:
        os.close(fd)
    disk.rename(_TEMPORARY, address.name)


def _look(disk: Disk, address: Address) -> tuple[int | None, int]:
    try:
        status = disk.look(address.name)
    except FileNotFoundError:
        return None, 0
    return status.st_size, status.st_mtime_ns


def _read(disk: Disk, address: Address) -> bytes:
    fd = disk.open_read(address.name)
    try:
        content = b""
        while piece := os.read(fd, 1 << 20):
            content += piece
        return content
    finally:
        os.close(fd)
