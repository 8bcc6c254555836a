"""The store as its users call it: what goes in comes out, in order, by time and by label, here and elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING

import pytest
from gits import assert_sound, blobs_of, git

from holdall.cli.timeline_options import moment_of
from holdall.timeline import AsyncStore, Blob, ShardedStore, Store, generate_key
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdall.timeline.times import Timestamp

HOUR = 3600
LAYOUTS = pytest.mark.parametrize("layout", ["flat", "hour"])


@pytest.mark.parametrize("compression", [None, "bz2", "gzip", "lzma", "zlib", "zstd"])
@pytest.mark.parametrize("key", [None, generate_key()], ids=["plain", "encrypted"])
def test_what_goes_in_comes_out(alone: Path, compression: str | None, key: bytes | None) -> None:
    blobs = [b"", b"one", bytes(range(256)) * 100, os.urandom(140_000)]
    with Store(alone, compression=compression, key=key) as store:
        store.addblobs(blobs, [1, 2, 3, 4])

    with Store(alone, compression=compression, key=key) as again:
        assert list(again.getblobs()) == [Blob(float(at), blob) for at, blob in enumerate(blobs, 1)]
        assert list(again.verify()) == []
    assert_sound(alone)


@LAYOUTS
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (-math.inf, math.inf, [-5, 0, 1, 1, 2, 9]),
        (None, None, [-5, 0, 1, 1, 2, 9]),
        (math.nan, math.nan, [-5, 0, 1, 1, 2, 9]),
        (math.inf, -math.inf, [9, 2, 1, 1, 0, -5]),
        (0, 2, [0, 1, 1, 2]),
        (2, 0, [2, 1, 1, 0]),
        (1, 1, [1, 1]),
        (1.5, 1.5, []),
        (3, 8.999999999, []),
        (-math.inf, -5, [-5]),
        (math.inf, 9, [9]),
        (math.inf, math.inf, []),
    ],
)
def test_a_range_has_both_its_ends_and_its_own_order(
    alone: Path, layout: str, start: Timestamp, end: Timestamp, expected: list[int]
) -> None:
    with Store(alone, layout=layout) as store:
        store.addblobs([b"x"] * 6, [2, 1, 9, -5, 1, 0])

        assert [blob.timestamp for blob in store.getblobs(start, end)] == expected
        assert [row.timestamp_ns // 10**9 for row in store.names(start, end)] == expected


@pytest.mark.parametrize(
    ("moment", "timestamp_ns"),
    [
        (0, 0),
        (1_552_681_472, 1_552_681_472 * 10**9),
        (-1.5, -1_500_000_000),
        (Decimal("1777896000.123456789"), 1_777_896_000_123_456_789),
        (moment_of("@1777896000.123456789"), 1_777_896_000_123_456_789),
        (1e12, 10**21),
        (time.gmtime(86_400), 86_400 * 10**9),
        (time.localtime(86_400), 86_400 * 10**9),
        (datetime(2019, 3, 15, 12, tzinfo=timezone(timedelta(hours=2))), 1_552_644_000 * 10**9),
        (datetime(2019, 3, 15, 12, 0, 0, 123_456, tzinfo=UTC), 1_552_651_200_123_456_000),
        ("2019-03-15 12:00 UTC", 1_552_651_200 * 10**9),
        ("15 March 2019 14:00 +0200", 1_552_651_200 * 10**9),
    ],
)
def test_a_time_can_be_given_in_many_ways(alone: Path, moment: Timestamp, timestamp_ns: int) -> None:
    with Store(alone) as store:
        store.addblob(b"x", moment)

        assert [blob.timestamp_ns for blob in store.getblobs(moment, moment)] == [timestamp_ns]


def test_words_mean_the_past_and_nothing_means_now(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"long ago", "yesterday")
        store.addblob(b"now")
        store.addblob(b"also now", None)

        assert [blob.blob for blob in store.getblobs("2 days ago", "1 hour ago")] == [b"long ago"]
        assert [blob.blob for blob in store.getblobs("1 minute ago", "now")] == [b"now", b"also now"]


def test_the_shorter_of_blobs_and_times_ends_both(alone: Path) -> None:
    with Store(alone) as store:
        store.addblobs((b"%d" % number for number in count()), [1, 2])
        store.addblobs([b"three"], count(3))
        store.addblobs([])

        assert blobs_of(store) == [b"0", b"1", b"three"]
    assert len(git(alone, "log", "--format=%H").split()) == 2


@LAYOUTS
def test_labels_survive_clones_and_leave_the_files_where_they_were(tmp_path: Path, clone: Path, layout: str) -> None:
    with Store(clone, layout=layout) as store:
        store.addblob(b"plain", 0)
        store.addblobs([b"a", b"b"], [1, 2], label="sensor 7/ä")
        store.addblob(b"c", 3, label=".git")
    assert_sound(clone)
    git(tmp_path, "clone", "--quiet", "remote", "other")

    with Store(tmp_path / "other") as other:
        assert [(blob.blob, blob.label) for blob in other.getblobs()] == [
            (b"plain", None),
            (b"a", "sensor 7/ä"),
            (b"b", "sensor 7/ä"),
            (b"c", ".git"),
        ]
        assert [blob.blob for blob in other.getblobs(math.inf, 0, label="sensor 7/ä")] == [b"b", b"a"]
        assert list(other.getblobs(label="sensor")) == []
        assert other.stats().labels == {None: 1, "sensor 7/ä": 2, ".git": 1}
    files = git(clone, "ls-files", "-z").split("\0")
    folder = "1970/01/01/00/" if layout == "hour" else ""
    assert sum(file.startswith(folder) and file.removeprefix(folder).count("/") == 0 for file in files if file) == 4


def test_a_repository_keeps_its_layout(tmp_path: Path) -> None:
    with Store(tmp_path / "new", create=True, layout="hour") as store:
        store.addblob(b"x", 0)
        store.addblob(b"beyond the calendar", 10**13)
    with Store(tmp_path / "new") as store:
        store.addblob(b"y", HOUR)

        assert blobs_of(store) == [b"x", b"y", b"beyond the calendar"]
    depths = sorted(name.count("/") for name in git(tmp_path / "new", "ls-files").split())
    assert depths == [0, 4, 4]
    with Store(tmp_path / "new", layout="flat") as store:
        store.addblob(b"z", 2 * HOUR)

        assert blobs_of(store) == [b"x", b"y", b"z", b"beyond the calendar"]


def test_a_blob_is_found_by_its_hash(alone: Path) -> None:
    with Store(alone, compression="gzip", key=generate_key()) as store:
        store.addblobs([b"a", b"b", b"a"], [1, 2, 3])

        assert [blob.timestamp for blob in store.find(hashlib.sha256(b"a").hexdigest())] == [1, 3]
        assert list(store.find(hashlib.sha256(b"c").digest())) == []


def test_keys_are_changed_by_putting_a_new_one_first(alone: Path, tmp_path: Path) -> None:
    old, new = generate_key(), generate_key()
    with Store(alone, key=old) as store:
        store.addblob(b"old", 1)
    (tmp_path / "keys").write_bytes(new + b"\n" + old + b"\n")
    with Store(alone, key_file=tmp_path / "keys") as store:
        store.addblob(b"new", 2)

        assert blobs_of(store) == [b"old", b"new"]
    with Store(alone, key=new.decode()) as store:
        assert [blob.blob for blob in store.getblobs(2)] == [b"new"]


@LAYOUTS
def test_worktree_and_index_agree_with_the_branch_and_leave_others_alone(alone: Path, layout: str) -> None:
    (alone / "README").write_text("staged")
    git(alone, "add", "README")
    (alone / "README").write_text("changed since")
    (alone / "untracked").write_text("mine")
    with Store(alone, layout=layout) as store:
        store.addblobs([b"a", b"b"], [1, 2], label="l")

        assert git(alone, "status", "--porcelain") == "AM README\n?? untracked\n"
        assert sorted(path.read_bytes() for path in alone.rglob("*.AQ==")) == [b"", b"", b"a", b"b"]
    assert git(alone, "ls-tree", "-r", "--name-only", "HEAD").count("README") == 0
    assert git(alone, "show", ":README") == "staged"


def test_without_a_worktree_nothing_but_the_branch_changes(alone: Path) -> None:
    with Store(alone, worktree=False) as store:
        store.addblob(b"x")

        assert blobs_of(store) == [b"x"]
    assert [path.name for path in alone.iterdir()] == [".git"]
    with Store(alone) as store:
        store.addblob(b"y")
    assert_sound(alone)


def test_adds_are_pushed_and_a_remote_that_is_away_is_only_reported(
    clone: Path, remote: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(clone) as store:
        store.addblob(b"there", 1)
        remote.rename(remote.with_name("away"))
        store.addblob(b"not yet", 2)

        assert "stored here" in caplog.text
        assert store.push_error is not None
        assert blobs_of(store) == [b"there", b"not yet"]
        remote.with_name("away").rename(remote)
        store.addblob(b"all", 3)
    assert len(caplog.records) == 1
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"there", b"not yet", b"all"]


def test_a_push_that_is_asked_for_fills_a_remote_that_was_made_anew(clone: Path, remote: Path) -> None:
    with Store(clone) as store:
        store.addblob(b"one", 1)
        shutil.rmtree(remote)
        git(clone, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
        store.push()
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"one"]


def test_pull_brings_what_others_pushed_and_their_own_files(tmp_path: Path, clone: Path) -> None:
    git(tmp_path, "clone", "--quiet", "remote", "other")
    with Store(clone) as store, Store(tmp_path / "other") as other:
        store.addblob(b"one", 1)
        other.addblob(b"two", 2)
        (tmp_path / "other" / "README").write_text("read me")
        git(tmp_path / "other", "add", "README")
        git(tmp_path / "other", "commit", "--quiet", "--message", "mine")
        other.push()

        assert blobs_of(store) == [b"one"]
        assert [blob.blob for blob in store.getblobs(pull=True)] == [b"one", b"two"]
        store.addblob(b"three", 3, push=False)
        other.addblob(b"four", 4)
        store.pull()
        assert blobs_of(store) == [b"one", b"two", b"three", b"four"]
    assert (clone / "README").read_text() == "read me"
    assert_sound(clone)
    assert_sound(tmp_path / "other")


def test_a_remote_that_was_rewritten_takes_nothing_away(tmp_path: Path, clone: Path, remote: Path) -> None:
    git(tmp_path, "clone", "--quiet", "remote", "other")
    with Store(clone) as store:
        store.addblobs([b"one", b"two"], [1, 2])
        with Store(tmp_path / "other") as other:
            other.addblob(b"another", 3, push=False)
        git(tmp_path / "other", "push", "--quiet", "--force", str(remote), "main")
        store.addblob(b"last", 4)

        assert blobs_of(store) == [b"one", b"two", b"another", b"last"]
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"one", b"two", b"another", b"last"]


def test_somebody_elses_removal_is_obeyed_but_not_for_blobs(tmp_path: Path, clone: Path) -> None:
    (clone / "README").write_text("read me")
    git(clone, "add", "README")
    git(clone, "commit", "--quiet", "--message", "mine")
    with Store(clone) as store:
        store.addblob(b"one", 1)
        git(tmp_path, "clone", "--quiet", "remote", "other")
        git(tmp_path / "other", "rm", "--quiet", "--", "*")
        git(tmp_path / "other", "commit", "--quiet", "--message", "nothing left")
        git(tmp_path / "other", "push", "--quiet")
        store.addblob(b"two", 2)

        assert blobs_of(store) == [b"one", b"two"]
    assert not (clone / "README").exists()
    assert_sound(clone)


def test_the_store_for_asyncio_returns_before_the_push(clone: Path, remote: Path) -> None:
    async def scenario() -> list[bytes]:
        async with AsyncStore(clone) as store:
            await asyncio.gather(*(store.addblob(b"%d" % number, number) for number in range(20)))
            await store.flush()
            async with aclosing(store.getblobs(5, 3)) as blobs:
                return [blob.blob async for blob in blobs]

    assert asyncio.run(scenario()) == [b"5", b"4", b"3"]
    with Store(remote) as bare:
        assert len(blobs_of(bare)) == 20
    assert_sound(clone)


@pytest.mark.parametrize("by", ["time", "hash"])
def test_shards_are_read_as_one(tmp_path: Path, by: str) -> None:
    stores = [Store(tmp_path / name, create=True) for name in ("a", "b", "c")]
    with ShardedStore(stores, by=by) as store:
        store.addblobs([b"%d" % number for number in range(40)], [number * 86_400 for number in range(40)])
        store.addblob(b"last", "now")

        assert [blob.blob for blob in store.getblobs(5 * 86_400, 3 * 86_400)] == [b"5", b"4", b"3"]
        assert len(list(store.getblobs())) == 41
        assert all(len(blobs_of(one)) > 3 for one in stores)
        assert list(store.verify()) == []


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server.url


def test_a_slot_of_a_server_is_a_timeline_too(server_url: str) -> None:
    url = f"{server_url}/{hashlib.sha256(b'key').hexdigest()}.tig"
    key = generate_key()
    with Store(url, compression="gzip", key=key) as store, Store(url, compression="gzip", key=key) as other:
        assert blobs_of(other) == []
        store.addblobs([b"a", b"b"], [2, 1], label="x y")
        other.addblob(b"c", 3)

        assert [(blob.blob, blob.label) for blob in store.getblobs(pull=True)] == [
            (b"b", "x y"),
            (b"a", "x y"),
            (b"c", None),
        ]
        assert [blob.blob for blob in other.getblobs(3, 1)] == [b"c", b"a", b"b"]
        assert other.stats().count == 3


def test_a_program_that_never_closes_the_store_leaves_a_clean_tree(alone: Path) -> None:
    script = "import sys; import holdall.timeline.worktree as w; "
    script += "w.GIT_INDEX_NOW_BYTES_MAX = 0; s = __import__('holdall.timeline').timeline.Store(sys.argv[1]); "
    script += "[s.addblob(b'%d' % n) for n in range(3)]"
    subprocess.run([sys.executable, "-c", script, str(alone)], check=True)

    assert_sound(alone)
