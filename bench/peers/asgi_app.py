"""The job as an ASGI application, for uvicorn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bench.peers.blob_files import INLINE_BYTES_MAX, READ_BYTES, Incoming, open_blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Stores the body of a PUT or POST, serves what a GET names."""
    if scope["method"] in {"PUT", "POST"}:
        await _store(receive, send)
    else:
        await _serve(scope["path"], send)


async def _store(receive: Receive, send: Send) -> None:
    incoming = Incoming()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            incoming.drop()
            return
        incoming.write(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, 200, incoming.keep().encode())


async def _serve(path: str, send: Send) -> None:
    found = open_blob(path)
    if found is None:
        await _answer(send, 404, b"There is nothing at that address.")
        return
    descriptor, size_bytes = found
    try:
        if size_bytes <= INLINE_BYTES_MAX:
            await _answer(send, 200, os.read(descriptor, size_bytes))
            return
        await send(_start(200, size_bytes))
        while chunk := os.read(descriptor, READ_BYTES):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        os.close(descriptor)


def _start(status: int, size_bytes: int) -> dict[str, Any]:
    headers = [(b"content-length", b"%d" % size_bytes), (b"content-type", b"application/octet-stream")]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send(_start(status, len(body)))
    await send({"type": "http.response.body", "body": body})
