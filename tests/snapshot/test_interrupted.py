"""Commits, checkouts and backups that are killed, and stores that are killed under them: run again, they complete.

Each kill comes at a moment of chance between the first thing a command has done and its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from holdall.core.address import is_entry_name
from support import DEADLINE_SECONDS, clean_environment, free_port, run_cli, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import Server

LONG = bool(os.environ.get("HOLDALL_TEST_LONG"))
KILLS = 40 if LONG else 1
RESENT_SHARE_MAX = 0.01
"""Of the bytes that were acknowledged, how many may be sent again."""
KEY = "a key for tests"
OPTIONS = {"commit": ("--preserve", "--no-cache"), "checkout": ("--overwrite",), "backup": ()}
ENDINGS = {signal.SIGINT: (130, b"holdall: Interrupted.\n"), signal.SIGTERM: (143, b"holdall: Terminated.\n")}

pytestmark = pytest.mark.timeout(3000 if LONG else 300)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the tests of this module share.

    Attributes:
        tree: A directory tree with something of each kind.
        store: A directory store with its commit and a few slots.
        address: The commit's.
        sent_bytes: What committing it to an empty store sends.
        work_seconds: How long each command works on it, by its name, once it has begun.
    """

    tree: Path
    store: Path
    address: str
    sent_bytes: int
    work_seconds: dict[str, float]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    base, random = tmp_path_factory.mktemp("interrupted"), Random(1)
    tree = base / "tree"
    for number in range(400):
        path = tree / f"{number % 20:02}" / f"{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.randrange(40_000)))
        path.chmod(random.choice((0o600, 0o644, 0o755)))
    for number in range(6):
        (tree / f"large {number}").write_bytes(random.randbytes(3_000_000))
    (tree / "empty").mkdir(mode=0o700)
    (tree / "link").symlink_to("00/000")
    os.link(tree / "00" / "000", tree / "zz")
    store = base / "store"
    work_seconds = {}
    with working("commit", tree, "--store", store, begun=lambda: bool(blobs(store))) as commit:
        began = time.monotonic()
        out, _ = commit.communicate()
        work_seconds["commit"] = time.monotonic() - began
    report = json.loads(out)
    for number in range(3):
        run_cli("slot", "set", "--store", store, "--key", f"key {number}", "--value", random.randbytes(500).hex())
    for name, words, begun in (
        ("checkout", (report["address"], base / "out", "--store", store), lambda: building(base / "out")),
        ("backup", (store, base / "copy"), lambda: bool(blobs(base / "copy"))),
    ):
        with working(name, *words, begun=begun) as process:
            began = time.monotonic()
            process.communicate()
            work_seconds[name] = time.monotonic() - began
    assert picture(base / "out") == picture(tree)
    return Setting(tree, store, report["address"], report["sent_bytes"], work_seconds)


@pytest.fixture
def random(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Random]:
    """A source of chance whose seed is shown when the test fails."""
    seed = os.environ.get("HOLDALL_TEST_SEED") or str(secrets.randbelow(1 << 32))
    yield Random(f"{seed} {request.node.name}")
    with capsys.disabled():
        sys.stdout.write(f"\n  HOLDALL_TEST_SEED={seed} ")


@contextmanager
def working(command: str, *words: str | Path, begun: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command until the end of the block, which starts when it has begun its work, or has ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "holdall", command, *map(str, words), *OPTIONS[command], "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment({"HOLDALL_API_KEY": KEY}),
    ) as process:
        try:
            wait_until(lambda: begun() or process.poll() is not None, f"{command} has begun")
            yield process
        finally:
            process.kill()


