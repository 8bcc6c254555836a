"""Histories of which a loss of power or a bad disk took something: what is left is whole, and no file is lost."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from folders import files, git

from holdall.errors import DamageError, LocalFileError, StoreError
from holdall.sync.folder import Folder
from holdall.sync.rescue import is_suspect, last_rescue, rescue
from holdall.sync.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "gone": lambda path: path.unlink(),
}


def send(folder: Folder, other: Folder) -> None:
    ref = f"refs/sync/{folder.node}/main"
    git(folder, "push", "--quiet", other.git_dir, f"{ref}:{ref}")


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


@pytest.mark.parametrize("name", ["refs/sync-keep/20260301T120000.000000Z", "refs/sync/beta/seen"])
def test_a_ref_beside_main_that_names_what_is_gone_keeps_no_push_away(pair: tuple[Folder, Folder], name: str) -> None:
    alpha, beta = pair
    Path(alpha.git_dir, name).parent.mkdir(exist_ok=True)
    Path(alpha.git_dir, name).write_text(f"{'1' * 40}\n")
    Path(beta.worktree, "list").write_text("from beta\n")
    beta.reconcile()

    alpha = Folder.open(alpha.worktree)
    send(beta, alpha)
    alpha.reconcile()

    assert files(alpha) == {"list": b"from beta\n"}


@pytest.mark.parametrize("off_seconds", [-3600, 3600])
def test_a_clock_that_was_wrong_for_a_while_hides_no_damage(
    pair: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch, off_seconds: int
) -> None:
    alpha = Folder.open(pair[0].worktree)
    now, whole = time.time, str(alpha.head())
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: now() + off_seconds)
        before = objects(alpha)
        Path(alpha.worktree, "list").write_text("at a wrong time\n")
        alpha.reconcile()
        new = objects(alpha) - before
        for path in {*new, *(path.parent for path in new)}:
            os.utime(path, (time.time(), time.time()))
    if off_seconds > 0:
        before, whole = objects(alpha), str(alpha.head())
        Path(alpha.worktree, "list").write_text("right again\n")
        alpha.reconcile()
        new = objects(alpha) - before
    for path in new:
        path.chmod(0o600)
        times = path.stat().st_atime, path.stat().st_mtime
        WAYS["cut"](path)
        os.utime(path, times)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: -1.0)  # as if the system had started since

    assert Folder.open(alpha.worktree).head() == whole


@pytest.mark.parametrize("garbage", [b"", b"\0" * 41])
def test_a_ref_that_names_nothing_is_found_again(pair: tuple[Folder, Folder], garbage: bytes) -> None:
    alpha, _ = pair
    head = alpha.head()
    for name in ("refs/heads/main", "refs/sync/alpha/main"):
        Path(alpha.git_dir, name).write_bytes(garbage)

    alpha = Folder.open(alpha.worktree)

    assert alpha.head() == head
    assert not alpha.reconcile().committed


@pytest.mark.parametrize("lost", [True, False])
def test_what_is_whole_beyond_an_older_main_is_found(pair: tuple[Folder, Folder], lost: bool) -> None:
    alpha, _ = pair
    old, heads = str(alpha.head()), []
    for text in ("whole\n", "damaged\n"):
        before = objects(alpha)
        Path(alpha.worktree, "list").write_text(text)
        alpha.reconcile()
        heads.append(str(alpha.head()))
    for path in objects(alpha) - before if lost else ():
        path.unlink()
    Path(alpha.git_dir, "refs/heads/main").write_text(f"{old}\n")

    alpha = Folder.open(alpha.worktree)

    assert alpha.head() == heads[0 if lost else 1]
    assert f"main went on to {str(alpha.head())[:12]}" in last_rescue(alpha.git_dir)
    alpha.reconcile()
    assert git(alpha, "show", "main:list", "main~:list") == "damaged\nwhole\n"


def test_what_a_lost_merge_brought_to_the_folder_is_nobody_elses_edit(pair: tuple[Folder, Folder]) -> None:
    alpha, beta = pair
    text = "".join(f"{number}\n" for number in range(9))
    Path(alpha.worktree, "list").write_text(text)
    alpha.reconcile()
    send(alpha, beta)
    beta.reconcile()
    Path(alpha.worktree, "list").write_text(text.replace("1", "one"))
    alpha.reconcile()
    Path(beta.worktree, "list").write_text(text.replace("7", "seven"))
    Path(beta.worktree, "new").write_text("from beta\n")
    beta.reconcile()
    send(beta, alpha)
    before = objects(alpha)
    alpha.reconcile()
    merged = alpha.head()
    for path in objects(alpha) - before:
        path.unlink()
    Path(alpha.worktree, "mine").write_text("an edit\n")

    alpha = Folder.open(alpha.worktree)
    assert alpha.head() != merged
    alpha.reconcile()

    assert git(alpha, "log", "-1", "--no-merges", "--format=%an", "--", "new", "list").strip() == "beta"
    assert git(alpha, "log", "-1", "--format=%an", "--", "mine").strip() == "alpha"
    assert files(alpha) == files(beta) | {"list": text.replace("1", "one").replace("7", "seven").encode()} | {
        "mine": b"an edit\n"
    }


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


def test_a_file_that_a_loss_of_power_cut_off_is_put_back_and_a_shorter_one_is_an_edit(
    pair: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, _ = pair
    for name in ("cut", "shorter"):
        Path(alpha.worktree, name).write_bytes(b"first\nsecond\n")
    alpha.reconcile()
    Path(alpha.worktree, "cut").write_bytes(b"first\n")
    time.sleep(0.02)  # a tick of the clock of files
    os.utime(Path(alpha.git_dir, "refs/heads/main"))
    time.sleep(0.02)
    Path(alpha.worktree, "shorter").write_bytes(b"first\n")
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: -1.0)  # as if the system had started since

    outcome = Folder.open(alpha.worktree).reconcile()

    assert outcome.put_back == ["cut"]
    assert files(alpha) == {"cut": b"first\nsecond\n", "list": b"2\n", "shorter": b"first\n"}


def test_what_is_replaced_is_on_the_disk_even_if_the_clock_was_put_forward(
    pair: tuple[Folder, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = pair
    for folder, text in ((alpha, "mine\n"), (beta, "theirs\n")):
        Path(folder.worktree, "list").write_text(text)
        folder.reconcile()
        time.sleep(1.1)  # so that the other one is later, and takes the place
    send(beta, alpha)
    blob = git(alpha, "rev-parse", "main:list").strip()
    synced, fsync, now = set[str](), os.fsync, time.time

    def spy(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    alpha.reconcile()

    assert files(alpha)["list"] == b"theirs\n"
    kept = Path(alpha.git_dir, "objects", blob[:2], blob[2:])
    assert {str(kept), str(kept.parent)} <= synced


def test_a_lasting_state_has_its_name_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync, path = list[str](), os.fsync, tmp_path / "state"

    def spy(fd: int) -> None:
        synced.append(f"{os.readlink(f'/proc/self/fd/{fd}')} {path.exists()}")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    State().write(str(path))

    assert synced[1:] == [f"{tmp_path} True"]


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
