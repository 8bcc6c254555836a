"""The job as an RSGI application, for granian."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.peers.blob_files import DATA, INLINE_BYTES_MAX, Incoming, open_blob

if TYPE_CHECKING:
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

HEADERS = [("content-type", "application/octet-stream")]


async def app(scope: Scope, protocol: HTTPProtocol) -> None:
    """Stores the body of a PUT or POST, serves what a GET names."""
    if scope.method in {"PUT", "POST"}:
        await _store(scope, protocol)
    else:
        _serve(scope.path, protocol)


async def _store(scope: Scope, protocol: HTTPProtocol) -> None:
    incoming = Incoming()
    try:
        if int(scope.headers.get("content-length", INLINE_BYTES_MAX + 1)) <= INLINE_BYTES_MAX:
            incoming.write(await protocol())
        else:
            async for chunk in protocol:
                incoming.write(chunk)
    except BaseException:
        incoming.drop()
        raise
    protocol.response_str(200, HEADERS, incoming.keep())


def _serve(path: str, protocol: HTTPProtocol) -> None:
    found = open_blob(path)
    if found is None:
        protocol.response_str(404, HEADERS, "There is nothing at that address.")
        return
    descriptor, size_bytes = found
    try:
        if size_bytes <= INLINE_BYTES_MAX:
            protocol.response_bytes(200, HEADERS, os.read(descriptor, size_bytes))
        else:
            protocol.response_file(200, [*HEADERS, ("content-length", str(size_bytes))], DATA + path)
    finally:
        os.close(descriptor)
