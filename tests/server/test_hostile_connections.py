"""Slow, half-closed, impatient and crowded connections: each gets its due, and none holds up another."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from support import running_server, wait_until
from wire import BadFramingError, Wire, ask, assert_silent, assert_well, chunked, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

MIB = 1024 * 1024
SLOT = "/" + "5a" * 32 + ".tig"
NOWHERE = "/" + "00" * 32 + ".tig"
BLOB = b"a blob that is there"
PATH = path_of(BLOB)
SMALL = random.Random(7).randbytes(60_000)
LARGE = random.Random(8).randbytes(8 * MIB)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("connections") / "data", "--quiet", durable=True) as found:
        assert ask(found.port, request("PUT", "/", BLOB), "PUT").status == 200
        assert ask(found.port, request("PUT", "/", LARGE), "PUT").status == 200
        yield found


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    times = ("--header-timeout", "600ms", "--stall-timeout", "600ms", "--idle-timeout", "1s")
    with running_server(tmp_path_factory.mktemp("hasty") / "data", "--quiet", *times, durable=True) as found:
        for data in (BLOB, SMALL, LARGE):
            wait_until(lambda data=data: stored(found, data), "it was sent in time")  # type: ignore[misc]
        yield found


def stored(server: Server, data: bytes) -> bool:
    """Stores a blob, unless this machine stood still so long that the server gave up on it."""
    return ask(server.port, request("PUT", "/", data), "PUT").status == 200


# --- what several requests, or none, or odd ones get ---

# The bytes; the method and status of each answer; whether the connection ends after them.
ODD = {
    "a method that is not for there": (request("PATCH", PATH), [("PATCH", 405)], False),
    "TRACE": (request("TRACE", "/"), [("TRACE", 405)], False),
    "OPTIONS *": (request("OPTIONS", "*"), [("OPTIONS", 404)], False),
    "CONNECT": (request("CONNECT", "example.com:443") + b"\x16\x03\x01", [("CONNECT", 404)], True),
    "upgrade to h2c": (
        request("GET", PATH, None, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        [("GET", 200)],
        True,
    ),
    "upgrade to a websocket": (
        request("GET", "/", None, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        [("GET", 200)],
        True,
    ),
    "upgrade of a write": (
        request("PUT", "/", b"with a body", "Connection: Upgrade", "Upgrade: h2c"),
        [("PUT", 200)],
        True,
    ),
    "upgrade of a write in chunks": (
        chunked("PUT", "/", b"5\r\nhello\r\n0\r\n\r\n", "Connection: Upgrade", "Upgrade: h2c"),
        [("PUT", 200)],
        True,
    ),
    "upgrade and a request behind it": (
        request("GET", PATH, None, "Connection: Upgrade", "Upgrade: h2c") + request("DELETE", SLOT),
        [("GET", 200)],
        True,
    ),
    "empty lines before a request": (b"\r\n\r\n\r\n" + request("GET", PATH), [("GET", 200)], False),
    "a body for a read": (request("GET", PATH, b"smuggled"), [("GET", 400)], False),
    "chunks for a read": (chunked("GET", PATH, b"5\r\nhello\r\n0\r\n\r\n"), [("GET", 400)], True),
    "a request as the body of a refused one": (
        request("PUT", "/no/such", request("DELETE", SLOT)) + request("GET", PATH),
        [("PUT", 404), ("GET", 200)],
        False,
    ),
    "a large body where none may go": (request("PUT", "/no/such", bytes(MIB)), [("PUT", 404)], True),
    "a body over the limit of a question": (request("POST", "/-/have", bytes(2 * MIB)), [("POST", 413)], True),
    "garbage after a request": (request("GET", PATH) + b"\x00\x01garbage\r\n\r\n", [("GET", 200), ("GET", 400)], True),
    "more than the length said": (
        request("PUT", "/", None, "Content-Length: 5") + b"helloworld\r\n\r\n",
        [("PUT", 200), ("GET", 400)],
        True,
    ),
    "requests behind a close": (
        request("GET", PATH, None, "Connection: close") + request("DELETE", SLOT),
        [("GET", 200)],
        True,
    ),
    "HTTP/1.0": (request("GET", PATH, version="1.0"), [("GET", 200)], True),
    "HTTP/1.0 without a Host": (f"GET {PATH} HTTP/1.0\r\n\r\n".encode(), [("GET", 200)], True),
    "HTTP/1.0 kept alive": (
        request("GET", PATH, None, "Connection: keep-alive", version="1.0") * 2,
        [("GET", 200), ("GET", 200)],
        False,
    ),
    "an empty Host": (f"GET {PATH} HTTP/1.1\r\nHost:\r\n\r\n".encode(), [("GET", 200)], False),
    "many kinds at once": (
        request("GET", PATH)
        + request("HEAD", PATH)
        + request("PUT", "/", b"x" * 100_000)
        + request("GET", NOWHERE)
        + chunked("PUT", "/kv", b"3\r\nkey\r\n0\r\nTrailer: dropped\r\n\r\n")
        + request("PUT", "/", b"x")
        + request("GET", PATH, None, "Range: bytes=2-3"),
        [("GET", 200), ("HEAD", 200), ("PUT", 200), ("GET", 404), ("PUT", 200), ("PUT", 200), ("GET", 206)],
        False,
    ),
    "chunk extensions": (
        chunked("PUT", "/", b'5;a=b;c="d;e"\r\nhello\r\n0;last\r\n\r\n'),
        [("PUT", 200)],
        False,
    ),
    "two thousand tiny chunks": (chunked("PUT", "/", b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"), [("PUT", 200)], False),
    "a chunk size with leading zeros": (chunked("PUT", "/", b"0005\r\nhello\r\n0\r\n\r\n"), [("PUT", 200)], False),
    "an expectation": (
        request("PUT", "/", b"expected", "Expect: 100-continue"),
        [("PUT", 200)],
        False,
    ),
}


@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
@pytest.mark.parametrize(("data", "answers", "ends"), ODD.values(), ids=ODD)
def test_odd_requests_get_their_answers_in_order(
    server: Server, data: bytes, answers: list[tuple[str, int]], ends: bool, pieces: str
) -> None:
    with Wire(server.port) as wire:
        if pieces == "at once" or len(data) > 5000:
            wire.send(data)
        else:
            for at in range(len(data)):
                wire.send(data[at : at + 1])
        found = [(method, answer and answer.status) for method, _ in answers for answer in [wire.answer(method)]]

        assert found == answers
        if ends:
            assert wire.closes()
        else:
            again = wire.send(request("GET", PATH)).answer()
            assert again is not None
            assert (again.status, again.body) == (200, BLOB)
    assert_silent(server)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("PUT", "/", None, "Content-Length: 5", "Expect: 100-continue"), 100),
        (request("PUT", "/", None, "Transfer-Encoding: chunked", "Expect: 100-continue"), 100),
        (request("PUT", "/no/such", None, "Content-Length: 5", "Expect: 100-continue"), 404),
        (request("PUT", "/?apikey=none", None, "Content-Length: 5", "Expect: 100-continue"), 401),
        (request("PUT", "/", None, f"Content-Length: {1 << 50}", "Expect: 100-continue"), 413),
        (request("PUT", "/?burst=x", None, "Content-Length: 5", "Expect: 100-continue"), 400),
        (request("PUT", "/", None, "Content-Length: 5", "Expect: 200-ok"), 417),
    ],
)
def test_a_body_is_asked_for_only_if_it_will_be_taken(server: Server, head: bytes, status: int) -> None:
    with Wire(server.port) as wire:
        wire.send(head)
        if status == 100:
            body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in head else b"hello"
            wire.expect_continue()
            answer = wire.send(body).answer("PUT")

            assert answer is not None
            assert (answer.status, answer.body) == (200, path_of(b"hello").encode())
        else:
            answer = wire.answer("PUT")

            assert answer is not None
            assert (answer.status, answer.interim, wire.closes()) == (status, [], True)
    assert_silent(server)


def test_a_half_closed_connection_still_gets_its_answers(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(request("PUT", "/", b"half") + request("GET", path_of(LARGE))).half_close()
        stored, read = wire.answer("PUT"), wire.answer()

        assert stored is not None
        assert read is not None
        assert (stored.status, read.status, read.body == LARGE, wire.closes()) == (200, 200, True, True)
    assert_silent(server)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        request("PUT", "/", None, "Content-Length: 5") + b"hell",
        chunked("PUT", "/", b"5\r\nhello\r\n0\r\n"),
        request("PUT", "/", None, "Content-Length: 900000") + bytes(800_000),
    ],
    ids=repr,
)
def test_an_unfinished_request_of_a_half_closed_connection_ends_it_unanswered(server: Server, data: bytes) -> None:
    with Wire(server.port) as wire:
        assert wire.send(data).half_close().answer() is None
    assert_well(server)


@pytest.mark.parametrize("size", [5, 60_000, 300_000, 9 * MIB])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_write_begun_behind_a_read_goes_on_when_that_is_answered(server: Server, size: int, framing: str) -> None:
    body = os.urandom(size)
    data = (
        request("PUT", "/", body)
        if framing == "length"
        else chunked("PUT", "/", b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))
    )
    with Wire(server.port, receive_bytes=65536) as wire:
        wire.send_beside(request("GET", path_of(LARGE)) + data[:-4])
        read = wire.answer()
        wire.finish_sending().send(data[-4:])
        stored = wire.answer("PUT")
        again = wire.send(request("GET", path_of(body))).answer()

        assert read is not None
        assert stored is not None
        assert again is not None
        assert (read.body == LARGE, stored.status, again.body == body) == (True, 200, True)
    assert_silent(server)


# --- slow ones ---

SLOW = {
    "a head that stops": (b"GET / HTTP/1.1\r\nHost: h\r\nX", 408),
    "a request line that stops": (b"GE", 408),
    "a small body that stops": (request("PUT", "/", None, "Content-Length: 5") + b"hell", 408),
    "a spooled body that stops": (request("PUT", "/", None, "Content-Length: 900000") + bytes(800_000), 408),
    "a pumped body that stops": (request("PUT", "/", None, f"Content-Length: {9 * MIB}") + bytes(5 * MIB), 408),
    "a slot's body that stops": (request("PUT", SLOT, None, "Content-Length: 5") + b"hell", 408),
    "a chunk that stops": (chunked("PUT", "/", b"5\r\nhell"), 408),
    "a chunk size that stops": (chunked("PUT", "/", b"5"), 408),
    "trailers that stop": (chunked("PUT", "/", b"5\r\nhello\r\n0\r\nX: "), 408),
    "a refused body that stops": (request("PUT", "/no/such", None, "Content-Length: 5") + b"hell", 408),
    "a body announced and not sent": (
        request("PUT", "/", None, "Content-Length: 5", "Expect: 100-continue"),
        408,
    ),
    "a second head that stops": (request("GET", PATH) + b"GET / HT", 408),
    "nothing": (b"", None),
    "empty lines": (b"\r\n\r\n", None),
    "nothing after a request": (request("GET", PATH), None),
}


@pytest.fixture(scope="module")
def slow_wires(hasty: Server) -> Iterator[dict[str, Wire]]:
    """All of the slow connections at once, so that they wait together."""
    wires = {name: Wire(hasty.port).send(data) for name, (data, _) in SLOW.items()}
    yield wires
    for wire in wires.values():
        wire.close()


@pytest.mark.parametrize("name", SLOW)
def test_a_client_that_stops_is_given_up(hasty: Server, slow_wires: dict[str, Wire], name: str) -> None:
    data, status = SLOW[name]
    wire = slow_wires[name]
    if data.startswith(request("GET", PATH)):
        first = wire.answer()
        assert first is not None
        assert first.status == 200
    answer = wire.answer()

    assert (answer and answer.status) == status
    assert wire.closes()
    assert_silent(hasty)


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
        b"GET /?",
        request("PUT", "/", None, "Content-Length: 50000"),
        chunked("PUT", "/", b"c350\r\n"),
        chunked("PUT", "/", b"5;"),
        chunked("PUT", "/", b"0\r\nX: "),
    ],
    ids=repr,
)
def test_a_client_that_drips_is_given_up(hasty: Server, start: bytes) -> None:
    with Wire(hasty.port) as wire:
        wire.send(start)
        wait_until(lambda: wire.send(b"x").has_answer(), "the server has had enough of it")
        answer = wire.answer()

        assert answer is not None
        assert (answer.status, answer.says_close) == (408, True)
    assert_silent(hasty)


def test_a_reader_that_stops_is_given_up(hasty: Server) -> None:
    large, small = path_of(LARGE), path_of(SMALL)
    asked = [request("GET", large), request("GET", f"{large}?chtimes=0"), request("GET", small) * 200]
    with ExitStack() as opened:
        for data in asked:
            wire = opened.enter_context(Wire(hasty.port, receive_bytes=4096)).send(data)
            wait_until(wire.has_answer, "the answer has begun")
        wait_until(lambda: connections(hasty) == 1, "the server has closed them")  # but for the one that asks
    assert_well(hasty)


@pytest.mark.parametrize("size", [60_000, 300_000])
def test_a_write_behind_a_read_that_is_read_slowly_is_not_given_up(hasty: Server, size: int) -> None:
    body = os.urandom(size)
    data = request("PUT", "/", body)

    def longest_pause() -> float:
        """Reads and writes; where this machine never stood still, neither is given up."""
        with Wire(hasty.port, receive_bytes=65536) as wire:
            wire.send_beside(request("GET", path_of(LARGE)) + data[:-4])
            last, longest = time.monotonic(), 0.0
            for _ in range(5):
                if not wire.take(256 * 1024):
                    break
                time.sleep(0.3)  # half of the time to stall
                last, longest = time.monotonic(), max(longest, time.monotonic() - last)
            with suppress(BadFramingError):
                read = wire.answer()
                written = None if read is None else wire.finish_sending().send(data[-4:]).answer("PUT")
                if read is not None and written is not None and written.status != 408:
                    assert (read.body == LARGE, written.status, written.body) == (True, 200, path_of(body).encode())
                    return 0.0
        return max(longest, time.monotonic() - last)

    def not_given_up() -> bool:
        pause = longest_pause()
        assert pause == 0 or pause > 0.45, f"it was given up after {pause:g} s"
        return pause == 0

    wait_until(not_given_up, "this machine stood still for less than the time to stall")
    assert_silent(hasty)


def connections(server: Server) -> int:
    metrics = ask(server.port, request("GET", "/-/metrics")).body.decode()
    return int(float(next(line.split()[1] for line in metrics.splitlines() if line.startswith("holdall_connections "))))
