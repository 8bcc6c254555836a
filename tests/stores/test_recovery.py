"""What opening a directory after a crash makes of a journal and the files beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pytest

from holdall.core.address import Address
from holdall.limits.stores import JOURNAL_BLOCK_BYTES
from holdall.stores.base import Kind
from holdall.stores.control import CONTROL_NAME, Control
from holdall.stores.directory import DirectoryStore
from holdall.stores.disk import Disk
from holdall.stores.entry_file import BLOB_MODE, SLOT_MODE
from holdall.stores.journal_format import (
    JOURNAL_NAME,
    NONCE_BYTES,
    RETIRED_NONCE,
    Change,
    Record,
    encode_batch,
    encode_segment_header,
)
from holdall.stores.recovery import recover

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_BYTES = 64 * JOURNAL_BLOCK_BYTES
BLOB = b"the bytes of a blob"
ADDRESS = Address.of(BLOB)

Value: TypeAlias = "tuple[Kind, bytes] | None"


@dataclass(frozen=True)
class File:
    """What lies under the address's name when the power comes back."""

    content: bytes
    mode: int = SLOT_MODE
    modified_ns: int = 1


def blob() -> Record:
    return Record(Change.BLOB, ADDRESS, data=BLOB)


def slot(revision: int, data: bytes) -> Record:
    return Record(Change.SLOT, ADDRESS, revision, data=data)


def append(revision: int, offset: int, data: bytes) -> Record:
    return Record(Change.APPEND, ADDRESS, revision, offset, data)


def removed() -> Record:
    return Record(Change.REMOVED, ADDRESS)


def file(revision: int = 0) -> Record:
    return Record(Change.FILE, ADDRESS, revision)


def coming(revision: int) -> Record:
    return Record(Change.COMING, ADDRESS, revision)


def write_file(directory: Path, found: File | None) -> None:
    if found is not None:
        path = directory / ADDRESS.name
        path.write_bytes(found.content)
        path.chmod(found.mode)
        os.utime(path, ns=(found.modified_ns, found.modified_ns))


def segment(epoch: int, batches: list[bytes], nonce: bytes) -> bytes:
    return b"".join((encode_segment_header(nonce, epoch), *batches)).ljust(SEGMENT_BYTES, b"\0")


def write_journal(directory: Path, *segments: bytes) -> None:
    whole = b"".join(segments).ljust(2 * SEGMENT_BYTES, b"\0")
    (directory / JOURNAL_NAME).write_bytes(whole)


def opened(directory: Path) -> Value:
    """What the address holds once the directory has been opened after a loss of power."""

    async def look() -> Value:
        store = await DirectoryStore.open(str(directory))
        try:
            if not [address async for address in store.addresses()]:
                return None
            async with await store.get(ADDRESS) as reading:
                return reading.info.kind, await reading.read()
        finally:
            await store.aclose()

    return asyncio.run(look())


def value(data: bytes) -> Value:
    return Kind.SLOT, data


LARGE = b"large" * 20_000