def killed(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Kills a process after so long; what it had printed."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    out, err = process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, err
    return out


def completed(command: str, *words: str | Path) -> Any:
    """What a command that must succeed tells in JSON."""
    done = run_cli(command, *words, *OPTIONS.get(command, ()), "--json", env={"HOLDALL_API_KEY": KEY})
    assert (done.returncode, done.stderr) == (0, b""), done
    return json.loads(done.stdout)


def blobs(store: Path) -> dict[str, int]:
    """The entries of a directory store, with their lengths."""
    with suppress(FileNotFoundError), os.scandir(store) as found:
        return {item.name: item.stat().st_size for item in found if is_entry_name(item.name)}
    return {}


def digests(store: Path) -> dict[str, str]:
    """The entries of a directory store, with the hashes of their contents."""
    return {name: hashlib.sha256((store / name).read_bytes()).hexdigest() for name in blobs(store)}


def left_in(store: Path) -> set[str]:
    """What else is in a directory store."""
    return {name for name in os.listdir(store) if not is_entry_name(name)} - {".holdall-control"}


def building(out: Path) -> bool:
    """Whether a checkout has begun to build a directory."""
    return any(path.name.startswith(f".{out.name}.holdall-") for path in out.parent.iterdir())


def picture(tree: Path) -> dict[str, tuple[Any, ...]]:
    """All that is in a tree: its modes, times, hard links and contents."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        what = path.read_bytes() if is_file else os.readlink(path) if path.is_symlink() else None
        found[str(path.relative_to(tree))] = (status.st_mode, status.st_mtime_ns, is_file and status.st_nlink, what)
    return found


@contextmanager
def served(data: Path, where: str, *options: str) -> Iterator[str]:
    """The name of a store: the directory itself, or a server that serves it."""
    if where == "directory":
        yield str(data)
        return
    with running_server(data, "--quiet", *options, env={"HOLDALL_API_KEY": KEY}) as server:
        yield server.url


def resent_share(there_bytes: int, sent_bytes: int, needed_bytes: int) -> float:
    """Of what was there before the second run, how much it sent again."""
    return (there_bytes + sent_bytes - needed_bytes) / max(there_bytes, 1)


# --- the command is killed ---


@pytest.mark.parametrize("where", ["directory", "server"])
def test_a_killed_commit_completes_when_run_again(setting: Setting, tmp_path: Path, random: Random, where: str) -> None:
    for kill in range(KILLS):
        data = tmp_path / f"data {kill}"
        moment = (kill + random.random()) / KILLS * setting.work_seconds["commit"]
        with served(data, where) as store:
            words = (setting.tree, "--store", store)
            with working("commit", *words, begun=lambda data=data: bool(blobs(data))) as process:  # type: ignore[misc]
                out = killed(process, moment)
            if out:  # the address was printed, so all that it names is there
                completed("verify", json.loads(out)["address"], "--store", store)
            there = sum(blobs(data).values())
            report = completed("commit", *words)

            assert report["address"] == setting.address
            assert resent_share(there, report["sent_bytes"], setting.sent_bytes) < RESENT_SHARE_MAX
        assert left_in(data) == set()
        assert digests(data).items() <= digests(setting.store).items()
        shutil.rmtree(data)


@pytest.mark.parametrize("where", ["directory", "server"])
def test_a_killed_checkout_leaves_nothing_half_and_completes_when_run_again(
    setting: Setting, tmp_path: Path, random: Random, where: str
) -> None:
    source, out = picture(setting.tree), tmp_path / "out"
    with served(setting.store, where) as store:
        words = (setting.address, out, "--store", store)
        for kill in range(KILLS):
            moment = (kill + random.random()) / KILLS * setting.work_seconds["checkout"]
            with working("checkout", *words, begun=lambda: building(out)) as process:
                killed(process, moment)

            assert not out.exists() or picture(out) == source
            completed("checkout", *words)
            assert os.listdir(tmp_path) == ["out"]
            assert picture(out) == source
            shutil.rmtree(out)


def test_a_killed_checkout_into_a_directory_leaves_whole_files_there(
    setting: Setting, tmp_path: Path, random: Random
) -> None:
    source, out = picture(setting.tree), tmp_path / "out"
    words = (setting.address, out, "--store", setting.store)
    for kill in range(KILLS):
        (out / "00").mkdir(parents=True)
        (out / "00" / "000").write_bytes(b"another")
        (out / "mine").write_bytes(b"mine")
        moment = (kill + random.random()) / KILLS * setting.work_seconds["checkout"]
        begun = (out / "01").exists
        with working("checkout", *words, begun=begun) as process:
            killed(process, moment)

        files = {name: found[-1] for name, found in picture(out).items() if isinstance(found[-1], bytes)}
        temporary = {name for name in files if os.path.basename(name).startswith(".holdall-")}
        half = {name for name in files.keys() - temporary - {"mine"} if files[name] != source[name][-1]}
        assert half <= {"00/000"}
        assert "00/000" not in half or files["00/000"] == b"another"
        assert len(temporary) <= 1
        completed("checkout", *words)
        (out / "mine").unlink()
        assert picture(out) == source
        shutil.rmtree(out)


@pytest.mark.parametrize(("source", "target"), [("directory", "server"), ("server", "directory")])
def test_a_killed_backup_completes_when_run_again(
    setting: Setting, tmp_path: Path, random: Random, source: str, target: str
) -> None:
    needed = blobs(setting.store)
    for kill in range(KILLS):
        data = tmp_path / f"data {kill}"
        moment = (kill + random.random()) / KILLS * setting.work_seconds["backup"]
        with served(setting.store, source) as here, served(data, target) as there:
            begun = lambda data=data: bool(blobs(data))  # noqa: E731 - of this turn
            with working("backup", here, there, begun=begun) as process:
                killed(process, moment)
            before = sum(blobs(data).values())
            report = completed("backup", here, there)

            assert resent_share(before, report["copied_bytes"], sum(needed.values())) < RESENT_SHARE_MAX
        assert digests(data) == digests(setting.store)
        assert left_in(data) == set()
        shutil.rmtree(data)


# --- the store is killed ---


def kill_server(server: Server) -> None:
    """Kills a server and its workers."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        workers = [int(child) for child in file.read().split()]
    with ExitStack() as held:
        ends = [held.enter_context(open(os.pidfd_open(each), "rb", buffering=0)) for each in workers]
        for each in (pid, *workers):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        server.process.wait()
        for end in ends:  # until a worker has ended, the port is its own
            assert select.select([end], [], [], DEADLINE_SECONDS)[0]


@pytest.mark.parametrize("command", ["commit", "backup"])
@pytest.mark.parametrize("away", ["for a moment", "for long"])
def test_a_store_that_is_killed_and_started_again_loses_nothing(
    setting: Setting, tmp_path: Path, random: Random, command: str, away: str
) -> None:
    needed = blobs(setting.store) if command == "backup" else None
    for kill in range(max(1, KILLS // 3)):
        data, options = tmp_path / f"data {kill}", ("--workers", "2", "--port", str(free_port()))
        moment = random.random() * setting.work_seconds[command]
        with running_server(data, *options, env={"HOLDALL_API_KEY": KEY}) as server:
            words: tuple[str | Path, ...] = (setting.tree, "--store", server.url)
            if command == "backup":
                words = (setting.store, server.url)
            with working(command, *words, begun=lambda data=data: bool(blobs(data))) as process:  # type: ignore[misc]
                time.sleep(moment)
                kill_server(server)
                if away == "for long":
                    process.wait(DEADLINE_SECONDS)
                with running_server(data, *options, env={"HOLDALL_API_KEY": KEY}):
                    out, err = process.communicate(timeout=DEADLINE_SECONDS)
                    code = process.returncode
                    if code == 0 and command == "commit":
                        completed("verify", json.loads(out)["address"], "--store", server.url)
                    before = sum(blobs(data).values())
                    report = completed(command, *words)

        assert code in {0, 6}, err
        assert code == 0 or (out == b"" and b'"exit_code": 6' in err and err.count(b"\n") == 1), err
        sent = report["sent_bytes" if command == "commit" else "copied_bytes"]
        total = setting.sent_bytes if needed is None else sum(needed.values())
        assert resent_share(before, sent, total) < RESENT_SHARE_MAX
        assert digests(data).items() <= digests(setting.store).items()
        assert needed is None or blobs(data) == needed
        shutil.rmtree(data)


# --- somebody has had enough ---


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["commit", "checkout", "backup"])
def test_a_command_that_is_told_to_stop_says_so_and_leaves_nothing_half(
    setting: Setting, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    words, begun = {
        "commit": ((setting.tree, "--store", data), lambda: bool(blobs(data))),
        "checkout": ((setting.address, out, "--store", setting.store), lambda: building(out)),
        "backup": ((setting.store, data), lambda: bool(blobs(data))),
    }[command]
    with working(command, *words, begun=begun) as process:
        process.send_signal(number)
        told, err = process.communicate(timeout=DEADLINE_SECONDS)

    if not told:  # it may just have ended
        assert (process.returncode, told, err) == (ENDINGS[number][0], b"", ENDINGS[number][1])
        assert not out.exists()
        assert not data.exists() or left_in(data) == set()
    completed(command, *words)
    if command == "checkout":
        assert os.listdir(tmp_path) == ["out"]
        assert picture(out) == picture(setting.tree)
    else:
        assert digests(data).items() <= digests(setting.store).items()
        assert sum(blobs(data).values()) >= setting.sent_bytes
