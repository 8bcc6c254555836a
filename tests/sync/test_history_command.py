"""`holdall sync conflicts`, `log`, `show` and `restore`, on a folder that two nodes changed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdall.cli.main import main
from holdall.sync.folder import Folder
from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    Sync = Callable[..., str]

TEXTS = {"alpha": b"from alpha\n", "beta": b"from beta\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder of alpha's in which `sub/file` was changed here and on beta."""
    nodes = {name: Folder.create(str(tmp_path / name / "notes"), node=name) for name in TEXTS}
    alpha, beta = nodes["alpha"], nodes["beta"]
    (tmp_path / "alpha/notes/sub").mkdir()
    (tmp_path / "alpha/notes/sub/file").write_bytes(b"first\n")
    alpha.reconcile()
    _push(alpha, beta)
    beta.reconcile()
    for name, text in TEXTS.items():
        (tmp_path / name / "notes/sub/file").write_bytes(text)
        nodes[name].reconcile()
    _push(beta, alpha)
    alpha.reconcile()
    return alpha


def _push(source: Folder, target: Folder) -> None:
    """Brings what a node has to another, as git's push does."""
    ref = f"refs/sync/{source.node}/main"
    words = [need_tool("git"), f"--git-dir={source.git_dir}", "push", "-q", target.git_dir, f"{ref}:{ref}"]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def sync(folder: Folder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Sync:
    """Runs a command in a directory of the folder; returns all that it shows."""
    monkeypatch.chdir(Path(folder.worktree, "sub"))
    monkeypatch.setenv("HOME", str(Path(folder.worktree).parent))

    def run(*words: str, code: int = 0) -> str:
        ended = main(["sync", *words])
        shown = capfdbinary.readouterr()

        assert ended == code, shown.err
        return (shown.out + shown.err).decode()

    return run


def _found(folder: Folder) -> dict[str, bytes]:
    there = Path(folder.worktree, "sub")
    return {path.name: path.read_bytes() for path in there.iterdir()}


def test_a_conflict_is_listed_compared_and_ended(folder: Folder, sync: Sync) -> None:
    (row,) = [json.loads(line) for line in sync("conflicts", "--json", code=1).splitlines()]
    copy = Path(row["copy"]).name
    shown = sync("conflicts", "diff", "file")

    assert row["path"] == "sub/file"
    assert copy.startswith(f"file.conflict-{row['node']}-")
    assert {"-" + TEXTS[name].decode().strip() for name in TEXTS} & set(shown.splitlines())
    assert {"+" + TEXTS[row["node"]].decode().strip()} <= set(shown.splitlines())

    sync("conflicts", "take", copy, "theirs")

    assert _found(folder) == {"file": TEXTS["beta"]}
    assert "0 conflicts" in sync("conflicts")


def test_the_history_is_for_its_owner_only(folder: Folder) -> None:
    """It holds files that only he may read."""
    assert Path(folder.git_dir).stat().st_mode & 0o077 == 0


def test_versions_are_listed_shown_and_brought_back(folder: Folder, sync: Sync) -> None:
    rows = [json.loads(line) for line in sync("log", "file", "--json").splitlines()]
    oldest = rows[-1]

    assert oldest["node"] == "alpha"
    assert sync("log", "file").splitlines()[-1].startswith(f"{oldest['commit'][:10]}  {oldest['time']}  alpha")
    assert sync("log", ".", "--limit", "1", "-C", folder.worktree).count("\n") == 1
    assert sync("show", oldest["commit"][:10], "file") == "first\n"
    assert json.loads(sync("show", oldest["commit"], "file", "--json"))["value"] == "first\n"

    restored = json.loads(sync("restore", "--at", oldest["commit"], "file", "--json"))

    assert restored["changed"] == ["sub/file"]
    assert _found(folder)["file"] == b"first\n"
    assert restored["commit"] == folder.head()
    assert len(sync("log", "file").splitlines()) == len(rows) + 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("conflicts", "take", "other", "mine"), 3, "has no conflict"),
        (("show", "2001-01-01", "file"), 3, "no history from before 2001-01-01"),
        (("show", "yesterday", "file"), 2, "neither a commit nor a time"),
        (("restore", "--at", "2001-01-01", "../../outside"), 3, "is in no synced folder"),
        (("log", "--directory", "/", "file"), 3, "is not a synced folder"),
    ],
)
def test_what_cannot_be_is_said(sync: Sync, words: tuple[str, ...], code: int, says: str) -> None:
    assert says in sync(*words, code=code)


def test_nothing_is_restored_into_a_folder_that_is_held(folder: Folder, sync: Sync) -> None:
    folder.hold("The disk is being changed.")

    assert "The disk is being changed." in sync("restore", "--at", "2999-01-01", "file", code=1)
