"""What is no TLS, or breaks off inside it, costs its own connection and nothing else."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trustme

from support import running_server, wait_until
from wire import BadFramingError, Wire, assert_silent, held, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server

MIB = 1024 * 1024
LARGE = os.urandom(4 * MIB)
HELLO = bytes.fromhex("16030100a5010000a10303")  # how a TLS client begins, cut short

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux tells what a process holds")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def serving(place: Path, authority: trustme.CA, tls: ssl.SSLContext, *options: str) -> Iterator[Server]:
    """A server that speaks TLS and has one large blob."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(place / "key"))
    issued.cert_chain_pems[0].write_to_path(str(place / "cert"))
    files = ("--tls-cert", str(place / "cert"), "--tls-key", str(place / "key"))
    with running_server(place / "data", *files, *options, "--quiet", scheme="https") as found:
        wait_until(lambda: says(found, tls, request("PUT", "/", LARGE), path_of(LARGE).encode()), "the blob is stored")
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, tls: ssl.SSLContext) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("tls"), authority, tls) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, tls: ssl.SSLContext) -> Iterator[Server]:
    """A server with little patience, which on a busy machine a client may exhaust that does its best."""
    times = ("--header-timeout", "600ms", "--stall-timeout", "600ms", "--idle-timeout", "5s")
    with serving(tmp_path_factory.mktemp("hasty"), authority, tls, *times) as found:
        yield found


def says(server: Server, tls: ssl.SSLContext, asked: bytes, body: bytes) -> bool:
    """Whether the server answers a request so; False too where it has no patience with this client."""
    with suppress(OSError, BadFramingError), Wire(server.port, tls=tls) as wire:
        answer = wire.send(asked).answer(asked.split()[0].decode())
        return answer is not None and (answer.status, answer.body) == (200, body)
    return False


def assert_served(server: Server, tls: ssl.SSLContext, connections: int) -> None:
    wait_until(lambda: held(server) <= connections, "the server has let go of it")
    wait_until(lambda: says(server, tls, request("GET", path_of(LARGE)), LARGE), "it serves others")
    assert_silent(server)


@pytest.fixture
def quiet_server(request: pytest.FixtureRequest, how: str) -> tuple[Server, int]:
    """The server, hasty for those that wait, and how much it holds when nobody is there."""
    server = request.getfixturevalue("hasty" if how == "wait" else "server")
    wait_until(lambda: sockets_only_listening(server), "earlier connections are gone")
    return server, held(server)


def sockets_only_listening(server: Server) -> bool:
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    return not [row for row in rows if row[1].endswith(f":{server.port:04X}") and row[3] == "01"]


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", os.urandom(1000), bytes(1000), HELLO, HELLO + bytes(200)],
    ids=["nothing", "plain HTTP", "noise", "zeros", "half a greeting", "a broken greeting"],
)
@pytest.mark.parametrize("how", ["close", "reset", "wait"])
def test_what_is_no_tls_is_ended_unanswered(
    quiet_server: tuple[Server, int], tls: ssl.SSLContext, data: bytes, how: str
) -> None:
    server, connections = quiet_server
    with Wire(server.port) as wire:
        wire.send(data)
        if how == "reset":
            wire.reset()
        elif how == "wait":
            wire.drop()
    assert_served(server, tls, connections)


def greeted(server: Server, tls: ssl.SSLContext) -> Wire:
    """A connection with TLS, tried again where the server has no patience with this client's greeting."""
    for _ in range(20):
        with suppress(OSError):
            return Wire(server.port, tls=tls, receive_bytes=4096)
    return pytest.fail("the server never had the patience for a greeting")


@pytest.mark.parametrize(
    "data",
    [
        request("GET", path_of(LARGE)),
        request("PUT", "/", None, "Content-Length: 9000000") + bytes(MIB),
        request("PUT", "/", None, "Transfer-Encoding: chunked") + b"ffffff\r\n" + bytes(MIB),
        request("PUT", "/no/where", None, "Content-Length: 9000000") + bytes(MIB),
        b"GET / HT",
    ],
    ids=["a read", "a write", "a write in chunks", "a refused write", "a head"],
)
@pytest.mark.parametrize("how", ["close", "reset", "wait"])
def test_what_breaks_off_or_stalls_inside_tls_leaves_nothing(
    quiet_server: tuple[Server, int], tls: ssl.SSLContext, data: bytes, how: str
) -> None:
    server, connections = quiet_server
    with greeted(server, tls) as wire:
        wire.send(data)
        if how == "reset":
            wire.reset()
        elif how == "wait":
            wait_until(lambda: held(server) <= connections, "the server has had enough")
    assert_served(server, tls, connections)
    assert {name for name in os.listdir(server.data) if not name.startswith(".holdall-")} == {path_of(LARGE)[1:]}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 600_000, 431),
        (b"GET / HTTP/1.1\r\nX: ", 408),
        (request("PUT", "/", None, "Content-Length: 5"), 408),
        (request("PUT", "/", None, f"Content-Length: {1 << 50}"), 413),
    ],
)
def test_a_refusal_comes_through_tls_whole(
    request: pytest.FixtureRequest, tls: ssl.SSLContext, data: bytes, status: int
) -> None:
    server = request.getfixturevalue("hasty" if status == 408 else "server")
    with greeted(server, tls) as wire:
        answer = wire.send(data).answer()

        assert answer is not None
        assert (answer.status, answer.says_close, wire.closes()) == (status, True, True)
    assert_silent(server)
