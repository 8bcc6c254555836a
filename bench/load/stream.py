"""One large body over one connection, and the speed of one core's SHA-256 to hold it against.

The client runs in a process of its own (`python -m bench.load.stream put|get HOST PORT PATH FILE|BYTES`), so that its
work is not on the harness's clock; it is a bare socket, since any client library would be slower than the servers.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from bench.process import ROOT, BenchError

if TYPE_CHECKING:
    from bench.peers.base import Endpoint

BLOCK_BYTES: Final = 1 << 20
SOURCE_BLOCK_BYTES: Final = 16 << 20
HEAD_BYTES_MAX: Final = 1 << 16
STALL_SECONDS_MAX: Final = 120.0


def write_source(path: str, size_bytes: int) -> None:
    """Writes the file that is sent.

    Args:
        path: Where.
        size_bytes: How large.
    """
    block = os.urandom(SOURCE_BLOCK_BYTES)
    with open(path, "wb") as file:
        left = size_bytes
        while left > 0:
            left -= file.write(block[:left])


def stamp_source(path: str) -> None:
    """Makes the file's content one that no server has seen."""
    with open(path, "r+b") as file:
        file.write(secrets.token_bytes(16))


def hash_source(path: str) -> tuple[str, float]:
    """The file's SHA-256, and how fast one core computes it.

    Only the hashing is timed, over blocks that are in the cache, since that is the bound a server cannot pass.

    Args:
        path: The file.

    Returns:
        The digest in hex, and bytes a second.
    """
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    spent_ns = 0
    size_bytes = 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            began_ns = time.perf_counter_ns()
            digest.update(view[:count])
            spent_ns += time.perf_counter_ns() - began_ns
            size_bytes += count
    return digest.hexdigest(), size_bytes * 1e9 / spent_ns


def put(endpoint: Endpoint, path: str, source: str) -> tuple[float, str]:
    """Sends the file as one PUT.

    Args:
        endpoint: The server.
        path: Where to.
        source: The file.

    Returns:
        Bytes a second, and the answer's text.

    Raises:
        BenchError: It fails or is answered other than 2xx.
    """
    told = _client("put", endpoint, path, source)
    return os.path.getsize(source) / told["seconds"], told["text"]


def get(endpoint: Endpoint, path: str, size_bytes: int) -> float:
    """Reads it back.

    Args:
        endpoint: The server.
        path: Where from.
        size_bytes: How many bytes must come.

    Returns:
        Bytes a second.

    Raises:
        BenchError: It fails, is answered other than 2xx, or has another length.
    """
    seconds: float = _client("get", endpoint, path, str(size_bytes))["seconds"]
    return size_bytes / seconds


def _client(verb: str, endpoint: Endpoint, path: str, what: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.load.stream", verb, endpoint.host, str(endpoint.port), path, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise BenchError(done.stderr.strip().rpartition("\n")[2] or "the stream client failed")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _send(connection: socket.socket, host: str, path: str, source: str) -> str:
    with open(source, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size_bytes}\r\n\r\n".encode())
        connection.sendfile(file)
    left, body = _head(connection)
    while len(body) < left:
        chunk = connection.recv(HEAD_BYTES_MAX)
        if not chunk:
            break
        body += chunk
    return body.decode("utf-8", "replace")


def _receive(connection: socket.socket, host: str, path: str, size_bytes: int) -> str:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    announced, body = _head(connection)
    if announced != size_bytes:
        raise BenchError(f"the answer has {announced} bytes, not {size_bytes}")
    buffer = bytearray(BLOCK_BYTES)
    left = size_bytes - len(body)
    while left:
        count = connection.recv_into(buffer)
        if not count:
            raise BenchError(f"the answer stops {left} bytes before its end")
        left -= count
    return ""


def _head(connection: socket.socket) -> tuple[int, bytes]:
    """The answer's announced length, and what of its body came with the head."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(HEAD_BYTES_MAX)
        if not chunk or len(head) > HEAD_BYTES_MAX:
            raise BenchError("the connection ended without an answer")
        head += chunk
    head, _, body = head.partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    if not status.split(" ")[1].startswith("2"):
        raise BenchError(f"the answer was {status[:80]!r}")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
    return int(fields.get("content-length", "0")), body


def main(verb: str, host: str, port: str, path: str, what: str) -> None:
    """The client process: one exchange, timed from before the connection to the answer's last byte.

    Args:
        verb: `put` or `get`.
        host: The server's.
        port: The server's.
        path: The request's.
        what: The file to send, or how many bytes must come.
    """
    began = time.perf_counter()
    try:
        with socket.create_connection((host, int(port)), STALL_SECONDS_MAX) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            put_it = verb == "put"
            text = _send(connection, host, path, what) if put_it else _receive(connection, host, path, int(what))
            seconds = time.perf_counter() - began
    except (BenchError, OSError) as error:
        sys.exit(f"{error}")
    print(json.dumps({"seconds": seconds, "text": text}))


if __name__ == "__main__":
    main(*sys.argv[1:])
