"""What the server says of itself and of what it holds: /-/have, /-/health, /-/metrics, and CORS."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asking import (
    NOWHERE,
    Answer,
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
from holdall import __version__
from holdall.limits.server import HAVE_BYTES_MAX
from support import DEADLINE_SECONDS, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("service") / "data", "--workers", str(request.param), durable=True
    ) as found:
        yield found


# --- /-/have ---


def have(server: Server, *lines: str, query: str = "") -> Answer:
    return ask(server, "POST", f"/-/have{query}", "".join(f"{line}\n" for line in lines).encode())


def test_have_answers_what_is_missing_in_the_order_asked_each_once(server: Server) -> None:
    here, slot = stored(server, fresh_bytes()), set_slot(server, b"value")
    gone, never = fresh_path(), fresh_path()

    assert have(server, gone, here, never, slot, gone).brief == (200, f"{gone}\n{never}\n".encode())
    assert have(server, here, slot).brief == (200, b"")


def test_have_takes_comments_urls_and_no_last_newline(server: Server) -> None:
    gone = fresh_path()

    assert ask(server, "POST", "/-/have", f"# all\n\nhttp://host{gone}".encode()).brief == (200, f"{gone}\n".encode())
    assert ask(server, "POST", "/-/have", b"").brief == (200, b"")


def test_have_answers_in_the_format_asked_for(server: Server) -> None:
    gone = fresh_path()

    assert have(server, gone, query="?format=http://host*").brief == (200, f"http://host{gone}\n".encode())


def test_have_names_the_line_that_is_no_path(server: Server) -> None:
    answer = have(server, fresh_path(), "no path")

    assert answer.brief == (400, b"Line 2 of the body is not an address. Send one path a line.\n")


def test_have_takes_a_body_up_to_its_limit(server: Server) -> None:
    line = f"{fresh_path()}\n"
    many = line * (HAVE_BYTES_MAX // len(line))

    assert ask(server, "POST", "/-/have", many.encode()).brief == (200, line.encode())
    assert ask(server, "POST", "/-/have", (many + line).encode()).status == 413
    assert ask(server, "POST", "/-/have", iter([many.encode(), line.encode()])).status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_have_is_posted(server: Server, method: str) -> None:
    answer = ask(server, method, "/-/have")

    assert (answer.status, answer.headers["allow"]) == (405, "POST")


# --- /-/health ---


def test_health_tells_state_room_and_version(server: Server) -> None:
    answer = get(server, "/-/health")

    told = json.loads(answer.body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (told["status"], told["version"], told.keys()) == ("ok", __version__, {"status", "version", "free_bytes"})
    assert told["free_bytes"] > 0
    assert head(server, "/-/health").brief == (200, b"")


# --- /-/metrics ---


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the metrics page, by name and labels."""
    text = get(server, "/-/metrics").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests_counted(server: Server, verb: str, status: int) -> float:
    labels = frozenset({("verb", verb), ("status", str(status))})
    return samples(server).get(("holdall_requests_total", labels), 0.0)


def test_metrics_are_prometheus_text(server: Server) -> None:
    answer = get(server, "/-/metrics")

    families = {family.name: family.type for family in text_string_to_metric_families(answer.body.decode())}
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families == {
        "holdall_requests": "counter",
        "holdall_request_seconds": "histogram",
        "holdall_received_bytes": "counter",
        "holdall_sent_bytes": "counter",
        "holdall_cache_hits": "counter",
        "holdall_access_failures": "counter",
        "holdall_expired_entries": "counter",
        "holdall_sweeps": "counter",
        "holdall_connections": "gauge",
        "holdall_entries": "gauge",
        "holdall_entry_bytes": "gauge",
        "holdall_free_bytes": "gauge",
    }


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "blob", 200),
        ("HEAD", "blob", 200),
        ("GET", "missing", 404),
        ("PUT", "/", 200),
        ("DELETE", "missing", 404),
    ],
)
def test_metrics_count_every_workers_requests(server: Server, method: str, target: str, status: int) -> None:
    path = {"blob": stored(server, fresh_bytes()), "missing": fresh_path(), "/": "/"}[target]
    before = requests_counted(server, method, status)

    for _ in range(12):
        assert ask(server, method, path, b"body" if method == "PUT" else None).status == status

    wait_until(lambda: requests_counted(server, method, status) >= before + 12, "12 more requests are counted")


def test_metrics_count_bytes_and_keep_histograms_whole(server: Server) -> None:
    put(server, "/", fresh_bytes(100_000))
    nothing: frozenset[tuple[str, str]] = frozenset()

    wait_until(
        lambda: samples(server)["holdall_received_bytes_total", nothing] >= 100_000, "received bytes are counted"
    )
    found = samples(server)
    put_count = found["holdall_request_seconds_count", frozenset({("verb", "PUT")})]
    assert found["holdall_request_seconds_bucket", frozenset({("verb", "PUT"), ("le", "+Inf")})] == put_count
    assert found["holdall_connections", nothing] >= 1


# --- the listing, without a key ---


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_server_without_a_key_lists_nothing(server: Server, method: str) -> None:
    stored(server, b"something")

    assert ask(server, method, "/").brief == (200, b"")


# --- CORS ---


