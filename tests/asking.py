"""Asking a server under test: a request is a call, an answer is a value; bare connections where their order counts."""

from __future__ import annotations

import hashlib
import http.client
import secrets
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

    from support import Server


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: The status code.
        headers: By lower-case name.
        body: All of it, with any chunking undone.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def brief(self) -> tuple[int, bytes]:
        """Status and body, which is what most tests are about."""
        return self.status, self.body


def path_of(data: bytes) -> str:
    """The path of the blob with these bytes, or of the slot with this key."""
    return f"/{hashlib.sha256(data).hexdigest()}.tig"


def fresh_path() -> str:
    """A path that nothing was ever stored at."""
    return path_of(secrets.token_bytes(32))


NOWHERE = "/5d3f0c4a9b7e18263c5d0a1e7f4b92d86c1a35e0f7b94d2c8a6e13f5b07d49c2.tig"
"""The same, where it has to be the same in every run: in the name of a test."""


def fresh_bytes(size_bytes: int = 40) -> bytes:
    """Bytes that were never stored."""
    return secrets.token_bytes(size_bytes)


def ask(
    server: Server,
    method: str,
    target: str = "/",
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own; a body in pieces is sent chunked.

    A server that refuses the body may end the connection while it is still being sent; what it answered counts.
    """
    connection = (
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
        if tls is None
        else http.client.HTTPSConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS, context=tls)
    )
    try:
        chunked = body is not None and not isinstance(body, bytes)
        fields = dict(headers or {}) | ({"Transfer-Encoding": "chunked"} if chunked else {})
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, target, body, fields, encode_chunked=chunked)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def _fields(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def get(server: Server, target: str, **headers: str) -> Answer:
    """A GET; a header's name is written with underscores."""
    return ask(server, "GET", target, headers=_fields(headers))


def head(server: Server, target: str, **headers: str) -> Answer:
    """A HEAD; a header's name is written with underscores."""
    return ask(server, "HEAD", target, headers=_fields(headers))


def put(server: Server, target: str, body: bytes, **headers: str) -> Answer:
    """A PUT; a header's name is written with underscores."""
    return ask(server, "PUT", target, body, _fields(headers))


def stored(server: Server, data: bytes) -> str:
    """Stores a blob and returns its path."""
    answer = put(server, "/", data)
    assert answer.brief == (200, path_of(data).encode())
    return path_of(data)


def set_slot(server: Server, value: bytes) -> str:
    """Writes a slot at a fresh path and returns the path."""
    path = fresh_path()
    assert put(server, path, value).brief == (200, path.encode())
    return path


@contextmanager
def connected(server: Server) -> Iterator[tuple[socket.socket, BufferedReader]]:
    """A bare connection: the socket to send on, and the file to read answers from with `read_answer`."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as sock,
        sock.makefile("rb") as file,
    ):
        yield sock, file


def read_answer(file: BufferedReader, *, bodiless: bool = False) -> Answer:
    """Reads one answer off a connection.

    Args:
        file: From `connected`.
        bodiless: Whether it answers a HEAD.
    """
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if bodiless or status in {100, 204, 304}:
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
        return Answer(status, headers, body)
    length = headers.get("content-length")
    return Answer(status, headers, file.read() if length is None else file.read(int(length)))


def wait_for_the_next_time_stamp(place: Path) -> None:
    """The file system's clock ticks every few milliseconds; within one tick, uses have no order."""
    probe = place / "probe"

    def stamp() -> int:
        probe.write_bytes(b"x")
        return probe.stat().st_mtime_ns

    first = stamp()
    wait_until(lambda: stamp() > first, "the file system's clock ticks")


def files_of(server: Server) -> dict[str, bytes]:
    """The entries' files in a server's data directory, by name, with what they hold."""
    return {path.name: path.read_bytes() for path in server.data.iterdir() if path.name.endswith(".tig")}
