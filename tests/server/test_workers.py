"""The processes of a server: several workers on one port, stops that finish what is under way, a worker that dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asking import ask, connected, fresh_bytes, get, path_of, put, read_answer, stored
from support import DEADLINE_SECONDS, clean_environment, run_cli, running_server, wait_until

if TYPE_CHECKING:
    from support import Server

either_number = pytest.mark.parametrize("workers", ["1", "2"])
either_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


def children_of(pid: int) -> set[int]:
    """The processes that a process started and that still run."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc to find the workers in")
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                state, parent = state_of(int(entry.name))
                if parent == pid and state != "Z":
                    found.add(int(entry.name))
    return found


def state_of(pid: int) -> tuple[str, int]:
    """A process's state and its parent.

    Raises:
        OSError: There is none.
    """
    state, parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    return state, int(parent)


def runs(pid: int) -> bool:
    """Whether a process has not ended; one whose new parent has not noticed yet has."""
    try:
        return state_of(pid)[0] != "Z"
    except OSError:
        return False


def refused(server: Server) -> bool:
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS).close()
    except ConnectionError:
        return True
    return False


def log_of(server: Server) -> str:
    return (server.data.parent / f"{server.data.name}.stderr").read_text()


# --- stops ---


@either_number
@either_signal
def test_a_stop_finishes_the_upload_under_way_and_exits_with_0(tmp_path: Path, workers: str, number: int) -> None:
    data = fresh_bytes(500_000)
    with running_server(tmp_path / "data", "--workers", workers, durable=True) as server:
        with connected(server) as (idle, idle_file), connected(server) as (sock, file):
            idle.sendall(b"GET /-/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(idle_file).status == 200
            sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n")
            assert read_answer(file).status == 100
            sock.sendall(data[:250_000])

            server.process.send_signal(number)

            assert idle_file.read() == b""
            wait_until(lambda: refused(server), "no new connection is taken")
            sock.sendall(data[250_000:])
            answer = read_answer(file)
            assert answer.brief == (200, path_of(data).encode())
            assert answer.headers["connection"] == "close"
        assert server.stop() == 0

    assert (server.data / path_of(data)[1:]).read_bytes() == data


@either_number
def test_a_stop_finishes_the_download_under_way(tmp_path: Path, workers: str) -> None:
    data = bytes(range(256)) * 120_000
    with running_server(tmp_path / "data", "--workers", workers, durable=True) as server:
        path = stored(server, data)
        with connected(server) as (sock, file):
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            file.peek(1)
            server.process.terminate()
            wait_until(lambda: refused(server), "no new connection is taken")

            assert read_answer(file).body == data
            assert file.read() == b""
        assert server.stop() == 0


@either_number
def test_a_stop_waits_no_longer_than_it_was_told(tmp_path: Path, workers: str) -> None:
    with running_server(tmp_path / "data", "--workers", workers, "--drain-timeout", "300ms", durable=True) as server:
        with connected(server) as (sock, file):
            sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
            assert read_answer(file).status == 100

            assert server.stop() == 1
            with suppress(ConnectionError):
                assert file.read() == b""
        assert [path.name for path in server.data.iterdir() if not path.name.startswith(".")] == []


# --- several workers ---


def test_every_worker_sees_what_any_of_them_has_stored(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "4", durable=True) as server:
        assert len(children_of(server.process.pid)) == 4
        for _ in range(20):
            data = fresh_bytes()
            path = stored(server, data)
            assert [get(server, path).brief for _ in range(4)] == [(200, data)] * 4
            put(server, path_of(path.encode()), data)
            assert get(server, path_of(path.encode())).body == data
            assert ask(server, "DELETE", path_of(path.encode())).status == 200
            assert get(server, path_of(path.encode())).status == 404


def test_a_killed_worker_is_replaced_and_no_write_is_lost(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "2", durable=True) as server:
        first = children_of(server.process.pid)
        assert len(first) == 2
        paths = [stored(server, b"%d" % number) for number in range(10)]
        killed = min(first)

        os.kill(killed, signal.SIGKILL)

        wait_until(lambda: len(children_of(server.process.pid) - {killed}) == 2, "another worker takes its place")
        wait_until(lambda: "another takes its place" in log_of(server), "the change is logged")
        assert children_of(server.process.pid) & first == first - {killed}
        assert [get(server, path).body for path in paths] == [b"%d" % number for number in range(10)]
        both = {path_of(data): data for data in (fresh_bytes() for _ in range(10))}
        assert [put(server, "/", data).brief for data in both.values()] == [(200, path.encode()) for path in both]
        used = cpu_ticks(server.process.pid)
        time.sleep(0.3)
        assert cpu_ticks(server.process.pid) - used < 4, "who minds the workers spins"
        assert server.stop() == 0


def cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_a_stop_while_the_workers_are_starting_is_heeded(tmp_path: Path) -> None:
    command = ("serve", "--quiet", "--data", tmp_path / "data", "--port", "0", "--workers", "2")
    process = subprocess.Popen([sys.executable, "-m", "holdall", *command], env=clean_environment())
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not tell at once which workers there are")
    try:
        while not children.read_text():  # in time, before they have handlers of the signal
            assert process.poll() is None
        process.terminate()

        assert process.wait(60) == 0  # a worker that has to be killed would make it another code
    finally:
        process.kill()
        process.wait()


def test_workers_whose_supervisor_was_killed_end_too(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--workers", "2", durable=True) as server:
        workers = children_of(server.process.pid)
        path = stored(server, b"kept")

        server.stop(signal.SIGKILL)

        wait_until(lambda: not any(map(runs, workers)), "the workers have ended")
        assert (server.data / path[1:]).read_bytes() == b"kept"


@either_number
def test_a_second_server_on_the_same_port_is_refused(tmp_path: Path, workers: str) -> None:
    with running_server(tmp_path / "data", "--workers", workers, durable=True) as server:
        for second in ("1", "2"):
            done = run_cli("serve", "--data", tmp_path / "other", "--port", str(server.port), "--workers", second)

            assert (done.returncode, done.stdout) == (2, b"")
            assert done.stderr.decode() == (
                f"holdall: 127.0.0.1:{server.port} cannot be listened on: Address already in use."
                " Stop what listens there, or choose another with --host and --port.\n"
            )
        assert get(server, "/-/health").status == 200


def test_two_servers_may_share_one_directory(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", durable=True) as one,
        running_server(tmp_path / "data", "--workers", "2", durable=True) as other,
    ):
        data = fresh_bytes()
        slot = path_of(data + b"slot")

        path = stored(one, data)
        put(other, slot, b"value")

        assert get(other, path).brief == (200, data)
        assert get(one, f"{slot}?take=1").brief == (200, b"value")
        assert get(other, slot).status == 404
        assert one.stop() == other.stop() == 0
