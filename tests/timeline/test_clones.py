"""Repositories that were made in a way of their own: shared by several users, without blobs, with a layout."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from gits import blobs_of, git

from holdall.timeline import Store, exc

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_made_in_a_shared_repository_others_of_the_group_can_write(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--shared=group", "-b", "main", "shared")
    umask = os.umask(0o077)
    try:
        with Store(tmp_path / "shared", push=False) as store:
            for number in range(3):
                store.addblob(b"%d" % number, label="label")
            assert len(blobs_of(store)) == 3
    finally:
        os.umask(umask)

    closed = []
    for folder in (tmp_path / "shared/.git" / name for name in ("holdall-timeline", "objects", "refs")):
        for path in (folder, *folder.rglob("*")):
            mode = path.stat().st_mode
            wanted = stat.S_IRWXG if path.is_dir() else stat.S_IRGRP | (mode & stat.S_IWUSR) >> 3
            if mode & wanted != wanted:
                closed.append(path)
    assert closed == []


def test_a_blob_that_a_partial_clone_lacks_is_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with Store(tmp_path / "all", create=True) as store:
        store.addblob(b"there")
    git(tmp_path / "all", "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--no-checkout", "--filter=blob:none", f"file://{tmp_path}/all", "part")

    with Store(tmp_path / "part", worktree=False) as store, pytest.raises(exc.BlobUnreadable) as caught:
        blobs_of(store)

    assert "git fetch --refetch --no-filter" in caught.value.hint
    git(tmp_path / "part", "fetch", "--quiet", "--refetch", "--no-filter")
    with Store(tmp_path / "part", worktree=False) as store:
        assert blobs_of(store) == [b"there"]


@pytest.mark.parametrize(("there", "wanted"), [("flat", "hour"), ("hour", "flat")])
def test_a_repository_with_blobs_is_not_made_for_another_layout(tmp_path: Path, there: str, wanted: str) -> None:
    for _ in range(2):
        with Store(tmp_path / "here", create=True, layout=there) as store:
            store.addblob(b"")

    with pytest.raises(exc.SettingInvalid, match=f"in the layout {there}"):
        Store(tmp_path / "here", create=True, layout=wanted)
