"""Retention over HTTP: what expires and when, what restarts a timer, and that no cache outlives what was removed."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asking import ask, connected, fresh_bytes, fresh_path, get, head, path_of, put, read_answer, set_slot, stored
from holdall.limits.stores import TOUCH_FRACTION
from support import running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import Server

LONG_AGO_SECONDS = 1_000_000_000.0
OFTEN = ("--sweep-interval", "50ms")
RETENTION_NS = 2_000_000_000
GRAIN_NS = RETENTION_NS // TOUCH_FRACTION


def counted(server: Server, name: str) -> float:
    """One of the server's plain counters."""
    families = text_string_to_metric_families(get(server, "/-/metrics").body.decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def used_ns(server: Server, path: str) -> int:
    """The recorded last use, looked at without being one."""
    return int(head(server, f"{path}?chtimes=0").headers["x-holdall-used-ns"])


# --- what restarts a timer ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A retention of two seconds, of which uses a sixty-fourth apart are written down; nothing is swept meanwhile."""
    data = tmp_path_factory.mktemp("timers") / "data"
    with running_server(data, "--retention", "2s", "--sweep-interval", "1h", durable=True) as found:
        yield found


def burst_over(server: Server, path: str, depth: int = 1) -> str:
    burst = stored(server, f"{path}\n".encode())
    return f"{burst}?burst=1" if depth == 1 else f"{stored(server, f'{burst}{chr(10)}'.encode())}?burst=2"


USES: dict[str, Callable[[Server, str, bytes], object]] = {
    "read": lambda server, path, _: get(server, path),
    "part read": lambda server, path, _: get(server, path, Range="bytes=0-0"),
    "read that was not modified": lambda server, path, _: get(server, path, If_None_Match="*"),
    "look": lambda server, path, _: head(server, path),
    "burst": lambda server, path, _: get(server, burst_over(server, path)),
    "look at a burst": lambda server, path, _: head(server, burst_over(server, path)),
    "burst within a burst": lambda server, path, _: get(server, burst_over(server, path, 2)),
    "have": lambda server, path, _: ask(server, "POST", "/-/have", path.encode()),
    "put of the same bytes": lambda server, _, data: put(server, "/", data),
    "put to its address": put,
    "chunked put": lambda server, _, data: ask(server, "POST", "/", iter([data])),
}
SLOT_USES: dict[str, Callable[[Server, str, bytes], object]] = {
    **{name: use for name, use in USES.items() if "put" not in name},
    "write": lambda server, path, _: put(server, path, b"new"),
    "append": lambda server, path, _: put(server, f"{path}?append=1", b"more"),
}
NO_USES: dict[str, Callable[[Server, str, bytes], object]] = {
    "read with chtimes=0": lambda server, path, _: get(server, f"{path}?chtimes=0"),
    "part read with chtimes=0": lambda server, path, _: get(server, f"{path}?chtimes=0", Range="bytes=0-0"),
    "look with chtimes=0": lambda server, path, _: head(server, f"{path}?chtimes=0"),
    "burst with chtimes=0": lambda server, path, _: get(server, f"{burst_over(server, path)}&chtimes=0"),
    "failed creation": lambda server, path, _: put(server, f"{path}?setifnot=1", b"other"),
    "failed swap": lambda server, path, _: put(server, path, b"other", If_Match='"other"'),
    "listing": lambda server, _, __: get(server, "/"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("size_bytes", [40, 100_000])
def test_a_use_of_a_blob_restarts_its_timer(server: Server, use: str, size_bytes: int) -> None:
    data = fresh_bytes(size_bytes)
    path = stored(server, data)
    first = used_ns(server, path)

    def moved() -> bool:
        USES[use](server, path, data)
        return used_ns(server, path) > first

    wait_until(moved, f"a {use} is written down as a use")


@pytest.mark.parametrize("use", SLOT_USES)
def test_a_use_of_a_slot_restarts_its_timer(server: Server, use: str) -> None:
    path = set_slot(server, b"value")
    first = used_ns(server, path)

    def moved() -> bool:
        SLOT_USES[use](server, path, b"")
        return used_ns(server, path) > first

    wait_until(moved, f"a {use} is written down as a use")


def test_what_is_no_use_restarts_no_timer(server: Server) -> None:
    read, blob, slot = stored(server, fresh_bytes()), stored(server, fresh_bytes()), set_slot(server, b"value")
    before = [used_ns(server, path) for path in (blob, slot, read)]

    def a_read_is_written_down() -> bool:
        for path in (blob, slot):
            for no_use in NO_USES.values():
                no_use(server, path, b"")
        get(server, read)
        return used_ns(server, read) > before[2]

    wait_until(a_read_is_written_down, "a read is written down")
    assert [used_ns(server, path) for path in (blob, slot)] == before[:2]


def test_a_look_tells_when_the_entry_may_go(server: Server) -> None:
    path = stored(server, fresh_bytes())

    headers = head(server, f"{path}?chtimes=0").headers

    left = int(headers["x-holdall-expires-ns"]) - int(headers["x-holdall-used-ns"])
    assert left == RETENTION_NS + GRAIN_NS


def test_a_hot_blob_is_written_down_as_used_as_soon_as_any(server: Server, tmp_path: Path) -> None:
    path = stored(server, fresh_bytes())
    for _ in range(60):
        (tmp_path / "now").write_bytes(b"x")
        before = (tmp_path / "now").stat().st_mtime_ns  # of the clock that files have, which may lag behind
        get(server, path)

        assert used_ns(server, path) >= before - GRAIN_NS


# --- what expires ---


def test_what_is_not_used_expires_and_what_is_used_stays(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--retention", "1500ms", *OFTEN, durable=True) as server:
        small, large, slot = stored(server, b"small"), stored(server, fresh_bytes(100_000)), set_slot(server, b"slot")
        started = time.time()
        looked_at = stored(server, b"looked at with chtimes=0")
        kept, kept_slot = path_of(b"kept"), fresh_path()
        used, expired = dict.fromkeys((kept, kept_slot), 0.0), 4

        def gone() -> bool:
            nonlocal expired
            for path, last in used.items():
                used[path] = time.monotonic()
                found = get(server, path)
                if found.status == 404:  # at first, or since this machine stood still, and then rightly
                    assert not last or time.monotonic() - last > 1.5, f"{path} was used less than a retention ago"
                    expired += 1 if last else 0
                    used[path] = time.monotonic()
                    assert put(server, path, b"kept").status == 200
                else:
                    assert found.body == b"kept"
            get(server, f"{looked_at}?chtimes=0")
            return not any((server.data / path[1:]).exists() for path in (small, large, slot, looked_at))

        wait_until(gone, "what is not used has expired")

        assert time.time() - started > 1.4
        for path in (small, large, slot, looked_at):
            assert (get(server, path).status, head(server, path).status) == (404, 404)
        wait_until(lambda: counted(server, "holdall_expired_entries_total") >= expired, "the expired are counted")
        wait_until(
            lambda: not any((server.data / path[1:]).exists() for path in (kept, kept_slot)),
            "what is no longer used expires too",
        )
        assert get(server, kept).status == 404
        wait_until(lambda: counted(server, "holdall_expired_entries_total") == expired + 2, "each is counted once")


def test_a_restart_deletes_nothing_before_a_retention_has_passed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = [path_of(b"%d" % number)[1:] for number in range(20)]
    for number, name in enumerate(names):
        (data / name).write_bytes(b"%d" % number)
        os.utime(data / name, (LONG_AGO_SECONDS, LONG_AGO_SECONDS))
    started = time.time()
    with running_server(data, "--retention", "1500ms", *OFTEN, durable=True) as server:
        wait_until(lambda: counted(server, "holdall_sweeps_total") >= 2, "two sweeps are over")
        left = sorted(path.name for path in data.iterdir() if path.suffix == ".tig")

        assert left == sorted(names) or time.time() - started > 1.5
        wait_until(lambda: not any((data / name).exists() for name in names), "all have expired")
        assert time.time() - started > 1.5


def test_retention_off_never_deletes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = [path_of(b"%d" % number)[1:] for number in range(5)]
    for number, name in enumerate(names):
        (data / name).write_bytes(b"%d" % number)
        os.utime(data / name, (LONG_AGO_SECONDS, LONG_AGO_SECONDS))
    with running_server(data, "--retention", "off", *OFTEN, durable=True) as server:
        wait_until(lambda: counted(server, "holdall_sweeps_total") >= 3, "three sweeps are over")

        assert sorted(path.name for path in data.iterdir() if path.suffix == ".tig") == sorted(names)
        assert "x-holdall-expires-ns" not in head(server, f"/{names[0]}").headers
        assert counted(server, "holdall_entries") == 5


# --- the cache of hot blobs ---


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[tuple[Server, str, Callable[[], list[int]]]]:
    """Two workers that both have a blob hot, its path, and a way to read it over connections to both."""
    with (
        running_server(tmp_path / "data", "--workers", "2", env={"APIKEY": "abc"}, durable=True) as server,
        ExitStack() as stack,
    ):
        path = put(server, "/?apikey=abc", b"hot").body.decode()
        connections = [stack.enter_context(connected(server)) for _ in range(12)]

        def statuses() -> list[int]:
            found = []
            for sock, file in connections:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                found.append(read_answer(file).status)
            return found

        assert statuses() + statuses() == [200] * 24
        wait_until(lambda: counted(server, "holdall_cache_hits_total") > 0, "it is hot")
        yield server, path, statuses


def test_no_worker_serves_what_another_has_deleted(hot: tuple[Server, str, Callable[[], list[int]]]) -> None:
    server, path, statuses = hot

    assert ask(server, "DELETE", f"{path}?apikey=abc").status == 200
    assert statuses() == [404] * 12
    assert put(server, "/?apikey=abc", b"hot").status == 200
    assert statuses() == [200] * 12


def test_what_was_removed_by_hand_is_soon_served_no_more(hot: tuple[Server, str, Callable[[], list[int]]]) -> None:
    server, path, statuses = hot

    (server.data / path[1:]).unlink()

    wait_until(lambda: statuses() == [404] * 12, "the cache has noticed")


def test_a_server_without_a_cache_answers_the_same(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--cache-size", "0", durable=True) as server:
        path = stored(server, b"never hot")

        assert [get(server, path).brief for _ in range(3)] == [(200, b"never hot")] * 3
        assert counted(server, "holdall_cache_hits_total") == 0
        assert get(server, fresh_path()).status == 404