REPLAYS: list[tuple[str, File | None, list[Record], Value]] = [
    ("a blob that has no file", None, [blob()], (Kind.BLOB, BLOB)),
    ("a blob whose file is torn", File(b"the by", BLOB_MODE), [blob()], (Kind.BLOB, BLOB)),
    ("a blob whose file is zeros", File(bytes(len(BLOB)), BLOB_MODE), [blob()], (Kind.BLOB, BLOB)),
    ("a slot that has no file", None, [slot(5, b"one")], value(b"one")),
    ("the last of a slot's values", File(b"zero"), [slot(5, b"one"), slot(6, b"two")], value(b"two")),
    ("a value and what was added", None, [slot(5, b"one"), append(6, 3, b" two")], value(b"one two")),
    ("what was added to an older file", File(b"one"), [append(6, 3, b" two")], value(b"one two")),
    ("what was added and is torn", File(b"one\0\0"), [append(6, 3, b" two")], value(b"one two")),
    ("additions in their order", File(b"a"), [append(5, 1, b"b"), append(6, 2, b"c")], value(b"abc")),
    ("an addition that failed and was made again", File(b"a"), [append(5, 1, b"x"), append(6, 1, b"b")], value(b"ab")),
    ("a removal", File(b"one"), [slot(5, b"one"), removed()], None),
    ("a removal of what is not there", None, [removed()], None),
    ("a value after a removal", File(b"one"), [removed(), slot(6, b"two")], value(b"two")),
    ("a blob after a removal", None, [removed(), blob()], (Kind.BLOB, BLOB)),
    ("a removal of a blob", File(BLOB, BLOB_MODE), [blob(), removed()], None),
    ("a slot where a blob was removed", File(BLOB, BLOB_MODE), [blob(), removed(), slot(7, b"one")], value(b"one")),
    ("a blob wins over a slot", File(b"one"), [slot(5, b"one"), blob()], (Kind.BLOB, BLOB)),
    ("a blob wins over a slot that came too late", None, [blob(), slot(5, b"one")], (Kind.BLOB, BLOB)),
    ("a durable file", File(LARGE, modified_ns=5), [slot(4, b"one"), coming(5), file(5)], value(LARGE)),
    ("a durable blob", File(BLOB, BLOB_MODE), [removed(), file()], (Kind.BLOB, BLOB)),
    (
        "what was added to a durable file, whose revision is another since",
        File(LARGE, modified_ns=99),
        [slot(4, b"one"), coming(5), file(5), append(6, len(LARGE), b" more")],
        value(LARGE + b" more"),
    ),
    (
        "a file that got its name before its record",
        File(LARGE, modified_ns=7),
        [append(6, 3, b" two"), coming(7)],
        value(LARGE),
    ),
    (
        "a file that did not get its name",
        File(b"one", modified_ns=5),
        [append(6, 3, b" two"), coming(7)],
        value(b"one two"),
    ),
    ("a first file that got its name", File(LARGE, modified_ns=7), [removed(), coming(7)], value(LARGE)),
    ("a first file that did not get its name", None, [removed(), coming(7)], None),
    ("a removal after a durable file", File(LARGE, modified_ns=7), [coming(7), file(7), removed()], None),
    ("a change that was taken back", File(b"one"), [slot(6, b"two"), file()], value(b"one")),
    ("a removal that was taken back", File(b"one"), [removed(), file()], value(b"one")),
    ("an addition to what has expired since", None, [append(6, 3, b" two")], None),
    ("a blob that came in place of a slot", File(BLOB, BLOB_MODE), [append(6, 3, b" two")], (Kind.BLOB, BLOB)),
]


@pytest.mark.parametrize(("found", "records", "expected"), [case[1:] for case in REPLAYS], ids=[c[0] for c in REPLAYS])
def test_a_replay_gives_an_address_its_last_acknowledged_state(
    tmp_path: Path, found: File | None, records: list[Record], expected: Value
) -> None:
    nonce = os.urandom(NONCE_BYTES)
    write_file(tmp_path, found)
    batches = [encode_batch([record.encode()], nonce, number) for number, record in enumerate(records, start=1)]
    write_journal(tmp_path, segment(1, batches, nonce))

    assert opened(tmp_path) == expected
    assert sorted(os.listdir(tmp_path)) == sorted([CONTROL_NAME] + [ADDRESS.name] * (expected is not None))
    assert opened(tmp_path) == expected


def test_batches_of_both_segments_are_replayed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    first, second = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
    newer = segment(2, [encode_batch([slot(6, b"two").encode()], second, 2)], second)
    older = segment(1, [encode_batch([slot(5, b"one").encode()], first, 1)], first)
    write_journal(tmp_path, newer, older)

    assert opened(tmp_path) == value(b"two")


