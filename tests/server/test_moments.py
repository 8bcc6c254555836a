"""What happens at an awkward moment: a client goes, stops reading or drips just when something else is under way."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest

from support import clean_environment, running_server, wait_until
from wire import Wire, ask, assert_silent, assert_well, held, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux tells what a process holds")

MIB = 1024 * 1024
SMALL = random.Random(1).randbytes(60_000)
LARGE = random.Random(2).randbytes(6 * MIB)
BURST = f"{path_of(LARGE)}\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("moments") / "data", "--quiet", "--header-timeout", "500ms") as found:
        for data in (SMALL, LARGE, BURST):
            assert ask(found.port, request("PUT", "/", data), "PUT").status == 200
        yield found


def resident_bytes(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    ("header", "at_once"),
    [((), 1), ((), 100), (("X-Not: plain",), 100)],
    ids=["the quick way, one by one", "the quick way", "the general way"],
)
def test_answers_that_are_not_read_hold_up_the_next_request(
    server: Server, header: tuple[str, ...], at_once: int
) -> None:
    before = resident_bytes(server)
    with Wire(server.port, receive_bytes=4096) as wire:
        for _ in range(600 // at_once):
            wire.send(request("GET", path_of(SMALL), None, *header) * at_once)
        assert_well(server)
        grown = resident_bytes(server) - before
        for _ in range(100):
            answer = wire.answer()
            assert answer is not None
            assert answer.body == SMALL

        assert grown < 16 * MIB


def test_a_client_gone_before_a_bursts_member_is_open_is_no_fault(server: Server) -> None:
    for number in range(200):
        with Wire(server.port) as wire:
            wire.send(request("GET", f"{path_of(BURST)}?burst=1"))
            time.sleep(number % 20 / 10_000)
            wire.reset()
    assert_silent(server)


def test_a_client_gone_while_answers_wait_before_a_file_is_no_fault(server: Server) -> None:
    before = held(server)
    for number in range(30):
        with Wire(server.port, receive_bytes=4096) as wire:
            wire.send(request("GET", path_of(SMALL)) * (30 + number) + request("GET", path_of(LARGE)))
            time.sleep(number % 10 / 1000)
            wire.reset()
    wait_until(lambda: held(server) <= before, "its descriptors are closed")
    assert_silent(server)


def test_a_body_is_asked_for_once_however_often_the_client_lags(server: Server) -> None:
    with Wire(server.port, receive_bytes=4096) as wire:
        for _ in range(80):
            wire.send(request("GET", path_of(SMALL)))
        wire.send(request("PUT", "/", None, "Content-Length: 5", "Expect: 100-continue"))
        for _ in range(80):
            assert wire.answer() is not None
        answer = wire.send(b"hello").answer("PUT")

        assert answer is not None
        assert (answer.status, answer.interim) == (200, [100])


def test_a_head_that_waits_for_the_servers_own_answers_is_in_time(server: Server) -> None:
    read = request("GET", path_of(LARGE))
    with Wire(server.port, receive_bytes=65536) as wire:
        wire.send(read * 2 + read[:20])
        for _ in range(4):
            wire.take(MIB)
            time.sleep(0.15)
        wire.send(read[20:])
        statuses = [answer and answer.status for answer in (wire.answer(), wire.answer(), wire.answer())]

    assert statuses == [200, 200, 200]


def test_a_refused_body_behind_an_answer_is_read_on(server: Server) -> None:
    refused = request("PUT", "/no/such", bytes(50_000))
    with Wire(server.port, receive_bytes=65536) as wire:
        wire.send(request("GET", path_of(LARGE)) + refused[:-10])
        read = wire.answer()
        wire.send(refused[-10:] + request("HEAD", path_of(LARGE)))
        statuses = [answer and answer.status for answer in (read, wire.answer("PUT"), wire.answer("HEAD"))]

    assert statuses == [200, 404, 200]


def test_garbage_behind_an_answer_is_not_taken_in(server: Server) -> None:
    with Wire(server.port, receive_bytes=4096) as wire:
        wire.send(request("GET", path_of(LARGE)))
        wait_until(wire.has_answer, "the answer has begun")
        taken = wire.send_until_stuck(b"\0" * 65536)

    assert taken < 16 * MIB
    assert_silent(server)


def test_an_upload_that_drips_after_a_fast_start_holds_no_pump(server: Server) -> None:
    before = held(server)

    def a_pump_comes_and_goes() -> bool:
        """On a busy machine it may come and go unseen, for lack of bytes."""
        wait_until(lambda: held(server) <= before, "the upload before has ended")
        idle = most = threads(server)
        with Wire(server.port) as wire:
            wire.send(request("PUT", "/", None, f"Content-Length: {9 * MIB}") + bytes(4 * MIB))
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                running = threads(server)
                if idle < most and running < most:
                    return True
                most = max(most, running)
                wire.send(b"x")
                time.sleep(0.02)
        return False

    wait_until(a_pump_comes_and_goes, "a pump comes, and goes although bytes still come")


def listens(server: Server) -> bool:
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", server.port)):
        return True
    return False


def threads(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def test_a_stop_does_not_wait_for_what_flows_on(tmp_path: Path) -> None:
    data = bytes(64 * MIB)
    with (
        running_server(tmp_path / "data", "--quiet", "--drain-timeout", "100ms") as server,
        Wire(server.port) as up,
        Wire(server.port, receive_bytes=65536) as down,
    ):
        assert ask(server.port, request("PUT", "/", data), "PUT").status == 200
        up.send(request("PUT", "/", None, "Content-Length: 9000000000", "Expect: 100-continue"))
        up.expect_continue()
        down.send(request("GET", path_of(data)))
        flows, ended = threading.Event(), threading.Event()

        def flow() -> None:
            for turn in count():
                up.send(bytes(65536))
                down.take(16384)
                if turn == 40:
                    flows.set()
                if ended.wait(0.005):
                    break

        thread = threading.Thread(target=flow)
        thread.start()
        assert flows.wait(60)
        server.process.terminate()
        try:
            assert server.process.wait(60) == 1
        finally:
            ended.set()
            thread.join()


def test_answers_on_their_way_arrive_although_the_server_stops_and_more_was_sent(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", "--quiet", "--drain-timeout", "60s") as server,
        Wire(server.port, receive_bytes=4096) as wire,
    ):
        assert ask(server.port, request("PUT", "/", SMALL), "PUT").status == 200
        for _ in range(80):
            wire.send(request("GET", path_of(SMALL)))
        wire.send(request("PUT", "/", bytes(100_000)))
        server.process.terminate()
        wait_until(lambda: not listens(server), "the server has begun to stop")
        answers = list(iter(wire.answer, None))

        assert {answer.body for answer in answers} == {SMALL}
        assert [answer.says_close for answer in answers] == [False] * (len(answers) - 1) + [True]


def test_a_tls_handshake_that_ends_during_a_stop_does_not_hold_it_up(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority, cert, key = trustme.CA(), tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = ("--quiet", "--tls-cert", str(cert), "--tls-key", str(key), "--drain-timeout", "60s")
    with running_server(tmp_path / "data", *options, scheme="https") as server:
        late, busy = Wire(server.port), Wire(server.port, tls=context)
        busy.send(request("PUT", "/", None, "Content-Length: 5", "Expect: 100-continue"))
        busy.expect_continue()
        server.process.terminate()
        time.sleep(0.1)
        with context.wrap_socket(late._sock, server_hostname="127.0.0.1") as sock:
            answer = busy.send(b"hello").answer("PUT")
            busy.close()
            with suppress(OSError):
                sock.recv(1)

        assert answer is not None
        assert (answer.status, server.process.wait(30)) == (200, 0)


def test_a_log_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    log_read, log_write = os.pipe()
    command = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--access-log", "text", "--durability", "os"]
    with subprocess.Popen(
        [sys.executable, "-m", "holdall", *command, "--ready-fd", str(ready_write)],
        stdin=subprocess.DEVNULL,
        stderr=log_write,
        pass_fds=(ready_write,),
        env=clean_environment(),
    ) as process:
        os.close(ready_write)
        os.close(log_write)
        with open(ready_read) as ready:
            port = int(ready.readline())
        os.close(log_read)
        with killed_at_the_end(process), Wire(port) as wire:
            statuses = [
                answer and answer.status
                for asked in (request("PUT", "/", b"x"), request("GET", path_of(b"x")), request("GET", path_of(b"x")))
                for answer in [wire.send(asked).answer(asked.split()[0].decode())]
            ]
            process.send_signal(signal.SIGTERM)

            assert (statuses, process.wait(30)) == ([200, 200, 200], 0)


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
