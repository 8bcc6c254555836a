"""Many connections and many requests at once: memory stays bounded, and the others are still served."""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from support import running_server, wait_until
from wire import Wire, ask, assert_silent, assert_well, held, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server

KIB = 1024
MIB = 1024 * KIB
RESIDENT_BYTES_MAX = 64 * MIB
BLOB = os.urandom(64 * KIB)
LARGE = os.urandom(4 * MIB)

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux tells what a process holds")


@pytest.fixture(scope="module", autouse=True)
def enough_descriptors() -> Iterator[None]:
    """Lets this process hold a crowd of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 4096:
        if hard != resource.RLIM_INFINITY and hard < 4096:
            pytest.skip(f"this process may open {hard} files, too few for a crowd")
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def peak_bytes(server: Server) -> int:
    """The most memory that the server has ever had resident."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * KIB for line in file if line.startswith("VmHWM:"))


@contextmanager
def crowd(server: Server, size: int, receive_bytes: int | None = None) -> Iterator[list[Wire]]:
    """As many connections as that, closed together."""
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(server.port, receive_bytes=receive_bytes)) for _ in range(size)]


def test_memory_is_bounded_under_idle_and_slow_connections(tmp_path: Path) -> None:
    patience = ("--header-timeout", "10m", "--stall-timeout", "10m", "--idle-timeout", "10m")
    with running_server(tmp_path / "data", "--quiet", *patience, durable=True) as server:
        assert ask(server.port, request("PUT", "/", BLOB), "PUT").status == 200
        before = held(server)
        with crowd(server, 1000) as idle, crowd(server, 200, 4096) as readers, crowd(server, 200) as writers:
            for wire in readers:
                wire.send(request("GET", path_of(BLOB)) * 8)
            for number, wire in enumerate(writers):
                wire.send(request("PUT", "/", None, f"Content-Length: {64 * KIB}") + bytes([number]) * (60 * KIB))
            for wire in readers:
                wait_until(wire.has_answer, "its first answer has begun")
            wait_until(lambda: held(server) >= 1400, "the server has them all")

            assert_well(server)
            assert peak_bytes(server) < RESIDENT_BYTES_MAX

            for number, wire in enumerate(writers):
                answer = wire.send(bytes([number]) * (4 * KIB)).answer("PUT")
                assert answer is not None
                assert answer.body == path_of(bytes([number]) * (64 * KIB)).encode()
            for wire in readers:
                for _ in range(8):
                    answer = wire.answer()
                    assert answer is not None
                    assert answer.body == BLOB
            for wire in idle:
                answer = wire.send(request("HEAD", path_of(BLOB))).answer("HEAD")
                assert answer is not None
                assert answer.status == 200
            assert peak_bytes(server) < RESIDENT_BYTES_MAX
        wait_until(lambda: held(server) <= before, "every descriptor is closed again")
        assert_silent(server)


@pytest.mark.parametrize("target", ["/-/health", path_of(b"small")])
def test_a_flood_of_requests_on_one_connection_is_answered_in_order(tmp_path: Path, target: str) -> None:
    with running_server(tmp_path / "data", "--quiet", durable=True) as server:
        assert ask(server.port, request("PUT", "/", b"small"), "PUT").status == 200
        with Wire(server.port) as wire:
            turn = request("GET", target) + request("POST", "/kv", b"key") + request("HEAD", target)
            wire.send_beside(turn * 1700)
            for _ in range(1700):
                statuses = [answer and answer.status for answer in map(wire.answer, ("GET", "POST", "HEAD"))]
                assert statuses == [200, 200, 200]
        assert_well(server)
        assert peak_bytes(server) < RESIDENT_BYTES_MAX


