"""h11 judges the framing of every kind of answer: what is promised is sent, and nothing beside it."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support import running_server
from wire import Wire, ask, assert_silent, chunked, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server
    from wire import Answer

KEY = "apikey=a%20key"
SLOT = "/" + "5a" * 32 + ".tig"
APPENDED_SLOT = "/" + "5b" * 32 + ".tig"
TAKEN_SLOT = "/" + "5c" * 32 + ".tig"
NOWHERE = "/" + "00" * 32 + ".tig"
EMPTY, SMALL, LARGE = b"", b"a small blob", random.Random(7).randbytes(700_000)
MEMBERS = f"# a comment\n{path_of(SMALL)}\n{path_of(LARGE)}\n".encode()
OUTER = f"{path_of(MEMBERS)}\n".encode()
BROKEN = f"{path_of(SMALL)}\n{NOWHERE}\n".encode()
BURST = path_of(MEMBERS)


class Case(NamedTuple):
    """A request and its answer.

    Attributes:
        line: Method and target.
        headers: Of the request.
        body: Of the request.
        status: Of the answer.
        content: Of the answer; None where it is not fixed.
    """

    line: str
    headers: tuple[str, ...]
    body: bytes | None
    status: int
    content: bytes | None

    def sent_on(self, wire: Wire, *headers: str, version: str = "1.1") -> Answer:
        """The answer, which must be the one expected."""
        method, target = self.line.split()
        answer = wire.send(request(method, target, self.body, *self.headers, *headers, version=version)).answer(method)

        assert answer is not None
        assert answer.status == self.status
        assert self.content in {None, answer.body}
        return answer


ROWS: list[tuple[str, tuple[str, ...], bytes | None, int, bytes | None]] = [
    (f"GET {path_of(SMALL)}", (), None, 200, SMALL),
    (f"GET {path_of(EMPTY)}", (), None, 200, EMPTY),
    (f"GET {path_of(LARGE)}", (), None, 200, LARGE),
    (f"GET {SLOT}", (), None, 200, b"a value"),
    (f"GET {NOWHERE}", (), None, 404, None),
    (f"GET {path_of(SMALL)}?Content-Type=text/css", (), None, 200, SMALL),
    (f"GET {path_of(SMALL)}?{KEY}", (), None, 200, SMALL),
    (f"GET {path_of(SMALL)}?apikey=wrong", (), None, 401, None),
    (f"GET {path_of(SMALL)}", ("If-None-Match: *",), None, 304, b""),
    (f"GET {path_of(SMALL)}", (f'If-None-Match: "{path_of(SMALL)[1:65]}"',), None, 304, b""),
    (f"GET {path_of(SMALL)}", ('If-Match: "other"',), None, 412, None),
    (f"GET {path_of(SMALL)}", ("Range: bytes=2-4",), None, 206, SMALL[2:5]),
    (f"GET {path_of(SMALL)}", ("Range: bytes=-3",), None, 206, SMALL[-3:]),
    (f"GET {path_of(SMALL)}", ("Range: bytes=99-",), None, 416, None),
    (f"GET {path_of(SMALL)}", ("Range: bytes=5-2",), None, 200, SMALL),
    (f"GET {path_of(SMALL)}", ("Range: bytes=0-1,3-4",), None, 200, SMALL),
    (f"GET {path_of(SMALL)}", (f"Range: bytes={'9' * 19}-",), None, 416, None),
    (f"GET {path_of(LARGE)}", ("Range: bytes=1-600000",), None, 206, LARGE[1:600_001]),
    (f"GET {path_of(EMPTY)}", ("Range: bytes=0-",), None, 416, None),
    (f"GET {BURST}?burst=1", (), None, 200, SMALL + LARGE),
    (f"GET {path_of(OUTER)}?burst=2", (), None, 200, SMALL + LARGE),
    (f"GET {BURST}?burst=1", ("Range: bytes=5-20",), None, 206, (SMALL + LARGE)[5:21]),
    (f"GET {path_of(BROKEN)}?burst=1", (), None, 404, None),
    ("GET /", (), None, 401, None),
    (f"GET /?{KEY}", (), None, 200, None),
    (f"GET /?{KEY}&format=http://h*", (), None, 200, None),
    ("GET /-/health", (), None, 200, None),
    ("GET /-/metrics", (), None, 200, None),
    (f"HEAD {path_of(SMALL)}", (), None, 200, b""),
    (f"HEAD {path_of(LARGE)}", (), None, 200, b""),
    (f"HEAD {path_of(EMPTY)}", (), None, 200, b""),
    (f"HEAD {SLOT}", (), None, 200, b""),
    (f"HEAD {NOWHERE}", (), None, 404, b""),
    (f"HEAD {path_of(SMALL)}", ("If-None-Match: *",), None, 304, b""),
    (f"HEAD {BURST}?burst=1", (), None, 200, b""),
    (f"HEAD {path_of(SMALL)}", ("Range: bytes=2-4",), None, 200, b""),
    (f"HEAD /?{KEY}", (), None, 200, b""),
    ("HEAD /", (), None, 401, b""),
    ("HEAD /-/health", (), None, 200, b""),
    ("HEAD /nowhere", (), None, 404, b""),
    (f"PUT /?{KEY}", (), b"put", 200, path_of(b"put").encode()),
    (f"PUT /?{KEY}", (), b"", 200, path_of(b"").encode()),
    (f"PUT /?{KEY}&format=<*>", (), b"put", 200, f"<{path_of(b'put')}>".encode()),
    (f"POST /?{KEY}", ("Content-Type: application/x-www-form-urlencoded",), b"post", 200, path_of(b"post").encode()),
    ("PUT /", (), b"no key", 401, None),
    (f"PUT /?{KEY}", (), LARGE, 200, path_of(LARGE).encode()),
    (f"PUT {SLOT}?{KEY}&setifnot=1", (), b"a second", 409, b""),
    (f"PUT {path_of(SMALL)}?{KEY}", (), b"not it", 409, None),
    (f"PUT {SLOT}?{KEY}", ('If-Match: "other"',), b"swapped", 412, None),
    (f"PUT /?{KEY}", (f"Content-Digest: sha-256=:{'A' * 43}=:",), b"x", 400, None),
    (f"PUT {APPENDED_SLOT}?{KEY}&append=1", (), b"line\n", 200, APPENDED_SLOT.encode()),
    (f"GET {TAKEN_SLOT}?take=1&{KEY}", (), None, 200, b"to be taken"),
    (f"GET {NOWHERE}?take=1&{KEY}", (), None, 404, None),
    (f"DELETE {NOWHERE}?{KEY}", (), None, 404, None),
    ("DELETE /", (), None, 405, None),
    ("OPTIONS /", ("Origin: https://page.example",), None, 204, b""),
    (f"GET {path_of(SMALL)}", ("Origin: https://page.example",), None, 200, SMALL),
    ("POST /-/have", (), f"{path_of(SMALL)}\n{NOWHERE}\n".encode(), 200, f"{NOWHERE}\n".encode()),
    ("POST /-/have", (), b"nonsense\n", 400, None),
    (f"POST /kv?{KEY}", (), b"key", 200, path_of(b"key").encode()),
]
CASES = [Case(*row) for row in ROWS]
REPEATABLE = [case for case in CASES if TAKEN_SLOT not in case.line]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("framing") / "data"
    data.mkdir()
    (data / "apikey").write_text("a key")
    with running_server(data, "--quiet", "--cors", "https://page.example") as found:
        for blob in (EMPTY, SMALL, LARGE, MEMBERS, OUTER, BROKEN):
            assert ask(found.port, request("PUT", f"/?{KEY}", blob), "PUT").status == 200
        assert ask(found.port, request("PUT", f"{SLOT}?{KEY}", b"a value"), "PUT").status == 200
        yield found


@pytest.mark.parametrize("case", CASES, ids=[case.line[:80] for case in CASES])
def test_an_answer_is_framed_as_http_1_1_and_the_connection_kept(server: Server, case: Case) -> None:
    if TAKEN_SLOT in case.line:
        assert ask(server.port, request("PUT", f"{TAKEN_SLOT}?{KEY}", b"to be taken"), "PUT").status == 200
    with Wire(server.port) as wire:
        answer = case.sent_on(wire)
        after = wire.send(request("GET", path_of(SMALL))).answer()

        assert not answer.says_close
        assert after is not None
        assert (after.status, after.body) == (200, SMALL)
    assert_silent(server)


@pytest.mark.parametrize("headers", [(), ("Connection: close",), ("Connection: keep-alive",)], ids=repr)
@pytest.mark.parametrize("case", REPEATABLE, ids=[case.line[:80] for case in REPEATABLE])
def test_an_answer_is_framed_as_http_1_0_wants_it(server: Server, case: Case, headers: tuple[str, ...]) -> None:
    with Wire(server.port) as wire:
        answer = case.sent_on(wire, *headers, version="1.0")

        assert "transfer-encoding" not in answer.headers
        if answer.headers.get("connection") != "keep-alive":
            assert wire.closes()
    assert_silent(server)


def test_an_answer_to_head_has_the_headers_of_the_answer_to_get(server: Server) -> None:
    for target in (path_of(EMPTY), path_of(SMALL), path_of(LARGE), SLOT, f"{BURST}?burst=1"):
        with Wire(server.port) as wire:
            got = wire.send(request("GET", target)).answer()
            head = wire.send(request("HEAD", target)).answer("HEAD")

        assert got is not None
        assert head is not None
        kept = {name: value for name, value in head.headers.items() if not name.startswith("x-holdall-")}
        shown = {name: value for name, value in got.headers.items() if not name.startswith("x-holdall-")}
        assert kept | {"date": ""} == shown | {"date": ""}


def test_a_listing_of_any_length_is_framed(server: Server) -> None:
    for number in range(1200):
        assert ask(server.port, request("PUT", f"/?{KEY}", b"%d" % number), "PUT").status == 200
    new, old = (ask(server.port, request("GET", f"/?{KEY}", version=version)) for version in ("1.1", "1.0"))
    stored = {name for name in os.listdir(server.data) if name.endswith(".tig")}

    assert {line.decode()[1:] for line in new.body.splitlines()} == stored
    assert sorted(new.body.splitlines()) == sorted(old.body.splitlines())
    assert (new.headers.get("transfer-encoding"), old.says_close) == ("chunked", True)


def test_a_chunked_write_is_framed_as_any(server: Server) -> None:
    data = os.urandom(100_000)
    pieces = [data[at : at + 997] for at in range(0, len(data), 997)]
    chunks = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with Wire(server.port) as wire:
        for _ in range(3):
            answer = wire.send(chunked("PUT", f"/?{KEY}", chunks + b"0\r\n\r\n")).answer("PUT")

            assert answer is not None
            assert (answer.status, answer.body) == (200, path_of(data).encode())
