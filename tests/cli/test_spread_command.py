"""Commands over several providers: real servers that die, lie, lose everything and are slow."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.core.placement import Placement
from holdall.limits import KIB, MIB
from support import Server, clean_environment, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

KEY = "the key of all providers"
RATE = 2 * MIB
"""Bytes a second that a throttled server sends and takes."""
LINES = ("line 0", "line 1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch) -> Path:
    del holdall
    home = tmp_path / "home"
    home.mkdir()
    (home / "key").write_text(KEY)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.chdir(home)
    return home


@contextmanager
def providers(place: Path, count: int) -> Iterator[list[Server]]:
    """So many servers with a key until the end of the block; one that was ended is started again with `revive`."""
    with ExitStack() as running, ThreadPoolExecutor() as threads:
        starts = [threads.submit(serve, running, place / f"provider{number}") for number in range(count)]
        yield [start.result() for start in starts]


def serve(running: ExitStack, data: Path, *options: str) -> Server:
    return running.enter_context(running_server(data, *options, env={"HOLDALL_API_KEY": KEY}))


def revive(server: Server) -> Server:
    """Starts one again where it was; it ends with the test's process group at the latest, or by `stop`."""
    stack = ExitStack()
    again = serve(stack, server.data, "--port", str(server.port))
    _REVIVED.append(stack)
    return again


_REVIVED: list[ExitStack] = []


@pytest.fixture(autouse=True)
def _end_revived() -> Iterator[None]:
    yield
    while _REVIVED:
        _REVIVED.pop().close()


def wipe(server: Server) -> Server:
    """Takes all that one holds; it runs again, with nothing."""
    server.stop(signal.SIGKILL)
    shutil.rmtree(server.data)
    return revive(server)


