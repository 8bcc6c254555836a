"""A full disk, a read-only disk, too few descriptors, uploads cut short: nothing is lost, nothing is left over."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from support import need_tool, running_server, wait_until
from wire import Wire, ask, assert_silent, assert_well, held, path_of, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support import Server

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux tells what a process holds")

MIB = 1024 * 1024
SLOT = "/" + "5a" * 32 + ".tig"
OTHER_SLOT = "/" + "a5" * 32 + ".tig"
DAY_NS = 86_400_000_000_000


# --- disks of our own ---


def need_mounts() -> None:
    """Skips where this process may not mount; fails where CI=true says that it may."""
    if os.geteuid() != 0:
        reason = "only root may mount a disk of its own"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    need_tool("mount")


def run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def mounted(place: Path, *how: str | Path) -> Iterator[Path]:
    place.mkdir()
    run("mount", *how, place)
    try:
        yield place
    finally:
        done = subprocess.run(["umount", place], capture_output=True, check=False)
        if done.returncode:  # a test has failed with a server still there: let it go when that ends
            subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def memory_disk(tmp_path: Path) -> Iterator[Path]:
    need_mounts()
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=48m", "tmpfs") as disk:
        yield disk


@contextmanager
def journaled_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system large enough for the server to keep a journal on it."""
    need_mounts()
    mkfs = need_tool("mkfs.ext4")
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(400 * MIB)  # sparse: little of it is ever written
    lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    run(mkfs, "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=8", "-E", lazy, image)
    try:
        with mounted(tmp_path / "disk", "-o", "loop,errors=remount-ro", image) as disk:
            yield disk
    finally:
        image.unlink()


