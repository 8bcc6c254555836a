"""Malformed, oversized and ambiguous requests: each has its status, none is a way past the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import running_server
from wire import Wire, assert_well, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

A = "/" + "ab" * 32 + ".tig"
H = b"PUT / HTTP/1.1\r\nHost: h\r\n"
G = b"GET / HTTP/1.1\r\nHost: h\r\n"

# What it is, the bytes, the status. All of these end the connection.
FATAL = [
    # Two ideas of where the body ends.
    (
        "content-length and transfer-encoding",
        H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "transfer-encoding and content-length",
        H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("two content-lengths that differ", H + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("two content-lengths that agree", H + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("content-length: 5, 5", H + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    ("content-length: -1", H + b"Content-Length: -1\r\n\r\n", 400),
    ("content-length: +5", H + b"Content-Length: +5\r\n\r\nhello", 400),
    ("content-length: 0x5", H + b"Content-Length: 0x5\r\n\r\nhello", 400),
    ("content-length: 5e0", H + b"Content-Length: 5e0\r\n\r\nhello", 400),
    ("content-length: 5 5", H + b"Content-Length: 5 5\r\n\r\nhello", 400),
    ("content-length: 5_0", H + b"Content-Length: 5_0\r\n\r\nhello", 400),
    ("content-length empty", H + b"Content-Length:\r\n\r\n", 400),
    ("content-length of other digits", H + "Content-Length: \u0665\r\n\r\n".encode() + b"hello", 400),
    ("content-length over 64 bits", H + b"Content-Length: 18446744073709551617\r\n\r\n", 400),
    ("content-length of 40 digits", H + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 400),
    ("content-length over the limit", H + b"Content-Length: 9223372036854775807\r\n\r\n", 413),
    ("space before the colon", H + b"Content-Length : 5\r\n\r\nhello", 400),
    ("tab before the colon", H + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding: xchunked", H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("transfer-encoding: chunked, identity", H + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding: chunked, chunked", H + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding: gzip, chunked", H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("transfer-encoding twice", H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding: vertical tab", H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding quoted", H + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 501),
    ("transfer-encoding in HTTP/1.0", b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("transfer-encoding folded", H + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    # Chunks.
    ("chunk size empty", chunked("PUT", "/", b"\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size negative", chunked("PUT", "/", b"-1\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size signed", chunked("PUT", "/", b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size 0x5", chunked("PUT", "/", b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size no digit", chunked("PUT", "/", b"g\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size with a space before it", chunked("PUT", "/", b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size over 64 bits", chunked("PUT", "/", b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    ("chunk size of 64 bits", chunked("PUT", "/", b"f" * 16 + b"\r\n" + b"x" * 300_000), 413),
    ("chunk longer than its size", chunked("PUT", "/", b"5\r\nhello!\r\n0\r\n\r\n"), 400),
    ("chunk size ended by a bare LF", chunked("PUT", "/", b"5\nhello\r\n0\r\n\r\n"), 400),
    ("chunk ended by a bare LF", chunked("PUT", "/", b"5\r\nhello\n0\r\n\r\n"), 400),
    ("chunk extension with a bare LF", chunked("PUT", "/", b"5;a\nhello\r\n0\r\n\r\n"), 400),
    ("chunk extension with NUL", chunked("PUT", "/", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"), 400),
    ("trailer malformed", chunked("PUT", "/", b"0\r\nbad trailer\r\n\r\n"), 400),
    ("chunk extension without an end", chunked("PUT", "/", b"5;" + b"a" * 600_000), 431),
    ("trailers over the limit", chunked("PUT", "/", b"0\r\n" + b"X: yyyyyyyyyyyy\r\n" * 400 + b"\r\n"), 431),
    ("a trailer without an end", chunked("PUT", "/", b"0\r\nX: " + b"y" * 600_000), 431),
    # Lines.
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    ("bare LF after a header", b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
    ("bare LF at the end", b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
    ("bare CR in a header", G + b"X: a\rY: b\r\n\r\n", 400),
    ("folded header", G + b"X: a\r\n b\r\n\r\n", 400),
    ("first header folded", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    ("header without a colon", G + b"nonsense\r\n\r\n", 400),
    ("header without a name", G + b": x\r\n\r\n", 400),
    ("header name with a space", G + b"X Y: z\r\n\r\n", 400),
    ("header name not ASCII", G + "Ä: z\r\n\r\n".encode(), 400),
    ("NUL in a header", G + b"X: a\x00b\r\n\r\n", 400),
    ("NUL in a header name", G + b"X\x00: a\r\n\r\n", 400),
    ("NUL in the method", b"GE\x00T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("NUL in the target", b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("control character in the target", b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("target not ASCII", b"GET /\xb2 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("target without a slash", b"GET apikey HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("target that begins with a backslash", b"GET \\apikey HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("space before the method", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("no target", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("method in lower case", b"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("method nobody knows", b"FROB / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("method without an end", b"A" * 600_000, 400),
    ("TLS on a plain port", bytes.fromhex("16030100a5010000a10303") + bytes(160), 400),
    ("SOCKS on an HTTP port", b"\x05\x02\x00\x02", 400),
    ("the PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("SSH on an HTTP port", b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    # Versions.
    ("HTTP/0.9", b"GET /\r\n\r\n", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 400),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 400),
    ("HTTP/11", b"GET / HTTP/11\r\nHost: h\r\n\r\n", 400),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400),
    ("ICY", b"GET / ICY/1.0\r\nHost: h\r\n\r\n", 400),
    ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64), 400),
    # Heads.
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("two Hosts that agree", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("two Hosts for an entry", f"GET {A} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode(), 400),
    ("a target over the limit", b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    ("a target without an end", b"GET /" + b"a" * 600_000, 414),
    ("a query over the limit", b"GET /?" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    ("a header over the limit", G + b"X: " + b"y" * 17_000 + b"\r\n\r\n", 431),
    ("a header without an end", G + b"X: " + b"y" * 600_000, 431),
    ("a header name without an end", G + b"x" * 600_000, 431),
    ("too many headers", G + b"X: y\r\n" * 65 + b"\r\n", 431),
    ("headers without an end", G + b"X: y\r\n" * 100_000, 431),
    ("an expectation not known", request("PUT", "/", b"hello", "Expect: a-miracle"), 417),
    ("two ranges headers", request("GET", A, None, "Range: bytes=0-1", "Range: bytes=2-3"), 400),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("hostile") / "data", "--quiet", "--max-size", "256KiB", durable=True
    ) as found:
        yield found


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in FATAL], ids=[row[0] for row in FATAL])
def test_refused_and_the_connection_ended(server: Server, data: bytes, status: int) -> None:
    with Wire(server.port) as wire:
        answer = wire.send(data).answer()

        assert answer is not None
        assert (answer.status, answer.says_close, wire.closes()) == (status, True, True)
    assert_well(server)
