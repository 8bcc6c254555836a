"""What cannot be done is refused with an error of its own and changes nothing; what only looks so is done."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from gits import assert_sound, blobs_of, git

from holdall import errors
from holdall.core import instant
from holdall.timeline import Store, exc, generate_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        (math.nan, exc.TimeInvalid),
        (math.inf, exc.TimeInvalid),
        (1e300, exc.TimeInvalid),
        (Decimal("1e999999"), exc.TimeInvalid),
        (10**40, exc.TimeInvalid),
        ("no time at all", exc.TimeInvalid),
        ("", exc.TimeInvalid),
        ("1" * 10_000, exc.TimeInvalid),
        ("\0", exc.TimeInvalid),
        (datetime(2019, 3, 15), exc.TimeInvalid),  # noqa: DTZ001 - that is what is wrong with it
        (True, exc.TimeUnhandledType),
        (b"now", exc.TimeUnhandledType),
        ([1], exc.TimeUnhandledType),
        (1j, exc.TimeUnhandledType),
    ],
)
def test_what_is_no_time_is_refused(alone: Path, moment: Any, error: type[exc.TimeError]) -> None:
    with Store(alone) as store:
        with pytest.raises(error) as raised:
            store.addblobs([b"x", b"y"], [1, moment])
        assert isinstance(raised.value, errors.UsageError)
        assert blobs_of(store) == []
        if moment is not math.inf and moment == moment:  # noqa: PLR0124
            with pytest.raises(error):
                list(store.getblobs(moment))


@pytest.mark.parametrize("blob", ["text", None, bytearray(b"x"), memoryview(b"x"), 1])
def test_what_is_no_blob_is_refused_and_nothing_of_its_call_is_kept(alone: Path, blob: Any) -> None:
    with Store(alone) as store:
        store.addblob(b"kept")
        with pytest.raises(exc.BlobTypeInvalid):
            store.addblobs([b"x", blob])

        assert blobs_of(store) == [b"kept"]
    assert_sound(alone)


@pytest.mark.parametrize("label", ["", "x" * 81, 1, b"bytes", "\ud800"])
def test_what_is_no_label_is_refused(alone: Path, label: Any) -> None:
    with Store(alone) as store, pytest.raises(exc.BlobTypeInvalid):
        store.addblob(b"x", label=label)


@pytest.mark.parametrize("label", [".", "..", "a/b", ".git", "-x", "ä" * 40, "a\nb", "%2F"])
def test_any_other_text_is_a_label(alone: Path, label: str) -> None:
    with Store(alone) as store:
        store.addblob(b"x", label=label)

        assert [blob.label for blob in store.getblobs(label=label)] == [label]
    assert_sound(alone)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "no_such_module"},
        {"compression": "math"},
        {"compression": 1},
        {"key": b"short"},
        {"key": b""},
        {"key": []},
        {"key": 5},
        {"layout": "month"},
        {"key": generate_key(), "key_file": "x"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(alone: Path, options: dict[str, Any]) -> None:
    with pytest.raises(exc.SettingInvalid) as raised:
        Store(alone, **options)

    assert isinstance(raised.value, ValueError)


def test_a_key_file_that_is_none_is_refused(alone: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.LocalFileError):
        Store(alone, key_file=tmp_path / "nowhere")
    (tmp_path / "empty").touch()
    with pytest.raises(exc.SettingInvalid):
        Store(alone, key_file=tmp_path / "empty")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"compression": "gzip"}, {"compression": "bz2"}),
        ({"compression": "zstd"}, {"compression": "lzma"}),
        ({"key": generate_key()}, {"key": generate_key()}),
        ({}, {"key": generate_key()}),
        ({}, {"compression": "gzip"}),
        ({"key": generate_key()}, {"compression": "zlib"}),
    ],
)
def test_a_wrong_key_or_compression_is_an_error_that_names_the_file(
    alone: Path, written: dict[str, Any], read: dict[str, Any]
) -> None:
    with Store(alone, **written) as store:
        store.addblob(b"something to be kept" * 10, 1)
    with Store(alone, **read) as store:
        (row,) = store.names()
        with pytest.raises(exc.BlobUnreadable, match=row.name) as raised:
            list(store.getblobs())

        assert isinstance(raised.value, errors.DamageError)
        assert [problem.name for problem in store.verify()] == [row.name]


def commit_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    git(folder, "add", "--", name)
    git(folder, "commit", "--quiet", "--message", "by hand")


def name_at(moment: int) -> str:
    return instant.encode(moment * 10**9, secrets.randbits(256))


def test_a_truncated_file_is_found_and_does_not_hide_the_others(alone: Path) -> None:
    with Store(alone, compression="gzip") as store:
        store.addblobs([b"one", b"three"], [1, 3])
        commit_file(alone, name_at(2), b"\x1f\x8b")

        assert len(list(store.verify())) == 1
        assert [blob.blob for blob in store.getblobs(3)] == [b"three"]
        with pytest.raises(exc.BlobUnreadable):
            list(store.getblobs())


def test_a_damaged_object_is_an_error_that_names_the_file(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"something", 1)
        (row,) = store.names()
        path = alone / ".git" / "objects" / row.oid.hex()[:2] / row.oid.hex()[2:]
        path.unlink()
    with Store(alone) as store:
        with pytest.raises(exc.BlobUnreadable, match=row.name):
            list(store.getblobs())
        assert len(list(store.verify())) == 1


def test_a_damaged_tree_is_damage(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"something", 1)
    tree = git(alone, "rev-parse", "HEAD^{tree}").strip()
    (alone / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    shutil.rmtree(alone / ".git" / "holdall-timeline")
    with Store(alone) as store, pytest.raises(exc.RepoDamaged, match="cannot be read") as raised:
        list(store.verify())

    assert isinstance(raised.value, errors.DamageError)


def test_files_of_others_are_passed_over(alone: Path) -> None:
    for name in ("README.md", "2019/03/15/notes.txt", "20190315/x", "labels/readme", "src/labels/a.py"):
        commit_file(alone, name, b"mine")
    os.symlink("README.md", alone / name_at(1))
    git(alone, "add", "--all")
    git(alone, "commit", "--quiet", "--message", "a link")
    with Store(alone) as store:
        store.addblob(b"x", label="readme2")

        assert blobs_of(store) == [b"x"]
    assert_sound(alone)


def test_a_file_of_a_later_version_is_an_error_that_names_it(alone: Path) -> None:
    name = name_at(1).replace(".AQ==", ".Ag==")
    commit_file(alone, name, b"who knows")
    with Store(alone) as store:
        store.addblob(b"x")
        with pytest.raises(exc.BlobVersionUnsupported, match=name):
            list(store.getblobs())


def test_a_file_in_the_way_of_a_folder_is_an_error(alone: Path) -> None:
    commit_file(alone, "1970", b"a file")
    with Store(alone, layout="hour") as store:
        with pytest.raises(exc.RepoError, match="1970"):
            store.addblob(b"x", 1)
        store.addblob(b"y", "now")

        assert blobs_of(store) == [b"y"]


def test_no_repository_is_an_error_and_create_makes_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in (".", "missing", "file"):
        with pytest.raises(exc.RepoNotFound):
            Store(tmp_path / name)
    with Store(tmp_path / "missing", create=True) as store:
        store.addblob(b"x")

        assert blobs_of(store) == [b"x"]
    with pytest.raises(errors.StoreURLError):
        Store("http://localhost:1/not-a-slot")


def test_a_bare_repository_is_one_without_a_worktree(remote: Path) -> None:
    with Store(remote) as store:
        store.addblobs([b"x", b"y"], [1, 2], label="l")

        assert blobs_of(store) == [b"x", b"y"]


def test_without_a_remote_all_but_push_and_pull_works(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"x")
        for call in (store.push, store.pull, lambda: list(store.getblobs(pull=True))):
            with pytest.raises(exc.RepoRemoteNotAdded):
                call()
        git(alone, "remote", "add", "origin", "/nowhere")
        git(alone, "config", "branch.main.remote", "elsewhere")
        with pytest.raises(exc.RepoRemoteNotExist):
            store.push()


def test_of_several_remotes_none_is_guessed(alone: Path, remote: Path) -> None:
    git(alone, "remote", "add", "public", str(remote))
    with Store(alone) as store:
        store.addblob(b"x", push=True)
        git(alone, "config", "--unset", "branch.main.remote")
        git(alone, "remote", "add", "secret", str(remote))
        with pytest.raises(exc.RepoRemoteNotExist, match="origin"):
            store.addblob(b"y", push=True)
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"x"]


def test_a_remote_that_cannot_be_reached_is_an_error_where_it_was_asked_for(alone: Path) -> None:
    git(alone, "remote", "add", "origin", "http://user:secret@127.0.0.1:1/x")
    with Store(alone) as store:
        with pytest.raises(exc.RepoPushError) as raised:
            store.addblob(b"x", push=True)
        assert "secret" not in str(raised.value)
        assert isinstance(raised.value, errors.UnreachableError)
        with pytest.raises(exc.RepoPullError):
            store.pull()

        assert blobs_of(store) == [b"x"]


def test_a_remote_that_refuses_is_an_error_with_its_reason(clone: Path, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no thanks >&2\nexit 1\n")
    hook.chmod(0o755)
    with Store(clone) as store, pytest.raises(exc.RepoPushError, match="no thanks"):
        store.addblob(b"x", push=True)


def test_a_hook_of_this_side_that_refuses_says_why(clone: Path) -> None:
    hook = clone / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho policy says no >&2\nexit 1\n")
    hook.chmod(0o755)
    with Store(clone) as store, pytest.raises(exc.RepoPushError, match="policy says no"):
        store.addblob(b"x", push=True)


def test_an_unborn_branch_has_no_blobs_and_gets_its_first_commit(clone: Path) -> None:
    with Store(clone) as store:
        assert blobs_of(store) == []
        assert store.stats().count == 0
        store.pull()
        store.push()
        store.addblob(b"x")

        assert blobs_of(store) == [b"x"]
    assert git(clone, "status", "--short", "--branch").startswith("## main...origin/main")


def test_a_detached_head_can_be_read_but_not_added_to(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"x")
        git(alone, "checkout", "--quiet", "--detach")
        with pytest.raises(exc.RepoError, match="detached"):
            store.addblob(b"y")

        assert blobs_of(store) == [b"x"]
    assert_sound(alone)


def test_a_branch_that_git_keeps_locked_is_an_error(alone: Path) -> None:
    with Store(alone) as store:
        store.addblob(b"x")
        (alone / ".git" / "refs" / "heads" / "main.lock").touch()
        with pytest.raises(exc.RepoError, match="locked"):
            store.addblob(b"y")

        assert blobs_of(store) == [b"x"]


def test_a_repository_that_cannot_be_written_can_be_read(alone: Path) -> None:
    with Store(alone) as store:
        store.addblobs([b"x", b"y"], [1, 2])
    script = """
import sys
from holdall import errors
from holdall.timeline import Store
with Store(sys.argv[1]) as store:
    assert [blob.blob for blob in store.getblobs()] == [b"x", b"y"]
    try:
        store.addblob(b"z")
    except errors.ReadOnlyError:
        print("refused")
"""
    # What root is allowed beyond its own permissions, it is allowed by this capability.
    powerless = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    folders = [path for path in (alone, *alone.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    done = subprocess.run(
        [*powerless, sys.executable, "-c", script, str(alone)], capture_output=True, text=True, check=False
    )
    for folder in folders:
        folder.chmod(0o755)

    assert done.stdout == "refused\n", done.stderr
