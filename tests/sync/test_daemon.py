"""Folders that daemons watch: what changes on one host is soon on the others, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from trial import say
from watched import Watched, arrive, asleep, put, same, watched

from holdall.limits.sync import SYNC_GROWING_BYTES_PER_SECOND
from holdall.sync.repository import Repository
from holdall.sync.watch import Elsewhere, Inotify
from support import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCHERS: dict[str, Callable[[str, Repository], Inotify | Elsewhere]] = {
    "inotify": lambda root, repository: Inotify(root, repository, f"{root}/.exclude"),
    "watchdog": lambda root, _: Elsewhere(root),
}
BUILT_FILES = 20_000 if "HOLDALL_TEST_LONG" in os.environ else 5_000

THOUSAND_COMMITS = """
import pathlib, sys, time
from holdall.sync.folder import Folder
from holdall.sync.merge import FILE, Entry
folder = Folder.open(sys.argv[1])
head, kept = folder.head(), folder.repository
tree = kept.tree_of(head)
(pathlib.Path(sys.argv[1]) / "counted").mkdir()
for number in range(1000):
    path, data = f"counted/{number % 100}", b"%d" % number
    pathlib.Path(sys.argv[1], path).write_bytes(data)
    tree = kept.edited(tree, {path.encode(): Entry(FILE, kept.put_blob(data))})
    head = kept.commit(tree, [head], author="alpha", time=int(time.time()), message=path)
