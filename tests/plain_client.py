"""A client so plain that many of them at once cost little: one connection, one request at a time, no judgement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Plain:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class PlainClient:
    """One keep-alive connection to a server on 127.0.0.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Opens a connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Plain:
        """The answer to one request; a header's name is written with underscores.

        Raises:
            ConnectionError: The server went away.
        """
        lines = [f"{method} {target} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            found = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            content = await self._reader.readexactly(int(found.get("content-length", "0")))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server closed the connection") from error
        return Plain(int(head[0].split()[1]), found, content)

    def close(self) -> None:
        """Lets go at once."""
        self._writer.transport.abort()
