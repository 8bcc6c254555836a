"""Whatever bytes come, the server answers in HTTP or closes, finds no fault in itself, and reads as others do."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support import running_server, wait_until
from wire import Answer, Wire, assert_silent, assert_well, chunked, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

LONG = "HOLDALL_TEST_LONG" in os.environ
MANY = settings(
    max_examples=4000 if LONG else 250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

BLOB = b"a blob that is there"
SLOT = "/" + "5a" * 32 + ".tig"

# No HEAD: only who knows which request was one can tell where its answer ends.
VALID = [
    request("GET", path_of(BLOB)),
    request("GET", path_of(BLOB), None, "Range: bytes=3-5", "If-None-Match: *"),
    request("GET", f"{path_of(BLOB)}?Content-Type=text/css&burst=1&chtimes=0&take=1"),
    request("GET", "/", None, "Accept: text/html"),
    request("GET", "/-/health"),
    request("PUT", "/", b"hello"),
    request("PUT", "/", b"x" * 300, "Content-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"),
    request("PUT", f"{SLOT}?append=1&format=http://h*", b"a line\n"),
    request("PUT", SLOT, b"a value", "If-None-Match: *"),
    request("PUT", SLOT, b"a value", 'If-Match: "1-1"', "Expect: 100-continue"),
    request("POST", "/kv", b"key", "Connection: close"),
    request("POST", "/-/have", f"{path_of(BLOB)}\n{SLOT}\n".encode()),
    request("DELETE", SLOT),
    request("GET", path_of(BLOB), None, "Connection: keep-alive", version="1.0"),
    request("GET", path_of(BLOB), None, "Connection: Upgrade", "Upgrade: h2c"),
    chunked("PUT", "/", b"5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"),
    chunked("POST", "/kv", b"1\r\nk\r\n0\r\n\r\n"),
]

TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"?", b"/", b"..", b"%00", b"\xff", b"\x80", b"0", b"-"),
    *(b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"PUT / HTTP/1.1\r\n", b"PRI * "),
    *(b"Host: h\r\n", b"Content-Length: 3\r\n", b"Content-Length: 99999\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n"),
    *(
        b"Connection: close\r\n",
        b"Upgrade: websocket\r\n",
        b"Range: bytes=0-\r\n",
        b"burst=8",
        b"&append=1",
        b"A" * 5000,
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One to three valid requests, bent in up to four places."""
    data = b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 12)))
        put = draw(
            st.one_of(st.just(b""), st.sampled_from(TOKENS), st.binary(max_size=4), st.just(data[start:stop] * 2))
        )
        data = data[:start] + put + data[stop:]
    return data


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("bytes") / "data", "--quiet", "--max-size", "64KiB", durable=True
    ) as found:
        with Wire(found.port) as wire:
            wire.send(request("PUT", "/", BLOB)).answer("PUT")
        yield found
        assert_well(found)
        own = {".holdall-control", ".holdall-journal"}
        wait_until(lambda: {name for name in os.listdir(found.data) if name[-4:] != ".tig"} <= own, "nothing is left")


def all_answers(server: Server, data: bytes, cuts: list[int]) -> list[Answer]:
    """Every answer to these bytes, sent in pieces and followed by a half-close; all must be HTTP to h11."""
    found = []
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    with Wire(server.port) as wire:
        for start, stop in itertools.pairwise(places):
            wire.send(data[start:stop])
        wire.half_close()
        while (answer := wire.answer()) is not None:
            found.append(answer)
    return found


cuts = st.lists(st.integers(0, 500), max_size=3)


@MANY
@given(data=st.one_of(st.binary(max_size=300), mutated()), cuts=cuts)
def test_any_bytes_get_http_or_the_end_of_the_connection(server: Server, data: bytes, cuts: list[int]) -> None:
    answers = all_answers(server, data, cuts)

    assert {answer.status for answer in answers} <= {200, 206, 304, *range(400, 432), 501, 505}
    assert not any(answer.says_close for answer in answers[:-1])
    assert_silent(server)


# --- the same bytes, read by two parsers ---