kept.set_ref("refs/sync/alpha/main", head)
kept.set_ref("refs/heads/main", head)
"""


@pytest.mark.parametrize("kind", WATCHERS)
def test_what_the_system_tells_of_changes(kind: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "old").mkdir(parents=True)
    (outside / "came/deep").mkdir(parents=True)
    repository = Repository.create(str(tmp_path / "git"))
    watch = WATCHERS[kind](str(root), repository)
    heard: set[str] = set()

    def hears(*paths: str) -> None:
        def said() -> bool:
            heard.update(watch.read() or ())
            return heard >= set(paths)

        wait_until(said, f"{paths} of {heard}")
        heard.clear()

    try:
        watch.refresh(repository.empty)
        (root / "file").write_text("x")
        hears("file")
        (root / "old/file").write_text("x")
        hears("old/file")
        (root / "old/file").rename(root / "file")
        hears("old/file", "file")
        (outside / "came").rename(root / "came")
        hears("came")
        (root / "came/deep/file").write_text("x")
        hears("came/deep/file")
        (root / "came").rename(root / "went")
        hears("came", "went")
        (root / "went/deep/file").write_text("y")
        hears("went/deep/file")
        shutil.rmtree(root / "went/deep")
        hears("went/deep")
        (root / ".gitignore").write_text("x")
        wait_until(lambda: watch.read() is None, "an ignore file may concern everything")

        assert not watch.why_blind
    finally:
        watch.close()


def test_when_the_system_loses_hints_everything_is_looked_at(tmp_path: Path) -> None:
    try:
        held = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    except OSError:
        pytest.skip("there is no inotify")
    root = tmp_path / "root"
    root.mkdir()
    (root / "one").write_text("x")
    repository = Repository.create(str(tmp_path / "git"))
    watch = Inotify(str(root), repository, f"{root}/.exclude")
    try:
        watch.refresh(repository.empty)
        for _ in range(held // 4 + 1):  # each rename is two events
            (root / "one").rename(root / "two")
            (root / "two").rename(root / "one")
        lost = watch.read()
        (root / "one").write_text("y")
        wait_until(lambda: watch.read() == {"one"}, "what follows is heard again")
    finally:
        watch.close()

    assert lost is None
    assert not watch.why_blind


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Watched]]:
    with watched(tmp_path_factory.mktemp("hosts"), "alpha", "beta") as (alpha, beta):
        yield alpha, beta


@pytest.fixture
def pair(hosts: tuple[Watched, Watched]) -> tuple[Watched, Watched]:
    """Both hosts, when nothing is on its way any more that the test before did."""
    settle(*hosts)
    return hosts


def settle(*ones: Watched) -> None:
    """Waits until all have the same, and there is nothing left to do."""
    wait_until(lambda: same(*ones), "the nodes are equal: " + "".join(one.said() for one in ones))


def test_an_edit_is_soon_on_the_other_host_and_nothing_follows_from_it(pair: tuple[Watched, Watched]) -> None:
    seconds = []
    for number in range(10):
        here, there = pair if number % 2 else pair[::-1]
        data = b"edit %d\n" % number
        begun = time.monotonic()
        (here.root / "dir").mkdir(exist_ok=True)
        put(here, "dir/file", data)
        arrive(there, "dir/file", data)
        seconds.append(time.monotonic() - begun)
    sys.stdout.write(
        f"edit to edit: median {statistics.median(seconds) * 1000:.0f} ms, most {max(seconds) * 1000:.0f} ms\n"
    )
    settle(*pair)
    log = say(pair[0].host, "git --git-dir ~/.git.myrepo log --format=%an main -- dir/file").split()

    assert statistics.median(seconds) < DEADLINE_SECONDS / 3
    assert sorted(log) == ["alpha"] * 5 + ["beta"] * 5


def test_a_push_that_was_begun_ahead_may_break_off(pair: tuple[Watched, Watched]) -> None:
    here, there = pair
    assert here.daemon is not None
    # What the daemon itself has started: those of other pushes are started by git.
    ahead = f"-P {here.daemon.pid} -f '^ssh -F {here.host.home}/.*git-receive-pack'"
    said, numbers = len(here.said()), count()

    def edit() -> None:
        text = b"%d\n" % next(numbers)
        put(here, "ahead", text)
        arrive(there, "ahead", text)
        settle(*pair)

    def is_begun(command: str) -> bool:
        edit()
        for _ in range(20):  # then not: whatever else was to be said to the other host came first
            if say(here.host, f"{command} {ahead} >/dev/null; echo $?") == "0\n":
                return True
            time.sleep(0.1)
        return False

    for command in ("pgrep", "pkill -KILL"):
        wait_until(partial(is_begun, command), "the next push is begun")
    edit()

    assert "cannot" not in here.said()[said:]


def test_an_edit_on_both_hosts_at_once_keeps_both(pair: tuple[Watched, Watched]) -> None:
    with asleep(*pair):
        for one in pair:
            put(one, "both", f"of {one.host.name}\n".encode())
    wait_until(lambda: len([name for name in pair[0].files() if name.startswith("both")]) == 2, "a conflict copy")
    settle(*pair)
    found = [data for name, data in sorted(pair[1].files().items()) if name.startswith("both")]

    assert sorted(found) == [b"of alpha\n", b"of beta\n"]
    assert "CONFLICTS" in say(pair[0].host, "holdall sync status", code=1)
    say(pair[0].host, "cd ~/myrepo && holdall sync conflicts take both mine")
    settle(*pair)
    assert say(pair[1].host, "holdall sync conflicts --quiet") == ""


def test_the_ways_in_which_editors_save(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    root = alpha.root
    (root / "text").write_text("one\n")
    arrive(beta, "text", b"one\n")
    (root / ".#text").symlink_to("user@alpha.1234:5678")
    (root / ".text.swp").write_bytes(b"b0VIM" + bytes(4096))
    (root / "text").rename(root / "text~")
    (root / "text").write_text("two\n")
    (root / "text~").unlink()
    (root / "4913").write_bytes(b"")
    (root / "4913").unlink()
    (root / ".text.tmp").write_text("three\n")
    (root / ".text.tmp").rename(root / "text")
    (root / "text").chmod(0o755)
    (root / ".text.swp").unlink()
    (root / ".#text").unlink()
    arrive(beta, "text", b"three\n")
    wait_until(lambda: bool((beta.root / "text").stat().st_mode & 0o100), "the mode is there too")
    settle(*pair)

    assert [name for name in beta.files() if "text" in name] == ["text"]


def test_a_build_beside_it_holds_nothing_up(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    (alpha.root / ".gitignore").write_text("build/\n")
    arrive(beta, ".gitignore", b"build/\n")
    settle(*pair)
    build = alpha.root / "build"
    begun, head = alpha.rounds() or 0, alpha.head()
    for folder in range(BUILT_FILES // 500):
        (build / str(folder)).mkdir(parents=True)
        for number in range(500):
            (build / str(folder) / f"{number}.o").write_bytes(b"object")
    put(alpha, "source", b"changed while it is built\n")
    arrive(beta, "source", b"changed while it is built\n")
    shutil.rmtree(build)
    settle(*pair)

    assert not (beta.root / "build").exists()
    assert (alpha.rounds() or 0) - begun < 50
    assert say(alpha.host, f"git --git-dir ~/.git.myrepo rev-list --count {head}..main").strip() == "1"


def test_a_repository_in_the_folder_is_left_alone(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    say(alpha.host, "git init --quiet ~/myrepo/inner && echo x > ~/myrepo/inner/file")
    wait_until(lambda: "'inner/' is left alone: a git repository" in alpha.said(), f"it is said: {alpha.said()}")
    (alpha.root / "after").write_text("after\n")
    arrive(beta, "after", b"after\n")

    assert not (beta.root / "inner").exists()
    shutil.rmtree(alpha.root / "inner/.git")
    arrive(beta, "inner/file", b"x\n")
    shutil.rmtree(alpha.root / "inner")


def test_a_large_file_that_grows_is_not_kept_at_each_length(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    piece, begun = b"x" * 100_000, time.monotonic()
    with open(alpha.root / "film.part", "wb", buffering=0) as file:
        file.write(20 * piece)
        for _ in range(30):
            file.write(piece)
            time.sleep(0.06)
    (alpha.root / "film.part").rename(alpha.root / "film")
    arrive(beta, "film", 50 * piece)

    versions = say(alpha.host, "holdall sync log -C ~/myrepo film.part").splitlines()
    seldom = (time.monotonic() - begun) * SYNC_GROWING_BYTES_PER_SECOND / (20 * len(piece))
    assert len(versions) <= 3 + int(seldom), "when it was made, when it was closed, when it was renamed"


def test_a_folder_that_is_away_is_not_taken_for_an_empty_one(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    before = beta.files()
    away = alpha.root.with_name("away")
    alpha.root.rename(away)
    wait_until(lambda: "is a disk not mounted?" in say(alpha.host, "holdall sync status", code=None), "it is held")
    alpha.root.mkdir()
    wait_until(lambda: "folder is empty" in say(alpha.host, "holdall sync status", code=None), "it is still held")
    (beta.root / "meanwhile").write_text("meanwhile\n")
    alpha.root.rmdir()
    away.rename(alpha.root)
    arrive(alpha, "meanwhile", b"meanwhile\n")
    (alpha.root / "again").write_text("again\n")
    arrive(beta, "again", b"again\n")

    assert before.items() <= beta.files().items()


def test_a_history_that_is_taken_away_ends_the_daemon_with_a_sentence(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    history, away = alpha.host.home / ".git.myrepo", alpha.host.home / "away"
    history.rename(away)
    assert alpha.daemon is not None
    try:
        assert alpha.daemon.wait(DEADLINE_SECONDS) not in {0, None}
    finally:
        away.rename(history)
    assert "Traceback" not in alpha.said()
    alpha.stop()
    alpha.watch()
    settle(alpha, beta)


def test_a_daemon_that_is_killed_in_its_work_goes_on_when_it_is_started_again(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    many = alpha.root / "many"
    for number in range(3):
        if number:
            shutil.rmtree(many)
        many.mkdir()
        for file in range(300):
            (many / str(file)).write_text(f"{number} {file}\n" * 20)
        time.sleep(0.05 * number)
        assert alpha.stop(kill=True) == -9
        alpha.watch()
    settle(*pair)

    assert (beta.root / "many/299").read_text() == "2 299\n" * 20
    assert "watched already" in say(alpha.host, "holdall sync watch", code=1)
    assert alpha.stop() == 0
    assert "Stopped." in alpha.said()
    alpha.watch()


def test_a_cluster_heals_by_itself(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    if not alpha.host.enter:
        pytest.skip("ports of one host cannot be cut off from each other")
    alpha.host.cut_off()
    try:
        (alpha.root / "a").write_text("a\n")
        (beta.root / "b").write_text("b\n")
        stale = "holdall sync status --stale 4s >/dev/null 2>&1; echo $?"
        wait_until(lambda: say(alpha.host, stale) == "1\n", f"status says so: {alpha.said()}")
        assert not (beta.root / "a").exists()
    finally:
        alpha.host.connect()
    begun = time.monotonic()
    arrive(beta, "a", b"a\n")
    arrive(alpha, "b", b"b\n")
    sys.stdout.write(f"healed after {time.monotonic() - begun:.2f} s\n")
    settle(alpha, beta)
    wait_until(lambda: say(alpha.host, stale) == "0\n", f"all is well: {alpha.said()}")


def test_a_node_that_was_off_for_a_thousand_commits_catches_up_by_itself(pair: tuple[Watched, Watched]) -> None:
    alpha, beta = pair
    beta.stop(kill=True)
    beta.host.power_off()
    alpha.stop()
    before = int(say(alpha.host, "git --git-dir ~/.git.myrepo rev-list --count main"))
    made = alpha.host.run("python", "-c", THOUSAND_COMMITS, alpha.root)
    assert made.returncode == 0, made.stderr
    alpha.watch()
    beta.host.power_on()
    beta.watch()
    begun = time.monotonic()
    settle(alpha, beta)
    sys.stdout.write(f"caught up with 1,000 commits after {time.monotonic() - begun:.2f} s\n")

    assert (beta.root / "counted/99").read_text() == "999"
    assert int(say(beta.host, "git --git-dir ~/.git.myrepo rev-list --count main")) == before + 1000
