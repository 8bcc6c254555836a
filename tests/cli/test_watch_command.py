"""`holdall watch`: a real process, real files, and a real server that goes away and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import holdall
from support import clean_environment, need_tool, run_cli, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

QUICK = ("--codec", "none", "--settle", "100ms")


@dataclass(frozen=True, slots=True)
class Watching:
    """A running `holdall watch`."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def addresses(self) -> list[str]:
        return self.out.read_text().splitlines()

    @property
    def said(self) -> str:
        return self.err.read_text()

    def wait_for(self, count: int) -> str:
        """The address that it printed as the last of so many."""
        wait_until(lambda: len(self.addresses) >= count or self.process.poll() is not None, f"{count} addresses")
        assert len(self.addresses) == count, self.said
        return self.addresses[-1]

    def wait_to_hear(self, words: str, times: int = 1) -> None:
        wait_until(
            lambda: self.said.count(words) >= times or self.process.poll() is not None, f"{words!r}: {self.said}"
        )
        assert words in self.said

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def watching(
    tree: Path, *words: str | Path, env: Mapping[str, str] | None = None, before: tuple[str, ...] = ()
) -> Iterator[Watching]:
    """Runs `holdall watch` on a tree until the end of the block."""
    place = tree.parent
    out, err = place / "out", place / "err"
    command = [*before, sys.executable, "-m", "holdall", "watch", tree, *QUICK, *words]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        own = {"XDG_CACHE_HOME": str(place / "cache"), "HOLDALL_REF_SECRET": "secret", **(env or {})}
        process = subprocess.Popen([*map(str, command)], stdout=stdout, stderr=stderr, env=clean_environment(own))
    try:
        yield Watching(process, out, err)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "in").mkdir(parents=True)
    (root / "in" / "file").write_text("one")
    (root / ".gitignore").write_text("*.log\n/build/\n")
    return root


def change(tree: Path, name: str, text: str) -> None:
    """Replaces a file at once: one that is written in place may be committed while it is still empty."""
    new = tree.with_name("new file")
    new.write_text(text)
    new.replace(tree / name)


def committed(tree: Path, store: Path | str) -> str:
    """The address that a commit gives a tree."""
    with holdall.open(store) as opened:
        return opened.commit(tree, codec="none", no_cache=True).address.path


def test_each_change_is_committed_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with watching(tree, "--to", store) as watch:
        assert watch.wait_for(1) == committed(tree, store)
        (tree / "noise.log").write_text("ignored")
        (tree / "build").mkdir()
        (tree / "build" / "file").write_text("ignored")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "file").write_text("two")
        (tmp_path / "new").rename(tree / "in" / "new")
        second = watch.wait_for(2)
        assert second == committed(tree, store)
        (tree / "in" / "new" / "file").chmod(0o755)
        watch.wait_for(3)
        (tree / "in" / "new").rename(tree / "moved")
        assert watch.wait_for(4) == committed(tree, store)
        assert watch.end() == 0
    assert len(set(watch.addresses)) == 4


def test_what_it_writes_itself_starts_no_commit(tree: Path) -> None:
    with watching(tree, "--to", tree / "in" / "sto*re", env={"XDG_CACHE_HOME": str(tree / "cache")}) as watch:
        watch.wait_for(1)
        for number in range(2, 5):
            change(tree, "in/file", f"{number}")
            watch.wait_for(number)
        assert watch.end(signal.SIGINT) == 0
    assert len(watch.addresses) == 4
    assert "Left out" in watch.said


def test_a_server_that_is_away_is_waited_for(tree: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, watching(tree, "--to", server.url, "--json") as watch:
        watch.wait_for(1)
        server.stop(signal.SIGKILL)
        change(tree, "in/file", "two")
        watch.wait_to_hear("Trying again until it works")
        with running_server(tmp_path / "data", "--port", str(server.port)):
            assert committed(tree, server.url) in watch.wait_for(2)
            assert watch.end() == 0
    assert watch.said.count("Trying again") == watch.said.count("Committing again.") == 1


def test_a_tree_that_is_away_is_waited_for_and_never_taken_for_empty(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with watching(tree, "--to", tmp_path / "store") as watch:
        watch.wait_for(1)
        tree.rename(elsewhere)
        watch.wait_to_hear("cannot be read")
        elsewhere.rename(tree)
        watch.wait_to_hear("is back")
        change(tree, "in/file", "two")
        watch.wait_for(2)
        tree.rename(elsewhere)
        tree.mkdir()
        watch.wait_to_hear("waiting until it is back", times=2)
        change(tree, "not empty any more", "so this is the tree now")
        assert watch.wait_for(3) == committed(tree, tmp_path / "store")
        (tree / "not empty any more").unlink()
        assert watch.wait_for(4) == committed(tree, tmp_path / "store")
        assert watch.end() == 0


def test_a_commit_under_way_is_abandoned(tree: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with watching(tree, "--to", server.url) as watch:
                watch.wait_to_hear("Watching")
                assert watch.end() == 0
        finally:
            server.process.send_signal(signal.SIGCONT)
    assert watch.addresses == []


def test_each_version_is_in_the_history_once(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number in (1, 2):
        with watching(tree, "--to", store, "--ref", "work") as watch:
            first = watch.wait_for(1)
            (tree / "in" / "file").write_text(f"{number}")
            second = committed(tree, store)
            wait_until(lambda second=second: watch.addresses[-1] == second, "it is committed")  # type: ignore[misc]
            assert watch.end() == 0
        logged = run_cli("log", "work", "--from", store, env={"HOLDALL_REF_SECRET": "secret"}).stdout.decode()

        assert logged.count(first) == logged.count(second) == 1


def test_without_watches_left_the_tree_is_walked(tree: Path, tmp_path: Path) -> None:
    for number in range(20):
        (tree / f"{number}").mkdir()
    need_tool("unshare")
    limited = 'echo 8 > /proc/sys/user/max_inotify_watches && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no user namespaces")
    with watching(tree, "--to", tmp_path / "store", "--every", "300ms", before=before) as watch:
        watch.wait_for(1)
        for number in range(20):
            change(tree, f"{number}/file", "seen by a walk")
        wait_until(lambda: committed(tree, tmp_path / "store") in watch.addresses, "the walk sees it")
        assert watch.end() == 0
    assert watch.said.count("walking the tree every 0.3 s") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--settle", "soon"), "'soon' is not a duration."),
        (("--exclude", "./x"), "Nothing can match the pattern './x'."),
        (("--to", "tree"), "The tree is the store itself."),
        (("--encrypt",), "The store is not encrypted."),
    ],
    ids=["duration", "pattern", "store", "encryption"],
)
def test_wrong_use_is_refused(
    holdall: Holdall,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tree.parent)
    to = () if "--to" in words else ("--to", "./store")
    result = holdall("watch", tree, *to, *words)

    assert (result.code, sentence in result.err) == (2, True)
    assert holdall("watch", "", "--to", "./store").code == 2


def test_a_tree_that_was_never_there_is_not_waited_for(holdall: Holdall, tmp_path: Path) -> None:
    result = holdall("watch", tmp_path / "none", "--to", tmp_path / "store")

    assert (result.code, "Cannot read the directory" in result.err) == (1, True)


def test_a_missing_package_is_said_in_one_sentence(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "watchdog.py").write_text("raise ImportError")
    without = run_cli("watch", tree, "--to", tmp_path / "store", "--quiet", env={"PYTHONPATH": str(tmp_path / "path")})

    assert without.returncode == 2
    assert without.stderr == b"holdall: Watching needs the package watchdog. Install it: pip install 'holdall[watch]'\n"
