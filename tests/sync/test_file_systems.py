"""A folder on a disk that takes names in two cases for one, and knows no symlinks and no modes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from holdall.sync.folder import Folder
from holdall.sync.merge import EXECUTABLE, FILE, SYMLINK, Entry
from support import need_tool, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISKS = (
    ["mkfs.vfat {image}", "mount -t vfat -o loop {image} {place}"],
    [
        "mkfs.exfat {image}",
        "losetup --find {image}",
        "mount.exfat-fuse $(losetup --list --noheadings --output NAME --associated {image}) {place}",
    ],
)
"""How such disks are made; the first that this system can mount is taken."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted disk of 32 MiB; where there can be none, the test is skipped."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file takes Linux and root")
    for tool in ("mkfs.vfat", "mkfs.exfat", "mount.exfat-fuse", "losetup", "mount", "umount"):
        need_tool(tool)
    place = tmp_path_factory.mktemp("disk")
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    why = []
    try:
        for lines in DISKS:
            with open(image, "wb") as file:
                file.truncate(32 << 20)
            command = " && ".join(lines).format(image=image, place=mounted)
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
            if not done.returncode:
                yield mounted
                return
            why.append(done.stderr.partition("\n")[0])
        pytest.skip(f"no such disk can be mounted: {', '.join(why)}")
    finally:
        undo = f"umount {mounted}; losetup --detach $(losetup -nO NAME -j {image})"
        subprocess.run(["sh", "-c", undo], check=False, capture_output=True)


@pytest.fixture
def folder(disk: Path) -> Iterator[Folder]:
    """A folder on it, which may be the disk's own root: its history is then elsewhere."""
    for path in disk.iterdir():
        (shutil.rmtree if path.is_dir() and not path.is_symlink() else os.unlink)(path)
    (disk / "first").write_text("first\n")
    yield Folder.create(str(disk), node="alpha")
    shutil.rmtree(disk.with_name(".git.mounted"))


def send(folder: Folder, edits: dict[bytes, Entry | None]) -> None:
    """A commit on top of what the folder has, as if a node had pushed it."""
    repository, head = folder.repository, str(folder.head())
    tree = repository.edited(repository.tree_of(head), edits)
    commit = repository.commit(tree, [head], author="peer", time=int(time.time()) + 1, message="sent")
    repository.set_ref("refs/sync/peer/main", commit)


def blob(folder: Folder, data: bytes, mode: int = FILE) -> Entry:
    return Entry(mode, folder.repository.put_blob(data))


def kept(folder: Folder) -> dict[bytes, int]:
    """What the history has, with its modes."""
    repository = folder.repository
    return {path: entry.mode for path, entry in repository.files(repository.tree_of(folder.head()))}


def there(folder: Folder) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(above, name), folder.worktree)
        for above, _, names in os.walk(folder.worktree)
        for name in names
    )


def test_names_that_differ_in_case_only_are_kept_apart_in_the_history(folder: Folder) -> None:
    send(folder, {name: blob(folder, name) for name in (b"Read", b"read", b"dir/x", b"DIR/y", b"FIRST")})
    outcome = folder.reconcile()
    head = folder.head()

    assert {"read", "FIRST"} < outcome.skipped.keys()
    assert "takes its name for another one" in outcome.skipped["read"]
    assert kept(folder).keys() == {b"first", b"FIRST", b"Read", b"read", b"dir/x", b"DIR/y"}
    assert there(folder) == ["DIR/y", "Read", "first"]

    with open(os.path.join(folder.worktree, "Read"), "ab") as file:
        file.write(b", more")
    folder = Folder.open(folder.worktree)

    assert folder.reconcile().committed
    assert (folder.show(str(folder.head()), "Read"), folder.show(str(folder.head()), "read")) == (
        b"Read, more",
        b"read",
    )
    assert kept(folder).keys() == {b"first", b"FIRST", b"Read", b"read", b"dir/x", b"DIR/y"}
    assert head != folder.head() == folder.reconcile().head

    send(folder, {b"Read": None, b"DIR/y": None})

    # A system may remember for a second that a name was there.
    wait_until(lambda: not folder.reconcile().skipped.keys() & {"dir/x", "read"}, "the names are free")
    assert there(folder) == ["dir/x", "first", "read"]


def test_a_rename_that_changes_case_only_goes_both_ways(folder: Folder) -> None:
    send(folder, {b"d/one": blob(folder, b"1")})
    folder.reconcile()
    send(folder, {b"d/one": None, b"D/One": blob(folder, b"1"), b"first": None, b"First": blob(folder, b"first\n")})

    assert folder.reconcile().skipped == {}
    assert there(folder) == ["D/One", "First"]

    os.rename(os.path.join(folder.worktree, "First"), os.path.join(folder.worktree, "FIRST"))
    folder.reconcile(changed=["First", "FIRST"])

    assert kept(folder).keys() == {b"D/One", b"FIRST"}
    assert not folder.reconcile().committed


def test_what_the_disk_does_not_take_is_left_to_the_others(folder: Folder) -> None:
    modes = {
        b"run": EXECUTABLE,
        b"link": SYMLINK,
        b"a:b": FILE,
        b"dots.": FILE,
        b"in./x": FILE,
        b"what?": FILE,
        b"n": FILE,
    }
    send(folder, {name: blob(folder, b"first", mode) for name, mode in modes.items()})
    outcome = folder.reconcile()
    missing = modes.keys() - set(map(os.fsencode, there(folder)))

    assert set(map(os.fsencode, outcome.skipped)) == missing
    assert missing <= {b"link", b"a:b", b"dots.", b"in./x", b"what?"}
    assert kept(folder) == {b"first": FILE} | modes

    for name in ("run", "n"):
        with open(os.path.join(folder.worktree, name), "wb") as file:
            file.write(b"second")
    folder = Folder.open(folder.worktree)
    folder.reconcile()

    assert kept(folder) == {b"first": FILE} | modes
    assert {folder.show(str(folder.head()), name) for name in ("run", "n")} == {b"second"}


def test_a_change_within_the_tick_of_the_disks_clock_is_seen(folder: Folder) -> None:
    for number in range(10):
        with open(os.path.join(folder.worktree, "first"), "wb") as file:
            file.write(b"%d\n" % number)
        folder.reconcile()

        assert folder.show(str(folder.head()), "first") == b"%d\n" % number
