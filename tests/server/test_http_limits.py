"""The largest body: refused before it is sent where its length is told, else as soon as it is passed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from asking import ask, connected, files_of, fresh_bytes, fresh_path, get, path_of, put, read_answer
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("limits") / "data", "--max-size", str(MAX_BYTES), durable=True
    ) as found:
        yield found


every_place = pytest.mark.parametrize("place", ["/", "slot", "slot?append=1", "slot?setifnot=1", "/kv"])


@every_place
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_just_the_largest_size_is_taken(server: Server, place: str, framing: str) -> None:
    data = fresh_bytes(MAX_BYTES)
    target = place.replace("slot", fresh_path())

    answer = ask(server, "PUT", target, data if framing == "length" else iter([data[:1], data[1:]]))

    assert answer.status == 200
    assert place == "/kv" or get(server, answer.body.decode()).body == data


@every_place
@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(server: Server, place: str, expect: str) -> None:
    before = files_of(server)
    target = place.replace("slot", fresh_path())
    with connected(server) as (sock, file):
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\n{expect}Content-Length: {MAX_BYTES + 1}\r\n\r\n".encode())

        answer = read_answer(file)

        assert answer.brief == (413, f"The body is over {MAX_BYTES} bytes.\n".encode())
        assert answer.headers["connection"] == "close"
        assert file.read() == b""
    assert files_of(server) == before


@every_place
def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(server: Server, place: str) -> None:
    before = files_of(server)
    target = place.replace("slot", fresh_path())
    chunk = b"%x\r\n" % 50_000 + fresh_bytes(50_000) + b"\r\n"
    with connected(server) as (sock, file):
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(ConnectionError):
            sock.sendall(chunk * 7)  # the body does not end here, and never will

        assert read_answer(file).brief == (413, f"The body is over {MAX_BYTES} bytes.\n".encode())
    assert files_of(server) == before


@pytest.mark.parametrize("more_bytes", [1, 100_000])
def test_an_append_cannot_make_a_slot_too_large(server: Server, more_bytes: int) -> None:
    path, value = fresh_path(), fresh_bytes(MAX_BYTES)
    put(server, path, value)

    assert put(server, f"{path}?append=1", fresh_bytes(more_bytes)).status == 413
    assert get(server, path).body == value


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    before = files_of(server)
    for size_bytes in (100, 200_000):
        for path in ("/", fresh_path()):
            with connected(server) as (sock, _):
                sock.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size_bytes}\r\n\r\n".encode())
                sock.sendall(fresh_bytes(size_bytes - 1))

    data = fresh_bytes()
    assert put(server, "/", data).status == 200
    assert files_of(server) == before | {path_of(data)[1:]: data}
