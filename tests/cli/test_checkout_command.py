"""`checkout`, `show`, `compare`, `keep`, `ls` and `verify` of commits: the same on a directory and on a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdall.cli import output
from holdall.core.address import Address
from holdall.core.burst import members
from support import clean_environment, need_tool

if TYPE_CHECKING:
    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

NOWHERE = Address.of(b"nothing is stored here").path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with something of each kind."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_bytes(b"hello\n")
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("a")
    (tree / "sub" / "large").write_bytes(os.urandom(700_000))
    return tree


@pytest.fixture
def commit(holdall: Holdall, store: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of that tree."""
    del store
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return holdall("commit", tree, "--quiet").line


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", "--no-dereference", one, other], check=False).returncode == 0


def test_a_commit_is_restored_into_a_directory_named_after_it(holdall: Holdall, commit: str, tree: Path) -> None:
    result = holdall("checkout", commit)
    name = commit[1:13]

    assert (result.code, result.line) == (0, name)
    assert result.err == "holdall: 5 entries: 3 files (683.6 KiB) written.\n"
    assert same(Path(name), tree)


def test_json_tells_what_was_done(holdall: Holdall, commit: str, tree: Path) -> None:
    result = holdall("checkout", commit, "out", "--json", "--jobs", "1")
    again = holdall("checkout", commit, "out", "--json")

    assert result.json == {
        "address": commit, "directory": "out", "entries": 5, "files": 3, "files_bytes": 700_016, "left": 0,
        "deleted": 0, "troubles": [],
    }  # fmt: skip
    assert (again.json["files"], again.json["left"]) == (0, 5)
    assert same(Path("out"), tree)


def test_part_of_a_commit_is_restored(holdall: Holdall, commit: str) -> None:
    result = holdall("checkout", commit, "out", "--path", "sub", "--path", "./a")

    assert result.code == 0
    assert sorted(path.name for path in Path("out").rglob("*")) == ["a", "large", "sub"]
    assert holdall("checkout", commit, "out2", "--path", "nope").code == 3


def test_what_is_there_is_replaced_and_deleted_only_when_asked_to(holdall: Holdall, commit: str, tree: Path) -> None:
    holdall("checkout", commit, "out")
    Path("out/a").write_bytes(b"mine")
    Path("out/extra").write_bytes(b"mine")
    refused = holdall("checkout", commit, "out")
    dry = holdall("checkout", commit, "out", "--overwrite", "--delete", "--dry-run")
    dry_json = holdall("checkout", commit, "out", "--overwrite", "--delete", "--dry-run", "--json")
    untouched = Path("out/a").read_bytes()
    done = holdall("checkout", commit, "out", "--overwrite", "--delete")

    assert (refused.code, refused.out) == (1, b"")
    assert refused.err == (
        "holdall: 1 entry differs from the commit: 'a'; nothing was changed. --overwrite replaces what differs.\n"
    )
    assert (dry.lines, dry.err) == (["M a", "D extra"], "")
    assert [json.loads(line) for line in dry_json.lines] == [
        {"change": "M", "path": "a"},
        {"change": "D", "path": "extra"},
    ]
    assert untouched == b"mine"
    assert done.err == "holdall: 5 entries: 1 file (6 B) written, 4 entries left alone, 1 deleted.\n"
    assert same(Path("out"), tree)


