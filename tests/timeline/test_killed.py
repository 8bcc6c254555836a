"""Killed at any moment: what was acknowledged is there, and nothing stands in the way of the next."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from gits import assert_sound, blobs_of, git

from holdall.timeline import Store

if TYPE_CHECKING:
    from pathlib import Path

LONG = "HOLDALL_TEST_LONG" in os.environ
KILLS = 50 if LONG else 20

ADDER = """
import sys
from holdall.timeline import Store
import holdall.timeline.worktree as worktree
worktree.GIT_INDEX_NOW_BYTES_MAX = int(sys.argv[3])
with Store(sys.argv[1], layout=sys.argv[2], push=False) as store:
    number = int(sys.argv[4])
    while True:
        many = number % 3 == 2
        blobs = [b"%d.%d" % (number, part) for part in range(80 if many else 1)]
        store.addblobs(blobs, [number] * len(blobs), label="l" if number % 2 else None)
        print(number, len(blobs), flush=True)
        number += 1
"""


@pytest.mark.parametrize(("layout", "lazy"), [("flat", False), ("hour", True)])
def test_a_killed_writer_loses_nothing_it_acknowledged(alone: Path, layout: str, lazy: bool) -> None:
    chance = random.Random(7)
    number, acknowledged = 0, {}
    for _ in range(KILLS // 2):
        command = [sys.executable, "-c", ADDER, str(alone), layout, "0" if lazy else "1000000", str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(chance.randrange(1, 6))]
            try:
                writer.wait(chance.random() * 0.02)
            except subprocess.TimeoutExpired:
                writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
        for line in filter(lambda line: line.endswith("\n"), told):
            number, many = map(int, line.split())
            acknowledged[number] = many
        number += 2  # the next one may have been stored without a word

        with Store(alone) as store:
            found: dict[int, int] = {}
            for blob in store.getblobs():
                assert int(blob.blob.split(b".")[0]) == blob.timestamp
                found[int(blob.timestamp)] = found.get(int(blob.timestamp), 0) + 1
        assert found.items() >= acknowledged.items()
        assert all(many == (80 if key % 3 == 2 else 1) for key, many in found.items())
        assert_sound(alone)


@pytest.mark.parametrize("left", ["index.lock", "refs/heads/main.lock"])
def test_a_lock_that_a_killed_writer_left_is_removed(alone: Path, left: str) -> None:
    with Store(alone) as store:
        store.addblob(b"one", 1)
    (alone / ".git" / left).touch()
    (alone / ".git" / "holdall-timeline" / "changing").touch()
    (alone / ".git" / "holdall-timeline" / "making-x").touch()

    with Store(alone) as store:
        store.addblob(b"two", 2)
        assert blobs_of(store) == [b"one", b"two"]
    assert_sound(alone)
    assert sorted(path.name for path in (alone / ".git" / "holdall-timeline").glob("making-*")) == []


def test_opening_alone_removes_a_lock_that_a_killed_writer_left(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"one", 1)
    (alone / ".git" / "refs" / "heads" / "main.lock").touch()
    (alone / ".git" / "holdall-timeline" / "changing").touch()

    with Store(alone) as store:
        assert blobs_of(store) == [b"one"]
    assert_sound(alone)


def test_files_that_never_reached_the_worktree_are_brought_there(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"one", 1)
    with Store(alone, worktree=False) as store:
        store.addblobs([b"two", b"three"], [2, 3], label="l")
    assert git(alone, "status", "--porcelain") != ""

    with Store(alone):
        assert_sound(alone)
    assert len(list(alone.glob("*.AQ=="))) == 3


def test_an_index_that_git_has_locked_is_brought_up_later(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"one", 1)
        (alone / ".git" / "index.lock").touch()
        store.addblob(b"two", 2)
        assert blobs_of(store) == [b"one", b"two"]
        (alone / ".git" / "index.lock").unlink()
        store.addblob(b"three", 3)

        assert_sound(alone)
