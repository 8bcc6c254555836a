"""What an add leaves on the disk: how it is compressed, packed in time, and made good where there was no room."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import TYPE_CHECKING

from gits import assert_sound, blobs_of, git, wait_for_upkeep

from holdall.timeline import Store
from support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_file_for_which_there_is_no_room_comes_into_the_worktree_later(alone: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(alone) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
        try:
            store.addblob(bytes(1 << 18), 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert not list((alone / ".git" / "holdall-timeline").glob("making-*"))
        store.addblob(b"two", 2)
    assert_sound(alone)


def test_what_cannot_be_compressed_does_not_keep_the_rest_from_it(alone: Path) -> None:
    text = b"".join(b"reading %d of sensor %d\n" % (number, number % 7) for number in range(100))
    with Store(alone, worktree=False) as store:
        store.addblobs([os.urandom(1000) if number % 10 else text + b"%d" % number for number in range(200)])
        packed = [row.oid.hex() for row, blob in zip(store.names(), blobs_of(store), strict=True) if len(blob) > 1000]
    sizes = subprocess.run(
        ["git", "-C", alone, "cat-file", "--batch-check=%(objectsize:disk)"],
        input="\n".join(packed).encode(), capture_output=True, check=True,
    ).stdout.split()  # fmt: skip

    assert len(sizes) == 20
    assert max(map(int, sizes)) < len(text) / 2
    git(alone, "fsck", "--strict", "--no-progress")


def test_git_packs_what_single_adds_leave(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.timeline.branch.GC_LOOSE_OBJECTS", 256)
    git(alone, "config", "gc.auto", "256")
    git(alone, "config", "gc.autoDetach", "false")
    with Store(alone, worktree=False) as store:

        def is_packed() -> bool:
            store.addblobs([os.urandom(8) for _ in range(50)])
            return "in-pack: 0\n" not in git(alone, "count-objects", "-v")

        wait_until(is_packed, "git has packed what was loose")
        assert len(blobs_of(store)) % 50 == 0
    wait_for_upkeep()
    git(alone, "fsck", "--strict", "--no-progress")


def test_lists_of_names_are_packed_when_they_grow_large(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.timeline.repository.REPACK_BYTES", 1 << 20)
    with Store(alone, worktree=False) as store:
        store.addblobs([b"%d" % number for number in range(3000)], range(3000))
        for number in range(12):
            store.addblob(b"%d" % number, number)

        def loose_kib() -> int:
            return int(git(alone, "count-objects", "-v").split("\nsize: ")[1].split()[0])

        wait_until(lambda: loose_kib() < 2000, "git has packed what was loose")
        assert len(blobs_of(store)) == 3012
    wait_for_upkeep()
    git(alone, "fsck", "--strict", "--no-progress")
