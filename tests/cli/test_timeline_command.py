"""`holdall timeline` as a new user types it: logs piped in, times in words, files out, two clones that follow."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from bench.timeline.processes import clones, git_environment

from support import clean_environment, need_tool, read_terminal, run_cli, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

NOON = "2026-05-04 12:00 UTC"


@pytest.fixture(autouse=True)
def _only_what_the_test_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    need_tool("git")
    with monkeypatch.context() as patch:
        for name, value in git_environment(str(tmp_path)).items():
            patch.setenv(name, value)
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def repo(tmp_path: Path) -> str:
    """A clone of a bare repository."""
    return clones(str(tmp_path), "clone")[0]


@pytest.fixture
def second(tmp_path: Path, repo: str) -> str:
    """Another clone of it."""
    del repo
    return clones(str(tmp_path), "second", bare=False)[0]


@contextmanager
def running(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """`holdall timeline` with these words, until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "holdall", "timeline", *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


Add = Callable[..., None]


@pytest.fixture
def add(holdall: Holdall, tmp_path: Path) -> Add:
    """Adds bytes to a repository, with more words of the command line."""

    def done(repo: str | Path, blob: bytes, *words: str | Path) -> None:
        (tmp_path / "blob").write_bytes(blob)
        result = holdall("timeline", "add", tmp_path / "blob", "-C", repo, *words)
        assert (result.code, result.out) == (0, b""), result.err

    return done


def test_a_log_goes_in_line_by_line_and_comes_back_since_yesterday(holdall: Holdall, repo: str, add: Add) -> None:
    log = b"".join(b"%d \xff tick\r\n\n" % number for number in range(300))
    done = run_cli("timeline", "add", "-C", repo, "--each-line", input=log)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"holdall: 600 blobs (3.1 KiB) added.\n")
    add(repo, b"long ago", "--time", "3 days ago")

    assert holdall("timeline", "get", "since yesterday", "-C", repo).out == log
    assert len(holdall("timeline", "ls", "-C", repo).lines) == 601
    assert holdall("timeline", "get", "midnight 5 days ago", "2 days ago", "-C", repo).out == b"long ago"


def test_lines_of_a_pipe_that_stays_open_arrive_elsewhere_and_stay_when_it_is_interrupted(
    holdall: Holdall, repo: str, second: str
) -> None:
    with running("add", "--each-line", "-C", repo, stdin=subprocess.PIPE) as adding:
        assert adding.stdin is not None
        adding.stdin.write(b"one\ntwo\nhal")
        adding.stdin.flush()
        wait_until(lambda: holdall("timeline", "get", "--pull", "-C", second).out == b"one\ntwo\n", "both came")
        adding.send_signal(signal.SIGINT)
        assert adding.wait(60) == 130

    assert holdall("timeline", "get", "-C", repo).out == b"one\ntwo\n"


