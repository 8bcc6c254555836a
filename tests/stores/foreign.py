"""Servers that are not holdall's, for tests of the HTTP client: whatever a function says, and the original one.

`OriginalServer` answers as the original Go server does, faults included, so far as a client can see.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclass(slots=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Said:
    """An answer; what `raw` holds is sent as it is, and `hang` keeps the connection open after it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang: bool = False


class Foreign:
    """A running double.

    Attributes:
        url: Where it answers.
        seen: Every request so far.
    """

    def __init__(self, answer: Callable[[Seen], Said | None], *, reads_bodies: bool) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._answer = answer
        self._reads_bodies = reads_bodies

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends or the function answers None."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._connections.discard(task)

    async def aclose(self) -> None:
        """Ends every connection."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if "expect" in headers and self._reads_bodies:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, headers) if self._reads_bodies else b""
        request = Seen(method, parts.path, query, headers, body)
        self.seen.append(request)
        said = self._answer(request)
        if said is None:
            return False
        writer.write(said.raw if said.raw is not None else _written(request, said))
        await writer.drain()
        if said.hang:
            await reader.read()
        return said.raw is None


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _written(request: Seen, said: Said) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.headers.items())
    if request.method == "HEAD":
        return f"HTTP/1.1 {said.status} Said\r\n{lines}\r\n".encode()
    if said.headers.get("Transfer-Encoding") == "chunked":
        body = (b"%x\r\n%b\r\n" % (len(said.body), said.body) if said.body else b"") + b"0\r\n\r\n"
    else:
        body = said.body
        lines += "" if "Content-Length" in said.headers else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {said.status} Said\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def foreign(answer: Callable[[Seen], Said | None], *, reads_bodies: bool = True) -> AsyncIterator[Foreign]:
    """Runs a server that answers as `answer` says; None closes the connection without a word."""
    double = Foreign(answer, reads_bodies=reads_bodies)
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        server.close()
        await double.aclose()


class OriginalServer:
    """The original server, as a function for `foreign`.

    Args:
        key: Its API key; with none, a request that brings one is refused.
    """

    def __init__(self, key: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self._key = key

    def __call__(self, request: Seen) -> Said:
        """Answers one request."""
        if request.method in {"PUT", "POST"}:
            return self._write(request)
        if request.path == "/" and request.method == "GET":
            return self._unauthorized(request) or Said(body="".join(f"{p}\n" for p in self._listed()).encode())
        if not re.fullmatch(r"/.{64}\.tig", request.path):
            return Said(417)
        return self._delete(request) if request.method == "DELETE" else self._read(request)

    def _delete(self, request: Seen) -> Said:
        refused = self._unauthorized(request)
        if refused is None:
            self.files.pop(request.path, None)
        return refused or Said()

    def _read(self, request: Seen) -> Said:
        if request.path not in self.files:
            return Said(404)
        if request.method == "HEAD":
            return Said()
        return Said(body=self._content(request), headers={"Transfer-Encoding": "chunked", "Cache-Control": "no-store"})

    def _write(self, request: Seen) -> Said:
        address = f"/{hashlib.sha256(request.body).hexdigest()}.tig"
        if request.path == "/kv":
            return Said(body=address.encode())
        refused = self._unauthorized(request)
        if refused is not None:
            return refused
        if request.path == "/":
            self.files.setdefault(address, request.body)
            return Said(body=address.encode())
        if not re.fullmatch(r"/.{64}\.tig", request.path):
            return Said()
        old = self.files.get(request.path)
        is_blob = old is not None and f"/{hashlib.sha256(old).hexdigest()}.tig" == request.path
        if is_blob or (old is not None and request.query.get("setifnot") == "1"):
            return Said()
        appended = old is not None and request.query.get("append") == "1"
        self.files[request.path] = (old or b"") + request.body if appended else request.body
        return Said(body=request.path.encode())

    def _content(self, request: Seen) -> bytes:
        data = self.files[request.path]
        if request.query.get("burst") == "1":
            return b"".join(self.files.get(line, b"") for line in data.decode().splitlines())
        return data

    def _listed(self) -> list[str]:
        return list(reversed(self.files)) if self._key else []

    def _unauthorized(self, request: Seen) -> Said | None:
        return Said(401) if request.query.get("apikey", "") != self._key else None
