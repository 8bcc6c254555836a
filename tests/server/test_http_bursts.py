"""Bursts over HTTP: members in order, bursts within bursts, comments, what is missing, what may be cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asking import (
    NOWHERE,
    ask,
    connected,
    fresh_bytes,
    fresh_path,
    get,
    head,
    path_of,
    put,
    read_answer,
    set_slot,
    stored,
)
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

DEPTH_MAX = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("bursts") / "data", "--workers", "2", durable=True) as found:
        yield found


def burst_of(server: Server, *paths: str, end: str = "\n") -> str:
    """The path of a burst with these members."""
    return stored(server, "".join(f"{path}{end}" for path in paths).encode())


def test_members_are_read_in_order_and_as_often_as_they_are_named(server: Server) -> None:
    one, two = stored(server, b"one "), stored(server, b"two ")
    large = fresh_bytes(150_000)

    burst = burst_of(server, one, two, stored(server, large), one, stored(server, b""), two)

    assert get(server, f"{burst}?burst=1").brief == (200, b"one two " + large + b"one two ")


def test_members_may_be_slots_and_the_burst_may_be_one(server: Server) -> None:
    slot = set_slot(server, b"slot ")
    burst = set_slot(server, f"{stored(server, b'blob ')}\n{slot}\n".encode())

    assert get(server, f"{burst}?burst=1").brief == (200, b"blob slot ")
    put(server, slot, b"changed ")
    assert get(server, f"{burst}?burst=1").brief == (200, b"blob changed ")
    put(server, burst, f"{slot}\n".encode())
    assert get(server, f"{burst}?burst=1").brief == (200, b"changed ")


@pytest.mark.parametrize("depth", range(1, DEPTH_MAX + 1))
def test_bursts_within_bursts_are_read_to_the_depth_asked_for(server: Server, depth: int) -> None:
    below, whole = stored(server, b"leaf%d " % depth), b"leaf%d " % depth
    texts = []
    for _ in range(depth):
        texts.append(f"{below}\n{below}\n".encode())
        below, whole = burst_of(server, below, below), whole * 2

    answer = get(server, f"{below}?burst={depth}")

    assert answer.brief == (200, whole)
    assert answer.headers["content-length"] == str(len(whole))
    assert head(server, f"{below}?burst={depth}").headers["content-length"] == str(len(whole))
    assert get(server, f"{below}?burst={depth}", Range="bytes=3-9").brief == (206, whole[3:10])
    if depth > 1:
        assert get(server, f"{below}?burst={depth - 1}").brief == (200, texts[0] * 2 ** (depth - 1))


@pytest.mark.parametrize(
    "text",
    [
        "{one}\n{two}",
        "# first\n{one}\n# second\n{two}\n",
        "\n\n{one}\n\n{two}\n\n",
        "{one}\r\n{two}\r\n",
        "http://host{one}\nhttps://other:99{two}\n",
        "#" + "x" * 4000 + "\n{one}\n{two}\n",
    ],
)
def test_comments_blank_lines_and_urls_are_allowed(server: Server, text: str) -> None:
    one, two = stored(server, b"one "), stored(server, b"two ")

    burst = stored(server, text.format(one=one, two=two).encode())

    assert get(server, f"{burst}?burst=1").brief == (200, b"one two ")


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_a_burst_without_members_is_empty(server: Server, text: str) -> None:
    burst = stored(server, text.encode())

    assert get(server, f"{burst}?burst=1").brief == (200, b"")
    assert head(server, f"{burst}?burst=1").headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("no address", b"Line 2 of the burst is not an address."),
        (NOWHERE.upper(), b"Line 2 of the burst is not an address."),
        (f" {NOWHERE}", b"Line 2 of the burst is not an address."),
        (f"{NOWHERE}?burst=1", b"Line 2 of the burst is not an address."),
        ("../apikey", b"Line 2 of the burst is not an address."),
        ("file:///etc/passwd", b"Line 2 of the burst is not an address."),
        ("\x00", b"Line 2 of the burst is not an address."),
        ("#" + "x" * 5000, b"Line 2 of the burst is over 4096 bytes long."),
    ],
)
def test_what_is_no_burst_is_refused(server: Server, line: str, sentence: bytes) -> None:
    burst = burst_of(server, stored(server, b"one "), line)

    answer = get(server, f"{burst}?burst=1")

    assert answer.brief == (
        400,
        sentence + b" Every line of a burst is an address, a comment that starts with #, or empty.\n",
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("level", ["member", "burst below"])
def test_a_missing_member_is_named_before_any_byte_is_sent(server: Server, method: str, level: str) -> None:
    missing = fresh_path()
    present = stored(server, fresh_bytes(100_000))
    depth = 1 if level == "member" else 2
    burst = burst_of(server, present, missing, present) if depth == 1 else burst_of(server, burst_of(server), missing)

    answer = ask(server, method, f"{burst}?burst={depth}")

    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert method == "HEAD" or answer.body.startswith(f"The member {missing} is not stored here.".encode())


def test_a_missing_burst_is_404(server: Server) -> None:
    missing = fresh_path()

    assert get(server, f"{missing}?burst=1").body.startswith(f"Nothing is stored at {missing}.".encode())


def test_burst_0_reads_the_burst_itself(server: Server) -> None:
    burst = burst_of(server, fresh_path())

    assert get(server, f"{burst}?burst=0").body == get(server, burst).body


def test_a_burst_of_blobs_may_be_kept_for_ever(server: Server) -> None:
    burst = burst_of(server, burst_of(server, stored(server, b"blob")))

    shallow, deep = (get(server, f"{burst}?burst={depth}") for depth in (1, 2))

    for answer in (shallow, deep):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox"
    assert shallow.headers["etag"] != deep.headers["etag"]
    assert get(server, f"{burst}?burst=2", If_None_Match=deep.headers["etag"]).status == 304
    assert get(server, f"{burst}?burst=2", If_None_Match=shallow.headers["etag"]).status == 200


@pytest.mark.parametrize("where", ["member", "burst", "between"])
def test_a_burst_with_a_slot_anywhere_is_never_kept(server: Server, where: str) -> None:
    blob = stored(server, b"blob")
    if where == "member":
        target = f"{burst_of(server, blob, set_slot(server, b'slot'))}?burst=1"
    elif where == "burst":
        target = f"{set_slot(server, f'{blob}{chr(10)}'.encode())}?burst=1"
    else:
        target = f"{burst_of(server, set_slot(server, f'{blob}{chr(10)}'.encode()))}?burst=2"

    answer = get(server, target)

    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_a_burst_of_thousands_of_members_is_read_and_cut(server: Server) -> None:
    parts = {number: b"%07d " % number for number in range(40)}
    paths = [stored(server, part) for part in parts.values()] * 30
    burst = burst_of(server, *paths)
    whole = b"".join(parts.values()) * 30

    assert get(server, f"{burst}?burst=1").body == whole
    assert get(server, f"{burst}?burst=1", Range="bytes=8190-8220").body == whole[8190:8221]
    assert get(server, f"{burst}?burst=1", Range="bytes=-5").body == whole[-5:]


def test_a_member_that_goes_while_the_burst_is_read_breaks_the_answer_off(server: Server) -> None:
    large = stored(server, fresh_bytes(20_000_000))
    last = set_slot(server, b"the end")
    burst = burst_of(server, large, large, last)
    with connected(server) as (sock, file):
        sock.sendall(f"GET {burst}?burst=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        promised = 40_000_000 + len(b"the end")
        file.peek(1)
        ask(server, "DELETE", last)

        try:
            answer = read_answer(file)
        except OSError:
            return

        assert answer.headers["content-length"] == str(promised)
        assert len(answer.body) < promised


def test_a_burst_of_itself_is_bounded(server: Server) -> None:
    path = fresh_path()
    put(server, path, f"{path}\n{path}\n".encode())

    answer = get(server, f"{path}?burst=8")

    assert answer.brief == (200, f"{path}\n{path}\n".encode() * 2**8)
    assert path_of(answer.body) != path


def test_a_burst_that_names_itself_is_refused_soon(server: Server) -> None:
    path = fresh_path()
    put(server, path, f"{path}\n".encode() * 6)

    read = get(server, f"{path}?burst=8")

    assert read.status == 400
    assert b"made of over 4096 bursts" in read.body