def fill(disk: Path, leave_bytes: int) -> Path:
    """Takes all room but a little."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with open(ballast, "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - max(leave_bytes, MIB))
    if not leave_bytes:
        fill_the_rest(ballast)
    return ballast


def fill_the_rest(ballast: Path) -> None:
    """Takes what room is left, and what is let go only when the disk has written down that it is free."""
    with open(ballast, "ab", buffering=0) as file:
        for _ in range(2):
            with suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            os.fsync(file.fileno())


def names(data: Path) -> set[str]:
    """The directory's names but for the server's own two files and those of the disk itself."""
    return set(os.listdir(data)) - {".holdall-control", ".holdall-journal", "ballast", "lost+found"}


def chunks(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def put(server: Server, data: bytes, target: str = "/") -> int:
    return ask(server.port, request("PUT", target, data), "PUT").status


def got(server: Server, target: str) -> tuple[int, bytes]:
    answer = ask(server.port, request("GET", target))
    return answer.status, answer.body


# --- a full disk ---


@pytest.mark.parametrize("kind", [memory_disk, journaled_disk])
def test_a_full_disk_is_507_and_nothing_is_lost_or_kept(
    tmp_path: Path, kind: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    large, kept = os.urandom(6 * MIB), {}
    with kind(tmp_path) as disk, running_server(disk, "--quiet", durable=True) as server:
        assert put(server, b"a slot's value", SLOT) == 200
        assert put(server, b"stored before") == 200
        ballast = fill(disk, 4 * MIB)

        assert put(server, large) == 507
        chunked = request("PUT", "/", None, "Transfer-Encoding: chunked") + chunks(large)
        assert ask(server.port, chunked, "PUT").status == 507
        assert put(server, large, OTHER_SLOT) == 507
        assert put(server, large, f"{SLOT}?append=1") == 507
        assert names(server.data) == {SLOT[1:], path_of(b"stored before")[1:]}

        with Wire(server.port) as wire:
            for number in range(1000):
                data = number.to_bytes(2, "big") * 16_000
                answer = wire.send(request("PUT", "/", data)).answer("PUT")
                if answer is None or answer.status != 200:
                    break
                kept[path_of(data)] = data
        assert answer is not None
        assert (answer.status, b"full" in answer.body) == (507, True)
        fill_the_rest(ballast)
        assert put(server, bytes(32_000), SLOT) == 507
        assert put(server, bytes(32_000), f"{SLOT}?append=1") == 507

        expected = {SLOT: b"a slot's value", path_of(b"stored before"): b"stored before", **kept}
        assert {path: got(server, path) for path in expected} == {path: (200, data) for path, data in expected.items()}
        assert names(server.data) == {path[1:] for path in expected}

        ballast.unlink()
        assert put(server, large) == 200
        assert put(server, b", longer", f"{SLOT}?append=1") == 200
        assert got(server, SLOT) == (200, b"a slot's value, longer")
        assert_well(server)
        assert server.stop() == 0


def test_a_server_starts_on_a_full_disk_and_serves_it(tmp_path: Path) -> None:
    with journaled_disk(tmp_path) as disk:
        with running_server(disk, "--quiet", durable=True) as server:
            assert put(server, b"stored before") == 200
            assert server.stop() == 0
        ballast = fill(disk, 0)
        with running_server(disk, "--quiet", durable=True) as server:
            assert got(server, path_of(b"stored before")) == (200, b"stored before")
            assert put(server, b"stored while full") == 507
            ballast.unlink()
            assert_well(server)


# --- a read-only disk ---


def age(path: Path, mode: int) -> None:
    """Makes a file one whose use ought to be written down and whose kind is to be found out."""
    path.chmod(mode)
    then = time.time_ns() - DAY_NS
    os.utime(path, ns=(then, then))


def all_writes(server: Server) -> list[int]:
    return [
        put(server, b"a new blob"),
        put(server, bytes(200_000)),
        put(server, bytes(3 * MIB)),
        put(server, b"another value", SLOT),
        put(server, b"a new slot", OTHER_SLOT),
        put(server, b", longer", f"{SLOT}?append=1"),
        ask(server.port, request("GET", f"{SLOT}?take=1")).status,
        ask(server.port, request("DELETE", SLOT), "DELETE").status,
    ]


def all_reads(server: Server) -> list[tuple[int, bytes]]:
    return [got(server, target) for target in (path_of(b"blob"), path_of(b"old blob"), path_of(b"unknown"), SLOT)]


EVERY_READ = [(200, b"blob"), (200, b"old blob"), (200, b"unknown"), (200, b"a slot's value")]


def store_all(server: Server) -> None:
    for data in (b"blob", b"old blob", b"unknown"):
        assert put(server, data) == 200
    assert put(server, b"a slot's value", SLOT) == 200
    age(server.data / path_of(b"old blob")[1:], 0o444)
    age(server.data / path_of(b"unknown")[1:], 0o600)


def test_a_server_on_a_read_only_disk_serves_what_is_there(tmp_path: Path) -> None:
    with journaled_disk(tmp_path) as disk:
        with running_server(disk, "--quiet", durable=True) as server:
            store_all(server)
            assert server.stop() == 0
        before = names(server.data)
        run("mount", "-o", "remount,ro", disk)
        with running_server(disk, "--quiet", durable=True) as server:
            assert all_reads(server) == EVERY_READ
            assert all_writes(server) == [503] * 8
            assert all_reads(server) == EVERY_READ
            assert names(server.data) == before

            run("mount", "-o", "remount,rw", disk)  # what was opened alone shares no locks with what opens it now
            assert all_writes(server) == [503] * 8
            with running_server(disk, "--quiet", durable=True) as other:
                assert_well(other)
                assert all_writes(other) == [200] * 7 + [404]
            assert all_writes(server) == [503] * 6 + [404] * 2  # the slot has been taken since


def test_a_disk_that_fails_into_read_only_is_503_for_writes_and_loses_nothing(tmp_path: Path) -> None:
    with journaled_disk(tmp_path) as disk:
        with running_server(disk, "--quiet", durable=True) as server:
            store_all(server)
            before = names(server.data)
            # As the kernel itself does on an error; an ordinary remount is refused while files are open for writing.
            source = subprocess.run(["findmnt", "-no", "SOURCE", disk], capture_output=True, check=True).stdout
            trigger = f"/sys/fs/ext4/{os.path.basename(source.decode().strip())}/trigger_fs_error"
            os.sync()
            with open(trigger, "w", encoding="ascii") as file:
                file.write("a test")

            assert all_reads(server) == EVERY_READ
            assert all_writes(server) == [503] * 8
            assert all_reads(server) == EVERY_READ
            assert names(server.data) == before
            assert_silent(server)
            assert server.process.poll() is None
        run("umount", disk)
        subprocess.run(["e2fsck", "-fy", tmp_path / "image"], capture_output=True, check=False)
        run("mount", "-o", "loop", tmp_path / "image", disk)
        with running_server(disk, "--quiet", durable=True) as server:
            assert all_reads(server) == EVERY_READ
            assert_well(server)


def test_a_directory_that_may_not_be_changed_is_503_until_it_may(tmp_path: Path) -> None:
    chattr = need_tool("chattr")
    with journaled_disk(tmp_path) as disk, running_server(disk, "--quiet", durable=True) as server:
        store_all(server)
        before = names(server.data)
        run(chattr, "+i", server.data)
        try:
            assert all_writes(server)[:3] == [503] * 3
            assert all_reads(server) == EVERY_READ
            assert names(server.data) == before
        finally:
            run(chattr, "-i", server.data)
        assert_well(server)
        assert all_writes(server) == [200] * 7 + [404]


# --- too few descriptors ---


def test_too_few_descriptors_cost_answers_but_never_the_server(tmp_path: Path) -> None:
    blob = os.urandom(200_000)
    acknowledged: set[str] = set()
    with running_server(tmp_path / "data", "--quiet", durable=True) as server:
        assert put(server, blob) == 200
        assert_well(server)
        before, limit = held(server), len(os.listdir(f"/proc/{server.process.pid}/fd")) + 16
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        few, many = {200}, {200, 503, 0}  # 0: a connection that was accepted only to be closed
        for count, allowed in [(4, few), (60, many), (4, few), (60, many), (16, many), (4, few)]:
            statuses = load(server, count, blob, acknowledged)
            wait_until(lambda: held(server) <= before, "every descriptor is closed again")

            assert statuses <= allowed
            assert_well(server)

        assert {path: got(server, path)[0] for path in acknowledged} == dict.fromkeys(acknowledged, 200)
        assert all(name.endswith(".tig") for name in names(server.data))


def test_connections_are_no_more_than_the_system_has_descriptors_for(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    serve = f"{sys.executable} -m holdall serve --data {tmp_path} --port 0 --ready-fd {ready_write} --quiet"
    process = subprocess.Popen(
        ["sh", "-c", f"ulimit -n 556; exec {serve}"], stderr=subprocess.PIPE, pass_fds=(ready_write,)
    )
    os.close(ready_write)
    assert process.stderr is not None
    try:
        with open(ready_read, encoding="ascii") as ready:
            port = int(ready.readline())
        assert process.stderr.readline() == (
            b"holdall: The system allows 556 open files, which are enough for 100 connections a worker, not 4096.\n"
        )
        wait_until(lambda: statuses(port, 101) == [200] * 100 + [503], "the 101st connection is refused")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def statuses(port: int, connections: int) -> list[int]:
    """What each of several connections, open at once, is answered."""
    wires = [Wire(port) for _ in range(connections)]
    try:
        answered = [wire.send(request("GET", "/-/health")).answer() for wire in wires]
        return [0 if answer is None else answer.status for answer in answered]
    finally:
        for wire in wires:
            wire.close()


def load(server: Server, connections: int, blob: bytes, acknowledged: set[str]) -> set[int]:
    """Opens all connections at once, then writes and reads on each; returns every status there was."""
    statuses = set()
    wires = [Wire(server.port) for _ in range(connections)]
    for number, wire in enumerate(wires):
        data = f"{connections} {number}".encode() * (20_000 if number % 2 else 1)
        stored = wire.send(request("PUT", "/", data)).answer("PUT")
        if stored is not None and stored.status == 200:
            acknowledged.add(path_of(data))
        read = None if stored is None else wire.send(request("GET", path_of(blob))).answer()
        statuses |= {0 if answer is None else answer.status for answer in (stored, read)}

        assert read is None or read.status != 200 or read.body == blob
    for wire in wires:
        wire.close()
    return statuses


# --- uploads cut short ---

HUGE = f"Content-Length: {64 * MIB}"
CUT_SHORT = {
    "in the head": request("PUT", "/", None, "Content-Length: 5")[:-7],
    "before the body": request("PUT", "/", None, "Content-Length: 5"),
    "in a small body": request("PUT", "/", None, "Content-Length: 5000") + bytes(4999),
    "in a small slot": request("PUT", SLOT, None, "Content-Length: 5000") + bytes(4999),
    "in a spooled body": request("PUT", "/", None, "Content-Length: 700000") + bytes(400_000),
    "at the end of a spooled body": request("PUT", "/", None, "Content-Length: 700000") + bytes(699_999),
    "in an appended body": request("PUT", f"{SLOT}?append=1", None, "Content-Length: 700000") + bytes(300_000),
    "early in a pumped body": request("PUT", "/", None, HUGE) + bytes(100_000),
    "in a pumped body": request("PUT", "/", None, HUGE) + bytes(9 * MIB),
    "in a pumped slot": request("PUT", SLOT, None, HUGE) + bytes(9 * MIB),
    "in a digested body": request("PUT", "/", None, HUGE, f"Content-Digest: sha-256=:{'A' * 43}=:") + bytes(3 * MIB),
    "in a chunk's size": request("PUT", "/", None, "Transfer-Encoding: chunked") + b"1000",
    "in a small chunk": request("PUT", "/", None, "Transfer-Encoding: chunked") + b"1000\r\nabc",
    "in a spooled chunk": request("PUT", "/", None, "Transfer-Encoding: chunked") + b"100000\r\n" + bytes(500_000),
    "before the last chunk": request("PUT", "/", None, "Transfer-Encoding: chunked") + chunks(bytes(300_000))[:-5],
    "in the trailers": request("PUT", "/", None, "Transfer-Encoding: chunked") + chunks(bytes(300_000))[:-2] + b"X: y",
    "in a key": request("PUT", "/kv", None, HUGE) + bytes(2 * MIB),
    "in a question": request("POST", "/-/have", None, "Content-Length: 7000") + SLOT.encode(),
    "behind a large read": request("GET", path_of(bytes(3 * MIB))) + request("PUT", "/", None, HUGE) + bytes(MIB),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("uploads") / "data", "--quiet", durable=True) as found:
        assert put(found, bytes(3 * MIB)) == 200
        assert_well(found)
        yield found


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("data", CUT_SHORT.values(), ids=CUT_SHORT)
def test_an_upload_cut_short_leaves_nothing(server: Server, data: bytes, how: str) -> None:
    before, open_before = names(server.data), held(server)
    with Wire(server.port) as wire:
        wire.send(data)
        if how == "reset":
            wire.reset()
        elif how == "half-close":
            wire.half_close()
            with suppress(AssertionError):
                while wire.answer() is not None:
                    pass

    wait_until(lambda: held(server) <= open_before, "its descriptors are closed")
    assert names(server.data) == before
    assert_silent(server)


@pytest.mark.parametrize("size_bytes", [0, 50_000, 3 * MIB])
def test_clients_gone_before_their_answer_begins_are_no_fault(server: Server, size_bytes: int) -> None:
    data = bytes(size_bytes)
    assert put(server, data) == 200
    asked = request("GET", path_of(data)) + request("PUT", "/", None, HUGE) + bytes(MIB)
    open_before = held(server)
    for number in range(80):
        with Wire(server.port) as wire:
            wire.send(asked)
            time.sleep(number % 4 / 1000)
            wire.reset()

    wait_until(lambda: held(server) <= open_before, "its descriptors are closed")
    assert_silent(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_uploads_cut_short_by_the_end_of_the_server_leave_nothing(tmp_path: Path, number: int) -> None:
    with running_server(tmp_path / "data", "--quiet", "--drain-timeout", "100ms", durable=True) as server:
        wires = [Wire(server.port).send(data) for data in CUT_SHORT.values()]
        wait_until(lambda: held(server) > len(wires), "the server has them all")
        server.process.send_signal(number)
        server.process.wait(30)
        for wire in wires:
            wire.close()

    assert names(tmp_path / "data") == set()