LINE_ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n ", b"\r\n\t", b" \r\n", b"\0\r\n", b"\r\r\n"]
FRAMING = [
    *(b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 3", b"content-length:5"),
    *(
        b"Content-Length : 5",
        b"Content-Length: +5",
        b"Content-Length: 05",
        b"Content-Length: 5,5",
        b"Content-Length: 0x5",
    ),
    *(b"Content-Length: 5 ", b"Content-Length:\t5", b" Content-Length: 5", b"Content_Length: 5", b"Content-Length: "),
    *(b"Content-Length: 5;a", b"\x0bContent-Length: 5", b"Content-Length\0: 5", b"X-Content-Length: 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"),
    *(b"Transfer-Encoding: chunked ", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \x0bchunked"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, identity"),
    *(b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: ,chunked", b'Transfer-Encoding: "chunked"'),
    *(
        b"Transfer-Encoding:",
        b"Transfer-Encoding: xchunked",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding: chunked;a",
    ),
    *(b"Host: h", b"X: y", b"X:", b"Connection: close", b"Expect: 100-continue"),
]
BODIES = [
    *(
        b"",
        b"hello",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"05\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
    ),
    *(b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    *(
        b"5\r\nhello\r\n0\r\n\r",
        b"5\r\nhello\r\n0\n\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
    ),
    *(
        b"5\r\nhelloXX0\r\n\r\n",
        b"00\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0;\r\n\r\n",
        b"0 \r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
    ),
]
START = [b"POST /kv HTTP/1.1"] * 8 + [
    *(
        b"POST /kv HTTP/1.0",
        b"POST\t/kv\tHTTP/1.1",
        b"POST /kv HTTP/1.1 ",
        b"POST /kv HTTP/1.10",
        b" POST /kv HTTP/1.1",
    ),
    *(b"POST /kv", b"post /kv HTTP/1.1", b"POST /kv http/1.1", b"POST /kv HTTP/01.1", b"POST\r/kv\rHTTP/1.1"),
]


@st.composite
def smuggling(draw: st.DrawFn) -> bytes:
    """One to three writes whose framing is said in odd ways."""
    found = b""
    for _ in range(draw(st.integers(1, 3))):
        lines = [draw(st.sampled_from(START)), b"Host: h", *draw(st.lists(st.sampled_from(FRAMING), max_size=3)), b""]
        found += b"".join(line + draw(st.sampled_from(LINE_ENDS)) for line in lines) + draw(st.sampled_from(BODIES))
    return found


def read_by_h11(data: bytes) -> tuple[list[bytes], bool]:
    """The bodies of the whole requests that h11 sees, and whether it refuses what comes after them."""
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    judge.receive_data(b"")
    bodies: list[bytes] = []
    body = b""
    try:
        while True:
            event = judge.next_event()
            if isinstance(event, h11.Request):
                body = b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                bodies.append(body)
                judge.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                judge.send(h11.EndOfMessage())
                if judge.our_state is not h11.DONE:
                    return bodies, False
                judge.start_next_cycle()
            else:
                return bodies, False
    except h11.RemoteProtocolError:
        return bodies, True


@MANY
@example(b"POST /kv HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")
@given(data=smuggling())
def test_what_is_accepted_is_read_as_h11_reads_it(server: Server, data: bytes) -> None:
    bodies, _ = read_by_h11(data)
    answers = all_answers(server, data, [])
    accepted = [answer.body for answer in answers if answer.status == 200]

    assert accepted == [path_of(body).encode() for body in bodies[: len(accepted)]]
    assert {answer.status for answer in answers} <= {200, 400, 408, 417, 501, 505}
    assert_silent(server)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n"
        + request("POST", "/kv", b"hello"),  # RFC 9112, 2.2: a server should ignore an empty line before a request
        b"\r" + request("POST", "/kv", b"hello"),
        b"POST  /kv" + request("POST", "/kv", b"hello")[8:],  # RFC 9112, 3: words may be parted by several spaces
        b"POST /kv  HTTP/1.1" + request("POST", "/kv", b"hello")[17:],
    ],
)
def test_the_only_requests_taken_that_h11_refuses_say_the_same_to_both(server: Server, data: bytes) -> None:
    answers = all_answers(server, data, [])

    assert read_by_h11(data) == ([], True)
    assert [(answer.status, answer.body) for answer in answers] == [(200, path_of(b"hello").encode())]