@pytest.mark.parametrize(
    "start",
    [
        request("GET", path_of(BLOB)) * 100,
        request("GET", path_of(LARGE)),
        request("GET", path_of(LARGE)) + request("PUT", "/", LARGE),
        request("GET", path_of(LARGE)) + request("PUT", "/", bytes(200 * KIB)),
    ],
    ids=["small reads", "a large read", "a large read and a large write", "a large read and a spooled write"],
)
def test_a_flood_behind_an_answer_that_is_not_read_is_not_taken_in(tmp_path: Path, start: bytes) -> None:
    with running_server(tmp_path / "data", "--quiet", "--stall-timeout", "2s", durable=True) as server:
        for blob in (BLOB, LARGE):
            assert ask(server.port, request("PUT", "/", blob), "PUT").status == 200
        with Wire(server.port, receive_bytes=4096) as wire:
            wire.send(start)
            taken = wire.send_until_stuck(request("PUT", "/", b"x" * 100) * 500)
        assert_well(server)

        assert taken < 16 * MIB
        assert peak_bytes(server) < RESIDENT_BYTES_MAX


def test_one_connection_too_many_is_503_and_the_others_are_served(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--quiet", "--max-connections", "5", durable=True) as server:
        with crowd(server, 5) as wires:
            for wire in wires:
                assert wire.send(request("GET", "/-/health")).answer() is not None
            with Wire(server.port) as refused:
                answer = refused.answer()

                assert answer is not None
                assert (answer.status, answer.says_close, refused.closes()) == (503, True, True)
                assert answer.headers["retry-after"] == "1"
            with Wire(server.port) as eager:
                answer = eager.send(request("PUT", "/", BLOB)).answer("PUT")

                assert answer is not None
                assert (answer.status, eager.closes()) == (503, True)
            for wire in wires:
                again = wire.send(request("GET", "/-/health")).answer()
                assert again is not None
                assert again.status == 200
        wait_until(lambda: ask(server.port, request("GET", "/-/health")).status == 200, "there is room again")
        assert_well(server)


def test_a_write_behind_an_answer_that_ends_the_connection_leaves_no_descriptor(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "apikey").write_text("key")
    with running_server(data, "--quiet", durable=True) as server:
        before = held(server)
        for _ in range(10):
            # HTTP/1.0 has no chunks, so the end of the listing is the end of the connection.
            with Wire(server.port) as wire:
                wire.send(
                    request("GET", "/?apikey=key", None, "Connection: keep-alive", version="1.0")
                    + request("PUT", "/?apikey=key", bytes(300 * KIB))
                )
                answer = wire.answer()

                assert answer is not None
                assert answer.status == 200
        wait_until(lambda: held(server) <= before, "every descriptor is closed again")
        assert os.listdir(data) != []
        assert_silent(server)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX: " + b"y" * 12_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 12_000,
        b"GE\nT" + bytes(12_000),
        request("GET", path_of(BLOB), None, "Connection: close"),
        request("PUT", "/", None, "Content-Length: 64000") + bytes(60_000),
    ],
    ids=["no Host", "half a head", "nonsense", "a read", "half a write"],
)
def test_connections_that_are_gone_take_no_memory(tmp_path: Path, data: bytes) -> None:
    with running_server(tmp_path / "data", "--quiet", durable=True) as server:
        assert ask(server.port, request("PUT", "/", BLOB), "PUT").status == 200
        for _ in range(1000):
            with Wire(server.port) as wire:
                wire.send(data).half_close().drop()
        assert_well(server)
        assert peak_bytes(server) < RESIDENT_BYTES_MAX


def test_bursts_of_too_many_members_are_refused_and_forgotten(tmp_path: Path) -> None:
    slot = "/" + "5a" * 32 + ".tig"
    with running_server(tmp_path / "data", "--quiet", durable=True) as server:
        assert ask(server.port, request("PUT", slot, f"{slot}\n".encode() * 1500), "PUT").status == 200
        for depth in (2, 8, 8):
            assert ask(server.port, request("GET", f"{slot}?burst={depth}")).status == 400
        assert_well(server)
        assert peak_bytes(server) < RESIDENT_BYTES_MAX + 32 * MIB  # the plan of half a million members takes 24 MiB
