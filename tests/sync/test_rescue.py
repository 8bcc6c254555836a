"""Histories of which a loss of power or a bad disk took something: what is left is whole, and no file is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdall.errors import DamageError, LocalFileError, StoreError
from holdall.sync.folder import Folder
from holdall.sync.rescue import is_suspect, last_rescue, rescue

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "gone": lambda path: path.unlink(),
}


def git(folder: Folder, *words: str) -> str:
    command = ["git", f"--git-dir={folder.git_dir}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def send(folder: Folder, other: Folder) -> None:
    ref = f"refs/sync/{folder.node}/main"
    git(folder, "push", "--quiet", other.git_dir, f"{ref}:{ref}")


def files(folder: Folder) -> dict[str, bytes]:
    root = Path(folder.worktree)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def objects(folder: Folder) -> set[Path]:
    return {path for path in Path(folder.git_dir, "objects").glob("*/*") if path.is_file()}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Folder, Folder]:
    """Two folders with a history that both have."""
    alpha, beta = (Folder.create(str(tmp_path / node / "tree"), node=node) for node in ("alpha", "beta"))
    for number in range(3):
        Path(alpha.worktree, "list").write_text(f"{number}\n")
        alpha.reconcile()
    send(alpha, beta)
    beta.reconcile()
    return alpha, beta


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("many", [False, True])
def test_what_a_loss_of_power_took_is_made_anew_from_the_folder(
    pair: tuple[Folder, Folder], way: str, many: bool
) -> None:
    alpha, beta = pair
    before, old = objects(alpha), alpha.head()
    for number in range(40 if many else 2):
        Path(alpha.worktree, f"new{number}").write_text(f"new {number}\n")
    Path(alpha.worktree, "list").write_text("newest\n")
    alpha.reconcile()
    there = files(alpha)
    for path in objects(alpha) - before:
        path.chmod(0o600)
        WAYS[way](path)

    alpha = Folder.open(alpha.worktree)
    assert alpha.head() == old
    assert f"main went back to {str(old)[:12]}" in last_rescue(alpha.git_dir)
    assert not alpha.reconcile().conflicts
    send(alpha, beta)
    beta.reconcile()

    assert files(alpha) == files(beta) == there
    assert git(alpha, "fsck", "--strict", "--no-dangling") == ""
    assert git(beta, "rev-list", "--count", "main").strip() == "4"


def test_what_other_nodes_had_comes_back_and_makes_no_conflict(pair: tuple[Folder, Folder]) -> None:
    alpha, beta = pair
    before = objects(alpha)
    Path(alpha.worktree, "list").write_text("sent\n")
    alpha.reconcile()
    sent = alpha.head()
    send(alpha, beta)
    beta.reconcile()
    for path in objects(alpha) - before:
        path.unlink()

    alpha = Folder.open(alpha.worktree)
    alpha.reconcile()
    send(beta, alpha)
    assert not alpha.reconcile().conflicts

    assert files(alpha) == files(beta)
    assert alpha.repository.contains(str(alpha.head()), str(sent))


@pytest.mark.parametrize("knows_main", [True, False])
def test_a_clock_that_was_ahead_for_a_while_does_not_take_main_further_back(
    pair: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch, knows_main: bool
) -> None:
    alpha, _ = pair
    now = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: now() + 3600)
        Path(alpha.worktree, "list").write_text("from the future\n")
        alpha.reconcile()
    heads = []
    for text in ("right again\n", "damaged\n"):
        before = objects(alpha)
        Path(alpha.worktree, "list").write_text(text)
        alpha.reconcile()
        heads.append(str(alpha.head()))
    lost = objects(alpha) - before
    if knows_main:
        lost.remove(Path(alpha.git_dir, "objects", heads[1][:2], heads[1][2:]))
    for path in lost:
        path.unlink()

    alpha = Folder.open(alpha.worktree)

    assert alpha.head() == heads[0]
    assert files(alpha) == {"list": b"damaged\n"}


@pytest.mark.parametrize("garbage", [b"", b"\0" * 41])
def test_a_ref_that_names_nothing_is_found_again(pair: tuple[Folder, Folder], garbage: bytes) -> None:
    alpha, _ = pair
    head = alpha.head()
    for name in ("refs/heads/main", "refs/sync/alpha/main"):
        Path(alpha.git_dir, name).write_bytes(garbage)

    alpha = Folder.open(alpha.worktree)

    assert alpha.head() == head
    assert not alpha.reconcile().committed


def test_what_was_sent_and_not_merged_yet_is_not_taken_for_what_the_folder_had(pair: tuple[Folder, Folder]) -> None:
    alpha, beta = pair
    Path(beta.worktree, "list").write_text("from beta\n")
    beta.reconcile()
    send(beta, alpha)
    for name in ("refs/heads/main", "refs/sync/alpha/main"):
        Path(alpha.git_dir, name).write_bytes(b"")

    alpha = Folder.open(alpha.worktree)
    alpha.reconcile()

    assert files(alpha) == {"list": b"from beta\n"}


@pytest.mark.parametrize("age_seconds", [0, 1000])
def test_only_new_damage_that_is_met_in_the_middle_of_work_moves_main(
    pair: tuple[Folder, Folder], age_seconds: int
) -> None:
    alpha, beta = pair
    text = "".join(f"{number}\n" for number in range(9))
    Path(alpha.worktree, "list").write_text(text)
    alpha.reconcile()
    base = alpha.repository.entry(alpha.head(), b"list")
    send(alpha, beta)
    beta.reconcile()
    Path(alpha.worktree, "list").write_text(text.replace("1", "one"))
    alpha.reconcile()
    kept, now = alpha.repository, int(time.time())
    tree = kept.edited(kept.tree_of(alpha.head()), {b"later": base})
    later = kept.commit(tree, [str(alpha.head())], author="alpha", time=now + age_seconds, message="later")
    kept.set_ref("refs/sync/gamma/main", later)
    alpha.reconcile()
    Path(alpha.worktree, "later").unlink()
    Path(beta.worktree, "list").write_text(text.replace("7", "seven"))
    beta.reconcile()
    send(beta, alpha)
    assert base is not None
    Path(alpha.git_dir, "objects", base.blob.hex()[:2], base.blob.hex()[2:]).unlink()
    head = alpha.head()

    if age_seconds:
        with pytest.raises(DamageError):
            alpha.reconcile()
        assert alpha.repository.contains(str(alpha.head()), str(head))
        return
    alpha.reconcile()
    send(beta, alpha)
    alpha.reconcile()
    assert git(alpha, "fsck", "--strict", "--no-dangling") == ""
    assert b"one" in b"".join(files(alpha).values())
    assert b"seven" in b"".join(files(alpha).values())


def test_a_file_that_a_loss_of_power_emptied_is_put_back(
    pair: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, _ = pair
    head = alpha.head()
    Path(alpha.worktree, "list").write_bytes(b"")
    Path(alpha.worktree, "new").write_bytes(b"")
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: -1.0)  # as if the system had started since

    assert Folder.open(alpha.worktree).reconcile().put_back == ["list"]
    monkeypatch.undo()

    assert files(alpha) == {"list": b"2\n", "new": b""}
    Path(alpha.worktree, "list").write_bytes(b"")
    alpha.reconcile()
    assert git(alpha, "show", "main:list") == ""
    assert alpha.head() != head


def test_an_old_object_that_work_broke_off_at_is_found(pair: tuple[Folder, Folder]) -> None:
    alpha, _ = pair
    blob = alpha.repository.entry(alpha.head(), b"list")
    assert blob is not None
    path = Path(alpha.git_dir, "objects", blob.blob.hex()[:2], blob.blob.hex()[2:])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])
    os.utime(path, (1e9, 1e9))
    Path(alpha.git_dir, "holdall/lock").write_bytes(b"1")

    assert Folder.open(alpha.worktree).reconcile().committed
    assert git(alpha, "show", "main:list") == "2\n"


def test_what_cannot_be_read_for_a_moment_is_not_taken_for_damaged(pair: tuple[Folder, Folder]) -> None:
    alpha, _ = pair
    before, head = objects(alpha), alpha.head()
    Path(alpha.git_dir, "refs/sync/alpha/main").write_text(f"{'1' * 40}\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(StoreError):
            is_suspect(alpha.repository, "alpha")
        with pytest.raises(LocalFileError):
            rescue(alpha.git_dir, "alpha")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert (objects(alpha), alpha.head(), last_rescue(alpha.git_dir)) == (before, head, "")


def test_a_rescue_whose_git_is_ended_changes_no_ref(
    pair: tuple[Folder, Folder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, _ = pair
    before = git(alpha, "for-each-ref")
    git_file = tmp_path / "bin" / "git"
    git_file.parent.mkdir()
    git_file.write_text("#!/bin/sh\nkill -9 $$\n")
    git_file.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(git_file.parent), prepend=os.pathsep)
        with pytest.raises(StoreError):
            rescue(alpha.git_dir, "alpha")

    assert git(alpha, "for-each-ref") == before


@pytest.mark.parametrize("part", ["idx", "pack"])
def test_of_a_pack_all_is_kept_that_is_whole(pair: tuple[Folder, Folder], part: str) -> None:
    alpha, _ = pair
    git(alpha, "repack", "-a", "-d", "-q")
    before = git(alpha, "for-each-ref")
    (path,) = Path(alpha.git_dir, "objects/pack").glob(f"*.{part}")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])

    alpha = Folder.open(alpha.worktree)

    assert git(alpha, "for-each-ref") == before
    assert git(alpha, "fsck", "--strict", "--no-dangling") == ""
    assert "put aside" in last_rescue(alpha.git_dir)
    assert not is_suspect(alpha.repository, "alpha")
