"""Several writers at once, on one clone and on one remote: everything that was added is there, once."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from gits import assert_sound, blobs_of, git

from holdall.timeline import Store

if TYPE_CHECKING:
    from pathlib import Path

ADDER = """
import sys
from holdall.timeline import Store
with Store(sys.argv[1], push=sys.argv[3] == "push") as store:
    for number in range(int(sys.argv[4])):
        store.addblob(f"{sys.argv[2]}-{number}".encode(), number)
    assert store.push_error is None
"""


def run_all(folders: list[Path], push: str, each: int) -> set[bytes]:
    """Adds from one process for each folder, and returns what has to be there."""
    writers = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(folder), str(number), push, str(each)])
        for number, folder in enumerate(folders)
    ]
    assert [writer.wait(150) for writer in writers] == [0] * len(folders)
    return {b"%d-%d" % (writer, number) for writer in range(len(folders)) for number in range(each)}


@pytest.mark.parametrize("layout", ["flat", "hour"])
def test_processes_that_share_a_clone_take_turns(alone: Path, layout: str) -> None:
    with Store(alone, layout=layout) as store:
        store.addblob(b"first", -1)
        expected = run_all([alone] * 4, "", 12) | {b"first"}

        assert sorted(blobs_of(store)) == sorted(expected)
    assert_sound(alone)


def test_clones_that_share_a_remote_all_get_through(tmp_path: Path, remote: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        git(tmp_path, "clone", "--quiet", str(remote), str(folder))
    expected = run_all(folders, "push", 5)

    with Store(remote) as bare:
        assert sorted(blobs_of(bare)) == sorted(expected)
    for folder in folders:
        with Store(folder) as store:
            store.pull()
            assert sorted(blobs_of(store)) == sorted(expected)
        assert_sound(folder)


def test_a_branch_that_is_locked_at_the_remote_is_tried_again(clone: Path, remote: Path) -> None:
    (remote / "refs" / "heads" / "main.lock").touch()
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\necho >> "$0.tries"\n[ "$(wc -l < "$0.tries")" -lt 4 ] || rm -f refs/heads/main.lock\n')
    hook.chmod(0o755)
    with Store(clone) as store:
        store.addblob(b"x", push=True)

    assert hook.with_name("pre-receive.tries").read_bytes() == b"\n" * 4
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"x"]


def test_threads_share_one_store_with_readers(alone: Path) -> None:
    with Store(alone) as store:

        def add(first: int) -> None:
            for number in range(first, first + 10):
                store.addblob(b"%d" % number, number)
                assert b"%d" % number in blobs_of(store)

        threads = [threading.Thread(target=add, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(blobs_of(store)) == 30
    assert_sound(alone)


def test_git_itself_may_commit_between_two_adds(alone: Path) -> None:
    with Store(alone) as store:
        for number in range(5):
            store.addblob(b"%d" % number, number)
            (alone / f"file-{number}").write_text("mine")
            git(alone, "add", f"file-{number}")
            git(alone, "commit", "--quiet", "--message", "mine")

        assert len(blobs_of(store)) == 5
    assert_sound(alone)
    assert len(git(alone, "ls-files").split()) == 10
