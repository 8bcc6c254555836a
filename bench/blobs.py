"""The bodies that are sent and the working sets that are read, the same for every peer."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Final

from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.base import Endpoint, PutStyle

SET_SEED: Final = "0" * 32
FILL_SECONDS_MAX: Final = 60.0
CLIENT_SECONDS_MAX: Final = 30.0


def body(seed: str, number: int, size_bytes: int) -> bytes:
    """One body, as load/wrk.lua makes it.

    Args:
        seed: 32 hex digits.
        number: Tells bodies of one seed apart.
        size_bytes: At least 48.
    """
    return f"{seed}{number:016x}".encode().ljust(size_bytes, b"x")


def address_path(content: bytes) -> str:
    """The path at which a content-addressed server answers the content."""
    return f"/{hashlib.sha256(content).hexdigest()}.tig"


def put_path(style: PutStyle, seed: str, number: int) -> str:
    """Where a body is put.

    Args:
        style: `root` where the server names it, `unique` where the client does.
        seed: 32 hex digits.
        number: The body's.
    """
    return "/" if style == "root" else f"/{seed}{number:032x}.tig"


def fill_files(data: str, count: int, size_bytes: int) -> list[str]:
    """Writes a working set into a directory as plain files, before a server starts on it.

    Args:
        data: The directory.
        count: Of blobs.
        size_bytes: Of each.

    Returns:
        Their paths on the wire, in no order that the directory would know.
    """
    paths = []
    for number in range(count):
        content = body(SET_SEED, number, size_bytes)
        path = address_path(content)
        # Read-only is how a data directory marks a blob.
        descriptor = os.open(data + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        os.write(descriptor, content)
        os.close(descriptor)
        paths.append(path)
    return paths


def fill_by_put(endpoint: Endpoint, count: int, size_bytes: int) -> list[str]:
    """Puts a working set into a server of somebody else's, as much of it as a minute allows.

    Args:
        endpoint: The server.
        count: Of blobs.
        size_bytes: Of each.

    Returns:
        The paths it answered.

    Raises:
        BenchError: It does not take them.
    """
    paths = []
    deadline = time.monotonic() + FILL_SECONDS_MAX
    with _connection(endpoint) as connection:
        for number in range(count):
            answer = _exchange(connection, "PUT", "/", body(SET_SEED, number, size_bytes))
            paths.append(answer.decode("ascii", "replace").strip())
            if time.monotonic() > deadline:
                break
    return paths


def fill_redis(endpoint: Endpoint, count: int, size_bytes: int) -> None:
    """Sets the keys that `redis-benchmark -r COUNT` reads.

    Args:
        endpoint: The server.
        count: Of keys.
        size_bytes: Of each value.

    Raises:
        BenchError: It does not take them.
    """
    value = b"x" * size_bytes
    with socket.create_connection((endpoint.host, endpoint.port), CLIENT_SECONDS_MAX) as connection:
        replies = connection.makefile("rb")
        for number in range(count):
            key = f"key:{number:012d}".encode()
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, size_bytes, value))
            reply = replies.readline()
            if reply != b"+OK\r\n":
                raise BenchError(f"SET was answered {reply[:80]!r}")


def check_service(endpoint: Endpoint, style: PutStyle, size_bytes: int) -> None:
    """Puts one body and reads it back, so that no rate of a server that does something else is ever reported.

    Args:
        endpoint: The server.
        style: How it takes a PUT.
        size_bytes: Of the body.

    Raises:
        BenchError: It answers other than 2xx, or other bytes.
    """
    seed = secrets.token_hex(16)
    content = body(seed, 0, size_bytes)
    with _connection(endpoint) as connection:
        target = put_path(style, seed, 0)
        answer = _exchange(connection, "PUT", target, content)
        path = target if style == "unique" else answer.decode("ascii", "replace").strip()
        if style == "root" and path != address_path(content):
            raise BenchError(f"PUT / was answered {path[:80]!r}, not the path of the body's SHA-256")
        if _exchange(connection, "GET", path, None) != content:
            raise BenchError("a body that was put reads back as other bytes")


def read_back(endpoint: Endpoint, path: str) -> bytes:
    """What the server answers to one GET.

    Raises:
        BenchError: Anything but 2xx.
    """
    with _connection(endpoint) as connection:
        return _exchange(connection, "GET", path, None)


@contextlib.contextmanager
def _connection(endpoint: Endpoint) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=CLIENT_SECONDS_MAX)
    try:
        yield connection
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"a request failed: {error!r}") from error
    finally:
        connection.close()


def _exchange(connection: http.client.HTTPConnection, method: str, path: str, content: bytes | None) -> bytes:
    connection.request(method, path, content)
    response = connection.getresponse()
    answer = response.read()
    if not 200 <= response.status < 300:
        raise BenchError(f"{method} was answered {response.status}: {answer[:80].decode('utf-8', 'replace')}")
    return answer
