"""What the first process to open a data directory mends before anyone may look at it.

After the death of processes the files are all there, and only an append that was cut short is cut off. After the
death of the machine the journal is replayed: each address it names gets the state that the journal says was the last.
Nothing here runs while another process has the directory open.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import JOURNAL_BLOCK_BYTES
from holdall.stores.entry_file import BLOB_MODE, SLOT_MODE, TEMPORARY_PREFIX
from holdall.stores.journal_format import JOURNAL_NAME, Change, Record, decode_segment

if TYPE_CHECKING:
    from holdall.stores.control import Control
    from holdall.stores.disk import Disk
    from holdall.stores.stripes import Stripe

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
        for stripe in control.broken_stripes():
            repair_append(disk, stripe)
            if stripe.pending_change() is not None:
                stripe.end_change()  # the journal that disagreed with the file goes below
    if not disk.has(JOURNAL_NAME):
        return 0
    # Where only processes died, the files hold all that the journal does, and perhaps more.
    records = _read_journal(disk) if control.fresh else []
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
        size = os.fstat(fd).st_size
        batches: list[tuple[int, list[Record]]] = []
        if size >= 2 * JOURNAL_BLOCK_BYTES:
            # Mapped, not read: a journal is mostly empty, and this may be a small command's process.
            with mmap.mmap(fd, size, prot=mmap.PROT_READ) as content, memoryview(content) as view:
                for segment in (view[: size // 2], view[size // 2 :]):
                    batches += decode_segment(segment)
                    segment.release()
    finally:
        os.close(fd)
    batches.sort(key=itemgetter(0))
    return [record for _, records in batches for record in records]


def _replay(disk: Disk, address: Address, changes: list[Record]) -> None:
    """Gives one address the last state the journal knows of it."""
    changes = _since_durable(changes, _mtime_ns(disk, address))
    if not changes:
        return
    if changes[-1].change is Change.REMOVED:
        with suppress(FileNotFoundError):
            disk.unlink(address.name)
        return
    removal = max((n for n, change in enumerate(changes) if change.change is Change.REMOVED), default=-1)
    changes = changes[removal + 1 :]
    blob = next((change for change in changes if change.change is Change.BLOB), None)
    if blob is not None:
        _place(disk, address, blob.data, BLOB_MODE, None)
    else:
        _replay_slot(disk, address, changes)


def _since_durable(changes: list[Record], mtime_ns: int | None) -> list[Record]:
    """The changes after the last one that left a file, or none, that needs no journal."""
    for number in reversed(range(len(changes))):
        change = changes[number]
        if change.change is Change.FILE or (change.change is Change.COMING and change.revision == mtime_ns):
            changes = changes[number + 1 :]
            break
    return [change for change in changes if change.change is not Change.COMING]


def _replay_slot(disk: Disk, address: Address, changes: list[Record]) -> None:
    """Rebuilds a slot from its last whole value, or from what the file held before the first append."""
    whole = max((n for n, change in enumerate(changes) if change.change is Change.SLOT), default=None)
    if whole is not None:
        value = bytearray(changes[whole].data)
        appends = changes[whole + 1 :]
    else:
        appends = changes
        found = _read(disk, address)
        if found is None or len(found) < appends[0].offset or Address.of(found) == address:
            return  # it has expired since, or a blob has come in its place
        value = bytearray(found)
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


def _mtime_ns(disk: Disk, address: Address) -> int | None:
    try:
        return disk.look(address.name).st_mtime_ns
    except FileNotFoundError:
        return None


def _read(disk: Disk, address: Address) -> bytes | None:
    try:
        fd = disk.open_read(address.name)
    except FileNotFoundError:
        return None
    try:
        return b"".join(iter(lambda: os.read(fd, CHUNK_BYTES), b""))
    finally:
        os.close(fd)
