"""What PUT, POST and DELETE do with blobs: where bytes go, what is answered, what is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from asking import NOWHERE, ask, connected, files_of, fresh_bytes, fresh_path, get, path_of, put, read_answer, stored
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

EITHER = pytest.mark.parametrize("method", ["PUT", "POST"])
SIZES = pytest.mark.parametrize("size_bytes", [0, 1, 65_536, 65_537, 3_000_001])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("writes") / "data", durable=True) as found:
        yield found


@EITHER
@SIZES
def test_a_body_is_stored_under_its_hash_and_answered_with_its_path(
    server: Server, method: str, size_bytes: int
) -> None:
    data = fresh_bytes(size_bytes)

    stored = ask(server, method, "/", data)

    assert stored.brief == (200, path_of(data).encode())
    assert stored.headers["content-type"] == "text/plain; charset=utf-8"
    assert get(server, path_of(data)).brief == (200, data)


@EITHER
@SIZES
def test_a_chunked_body_is_stored_as_any_other(server: Server, method: str, size_bytes: int) -> None:
    data = fresh_bytes(size_bytes)
    pieces = [data[at : at + 70_000] for at in range(0, size_bytes, 70_000)]

    stored = ask(server, method, "/", iter(pieces))

    assert stored.brief == (200, path_of(data).encode())
    assert get(server, path_of(data)).brief == (200, data)


def test_the_same_bytes_again_rewrite_nothing(server: Server) -> None:
    data = fresh_bytes()
    file = server.data / stored(server, data)[1:]
    before = file.stat()

    assert put(server, "/", data).brief == (200, path_of(data).encode())
    assert file.stat().st_ino == before.st_ino


@EITHER
def test_a_body_sent_to_its_own_address_is_a_blob(server: Server, method: str) -> None:
    data = fresh_bytes()

    stored = ask(server, method, path_of(data), data)

    assert stored.brief == (200, path_of(data).encode())
    assert stored.headers["x-holdall-kind"] == "blob"
    assert get(server, path_of(data)).headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'


@pytest.mark.parametrize(
    "name", ["test", "archive.tar.gz", "with%20space", "%C3%A9", ".hidden", "a+b@c", "apikey", "x" * 255]
)
def test_a_file_name_that_curl_adds_to_the_path_says_nothing(server: Server, name: str) -> None:
    data = fresh_bytes()

    assert put(server, f"/{name}", data).brief == (200, path_of(data).encode())
    assert get(server, f"/{name}").status == 404
    assert sorted(path.name for path in server.data.iterdir() if path.name == name) == []


@EITHER
@pytest.mark.parametrize(
    "target",
    [
        NOWHERE.upper(),
        f"/{NOWHERE[2:]}",
        f"{NOWHERE}.tig",
        f"/0{NOWHERE[1:]}",
        "/x.tig",
        "/x%2etig",
        "/a/b",
        f"/a{NOWHERE}",
        f"/{NOWHERE}",
        "/..",
        "/%2e%2e",
        "/%2e%2e%2fapikey",
        "/a%00b",
        "/-/other",
        "/-/",
        "//",
    ],
)
def test_a_path_that_may_be_a_mistyped_address_is_refused(server: Server, method: str, target: str) -> None:
    before = files_of(server)

    answer = ask(server, method, target, fresh_bytes())

    assert answer.status == 404
    assert answer.body.endswith(
        b"is not a path here. Entries are at /<64 lowercase hex digits>.tig, and new blobs go to /.\n"
    )
    assert files_of(server) == before


@EITHER
def test_kv_answers_the_keys_path_and_stores_nothing(server: Server, method: str) -> None:
    key = fresh_bytes()

    assert ask(server, method, "/kv", key).brief == (200, path_of(key).encode())
    assert ask(server, method, "/kv?format=http://host*!", key).body == f"http://host{path_of(key)}!".encode()
    assert get(server, path_of(key)).status == 404
    assert not (server.data / path_of(key)[1:]).exists()


# --- format ---


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("*", "{path}"),
        ("http://127.0.0.1:7777*", "http://127.0.0.1:7777{path}"),
        ("[*][*]", "[{path}][*]"),
        ("%s%d%n*", "%s%d%n{path}"),
        ("{0}*{path}", "{{0}}{path}{{path}}"),
        ("no star", "no star"),
        ("ключ*", "ключ{path}"),
        ("x" * 1023 + "*", "x" * 1023 + "{path}"),
    ],
)
def test_a_format_is_filled_by_plain_substitution(server: Server, template: str, shown: str) -> None:
    data = fresh_bytes()

    answer = put(server, f"/?format={quote(template, safe='*')}", data)

    assert answer.brief == (200, shown.format(path=path_of(data)).encode())


@pytest.mark.parametrize("template", ["%0a*", "a%0d%0ab*", "%00*", "%1b[31m*", "%7f*", "%ff*", "x" * 1025])
@pytest.mark.parametrize("place", ["/", "/kv", "slot"])
def test_a_format_that_could_forge_lines_or_is_too_long_is_refused(server: Server, template: str, place: str) -> None:
    place = fresh_path() if place == "slot" else place
    before = files_of(server)

    answer = put(server, f"{place}?format={template}", fresh_bytes())

    assert answer.status == 400
    assert re.fullmatch(rb"The format [^\n]*\.\n", answer.body)
    assert files_of(server) == before


# --- Content-Digest ---


def digest_header(data: bytes, algorithm: str = "sha-256") -> str:
    hashed = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(hashed).decode()}:"


PLACES = pytest.mark.parametrize("place", ["/", "slot", "append"])


def place_of(place: str) -> str:
    return {"/": "/", "slot": fresh_path(), "append": f"{fresh_path()}?append=1"}[place]


@PLACES
@pytest.mark.parametrize("algorithms", [["sha-256"], ["sha-512"], ["sha-512", "sha-256"]])
@pytest.mark.parametrize("size_bytes", [40, 1_500_000])
def test_a_body_that_has_its_announced_digest_is_kept(
    server: Server, place: str, algorithms: list[str], size_bytes: int
) -> None:
    data = fresh_bytes(size_bytes)
    header = ", ".join(digest_header(data, algorithm) for algorithm in algorithms)

    answer = put(server, place_of(place), data, Content_Digest=header)

    assert answer.status == 200
    assert get(server, answer.body.decode()).brief == (200, data)


@PLACES
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("size_bytes", [40, 1_500_000])
def test_a_body_without_its_announced_digest_leaves_nothing(
    server: Server, place: str, algorithm: str, size_bytes: int
) -> None:
    before = files_of(server)
    header = digest_header(b"something else", algorithm)

    answer = put(server, place_of(place), fresh_bytes(size_bytes), Content_Digest=header)

    assert answer.brief == (
        400,
        f"The body does not have the {algorithm} digest of its Content-Digest header."
        " Send it again; if it fails again, the sender's copy is damaged.\n".encode(),
    )
    assert files_of(server) == before


@pytest.mark.parametrize("header", ["", "sha-256", "sha-256=abc", "sha-256=::x", "sha-256=:a:", "SHA-256=:AAAA:", ","])
def test_a_malformed_digest_is_refused(server: Server, header: str) -> None:
    before = files_of(server)

    answer = put(server, "/", fresh_bytes(), Content_Digest=header)

    assert answer.status == 400
    assert answer.body.startswith(b"The Content-Digest header ")
    assert files_of(server) == before


def test_an_unknown_digest_algorithm_is_passed_over(server: Server) -> None:
    assert put(server, "/", b"some bytes", Content_Digest="crc32c=:AAAAAA==:").status == 200


# --- Expect: 100-continue ---


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_the_body_is_asked_for_once_it_would_be_accepted(server: Server, framing: bytes) -> None:
    body = b"hello" if framing.startswith(b"Content") else b"5\r\nhello\r\n0\r\n\r\n"
    with connected(server) as (sock, file):
        sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + framing + b"\r\n\r\n")

        assert read_answer(file).status == 100
        sock.sendall(body)
        assert read_answer(file).brief == (200, path_of(b"hello").encode())


@pytest.mark.parametrize(
    ("target", "extra", "status"),
    [
        ("/?format=%0a", "", 400),
        ("/x.tig", "", 404),
        ("/?apikey=wrong", "", 401),
        ("/", "Content-Digest: rubbish\r\n", 400),
        ("/-/have", f"Content-Length: {1 << 21}\r\n", 405),
        ("/", f"Content-Length: {1 << 41}\r\n", 413),
    ],
)
def test_a_body_that_would_be_refused_is_never_asked_for(server: Server, target: str, extra: str, status: int) -> None:
    length = "" if "Content-Length" in extra else "Content-Length: 5\r\n"
    with connected(server) as (sock, file):
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{extra}{length}\r\n".encode())

        assert read_answer(file).status == status


def test_another_expectation_fails(server: Server) -> None:
    assert put(server, "/", b"x", Expect="200-ok").status == 417


# --- DELETE ---


def test_a_slot_is_deleted_with_its_path_for_an_answer(server: Server) -> None:
    path = fresh_path()
    put(server, path, b"value")

    assert ask(server, "DELETE", path).brief == (200, path.encode())
    assert get(server, path).status == 404
    assert ask(server, "DELETE", path).status == 404


def test_a_blob_is_not_deleted_by_a_server_without_a_key(server: Server) -> None:
    path = stored(server, fresh_bytes())

    answer = ask(server, "DELETE", path)

    assert answer.brief == (403, b"A blob can only be deleted with an API key. This server has none set.\n")
    assert get(server, path).status == 200


def test_what_is_not_there_cannot_be_deleted(server: Server) -> None:
    assert ask(server, "DELETE", fresh_path()).status == 404


@pytest.mark.parametrize("target", ["/", "/kv", "/-/health", "/-/have"])
def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(server: Server, target: str) -> None:
    answer = ask(server, "DELETE", target)

    assert answer.status == 405
    assert answer.body.decode() == f"The methods here are {answer.headers['allow']}.\n"
