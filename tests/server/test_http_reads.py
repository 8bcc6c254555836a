"""What GET and HEAD answer: bytes, headers, types, conditions."""

from __future__ import annotations

import hashlib
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from asking import ask, fresh_bytes, fresh_path, get, head, put, set_slot, stored
from support import DEADLINE_SECONDS, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

SIZES = pytest.mark.parametrize("size_bytes", [0, 1, 65_536, 65_537, 2_000_001])
BLOB_HEADERS = {
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31536000, immutable",
    "content-security-policy": "sandbox",
    "content-type": "application/octet-stream",
    "x-content-type-options": "nosniff",
    "x-holdall-kind": "blob",
}
SLOT_HEADERS = BLOB_HEADERS | {"cache-control": "no-store", "x-holdall-kind": "slot"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("reads") / "data", durable=True) as found:
        yield found


@SIZES
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("round_", ["first", "again"])
def test_a_blob_comes_with_what_lets_anybody_keep_it(server: Server, method: str, round_: str, size_bytes: int) -> None:
    data = hashlib.shake_128(f"{method}{round_}{size_bytes}".encode()).digest(size_bytes)
    path = stored(server, data)
    if round_ == "again":
        ask(server, method, path)

    answer = ask(server, method, path)

    assert answer.brief == (200, data if method == "GET" else b"")
    assert answer.headers.items() >= BLOB_HEADERS.items() or size_bytes == 0
    assert answer.headers["content-length"] == str(size_bytes)
    assert answer.headers["etag"] == f'"{path[1:65]}"'
    # The Date line is made a few times a second, so it may lie a second behind.
    stored_at, now = (parsedate_to_datetime(answer.headers[name]) for name in ("last-modified", "date"))
    assert abs((now - stored_at).total_seconds()) <= DEADLINE_SECONDS


@SIZES
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_slot_comes_with_what_keeps_caches_off_it(server: Server, method: str, size_bytes: int) -> None:
    value = fresh_bytes(size_bytes)
    path = set_slot(server, value)

    answer = ask(server, method, path)

    assert answer.brief == (200, value if method == "GET" else b"")
    assert answer.headers.items() >= SLOT_HEADERS.items() or size_bytes == 0
    assert answer.headers["content-length"] == str(size_bytes)


def test_get_and_head_name_the_same_headers(server: Server) -> None:
    for path in (stored(server, fresh_bytes()), set_slot(server, fresh_bytes())):
        got, looked = get(server, path).headers, head(server, path).headers

        assert {
            name: value for name, value in looked.items() if not name.startswith("x-holdall-") and name != "date"
        } == {name: value for name, value in got.items() if not name.startswith("x-holdall-") and name != "date"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["", "?burst=1", "?take=0", "?chtimes=0", "?Content-Type=text/css"])
def test_what_is_not_there_is_404(server: Server, method: str, query: str) -> None:
    path = fresh_path()

    answer = ask(server, method, path + query)

    assert answer.status == 404
    assert "etag" not in answer.headers
    assert method == "HEAD" or answer.body.decode() == (
        f"Nothing is stored at {path}. It was never stored here, or its retention has passed.\n"
    )


# --- Content-Type ---


