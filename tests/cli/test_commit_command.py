"""`holdall commit` and `holdall log` as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ports import closed_port
from support import clean_environment, need_tool, read_terminal, run_cli, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

ADDRESS = re.compile(rb"/[0-9a-f]{64}\.tig\n")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory tree, which is also the working directory."""
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    monkeypatch.chdir(root)
    (root / "src" / "app.py").write_text("print('hello from', open('name').read())\n")
    (root / "name").write_text("holdall")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".gitignore").write_text("*.log\n")
    (root / "a.log").write_text("a log")
    return root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    del holdall  # it must have cleared the environment first
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}
    monkeypatch.delenv("HOLDALL_REF_SECRET", raising=False)
    for name, value in home.items():
        monkeypatch.setenv(name, value)
    return home


def test_the_address_alone_is_on_standard_output(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    done = holdall("commit", tree, "--store", tmp_path / "store")

    assert done.code == 0
    assert ADDRESS.fullmatch(done.out)
    assert done.err.startswith("holdall: 4 entries, ")


def test_json_tells_what_was_done(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    first = json.loads(holdall("commit", tree, "--store", tmp_path / "store", "--json").out)
    again = json.loads(holdall("commit", tree, "--store", tmp_path / "store", "--json").out)

    assert set(first) == {"address", "entries", "size_bytes", "chunks", "sent_chunks", "sent_bytes", "skipped"}
    assert (first["entries"], first["skipped"], again["sent_bytes"]) == (4, [], 0)
    assert again["address"] == first["address"]


def test_what_is_left_out_is_what_was_asked_for(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    def entries(*options: str) -> int:
        done = holdall("commit", tree, "--store", tmp_path / "store", "--json", *options)
        return int(json.loads(done.out)["entries"])

    assert entries() == 4
    assert entries("--no-ignore") == 7
    assert entries("--exclude", "*.py", "--exclude", "name") == 2
    assert entries("--exclude", "/src/") == 2


def test_a_store_and_caches_within_the_tree_are_no_part_of_it(
    tree: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each commit would hold all earlier ones, and never have the same address again."""
    alone = holdall("commit", tree, "--store", tree.parent / "store").line
    monkeypatch.setenv("XDG_CACHE_HOME", str(tree / "cache"))
    store = tree / "src" / "[store]"
    (tree / "cache").mkdir()
    (tree / "cache" / "other").touch()
    with_cache = holdall("commit", tree, "--store", store, "--no-ignore")
    again = holdall("commit", tree, "--store", store, "--no-ignore")

    assert (again.line, again.code) == (with_cache.line, 0)
    assert "holdall writes there: /src/\\[store]/, /cache/holdall/" in again.err
    assert holdall("compare", alone, again.line, "--store", store, "--store", tree.parent / "store").lines == [
        *("A .git", "A .git/HEAD", "A a.log", "A cache", "A cache/other"),
    ]


def test_the_printed_lines_fetch_and_run_it(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    need_tool("curl")
    need_tool("zstd")
    with running_server(tmp_path / "data", "--quiet") as server:
        done = holdall("commit", tree, "--store", server.url, "--run", "python3 src/app.py")
        assert done.code == 0
        _, shell, docker, cluster = done.out.decode().splitlines()
        ran = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, check=True)

    assert ran.stdout == b"hello from holdall\n"
    assert docker.startswith("docker run ")
    assert cluster.startswith("kubectl run ")


def test_a_ref_keeps_the_commits_in_order(
    tmp_path: Path, tree: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", tmp_path / "store")
    made = []
    for number in range(3):
        (tree / "name").write_text(str(number))
        done = holdall("commit", tree, *store, "--ref", "nightly", "-m", f"number\n{number}", "-q")
        made.append(done.out.decode().strip())
    shown = holdall("log", "nightly", *store).out.decode().splitlines()
    documents = [json.loads(line) for line in holdall("log", "nightly", *store, "--json").out.splitlines()]

    assert [line.split("  ")[0] for line in shown] == made[::-1]
    assert shown[0].endswith("  number\\n2")
    assert [found["message"] for found in documents] == [f"number\n{number}" for number in (2, 1, 0)]
    assert len(holdall("log", "nightly", *store, "-n", "2").out.splitlines()) == 2
    assert holdall("log", "weekly", *store).code == 3
    secret = tmp_path / "home" / ".config" / "holdall" / "ref-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("HOLDALL_REF_SECRET", "another")
    assert holdall("log", "nightly", *store).code == 3
    monkeypatch.delenv("HOLDALL_REF_SECRET")
    monkeypatch.setenv("HOME", str(tmp_path / "other home"))
    elsewhere = holdall("log", "nightly", *store)
    assert (elsewhere.code, "There is no secret of refs here" in elsewhere.err) == (3, True)
    assert not (tmp_path / "other home").exists()
    monkeypatch.setenv("HOLDALL_REF_SECRET", secret.read_text().strip())
    assert holdall("log", "nightly", *store).out.decode().splitlines() == shown


def test_two_who_commit_at_once_both_leave_their_entry(
    tmp_path: Path, tree: Path, holdall: Holdall, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = home | {"HOLDALL_REF_SECRET": "shared"}
    monkeypatch.setenv("HOLDALL_REF_SECRET", "shared")
    with running_server(tmp_path / "data", "--quiet") as server:
        command = [sys.executable, "-m", "holdall", "commit", str(tree), "--store", server.url, "--ref", "both", "-q"]
        running = [
            subprocess.Popen([*command, "-m", str(number)], env=clean_environment(given), stdout=subprocess.DEVNULL)
            for number in range(4)
        ]
        assert [process.wait() for process in running] == [0] * 4
        lines = holdall("log", "both", "--store", server.url, "--json").out.splitlines()

    assert sorted(json.loads(line)["message"] for line in lines) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothere"], 2, "cannot be read as a directory"),
        ([""], 2, "no name"),
        ([".", "--message", "without a ref"], 2, "--message goes with --ref"),
        ([".", "--codec", "lzma"], 2, "codec"),
        ([".", "--store", "http://127.0.0.1:{port}"], 6, "does not accept connections"),
        ([".", "--ref", ""], 2, "name of a ref"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tree: Path, holdall: Holdall, words: list[str], code: int, said: str
) -> None:
    store = [] if "--store" in words else ["--store", str(tree.parent / "store")]
    with closed_port() as port:
        done = holdall("commit", *(word.format(port=port) for word in words), *store)

    assert (done.code, done.out) == (code, b"")
    assert said in done.err
    assert done.err.splitlines()[-1].startswith("holdall: ")


def test_what_a_terminal_would_obey_does_not_reach_one(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    store = ("--store", str(tmp_path / "store"))
    name = str(tree / "a\x1b[2Jb\x9b")
    (tree / name).write_text("a name")
    holdall("commit", tree, *store, "--ref", "r", "-m", "red\x1b[31m\x9b", "-q")

    piped = holdall("put", name, "name", *store)
    log = holdall("log", "r", *store)
    shown = at_terminal("put", name, "name", *store) + at_terminal("checkout", os.path.basename(name), *store)

    assert piped.out.splitlines()[0].endswith(b"  " + os.fsencode(name))
    assert log.line.endswith("  red\\x1b[31m\\x9b")
    assert shown.count(rb"a\x1b[2Jb\x9b") == 2
    assert b"\x1b" not in shown


def at_terminal(*words: str) -> bytes:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "holdall", *words]
    subprocess.run(command, stdout=theirs, stderr=theirs, env=clean_environment({"TERM": "xterm"}), check=False)
    os.close(theirs)
    return read_terminal(ours)


def test_run_takes_a_command(tmp_path: Path, tree: Path, holdall: Holdall) -> None:
    done = holdall("commit", tree, "--store", tmp_path / "store", "--run", " ")

    assert (done.code, done.out, done.err) == (2, b"", "holdall: --run names no command.\n")


def test_a_named_pipe_in_the_place_of_a_file_of_ours_holds_nothing_up(
    tmp_path: Path, tree: Path, holdall: Holdall
) -> None:
    words = ("commit", str(tree), "--store", str(tmp_path / "store"))
    before = holdall(*words, "--ref", "r").line
    [cache] = (tmp_path / "home" / ".cache" / "holdall" / "trees").iterdir()
    secret = tmp_path / "home" / ".config" / "holdall" / "ref-secret"
    for ours in (cache, secret):
        ours.unlink()
        os.mkfifo(ours)

    done = run_cli(*words)
    refused = run_cli(*words, "--ref", "r")
    again = cache.is_file()

    assert (done.returncode, done.stdout.decode().strip(), again) == (0, before, True)
    assert refused.returncode == 2
    assert refused.stderr.endswith(b"/ref-secret, cannot be used: it is no plain file.\n")