def test_a_torn_batch_is_passed_over_and_the_one_behind_it_counts(tmp_path: Path) -> None:
    nonce = os.urandom(NONCE_BYTES)
    batches = [encode_batch([slot(n, b"%d" % n * 9000).encode()], nonce, n) for n in (1, 2, 3)]
    batches[1] = batches[1][:4096] + bytes(4096) + batches[1][8192:]
    batches[2] = encode_batch([append(4, 9000, b"!").encode()], nonce, 3)
    write_journal(tmp_path, segment(1, batches, nonce))

    assert opened(tmp_path) == value(b"1" * 9000 + b"!")


def test_batches_of_a_retired_segment_and_of_an_older_epoch_are_not_replayed(tmp_path: Path) -> None:
    nonce, old = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
    retired = segment(1, [encode_batch([slot(5, b"one").encode()], nonce, 1)], RETIRED_NONCE)
    stale = segment(2, [encode_batch([slot(6, b"two").encode()], old, 2)], nonce)
    write_journal(tmp_path, retired, stale)

    assert opened(tmp_path) is None


def test_bytes_of_a_blob_that_look_like_a_batch_are_never_one(tmp_path: Path) -> None:
    nonce = os.urandom(NONCE_BYTES)
    forged = encode_batch([slot(9, b"forged").encode()], os.urandom(NONCE_BYTES), 9)
    lead = bytes(JOURNAL_BLOCK_BYTES - len(encode_batch([slot(1, b"").encode()], nonce, 1).rstrip(b"\0")))
    torn = encode_batch([slot(1, lead + forged).encode()], nonce, 1)
    write_journal(tmp_path, segment(1, [bytes(JOURNAL_BLOCK_BYTES), torn[JOURNAL_BLOCK_BYTES:]], nonce))

    assert opened(tmp_path) is None


def test_where_only_processes_died_the_journal_is_not_replayed(tmp_path: Path) -> None:
    assert opened(tmp_path) is None
    nonce = os.urandom(NONCE_BYTES)
    write_file(tmp_path, File(b"newer"))
    write_journal(tmp_path, segment(1, [encode_batch([slot(5, b"older").encode()], nonce, 1)], nonce))

    assert opened(tmp_path) == value(b"newer")
    assert not (tmp_path / JOURNAL_NAME).exists()


def test_half_of_an_append_whose_process_died_is_cut_off(tmp_path: Path) -> None:
    control = Control(str(tmp_path))
    control.settle(journaled=False)
    write_file(tmp_path, File(b"one"))
    control.stripe(ADDRESS).begin_append(ADDRESS, 3)
    with open(tmp_path / ADDRESS.name, "ab") as half:
        half.write(b" tw")
    control.close()

    assert opened(tmp_path) == value(b"one")


def test_a_failing_disk_leaves_the_journal_for_the_next_try(tmp_path: Path) -> None:
    class Failing(Disk):
        def rename(self, source: str, name: str) -> None:
            raise OSError(5, "Input/output error", source, None, name)

    nonce = os.urandom(NONCE_BYTES)
    write_journal(tmp_path, segment(1, [encode_batch([slot(5, b"one").encode()], nonce, 1)], nonce))
    disk, control = Failing(str(tmp_path)), Control(str(tmp_path))
    with pytest.raises(OSError, match="Input/output error"):
        recover(disk, control)
    control.close()
    disk.close()

    assert opened(tmp_path) == value(b"one")


def test_a_directory_copied_while_it_is_served_opens_elsewhere_as_after_a_power_cut(tmp_path: Path) -> None:
    async def serve() -> Address:
        store = await DirectoryStore.open(str(tmp_path / "data"), journal=True)
        try:
            address = await store.put(BLOB)
            shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=shutil.ignore_patterns(CONTROL_NAME))
            return address
        finally:
            await store.aclose()

    assert asyncio.run(serve()) == ADDRESS
    assert opened(tmp_path / "copy") == (Kind.BLOB, BLOB)