def test_without_cors_no_page_of_another_origin_is_let_in(server: Server) -> None:
    path = stored(server, b"cors")

    preflight = ask(server, "OPTIONS", path, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"})
    answer = get(server, path, Origin=ORIGIN)

    assert preflight.status == 405
    assert [name for name in {**preflight.headers, **answer.headers} if name.startswith("access-control")] == []


@pytest.fixture(scope="module")
def cors_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("cors") / "data"
    with running_server(data, "--cors", ORIGIN, env={"HOLDALL_API_KEY": "abc"}) as found:
        yield found


@pytest.mark.parametrize("target", ["/", NOWHERE, "/kv", "/-/have"])
def test_with_cors_a_preflight_is_answered_without_the_key(cors_server: Server, target: str) -> None:
    answer = ask(cors_server, "OPTIONS", target, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"})

    assert answer.brief == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_with_cors_every_answer_to_a_page_names_the_origin(cors_server: Server) -> None:
    data = fresh_bytes()
    asked = [
        ask(cors_server, "PUT", "/?apikey=abc", data, {"Origin": ORIGIN}),
        ask(cors_server, "PUT", f"{fresh_path()}?apikey=abc", data, {"Origin": ORIGIN}),
        get(cors_server, path_of(data), Origin=ORIGIN),
        get(cors_server, path_of(data), Origin=ORIGIN),
        head(cors_server, path_of(data), Origin=ORIGIN),
        get(cors_server, path_of(data), Origin=ORIGIN, Range="bytes=0-3"),
        get(cors_server, fresh_path(), Origin=ORIGIN),
        get(cors_server, "/", Origin=ORIGIN),
    ]

    assert [answer.status for answer in asked] == [200, 200, 200, 200, 200, 206, 404, 401]
    assert {answer.headers.get("access-control-allow-origin") for answer in asked} == {ORIGIN}
    assert {answer.headers.get("vary") for answer in asked} == {"Origin"}
    assert "ETag" in asked[2].headers["access-control-expose-headers"]


def test_with_cors_a_client_that_is_no_page_sees_nothing_of_it(cors_server: Server) -> None:
    assert "access-control-allow-origin" not in get(cors_server, "/-/health").headers


# --- the connection ---


def test_answers_carry_the_date(server: Server) -> None:
    told = parsedate_to_datetime(get(server, "/-/health").headers["date"]).timestamp()

    assert abs(time.time() - told) <= DEADLINE_SECONDS


def test_a_connection_is_kept_for_any_number_of_requests(server: Server) -> None:
    path, large = stored(server, b"kept"), stored(server, fresh_bytes(200_000))
    with connected(server) as (sock, file):
        for target, size in [(path, 4), (large, 200_000), (fresh_path(), None), ("/x.tig", None), (path, 4)] * 5:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = read_answer(file)

            assert (answer.status, answer.headers.get("connection")) == (404 if size is None else 200, None)
            assert size is None or len(answer.body) == size


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    small, large = fresh_bytes(100), fresh_bytes(300_000)
    slot = fresh_path()
    asked: list[tuple[bytes, int, bytes]] = [
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + small, 200, path_of(small).encode()),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + large, 200, path_of(large).encode()),
        (f"GET {path_of(large)} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 200, large),
        (
            f"PUT {slot} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".encode(),
            200,
            slot.encode(),
        ),
        (f"GET {slot}?take=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 200, b"a"),
        (f"GET {path_of(small)} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 200, small),
        (f"DELETE {path_of(small)} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 403, b"A blob can only be deleted"),
        (f"GET {path_of(small)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), 200, small),
    ]
    with connected(server) as (sock, file):
        sock.sendall(b"".join(request for request, _, _ in asked))

        answers = [read_answer(file) for _ in asked]

        assert [answer.status for answer in answers] == [status for _, status, _ in asked]
        assert [answer.body.startswith(body) for answer, (_, _, body) in zip(answers, asked, strict=True)] == [True] * 8
        assert answers[-1].headers["connection"] == "close"
        assert file.read() == b""


@pytest.mark.parametrize(
    ("head_lines", "connection"),
    [
        (b"HTTP/1.1\r\nHost: x\r\nConnection: close", "close"),
        (b"HTTP/1.0", "close"),
        (b"HTTP/1.0\r\nConnection: keep-alive", "keep-alive"),
    ],
)
@pytest.mark.parametrize("size_bytes", [10, 200_000])
def test_the_connection_ends_when_the_client_wants_it_to(
    server: Server, head_lines: bytes, connection: str, size_bytes: int
) -> None:
    data = fresh_bytes(size_bytes)
    path = stored(server, data)
    with connected(server) as (sock, file):
        for _ in range(2 if connection == "keep-alive" else 1):
            sock.sendall(f"GET {path} ".encode() + head_lines + b"\r\n\r\n")

            answer = read_answer(file)

            assert (answer.status, answer.headers["connection"], answer.body) == (200, connection, data)
        if connection == "close":
            assert file.read() == b""


def test_an_answer_of_unknown_length_ends_with_the_connection_for_http_1_0(cors_server: Server) -> None:
    path = path_of(b"listed")
    ask(cors_server, "PUT", "/?apikey=abc", b"listed")
    with connected(cors_server) as (sock, file):
        sock.sendall(b"GET /?apikey=abc HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

        answer = read_answer(file)

        assert (answer.headers["connection"], "transfer-encoding" in answer.headers) == ("close", False)
        assert f"{path}\n".encode() in answer.body


def test_a_head_is_answered_without_a_body_on_a_kept_connection(server: Server) -> None:
    path = stored(server, b"bodiless")
    with connected(server) as (sock, file):
        for target, status in [(path, 200), (fresh_path(), 404), ("/-/metrics", 200), ("/", 200), (path, 200)]:
            sock.sendall(f"HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

            assert read_answer(file, bodiless=True).status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_where_none_belongs_is_refused(server: Server, method: str) -> None:
    path = stored(server, b"bodiless")

    assert ask(server, method, path, b"body").status == 400
