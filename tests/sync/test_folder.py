"""Folders on one host: what is taken, what is merged, what is written, and what is left alone."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from folders import files, git

from holdall.errors import ConflictError, NotFoundError, SettingError, UsageError
from holdall.limits.sync import SYNC_ARRIVAL_DEPTH_MAX
from holdall.sync import apply as applying
from holdall.sync.folder import Folder
from holdall.sync.merge import FILE, Entry
from holdall.sync.reading import contents
from holdall.sync.snapshot import NESTED
from holdall.sync.state import FileCache, Signature, State

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "".join(f"line {number}\n" for number in range(9))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Folder]:
    """Makes the folder of a node, with some files."""

    def folder(node: str, files: dict[str, str | bytes] | None = None, size_max_bytes: int = 1_000_000) -> Folder:
        root = tmp_path / node / "tree"
        root.mkdir(parents=True)
        for name, data in (files or {}).items():
            write(root / name, data)
        return Folder.create(str(root), node=node, size_max_bytes=size_max_bytes)

    return folder


def write(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def root_of(folder: Folder) -> Path:
    return Path(folder.worktree)


def push(folder: Folder, other: Folder) -> None:
    ref = f"refs/sync/{folder.node}/main"
    git(folder, "push", "--quiet", other.git_dir, f"{ref}:{ref}")


def exchange(*folders: Folder) -> None:
    """Pushes everything to everybody until all have the same."""
    for _ in range(8):
        for folder in folders:
            for other in folders:
                if other is not folder and folder.head() is not None:
                    push(folder, other)
        for folder in folders:
            folder.reconcile()
        if len({folder.head() for folder in folders}) == 1:
            return
    pytest.fail("they do not become equal")


def send(folder: Folder, edits: dict[bytes, Entry | None], *, node: str = "peer") -> None:
    """A commit on top of what the folder has, as if a node had pushed it."""
    repository = folder.repository
    head = folder.head()
    tree = repository.edited(repository.tree_of(head), edits)
    parents = [] if head is None else [head]
    # Later than what this node is about to commit.
    commit = repository.commit(tree, parents, author=node, time=int(time.time()) + 60, message="sent")
    repository.set_ref(f"refs/sync/{node}/main", commit)


def blob(folder: Folder, data: bytes) -> Entry:
    return Entry(FILE, folder.repository.put_blob(data))


# --- what the original gets wrong ---


def test_two_nodes_that_push_at_once_are_both_merged(make: Callable[..., Folder]) -> None:
    alpha, beta, gamma = make("alpha", {"a": "1"}), make("beta", {"b": "2"}), make("gamma", {"c": "3"})
    pushes = [
        subprocess.Popen(
            ["git", f"--git-dir={folder.git_dir}", "push", "-q", gamma.git_dir, f"refs/sync/{folder.node}/main"]
        )
        for folder in (alpha, beta)
    ]

    assert [running.wait() for running in pushes] == [0, 0]
    assert gamma.reconcile().merged == ["alpha", "beta"]
    assert files(gamma) == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_conflict_leaves_no_markers_and_is_the_same_everywhere(make: Callable[..., Folder]) -> None:
    alpha, beta = make("alpha", {"f.txt": TEXT}), make("beta")
    exchange(alpha, beta)
    write(root_of(alpha) / "f.txt", TEXT.replace("line 3", "alpha's"))
    write(root_of(beta) / "f.txt", TEXT.replace("line 3", "beta's"))
    exchange(alpha, beta)
    exchange(alpha, beta)

    assert files(alpha) == files(beta)
    assert sorted(files(alpha).values()) == sorted(
        TEXT.replace("line 3", whose).encode() for whose in ("alpha's", "beta's")
    )
    assert [conflict.path for conflict in alpha.conflicts()] == ["f.txt"]


def test_a_file_in_the_place_of_one_that_comes_is_kept(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"g": "0"})
    send(folder, {b"f": blob(folder, b"theirs"), b"g": blob(folder, b"theirs too")})
    write(root_of(folder) / "f", "mine")
    write(root_of(folder) / "g", "mine too")
    folder.reconcile(changed=[])

    assert sorted(files(folder).values()) == [b"mine", b"mine too", b"theirs", b"theirs too"]


def test_an_ignored_file_in_the_place_of_one_that_comes_is_kept(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {".gitignore": "f\n", "f": "mine"})
    send(folder, {b"f": blob(folder, b"theirs")})
    folder.reconcile()

    assert {b"mine", b"theirs"} <= set(files(folder).values())


def test_reconciles_take_turns(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"f": "0"})
    for number in range(40):
        write(root_of(folder) / f"new{number}", str(number))
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(Folder.open(folder.worktree).reconcile())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(outcome.committed for outcome in results) == 1
    assert git(folder, "rev-list", "--count", "main") == "2\n"


def test_what_was_written_by_a_merge_is_not_committed_again(make: Callable[..., Folder]) -> None:
    alpha, beta = make("alpha", {"f": "1", "d/g": "2"}), make("beta")
    push(alpha, beta)
    applied = beta.reconcile().applied

    assert applied == ["d/g", "f"]
    assert not beta.reconcile(changed=applied).committed
    assert not beta.reconcile().committed
    assert beta.head() == alpha.head()


def test_what_happened_while_nobody_watched_is_taken(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"a": "1", "b": "2"})
    (root_of(folder) / "a").unlink()
    write(root_of(folder) / "b", "3")  # the same size
    folder = Folder.open(folder.worktree)
    folder.reconcile()

    assert git(folder, "ls-tree", "-r", "--name-only", "main") == "b\n"
    assert folder.show(str(folder.head()), "b") == b"3"


@pytest.mark.parametrize("name", ["index.lock", "refs/heads/main.lock", "refs/sync/alpha/main.lock"])
def test_a_lock_file_that_a_crash_left_is_cleared(make: Callable[..., Folder], name: str) -> None:
    folder = make("alpha", {"f": "0"})
    lock = Path(folder.git_dir) / name
    lock.touch()
    os.utime(lock, (1, 1))
    write(root_of(folder) / "f", "1")
    folder.reconcile()

    assert not lock.exists()
    assert folder.show(str(folder.head()), "f") == b"1"


def test_a_lock_file_that_a_process_holds_is_left(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"f": "0"})
    lock = Path(folder.git_dir) / "index.lock"
    with lock.open("wb"):
        os.utime(lock, (1, 1))
        folder.reconcile()

        assert lock.exists() or not os.path.isdir("/proc/self/fd")


def test_a_merge_that_is_killed_half_way_goes_on(make: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make("alpha", {"f": "0"})
    send(folder, {b"f": blob(folder, b"theirs")})
    write(root_of(folder) / "f", "mine")
    once = applying.Applier._try

    def killed(*step: Any) -> None:
        once(*step)
        raise KeyboardInterrupt

    monkeypatch.setattr(applying.Applier, "_try", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.reconcile()
    monkeypatch.undo()

    assert len(files(folder)) == 1

    Folder.open(folder.worktree).reconcile()

    assert sorted(files(folder).values()) == [b"mine", b"theirs"]


# --- what is taken ---


def test_a_file_that_was_just_written_is_not_believed_to_stay(tmp_path: Path) -> None:
    write(tmp_path / "f", "1")
    signature = Signature.of((tmp_path / "f").stat())
    cache = FileCache(str(tmp_path / "cache"))
    cache.keep(b"f", signature, b"blob", read_ns=signature.mtime_ns)

    assert cache.blob(b"f", signature) is None

    cache.keep(b"f", signature, b"blob", read_ns=time.time_ns() + 10**10)
    cache.save()

    assert FileCache(str(tmp_path / "cache")).blob(b"f", signature) == b"blob"


def test_a_hint_costs_no_look_at_anything_else(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"a": "1", "d/b": "1", "e/c": "1"})
    for name in ("a", "d/b", "e/c"):
        write(root_of(folder) / name, "2")
    folder.reconcile(changed=["d", str(root_of(folder) / "a"), "../outside"])

    assert folder.repository.message(str(folder.head())) == "2 files"
    assert folder.show(str(folder.head()), "e/c") == b"1"


def test_modes_symlinks_and_names_of_any_bytes_go_from_node_to_node(make: Callable[..., Folder]) -> None:
    alpha, beta = make("alpha", {"run": "#!", "caf\udce9/\udcff": "odd"}), make("beta")
    (root_of(alpha) / "run").chmod(0o755)
    (root_of(alpha) / "link").symlink_to("/etc/passwd")
    alpha.reconcile()
    exchange(alpha, beta)

    assert (root_of(beta) / "run").stat().st_mode & 0o111 == 0o111
    assert os.readlink(root_of(beta) / "link") == "/etc/passwd"
    assert files(beta)["caf\udce9/\udcff"] == b"odd"


def test_a_file_that_only_its_owner_may_read_stays_so(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"key": "1"})
    (root_of(folder) / "key").chmod(0o600)
    send(folder, {b"key": blob(folder, b"2")})
    folder.reconcile()

    assert (root_of(folder) / "key").stat().st_mode & 0o777 == 0o600
    assert files(folder) == {"key": b"2"}


def test_ignore_files_leave_out_what_is_not_synced_yet(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"build/kept": "1", "a.log": "1"})
    write(root_of(folder) / ".gitignore", "build/\n*.log\n")
    write(root_of(folder) / ".holdallignore", "!b.log\n")
    for name in ("build/new", "build/kept", "a.log", "b.log", "c.log"):
        write(root_of(folder) / name, "2")
    folder.reconcile(changed=[".gitignore"])

    assert git(folder, "ls-tree", "-r", "--name-only", "main").split() == [
        ".gitignore",
        ".holdallignore",
        "a.log",
        "b.log",
        "build/kept",
    ]
    assert folder.show(str(folder.head()), "build/kept") == b"2"


def test_a_repository_inside_is_left_alone_and_said(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {".git/config": "the user's own", "f": "1", "sub/.git/HEAD": "x", "sub/g": "2"})
    send(folder, {b"sub/g": blob(folder, b"theirs"), b"sub/h": blob(folder, b"theirs"), b"sub/i/j": blob(folder, b"")})
    outcome = folder.reconcile()

    assert git(folder, "ls-tree", "-r", "--name-only", str(folder.log()[-1].commit)) == "f\n"
    assert outcome.skipped["sub/"] == NESTED
    assert {name for name in files(folder) if name.startswith("sub/")} == {"sub/.git/HEAD", "sub/g"}
    assert files(folder)["sub/g"] == b"2"
    assert not folder.reconcile().committed


def test_what_cannot_be_kept_is_left_alone_and_said(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"f": "1", "big": b"0" * 101}, size_max_bytes=100)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root_of(folder) / "socket"))
        write(root_of(folder) / "f", b"1" * 101)
        outcome = folder.reconcile()

    assert sorted(outcome.skipped) == ["big", "f", "socket"]
    assert folder.show(str(folder.head()), "f") == b"1"
    assert git(folder, "ls-tree", "-r", "--name-only", "main") == "f\n"


def test_what_lies_too_deep_for_other_nodes_is_left_alone_and_said(make: Callable[..., Folder]) -> None:
    folder = make("alpha")
    path = "d/" * SYNC_ARRIVAL_DEPTH_MAX
    (root_of(folder) / path / "deeper").mkdir(parents=True)
    (root_of(folder) / path / "file").write_text("x")
    (root_of(folder) / path / "deeper/file").write_text("x")

    assert list(folder.reconcile().skipped) == [f"{path}deeper"]
    assert git(folder, "ls-tree", "-r", "--name-only", "main") == f"{path}file\n"


def test_the_roster_is_never_large(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {".gitcluster/nodes/beta.toml": "x" * 100}, size_max_bytes=10)
    write(root_of(folder) / ".gitcluster/nodes/beta.toml", "y" * 100)

    assert not folder.reconcile().skipped
    assert git(folder, "show", "main:.gitcluster/nodes/beta.toml") == "y" * 100


def test_what_a_user_tells_git_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[broken\n")
    code = "import sys; from holdall.sync.folder import Folder; Folder.create(sys.argv[1], node='alpha').reconcile()"
    words = [sys.executable, "-c", code, str(tmp_path / "tree")]
    subprocess.run(words, check=True, env={**os.environ, "HOME": str(tmp_path)})


def test_a_file_that_changes_while_it_is_read_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "f", "1")
    before = Signature.of((tmp_path / "f").stat())
    write(tmp_path / "f", "22")

    assert contents(os.fsencode(tmp_path / "f"), before) is None


# --- what is written ---


def test_a_file_that_changes_between_the_look_and_the_merge_is_kept(
    make: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("alpha", {"f": "0", "g": "0"})
    send(folder, {b"f": blob(folder, b"theirs"), b"g": blob(folder, b"1")})
    apply = applying.Applier.apply

    def late(applier: applying.Applier, steps: dict[bytes, applying.Step]) -> applying.Applied:
        monkeypatch.undo()
        write(root_of(folder) / "f", "mine, late")
        return apply(applier, steps)

    monkeypatch.setattr(applying.Applier, "apply", late)
    outcome = folder.reconcile()

    assert outcome.committed
    assert sorted(files(folder).values()) == [b"1", b"mine, late", b"theirs"]
    assert not folder.reconcile().committed


def test_no_symlink_leads_out_of_the_folder(make: Callable[..., Folder], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = make("alpha", {"f": "0", ".gitignore": "/way\n"})
    (root_of(folder) / "way").symlink_to(outside)
    send(folder, {b"way/in": blob(folder, b"planted")})
    folder.reconcile()
    folder.reconcile()

    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "name", [b".git", b".GIT", b".g\xe2\x80\x8cit", b"git~1", b"sub/.git", b"..", b".git ", b"a\\.git"]
)
def test_no_node_can_send_what_git_would_take_for_its_own(make: Callable[..., Folder], name: bytes) -> None:
    folder = make("alpha", {"f": "0"})
    send(folder, {name + b"/config": blob(folder, b"[core]\nfsmonitor = touch planted\n"), b"g": blob(folder, b"1")})
    outcome = folder.reconcile()

    assert files(folder) == {"f": b"0", "g": b"1"}
    assert os.fsdecode(name + b"/config") in outcome.skipped
    assert not folder.reconcile().committed


def test_a_directory_with_ignored_files_is_not_removed_for_a_file(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"d/x": "1", ".gitignore": "*.log\n"})
    write(root_of(folder) / "d/own.log", "precious")
    send(folder, {b"d/x": None, b"d": blob(folder, b"a file now")})
    outcome = folder.reconcile()

    assert files(folder)["d/own.log"] == b"precious"
    assert "d" in outcome.skipped
    assert not folder.reconcile().committed

    (root_of(folder) / "d/own.log").unlink()
    (root_of(folder) / "d").rmdir()
    folder.reconcile()

    assert files(folder)["d"] == b"a file now"


THEIRS = TEXT.replace("line 8", "z" * 60_000)


def lagging(make: Callable[..., Folder]) -> Folder:
    """A folder on a disk that was too full for what a peer sent."""
    folder = make("alpha", {"f": TEXT, "big": "0"})
    send(folder, {b"f": blob(folder, THEIRS.encode()), b"big": blob(folder, bytes(60_000)), b"g": blob(folder, b"1")})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        outcome = folder.reconcile()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert sorted(outcome.skipped) == ["big", "f"]
    assert outcome.lags
    assert files(folder) == {"f": TEXT.encode(), "big": b"0", "g": b"1"}
    return folder


def test_what_a_full_disk_did_not_take_comes_later_and_hides_no_edit(make: Callable[..., Folder]) -> None:
    folder = lagging(make)
    write(root_of(folder) / "f", TEXT.replace("line 0", "mine"))
    assert not folder.reconcile().lags

    assert files(folder) == {"f": THEIRS.replace("line 0", "mine").encode(), "big": bytes(60_000), "g": b"1"}
    assert not folder.reconcile().skipped


def test_an_edit_of_a_file_that_lags_survives_a_merge_that_begins_anew(
    make: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lagging(make)
    write(root_of(folder) / "f", TEXT.replace("line 0", "mine"))
    send(folder, {b"g": blob(folder, b"2")})
    once = applying.Applier._try

    def killed(applier: applying.Applier, path: bytes, *step: Any) -> None:
        if path == b"f":
            raise KeyboardInterrupt
        once(applier, path, *step)

    monkeypatch.setattr(applying.Applier, "_try", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.reconcile()
    monkeypatch.undo()
    folder.reconcile()

    assert files(folder) == {"f": THEIRS.replace("line 0", "mine").encode(), "big": bytes(60_000), "g": b"2"}


def test_a_removal_takes_empty_directories_along(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"a/b/c": "1", "a/d": "1", "e": "1"})
    send(folder, {b"a/b/c": None, b"a/d": None})
    folder.reconcile()

    assert [path.name for path in root_of(folder).iterdir()] == ["e"]


# --- brakes ---


def test_many_files_that_vanish_at_once_are_held(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {f"f{number}": str(number) for number in range(20)})
    head = folder.head()
    for number in range(11):
        (root_of(folder) / f"f{number}").unlink()
    outcome = folder.reconcile(changed=[f"f{number}" for number in range(11)])

    assert outcome.held == "11 of 20 files vanished at once."
    assert folder.head() == head

    folder.release()

    assert folder.reconcile().committed
    assert len(git(folder, "ls-tree", "--name-only", "main").split()) == 9


@pytest.mark.parametrize("how", ["empty", "missing"])
def test_a_disk_that_is_not_mounted_removes_nothing(make: Callable[..., Folder], how: str) -> None:
    folder = make("alpha", {"f": "1"})
    (root_of(folder) / "f").unlink()
    if how == "missing":
        root_of(folder).rmdir()
    send(folder, {b"g": blob(folder, b"2")})
    outcome = folder.reconcile(changed=["f"])

    assert outcome.held is not None
    assert not (root_of(folder) / "g").exists()


def test_another_disk_in_its_place_is_held_if_its_files_differ(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"f": "1"})
    path = os.path.join(folder.git_dir, "holdall", "state")
    state = State.read(path)
    state.device += 1
    state.write(path)

    assert not folder.reconcile(changed=[]).held

    state.write(path)
    write(root_of(folder) / "f", "an old copy")

    assert folder.reconcile(changed=[]).held


def test_a_hold_holds_until_it_is_released(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"f": "1"})
    folder.hold("the owner is away")
    write(root_of(folder) / "f", "2")

    assert folder.reconcile().held == "the owner is away"

    folder.release()

    assert folder.reconcile().committed


# --- conflicts and history ---


@pytest.mark.parametrize(
    ("take", "left"),
    [("mine", {"f.txt": b"alpha"}), ("theirs", {"f.txt": b"beta"}), ("both", {"f.txt": b"", "f.NODE.txt": b""})],
)
def test_a_conflict_is_ended_either_way(make: Callable[..., Folder], take: str, left: dict[str, bytes]) -> None:
    alpha, beta = make("alpha", {"f.txt": "alpha"}), make("beta", {"f.txt": "beta"})
    exchange(alpha, beta)
    loser = alpha.conflicts()[0].node
    alpha.resolve("f.txt", take)  # type: ignore[arg-type]

    assert alpha.conflicts() == []
    if take == "both":
        assert files(alpha).keys() == {name.replace("NODE", loser) for name in left}
        assert set(files(alpha).values()) == {b"alpha", b"beta"}
    else:
        assert files(alpha) == left


def test_history_is_listed_shown_and_brought_back(make: Callable[..., Folder]) -> None:
    folder = make("alpha", {"d/f": "1", "g": "1"})
    first = str(folder.head())
    write(root_of(folder) / "d/f", "2")
    folder.reconcile()
    write(root_of(folder) / "g", "2")
    folder.reconcile()

    assert [version.message for version in folder.log("d")] == ["d/f", "2 files"]
    assert folder.show(first[:8], "d/f") == b"1"

    write(root_of(folder) / "d/f", "not yet taken")
    folder.restore(first, "d")

    assert files(folder) == {"d/f": b"1", "g": b"2"}
    assert [folder.show(version.commit, "d/f") for version in folder.log("d/f")] == [b"1", b"not yet taken", b"2", b"1"]

    with pytest.raises(NotFoundError):
        folder.show("2001-01-01", "g")
    with pytest.raises(NotFoundError):
        folder.restore(first, "nothing")
    with pytest.raises(UsageError):
        folder.show("yesterday-ish", "g")


def test_a_folder_is_set_up_once_and_found_by_either_name(make: Callable[..., Folder], tmp_path: Path) -> None:
    folder = make("alpha", {"f": "1"})

    assert Folder.open(folder.git_dir).worktree == folder.worktree
    assert Folder.open(folder.worktree).git_dir == os.path.join(os.path.dirname(folder.worktree), ".git.tree")
    with pytest.raises(ConflictError):
        Folder.create(folder.worktree, node="alpha")
    with pytest.raises(NotFoundError):
        Folder.open(str(tmp_path))
    with pytest.raises(SettingError):
        Folder.create(str(tmp_path / "other"), node="no/name")