def test_what_holdall_needs_is_never_deleted(
    holdall: Holdall, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store that a commit is restored from, the default one, the secrets."""
    home, store = tmp_path / "home", tmp_path / "home" / "sub" / "a store"
    for variable, folder in {"HOME": "", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "etc"}.items():
        monkeypatch.setenv(variable, str(home / folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    commit = holdall("commit", tree, "--to", store, "--ref", "name", "--quiet").line
    holdall("commit", tree, "--quiet")
    (home / "extra").touch()
    done = holdall("checkout", commit, home, "--from", store, "--overwrite", "--delete")

    assert done.code == 0
    assert not (home / "extra").exists()
    assert holdall("verify", commit, "--from", store).code == holdall("log", "name", "--from", store).code == 0
    assert holdall("verify", commit).code == 0
    assert holdall("checkout", commit, store, "--from", store, "--delete").code == 2


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--jobs", "1000"], ["--path", "../x"], ["--path", ""]])
def test_what_cannot_be_meant_is_wrong_use(holdall: Holdall, commit: str, words: list[str]) -> None:
    assert holdall("checkout", commit, "out", *words).code == 2
    assert holdall("checkout", commit, "").code == 2
    assert not Path("out").exists()


def test_what_is_no_commit_is_refused(holdall: Holdall, commit: str, tree: Path) -> None:
    blob = holdall("put", tree / "a").line

    for command in ("checkout", "show", "keep", "ls"):
        assert holdall(command, blob).code == 2
        assert holdall(command, NOWHERE).code == 3
    assert holdall("compare", commit, blob).code == 2


def test_show_tells_the_line_that_restores_it_without_holdall(holdall: Holdall, commit: str, tree: Path) -> None:
    need_tool("zstd")
    shown = holdall("show", commit)
    facts = holdall("show", commit, "--json").json
    Path("out").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-c", f"set -o pipefail; cd out; {facts['restore']}"]
    subprocess.run(command, env=clean_environment({"PATH": path}), check=True)

    assert shown.lines[0] == commit
    assert shown.lines[1] == "  entries  5, with 683.6 KiB in files"
    assert shown.lines[-1] == f"  restore  {facts['restore']}"
    assert (facts["entries"], facts["files_bytes"], facts["codec"], facts["missing"]) == (5, 700_016, "zstd", 0)
    assert 700_000 < facts["stored_bytes"] < 710_000
    assert same(Path("out"), tree)


def test_ls_lists_a_commit_or_part_of_it(holdall: Holdall, commit: str) -> None:
    assert holdall("ls", commit).lines == ["a", "link", "run", "sub", "sub/large"]
    assert holdall("ls", commit, "sub/").lines == ["sub", "sub/large"]
    assert holdall("ls", commit, "run").lines == ["run"]
    assert holdall("ls", commit, "--limit", "2").lines == ["a", "link"]
    assert holdall("ls", commit, "nope").code == 3
    assert holdall("ls", "--long", commit).lines == [
        "-rw-r--r--               6  a",
        "lrwxrwxrwx               0  link -> a",
        "-rwxr-xr-x              10  run",
        "drwxr-xr-x               0  sub",
        "-rw-r--r--          700000  sub/large",
    ]
    assert holdall("ls", commit, "run", "--json").json == {
        "path": "run", "type": "file", "mode": 0o755, "size_bytes": 10,
        "content": Address.of(b"#!/bin/sh\n").hex(), "target": None, "mtime_ns": None,
    }  # fmt: skip


def test_names_that_would_move_the_cursor_are_escaped(holdall: Holdall, commit: str, tree: Path) -> None:
    (tree / "a\x1b[2J\nb").write_bytes(b"")
    (tree / "back\\slash").write_bytes(b"")
    with open(os.fsencode(tree) + b"/odd\xff", "wb"):
        pass
    new = holdall("commit", tree, "-q").line

    assert holdall("compare", commit, new).out == b"\\A a\\x1b[2J\\nb\n\\A back\\\\slash\nA odd\xff\n"
    assert holdall("ls", new).out.split(b"\n")[1] == b"\\a\\x1b[2J\\nb"


def test_a_time_beyond_all_is_shown() -> None:
    assert output.moment(1 << 63) != ""
    assert output.moment(1 << 90) == "out of all time"


def test_compare_says_what_differs_and_by_its_exit_code_whether(holdall: Holdall, commit: str, tree: Path) -> None:
    (tree / "a").write_bytes(b"other")
    (tree / "link").unlink()
    (tree / "new").write_bytes(b"")
    new = holdall("commit", tree, "--quiet").line
    changed = holdall("compare", commit, new)
    as_json = holdall("compare", commit, new, "--json")
    equal = holdall("compare", commit, commit)

    assert (changed.code, changed.lines, changed.err) == (1, ["M a", "D link", "A new"], "")
    assert json.loads(as_json.lines[0]) == {"change": "M", "path": "a"}
    assert (equal.code, equal.out) == (0, b"")


def lose(holdall: Holdall, commit: str) -> str:
    """Deletes the first chunk of a commit; its address."""
    lost = members(holdall("get", commit).out)[0].path
    assert holdall("rm", lost).code == 0
    return lost


def test_keep_names_what_is_missing(holdall: Holdall, commit: str) -> None:
    whole = holdall("keep", commit)
    lost = lose(holdall, commit)
    partial = holdall("keep", commit, NOWHERE)
    as_json = holdall("keep", commit, "--json")

    assert (whole.code, whole.out) == (0, b"")
    assert whole.err.endswith("blobs kept.\n")
    assert (partial.code, partial.lines) == (3, [lost])
    assert "lacks 1 blob of" in partial.err
    assert NOWHERE in partial.err
    assert (as_json.code, as_json.json["missing"]) == (3, [lost])


def test_show_and_checkout_of_a_commit_that_lacks_something(holdall: Holdall, commit: str) -> None:
    lost = lose(holdall, commit)
    shown = holdall("show", commit)
    restored = holdall("checkout", commit, "out")

    assert shown.code == 3
    assert "  missing  1 blob" in shown.lines
    assert restored.code == 3
    assert lost in restored.err
    assert not Path("out").exists()


def test_verify_of_a_commit_looks_at_all_it_is_made_of(holdall: Holdall, commit: str) -> None:
    whole = holdall("verify", commit)
    as_json = holdall("verify", commit, "--json")
    lost = lose(holdall, commit)
    partial = holdall("verify", commit)

    assert (whole.code, whole.out) == (0, b"")
    assert whole.err.startswith(f"holdall: {commit} is whole: 5 entries, ")
    assert as_json.json["kind"] == "commit"
    assert (partial.code, partial.out) == (3, b"")
    assert lost in partial.err


def test_verify_of_a_damaged_commit_names_the_blob_and_the_files(
    holdall: Holdall, store: str, commit: str, tmp_path: Path
) -> None:
    if store.startswith("http"):
        pytest.skip("the server's files are elsewhere")
    first = members(holdall("get", commit).out)[0]
    path = tmp_path / "the store" / first.name
    path.chmod(0o644)
    path.write_bytes(b"?" * path.stat().st_size)
    path.chmod(0o444)
    found = holdall("verify", commit)
    aside = holdall("verify", commit, "--quarantine", "--json")

    assert (found.code, found.lines) == (4, [first.path])
    assert found.err == (f"holdall: {commit} is damaged in 1 blob.\nholdall: 2 files cannot be restored: 'a', 'run'.\n")
    assert [json.loads(line).get("set_aside") for line in aside.lines] == [True, None]
    assert not path.exists()