def make_lie(server: Server) -> Server:
    """Flips a bit in each 4 KiB of every entry of one, behind its back; it runs anew, so that nothing is cached."""
    server.stop()
    for path in server.data.glob("*.tig"):
        data, mode = bytearray(path.read_bytes()), path.stat().st_mode
        for at in range(len(data) // 2 % 4096, len(data), 4096):
            data[at] ^= 0x20
        path.chmod(0o600)
        path.write_bytes(data)
        path.chmod(mode)
    return revive(server)


def add(holdall: Holdall, name: str, urls: list[str], *options: str) -> None:
    added = holdall("store", "add", name, *urls, *options, *(["--api-key-file", "key"] * len(urls)))

    assert added.code == 0, added.err


def tree_at(place: Path, size_bytes: int, *, text: bool = False) -> Path:
    """A tree of two files and so many bytes, the same every time; of text, or of what cannot be compressed."""
    place.mkdir()
    chance = random.Random(size_bytes)
    words = " ".join(chance.choices(("all", "work", "and", "no", "play", "makes", "dull"), k=size_bytes // 4))
    data = words.encode()[:size_bytes] if text else chance.randbytes(size_bytes)
    (place / "large").write_bytes(data)
    (place / "small").write_text("hello\n")
    return place


def same(tree: Path, restored: Path) -> bool:
    return [(tree / name).read_bytes() for name in ("large", "small")] == [
        (restored / name).read_bytes() for name in sorted(os.listdir(restored))
    ]


class Throttle:
    """A server reached through a line of `RATE` bytes a second, both ways together.

    Args:
        port: Its port.
        stands_still: Asked whether nothing passes just then.

    Attributes:
        url: Where.
        passed: When bytes came through, and how many.
    """

    def __init__(self, port: int, stands_still: Callable[[], bool] = lambda: False) -> None:
        self._port = port
        self._stands_still = stands_still
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.passed: list[tuple[float, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(16 * KIB):
                with self._lock:
                    now = time.monotonic()
                    self._free_at = max(self._free_at, now) + len(data) / RATE
                    wait = self._free_at - now
                time.sleep(wait)
                while self._stands_still():
                    time.sleep(0.01)
                other.sendall(data)
                self.passed.append((time.monotonic(), len(data)))
        except OSError:
            pass
        finally:
            for end in (one, other):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            one.close()  # the other is closed by who reads it


def test_a_mirror_survives_a_server_killed_amid_a_commit_and_is_made_whole(
    holdall: Holdall, home: Path, tmp_path: Path
) -> None:
    tree = tree_at(tmp_path / "tree", 6 * MIB)

    def is_under_way() -> bool:
        return any(servers[1].data.glob("*.tig"))

    with providers(tmp_path, 3) as servers:
        line = Throttle(servers[1].port, lambda: is_under_way() and servers[1].process.poll() is None)
        add(holdall, "trio", [servers[0].url, line.url, servers[2].url])
        commit = subprocess.Popen(
            [sys.executable, "-m", "holdall", "commit", str(tree), "--to", "trio"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
        )
        wait_until(is_under_way, "the commit is under way")
        servers[1].process.send_signal(signal.SIGKILL)
        out, err = commit.communicate(timeout=120)
        address = out.decode().strip()

        assert commit.returncode == 1, err
        assert f"holdall: {line.url}: " in err.decode()
        assert "holdall verify --store trio --repair" in err.decode()
        restored = holdall("checkout", address, "while", "--from", "trio")
        assert (restored.code, same(tree, home / "while")) == (0, True)

        unfinished = holdall("verify", "trio", "--repair")
        revive(servers[1])
        whole = holdall("verify", "trio", "--repair", "--json").json
        again = holdall("verify", "--store", "trio", address, "--repair", "--json").json
        for number in (0, 2):
            servers[number].stop()
        alone = holdall("checkout", address, "after", "--from", "trio", "--json")
        line.close()

    assert unfinished.code == 4
    assert (list(whole["repaired"]), whole["failed"]) == ([line.url], 0)
    assert (again["repaired"], again["failed"], again["entries"] > 3) == ({}, 0, True)
    assert (alone.code, same(tree, home / "after")) == (0, True)
    faults = {json.loads(told)["fault"]["member"] for told in alone.err.splitlines()}
    assert faults == {servers[0].url, servers[2].url}


def test_the_next_commit_brings_a_mirror_up_to_date(holdall: Holdall, home: Path, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "tree", 300 * KIB)
    one, two = tmp_path / "one", tmp_path / "two"
    add_words = ("--to", one, "--to", two)
    first = holdall("commit", tree, *add_words)
    shutil.rmtree(two)
    (tree / "small").write_text("changed\n")
    second = holdall("commit", tree, *add_words)
    restored = holdall("checkout", first.line, "restored", "--from", one, "--from", two)

    assert (first.code, second.code, restored.code) == (0, 0, 0)
    assert "it lacked or had wrong were mended" in second.err
    assert holdall("checkout", second.line, "again", "--from", two).code == 0
    assert same(tree, home / "again")


def test_another_secret_repairs_nothing_and_says_so(holdall: Holdall, home: Path, tmp_path: Path) -> None:
    places = [str(home / name) for name in ("one", "two", "three")]
    for name in ("mine", "other"):
        holdall("store", "add", name, *places, "--spread", "shares")
    holdall("commit", tree_at(tmp_path / "tree", KIB), "--to", "mine")
    mine, other = holdall("verify", "mine", "--repair"), holdall("verify", "other", "--repair")

    assert (mine.code, other.code) == (0, 5)
    assert "stored with another secret" in other.err


def test_an_encrypted_mirror_repairs_what_one_member_changed(holdall: Holdall, home: Path, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "tree", 300 * KIB, text=True)
    with providers(tmp_path, 2) as servers:
        add(holdall, "vault", [server.url for server in servers], "--encrypt")
        committed = holdall("commit", tree, "--to", "vault", "--encrypt", "--codec", "none", "--run", "true")
        address = committed.lines[0]
        servers[0] = make_lie(servers[0])
        repaired = holdall("verify", "vault", "--repair", "--json")
        servers[1].stop(signal.SIGKILL)
        alone = holdall("checkout", address, "alone", "--from", "vault")

    assert committed.code == 0
    assert "needs holdall and the profile vault" in committed.err
    assert [line for line in committed.lines if "curl" in line] == []
    assert (repaired.code, list(repaired.json["repaired"])) == (0, [servers[0].url])
    assert (alone.code, same(tree, home / "alone")) == (0, True)


def test_a_stripe_over_two_slow_servers_is_almost_twice_as_fast_as_one(
    holdall: Holdall, home: Path, tmp_path: Path
) -> None:
    fill(holdall, tmp_path / "full", 4 * MIB)
    with providers(tmp_path, 2) as servers, ExitStack() as open_lines:
        lines = [open_lines.enter_context(closing(Throttle(server.port))) for server in servers]
        for members in (1, 2):
            stores = [  # named by hand, for the names decide what lies where
                {"name": name, "url": line.url, "api_key": KEY}
                for name, line in zip(LINES[:members], lines, strict=False)
            ]
            profile = {"name": f"over{members}", "stores": stores, "spread": "stripe" if members == 2 else None}
            (home / "profile").write_text(json.dumps({"holdall_profiles": 1, "profiles": [profile]}))
            assert holdall("store", "import", "profile").code == 0

        def seconds(members: int, *words: str | Path) -> float:
            done = holdall("backup", *words, "--jobs", "64", "--json")
            assert (done.code, done.json["copied_bytes"]) == (0, 4 * MIB), done.err
            return taken(lines[:members])

        ratios: dict[str, float] = {"up": 0.0, "down": 0.0}
        for attempt in range(12):  # a busy machine may be slower than the lines are
            up, down = {}, {}
            for members in (1, 2):
                for server in servers:
                    for path in server.data.glob("*.tig"):
                        path.unlink()
                up[members] = seconds(members, tmp_path / "full", f"over{members}")
                down[members] = seconds(members, f"over{members}", tmp_path / f"back{members}-{attempt}")
            ratios = {"up": max(ratios["up"], up[1] / up[2]), "down": max(ratios["down"], down[1] / down[2])}
            if min(ratios.values()) >= 1.8:
                break

    assert min(ratios.values()) >= 1.8, ratios


def fill(holdall: Holdall, data: Path, size_bytes: int) -> None:
    """Puts blobs of 128 KiB into a directory, as many for the one member of a stripe as for the other."""
    placement, left = Placement(LINES), dict.fromkeys(LINES, size_bytes // (256 * KIB))
    (data.parent / "blobs").mkdir()
    for number in count():
        blob = random.Random(number).randbytes(128 * KIB)
        home = placement.home(Address.of(blob))
        if left[home]:
            left[home] -= 1
            (data.parent / "blobs" / str(number)).write_bytes(blob)
        if not any(left.values()):
            break
    assert holdall("put", *sorted((data.parent / "blobs").iterdir()), "--store", data).code == 0


def taken(lines: list[Throttle]) -> float:
    """How long the middle eight tenths of all bytes took since this was asked last: what comes first is no copying."""
    passed = sorted(moment for line in lines for moment in line.passed)
    for line in lines:
        line.passed.clear()
    total, done = sum(size for _, size in passed), 0
    times = []
    for at, size in passed:
        done += size
        if total * 0.1 <= done <= total * 0.9:
            times.append(at)
    return times[-1] - times[0]


def test_each_server_of_a_split_holds_noise_that_rebuilds_nothing(holdall: Holdall, home: Path, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "tree", 1 * MIB, text=True)
    with providers(tmp_path, 2) as servers:
        add(holdall, "halves", [server.url for server in servers], "--spread", "split")
        address = holdall("commit", tree, "--to", "halves", "--codec", "none").line
        held = [b"".join(path.read_bytes() for path in server.data.glob("*.tig")) for server in servers]
        for number in range(2):
            servers[number].stop(signal.SIGKILL)
            refused = holdall("checkout", address, "half", "--from", "halves")
            assert (refused.code, (home / "half").exists()) == (6, False)
            assert servers[number].url in refused.err
            servers[number] = revive(servers[number])
        restored = holdall("checkout", address, "whole", "--from", "halves")

    assert (restored.code, same(tree, home / "whole")) == (0, True)
    for data in held:
        expected = len(data) / 256
        chi_square = sum((number - expected) ** 2 / expected for number in Counter(data).values())
        assert len(data) > 1 * MIB
        assert chi_square < 400  # of 255 degrees of freedom: one in 100 million goes over that
        assert len(zlib.compress(data, 9)) > len(data)


ALL_FAULTS = [(fault, number) for fault in ("dead", "lying", "wiped") for number in range(3)]
SOME_FAULTS = [("dead", 1), ("lying", 0), ("wiped", 2)]


def test_shares_outlive_a_server_that_is_dead_lies_or_has_lost_everything(
    holdall: Holdall, home: Path, tmp_path: Path
) -> None:
    tree = tree_at(tmp_path / "tree", 300 * KIB)
    with providers(tmp_path, 3) as servers:
        add(holdall, "safe", [server.url for server in servers], "--spread", "shares")
        address = holdall("commit", tree, "--to", "safe").line
        for fault, number in ALL_FAULTS if "HOLDALL_TEST_LONG" in os.environ else SOME_FAULTS:
            name, later = servers[number].url, (number + 1) % 3
            if fault == "dead":
                servers[number].stop(signal.SIGKILL)
            else:
                servers[number] = make_lie(servers[number]) if fault == "lying" else wipe(servers[number])
            restored = holdall("checkout", address, f"{fault}{number}", "--from", "safe")
            assert (restored.code, same(tree, home / f"{fault}{number}")) == (0, True)
            assert f"holdall: {name}: " in restored.err
            assert "holdall verify --store safe --repair" in restored.err

            if fault == "dead":
                (tree / "small").write_text(f"{fault} {number}\n")
                committed = holdall("commit", tree, "--to", "safe")
                assert (committed.code, name in committed.err) == (6 if number == 0 else 1, True)
                servers[number] = revive(servers[number])
                address = committed.line if number else address
                (tree / "small").write_text("hello\n" if number == 0 else f"{fault} {number}\n")
            repaired = holdall("verify", "safe", "--repair", "--json")
            assert (repaired.code, repaired.json["failed"]) == (0, 0)
            assert list(repaired.json["repaired"]) == ([name] if (fault, number) != ("dead", 0) else [])

            servers[later].stop(signal.SIGKILL)
            again = holdall("checkout", address, f"{fault}{number} again", "--from", "safe")
            assert (again.code, same(tree, home / f"{fault}{number} again")) == (0, True)
            servers[later] = revive(servers[later])