def test_a_follower_prints_what_arrives_here_and_from_another_clone_whatever_its_time(
    repo: str, second: str, add: Add
) -> None:
    add(repo, b"before")
    with running("get", "--follow", "--every", "100ms", "-C", second) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline()]
        for at, text in ((repo, b"now"), (second, b"here"), (repo, b"of long ago")):
            add(at, text, *(("--time", NOON) if text == b"of long ago" else ()))
            lines.append(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130

    assert lines == [b"before\n", b"now\n", b"here\n", b"of long ago\n"]


def test_one_blob_comes_out_as_it_is_and_several_one_below_the_other(holdall: Holdall, repo: str, add: Add) -> None:
    blobs = [bytes(range(256)), b"", b"ends\n"]
    for number, blob in enumerate(blobs):
        add(repo, blob, "--time", f"@{number}", *(("--label", "odd") if number % 2 else ()))

    def got(*words: str) -> bytes:
        return holdall("timeline", "get", *words, "-C", repo).out

    assert [got(f"@{number}", f"@{number}") for number in range(3)] == blobs
    assert got() == blobs[0] + b"\n\nends\n"
    assert got("@2", "@0", "--raw") == b"ends\n" + blobs[0]
    assert got("--label", "odd", "--format", "{seconds} {size} {label}") == b"1.000000000 0 odd\n"
    rows = [json.loads(line) for line in got("--json").splitlines()]
    assert [base64.b64decode(row["blob_base64"]) for row in rows] == blobs
    assert [row["timestamp_ns"] for row in rows] == [0, 10**9, 2 * 10**9]
    assert [row["label"] for row in rows] == [None, "odd", None]
    assert rows[1]["time"] == "1970-01-01 00:00:01.000000+00:00"


def test_files_are_added_and_exported_under_their_times(holdall: Holdall, repo: str, tmp_path: Path, add: Add) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    out = tmp_path / "out"
    holdall("timeline", "add", tmp_path / "a", tmp_path / "b", "--time", NOON, "-C", repo)
    first = holdall("timeline", "export", out, "-C", repo)
    add(repo, b"c", "--time", "@-1.5")
    again = holdall("timeline", "export", out, "--json", "-C", repo)

    assert (first.code, first.err) == (0, "holdall: 2 files (2 B) written, 0 were there.\n")
    assert again.json == {"written": 1, "there": 2, "written_bytes": 1}
    names = sorted(os.listdir(out))
    assert [name[:26] for name in names] == ["19691231T235958.500000000Z", *["20260504T120000.000000000Z"] * 2]
    assert sorted((out / name).read_text() for name in names) == ["a", "b", "c"]
    assert {(out / name).stat().st_mtime for name in names} == {-1.5, 1777896000.0}


def test_the_histogram_is_drawn_on_a_terminal_and_plain_in_a_pipe(holdall: Holdall, repo: str, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for hour, count in ((12, 3), (14, 1)):
        holdall("timeline", "add", *[tmp_path / "a"] * count, "--time", f"2026-05-04 {hour}:00 UTC", "-C", repo)
    plain = holdall("timeline", "stats", "-C", repo).lines
    mine, its = pty.openpty()
    words = [sys.executable, "-m", "holdall", "timeline", "stats", "-C", repo]
    subprocess.run(words, stdout=its, env=clean_environment({"TERM": "xterm-256color"}), check=True)
    os.close(its)
    drawn = read_terminal(mine).decode()

    assert plain[0].split() == ["blobs", "4"]
    assert "2026-05-04 12:00:00+00:00  3" in [line.strip() for line in plain]
    assert sum(int(line.split()[-1]) for line in plain if line.startswith("2026")) == 4
    assert "\x1b[" in drawn
    assert "█" in drawn


def test_a_key_is_made_once_and_a_wrong_one_is_damage(holdall: Holdall, repo: str, tmp_path: Path, add: Add) -> None:
    keys = [tmp_path / "key", tmp_path / "wrong"]
    for key in keys:
        assert holdall("timeline", "key", key).code == 0
    before = keys[0].read_bytes()
    again = holdall("timeline", "key", keys[0])
    with_key = ("-C", repo, "--compression", "zstd", "--key-file")
    add(repo, b"secret", *with_key[2:4], "--key-file", str(keys[0]))

    assert (again.code, keys[0].read_bytes()) == (1, before)
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert holdall("timeline", "get", *with_key, keys[0]).out == b"secret"
    wrong = holdall("timeline", "get", *with_key, keys[1])
    assert (wrong.code, wrong.out) == (4, b"")
    assert holdall("timeline", "verify", *with_key, keys[0]).code == 0
    verified = holdall("timeline", "verify", *with_key, keys[1])
    assert (verified.code, len(verified.lines)) == (4, 1)


def test_a_new_repository_keeps_the_layout_it_was_made_with(holdall: Holdall, tmp_path: Path, add: Add) -> None:
    repo = tmp_path / "new"
    holdall("timeline", "init", "--layout", "hour", "-C", repo)
    add(str(repo), b"x", "--time", NOON)

    assert [path.name for path in (repo / "2026" / "05" / "04").iterdir()] == ["12"]
    assert holdall("timeline", "get", "-C", repo).out == b"x"
    assert holdall("timeline", "push", "-C", repo).code == 2


def test_what_cannot_be_pushed_is_kept_and_goes_out_with_the_next_push(
    holdall: Holdall, repo: str, second: str, tmp_path: Path
) -> None:
    (tmp_path / "remote.git").rename(tmp_path / "away")
    (tmp_path / "blob").write_bytes(b"kept")
    added = holdall("timeline", "add", tmp_path / "blob", "-C", repo)
    (tmp_path / "away").rename(tmp_path / "remote.git")

    assert (added.code, holdall("timeline", "get", "-C", repo).out) == (6, b"kept")
    assert holdall("timeline", "push", "-C", repo).code == 0
    assert holdall("timeline", "pull", "-C", second).code == 0
    assert holdall("timeline", "get", "-C", second).out == b"kept"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("get", "--every", "1s"), 2, "--every says how often --follow pulls."),
        (("get", "--raw", "--json"), 2, "--json, --raw and --format exclude one another."),
        (("get", "--format", "{nope}"), 2, "There is no {nope} in a --format."),
        (("add", "--each-line", "x"), 2, "--each-line reads standard input"),
        (("add", "/nowhere"), 1, "Cannot use '/nowhere': No such file or directory."),
        (("ls", "-C", "/nowhere"), 3, "There is no git repository at /nowhere"),
        (("ls", "--compression", "nope"), 2, "'nope' is no compression"),
        (("ls", "--key-file", "/nowhere"), 1, "The key file cannot be read: No such file or directory."),
        (("key", "/nowhere/key"), 1, "Cannot write '/nowhere/key': No such file or directory."),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(
    holdall: Holdall, repo: str, words: tuple[str, ...], code: int, sentence: str
) -> None:
    result = holdall("timeline", *words, *(() if "-C" in words or words[0] == "key" else ("-C", repo)))

    assert (result.code, result.out, result.err.count("\n")) == (code, b"", 1)
    assert result.err.startswith(f"holdall: {sentence}" if not result.err.startswith("{") else "{")


def test_without_its_packages_it_says_how_to_get_them() -> None:
    script = "import sys; sys.modules['pygit2'] = None; from holdall.cli.main import main; sys.exit(main())"

    ran = subprocess.run([sys.executable, "-c", script, "timeline", "ls"], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "pip install 'holdall[timeline]'" in ran.stderr