@pytest.mark.parametrize(
    "media_type",
    [
        "text/css",
        "text/html; charset=utf-8",
        "text/html;charset=utf-8",
        "image/svg+xml",
        "application/vnd.x-y.z",
        'text/plain; a="b c"',
    ],
)
@pytest.mark.parametrize("kind", ["blob", "slot", "large blob", "burst"])
def test_the_type_asked_for_is_the_type_answered(server: Server, media_type: str, kind: str) -> None:
    data = fresh_bytes(100_000 if kind == "large blob" else 10)
    path = set_slot(server, data) if kind == "slot" else stored(server, data)
    query = f"?Content-Type={quote(media_type)}"
    if kind == "burst":
        path, query = stored(server, f"{path}\n".encode()), f"{query}&burst=1"

    for answer in (get(server, path + query), head(server, path + query)):
        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(
    "media_type", ["", "text", "text/", "/css", "a b/c", "text/css%0d%0aX:y", "text/css%00", "é/x", f"a/{'b' * 200}"]
)
def test_a_malformed_type_is_refused(server: Server, media_type: str) -> None:
    path = stored(server, b"any")

    answer = get(server, f"{path}?Content-Type={quote(media_type, safe='%/')}")

    assert answer.brief == (400, b"Content-Type= is not a media type. Write one such as text/css.\n")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("burst=9", b"burst= takes a depth from 0 to 8.\n"),
        ("burst=x", b"burst= takes a depth from 0 to 8.\n"),
        ("chtimes=2", b"chtimes= is 0 or 1.\n"),
        ("take=yes", b"take= is 0 or 1.\n"),
        ("setifnot=", b"setifnot= is 0 or 1.\n"),
        ("append=true", b"append= is 0 or 1.\n"),
        ("kind=other", b"kind= is blob or slot.\n"),
    ],
)
def test_a_query_word_with_a_value_it_cannot_have_is_refused(server: Server, query: str, sentence: bytes) -> None:
    assert get(server, f"{fresh_path()}?{query}").brief == (400, sentence)


def test_query_words_of_others_are_passed_over(server: Server) -> None:
    path = stored(server, b"utm")

    assert get(server, f"{path}?utm_source=x&y&=z&Burst=9").brief == (200, b"utm")


# --- conditions ---


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size_bytes", [40, 100_000])
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (("If-None-Match", '"{tag}"'), 304),
        (("If-None-Match", 'W/"{tag}"'), 304),
        (("If-None-Match", '"other", "{tag}"'), 304),
        (("If-None-Match", "*"), 304),
        (("If-None-Match", '"other"'), 200),
        (("If-None-Match", "{tag}"), 200),
        (("If-Match", '"{tag}"'), 200),
        (("If-Match", "*"), 200),
        (("If-Match", '"other"'), 412),
        (("If-Match", 'W/"{tag}"'), 412),
        (("If-Modified-Since", "{later}"), 304),
        (("If-Modified-Since", "{earlier}"), 200),
        (("If-Modified-Since", "no date"), 200),
        (("If-Unmodified-Since", "{later}"), 200),
        (("If-Unmodified-Since", "{earlier}"), 412),
        (("If-Unmodified-Since", "no date"), 200),
    ],
)
def test_a_condition_on_a_read_is_met(
    server: Server, method: str, size_bytes: int, condition: tuple[str, str], status: int
) -> None:
    data, (name, value) = fresh_bytes(size_bytes), condition
    for path in (stored(server, data), set_slot(server, data)):
        now = parsedate_to_datetime(head(server, path).headers["date"]).timestamp()
        words = {
            "tag": head(server, path).headers["etag"].strip('"'),
            "later": formatdate(now + 3600, usegmt=True),
            "earlier": formatdate(now - 3600, usegmt=True),
        }

        answer = ask(server, method, path, headers={name: value.format(**words)})

        assert answer.status == status
        assert status == 412 or answer.headers["etag"] == f'"{words["tag"]}"'
        assert status == 412 or answer.body == (data if (status, method) == (200, "GET") else b"")


def test_if_none_match_is_asked_before_if_modified_since(server: Server) -> None:
    path = stored(server, fresh_bytes())
    later = formatdate(4e9, usegmt=True)

    assert get(server, path, If_None_Match='"other"', If_Modified_Since=later).status == 200


def test_a_slots_etag_changes_with_every_write_and_not_with_a_read(server: Server) -> None:
    path = set_slot(server, b"same")
    tags = []
    for _ in range(5):
        put(server, path, b"same")
        tags.append(get(server, path).headers["etag"])
        assert get(server, path).headers["etag"] == head(server, path).headers["etag"] == tags[-1]

    assert len(set(tags)) == 5


def test_the_etag_of_a_write_is_that_of_the_next_read(server: Server) -> None:
    path = fresh_path()
    for target in (path, path, f"{path}?append=1", f"{path}?append=1"):
        written = put(server, target, b"value").headers["etag"]

        assert get(server, path).headers["etag"] == written
