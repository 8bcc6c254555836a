"""`holdall commit` and `holdall log` as a user runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import clean_environment, free_port, need_tool, run_cli, running_server

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = re.compile(rb"/[0-9a-f]{64}\.tig\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src" / "app.py").write_text("print('hello from', open('name').read())\n")
    (root / "name").write_text("holdall")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".gitignore").write_text("*.log\n")
    (root / "a.log").write_text("a log")
    return root


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}


def test_the_address_alone_is_on_standard_output(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    done = run_cli("commit", tree, "--store", tmp_path / "store", env=home)

    assert done.returncode == 0
    assert ADDRESS.fullmatch(done.stdout)
    assert done.stderr.startswith(b"holdall: 4 entries, ")


def test_json_tells_what_was_done(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    first = json.loads(run_cli("commit", tree, "--store", tmp_path / "store", "--json", env=home).stdout)
    again = json.loads(run_cli("commit", tree, "--store", tmp_path / "store", "--json", env=home).stdout)

    assert set(first) == {"address", "entries", "size_bytes", "chunks", "sent_chunks", "sent_bytes", "skipped"}
    assert (first["entries"], first["skipped"], again["sent_bytes"]) == (4, [], 0)
    assert again["address"] == first["address"]


def test_what_is_left_out_is_what_was_asked_for(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    def entries(*options: str) -> int:
        done = run_cli("commit", tree, "--store", tmp_path / "store", "--json", *options, env=home)
        return int(json.loads(done.stdout)["entries"])

    assert entries() == 4
    assert entries("--no-ignore") == 7
    assert entries("--exclude", "*.py", "--exclude", "name") == 2
    assert entries("--exclude", "/src/") == 2


def test_the_printed_lines_fetch_and_run_it(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    need_tool("curl")
    need_tool("zstd")
    with running_server(tmp_path / "data", "--quiet") as server:
        done = run_cli("commit", tree, "--store", server.url, "--run", "python3 src/app.py", env=home)
        assert done.returncode == 0
        _, shell, docker, cluster = done.stdout.decode().splitlines()
        ran = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, check=True)

    assert ran.stdout == b"hello from holdall\n"
    assert docker.startswith("docker run ")
    assert cluster.startswith("kubectl run ")


def test_a_ref_keeps_the_commits_in_order(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    store = ("--store", tmp_path / "store")
    made = []
    for number in range(3):
        (tree / "name").write_text(str(number))
        done = run_cli("commit", tree, *store, "--ref", "nightly", "-m", f"number\n{number}", "-q", env=home)
        made.append(done.stdout.decode().strip())
    shown = run_cli("log", "nightly", *store, env=home).stdout.decode().splitlines()
    documents = [json.loads(line) for line in run_cli("log", "nightly", *store, "--json", env=home).stdout.splitlines()]

    assert [line.split("  ")[0] for line in shown] == made[::-1]
    assert shown[0].endswith("  number\\n2")
    assert [found["message"] for found in documents] == [f"number\n{number}" for number in (2, 1, 0)]
    assert len(run_cli("log", "nightly", *store, "-n", "2", env=home).stdout.splitlines()) == 2
    assert run_cli("log", "weekly", *store, env=home).returncode == 3
    assert run_cli("log", "nightly", *store, env=home | {"HOLDALL_REF_SECRET": "another"}).returncode == 3
    secret = tmp_path / "home" / ".config" / "holdall" / "ref-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    given = home | {"HOLDALL_REF_SECRET": secret.read_text().strip(), "HOME": str(tmp_path / "other home")}
    assert run_cli("log", "nightly", *store, env=given).stdout.decode().splitlines() == shown


def test_two_who_commit_at_once_both_leave_their_entry(tmp_path: Path, tree: Path, home: dict[str, str]) -> None:
    given = home | {"HOLDALL_REF_SECRET": "shared"}
    with running_server(tmp_path / "data", "--quiet") as server:
        command = [sys.executable, "-m", "holdall", "commit", str(tree), "--store", server.url, "--ref", "both", "-q"]
        running = [
            subprocess.Popen([*command, "-m", str(number)], env=clean_environment(given), stdout=subprocess.DEVNULL)
            for number in range(4)
        ]
        assert [process.wait() for process in running] == [0] * 4
        lines = run_cli("log", "both", "--store", server.url, "--json", env=given).stdout.splitlines()

    assert sorted(json.loads(line)["message"] for line in lines) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothere"], 2, b"cannot be read as a directory"),
        ([".", "--message", "without a ref"], 2, b"--message goes with --ref"),
        ([".", "--codec", "lzma"], 2, b"codec"),
        ([".", "--store", "http://127.0.0.1:{port}"], 6, b"does not accept connections"),
        ([".", "--ref", ""], 2, b"name of a ref"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tmp_path: Path, tree: Path, home: dict[str, str], words: list[str], code: int, said: bytes
) -> None:
    words = [word.format(port=free_port()) for word in words]
    store = [] if "--store" in words else ["--store", str(tmp_path / "store")]
    done = run_cli("commit", *words, *store, env=home, cwd=tree)

    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"holdall: ")
