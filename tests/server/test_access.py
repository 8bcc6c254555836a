"""The API key: where it comes from, what needs it, what a wrong one costs, and that it shows up nowhere."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from asking import (
    Answer,
    ask,
    connected,
    fresh_bytes,
    fresh_path,
    get,
    path_of,
    read_answer,
    wait_for_the_next_time_stamp,
)
from support import DEADLINE_SECONDS, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

    from support import Server

KEY = "s3cret-Kéy"
QUOTED = "s3cret-K%C3%A9y"
WRONG = b"The API key is wrong.\n"
NEEDED = b"This needs the API key. Send ?apikey=KEY.\n"
NONE = b"This server has no API key, so none can be right.\n"


def written(path: Path, text: str) -> None:
    """Replaces a file at once, with a time stamp that no earlier version had."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    os.replace(new, path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("access") / "data"
    data.mkdir()
    (data / "apikey").write_text(f"{KEY}\r\n")
    with running_server(data) as found:
        yield found


@pytest.fixture(scope="module")
def blob(server: Server) -> str:
    return with_key(server, "PUT", "/", b"a blob").body.decode()


def with_key(server: Server, method: str, target: str, body: bytes | None = None) -> Answer:
    return ask(server, method, f"{target}{'&' if '?' in target else '?'}apikey={QUOTED}", body)


NEEDS_KEY = [
    ("PUT", "/"),
    ("POST", "/"),
    ("PUT", "/name"),
    ("PUT", "slot"),
    ("POST", "slot?append=1"),
    ("PUT", "slot?setifnot=1"),
    ("PUT", "/kv"),
    ("GET", "slot?take=1"),
    ("DELETE", "slot"),
    ("GET", "/"),
    ("HEAD", "/"),
]


@pytest.mark.parametrize(("method", "target"), NEEDS_KEY)
def test_writes_deletes_and_the_listing_need_the_key(server: Server, method: str, target: str) -> None:
    slot = fresh_path()
    with_key(server, "PUT", slot, b"value")
    target, body = target.replace("slot", slot), fresh_bytes() if method in {"PUT", "POST"} else None

    refused = ask(server, method, target, body)

    assert refused.brief == (401, b"" if method == "HEAD" else NEEDED)
    assert refused.headers["www-authenticate"] == 'Bearer realm="holdall"'
    assert get(server, slot).body == b"value"
    assert with_key(server, method, target, body).status == (409 if "setifnot" in target else 200)


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "blob"), ("HEAD", "blob"), ("GET", "/-/health"), ("GET", "/-/metrics")]
)
def test_a_read_by_hash_needs_no_key(server: Server, blob: str, method: str, target: str) -> None:
    assert ask(server, method, target.replace("blob", blob)).status == 200


def test_have_needs_no_key(server: Server, blob: str) -> None:
    assert ask(server, "POST", "/-/have", f"{blob}\n".encode()).brief == (200, b"")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_key_may_come_as_a_bearer_token(server: Server, scheme: str) -> None:
    data = fresh_bytes()

    answer = ask(server, "PUT", "/", data, {"Authorization": f"{scheme} {KEY}".encode().decode("latin-1")})

    assert answer.brief == (200, path_of(data).encode())


def test_a_blob_is_deleted_with_the_key(server: Server) -> None:
    path = with_key(server, "PUT", "/", fresh_bytes()).body.decode()
    get(server, path)

    assert with_key(server, "DELETE", path).brief == (200, path.encode())
    assert get(server, path).status == 404
    assert with_key(server, "DELETE", path).status == 404


@pytest.mark.parametrize(("kind", "status"), [("slot", 409), ("blob", 200)])
def test_a_delete_may_name_the_kind_it_means(server: Server, kind: str, status: int) -> None:
    path = with_key(server, "PUT", "/", fresh_bytes()).body.decode()

    assert with_key(server, "DELETE", f"{path}?kind={kind}").status == status


# --- the listing ---


def test_the_listing_is_newest_use_first_and_in_the_format_asked_for(tmp_path: Path) -> None:
    # A short retention has every use written down; sweeps are an hour apart.
    with running_server(
        tmp_path / "data", "--retention", "1s", "--sweep-interval", "1h", env={"APIKEY": "abc"}
    ) as server:
        paths = []
        for number in range(3):
            wait_for_the_next_time_stamp(tmp_path)
            paths.append(ask(server, "PUT", "/?apikey=abc", b"%d" % number).body.decode())
        wait_for_the_next_time_stamp(tmp_path)
        slot = fresh_path()
        ask(server, "PUT", f"{slot}?apikey=abc", b"value")
        expected = [slot, *reversed(paths)]

        def listed() -> list[str]:
            return get(server, "/?apikey=abc").body.decode().splitlines()

        def reads_to_the_front(path: str) -> bool:
            get(server, path)
            return listed()[0] == path

        assert listed() == expected
        for used in (paths[0], slot, paths[1]):
            wait_until(lambda used=used: reads_to_the_front(used), "what was read last is listed first")  # type: ignore[misc]
            expected.insert(0, expected.pop(expected.index(used)))
            assert listed() == expected
        answer = get(server, "/?apikey=abc&format=http://host*!")
        assert answer.body.decode() == "".join(f"http://host{path}!\n" for path in expected)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_long_listing_is_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    names = {path_of(b"%d" % number) for number in range(1100)}
    for name in names:
        (data / name[1:]).write_bytes(b"")
    with running_server(data, env={"APIKEY": "abc"}) as server:
        listed = get(server, "/?apikey=abc").body.decode().splitlines()

    assert (len(listed), set(listed)) == (1100, names)


# --- where the key comes from ---


def keys_taken(server: Server, *keys: str) -> list[str]:
    """Those of the keys that open the listing."""
    return [key for key in keys if get(server, f"/?apikey={key}").status == 200]


@pytest.mark.parametrize(
    ("env", "file", "taken"),
    [
        ({"HOLDALL_API_KEY": "one", "APIKEY": "two"}, "three", ["one"]),
        ({"APIKEY": "two"}, "three", ["two"]),
        ({"HOLDALL_API_KEY": "", "APIKEY": ""}, "three", ["three"]),
        ({}, "\n", []),
    ],
)
def test_the_key_comes_from_the_environment_else_from_the_file(
    tmp_path: Path, env: dict[str, str], file: str, taken: list[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "apikey").write_text(file)
    with running_server(data, env=env) as server:
        assert keys_taken(server, "one", "two", "three") == taken
        assert get(server, "/").brief == (401, NEEDED)


def test_the_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    elsewhere = tmp_path / "key"
    with running_server(tmp_path / "data", "--api-key-file", str(elsewhere)) as server:
        assert ask(server, "PUT", "/", b"open").status == 200
        assert ask(server, "PUT", "/?apikey=one", b"open").brief == (401, NONE)
        for key in ("one", "two", "three"):
            written(elsewhere, f"{key}\n")
            wait_until(lambda key=key: keys_taken(server, key) == [key], f"{key} opens the server")  # type: ignore[misc]
            assert ask(server, "PUT", "/", b"locked").brief == (401, NEEDED)
        written(elsewhere, "")
        wait_until(lambda: keys_taken(server, "three") == [], "an empty file locks the server")
        assert ask(server, "PUT", "/", b"locked").brief == (401, NEEDED)
        elsewhere.unlink()
        wait_until(lambda: ask(server, "PUT", "/", b"open").status == 200, "the server is open without the file")


# --- wrong keys ---


@contextmanager
def connected_from(server: Server, host: str) -> Iterator[tuple[socket.socket, BufferedReader]]:
    """A connection from another address of this machine, another client to the server."""
    try:
        sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS, source_address=(host, 0))
    except OSError as error:
        pytest.skip(f"{host} is no address of this machine: {error}")
    with sock, sock.makefile("rb") as file:
        yield sock, file


def test_wrong_keys_slow_down_their_client_and_nobody_else(server: Server, blob: str) -> None:
    request = b"GET /?apikey=wrong HTTP/1.1\r\nHost: x\r\n\r\n"
    waits = []
    with connected_from(server, "127.0.0.9") as (sock, file):
        for _ in range(4):
            started = time.monotonic()
            sock.sendall(request)
            assert read_answer(file).brief == (401, WRONG)
            waits.append(time.monotonic() - started)

        def others_are_served_meanwhile() -> bool:
            """On a machine that stands still for seconds the refusal may come first; each is later than the last."""
            sock.sendall(request)
            assert get(server, blob).status == 200
            assert with_key(server, "GET", "/").status == 200
            assert ask(server, "PUT", "/", b"x").brief == (401, NEEDED)
            still_waits = not select.select([sock], [], [], 0)[0]
            assert read_answer(file).brief == (401, WRONG)
            return still_waits

        wait_until(others_are_served_meanwhile, "others are served while this client waits for its refusal")

    assert all(wait > 0.09 * 2**failures for failures, wait in enumerate(waits)), waits


@pytest.mark.parametrize("target", ["/", "slot", "/-/health"])
def test_a_wrong_key_is_refused_even_where_none_is_needed(server: Server, target: str) -> None:
    target = target.replace("slot", fresh_path())

    assert ask(server, "GET", f"{target}?apikey=wrong").brief == (401, WRONG)
    assert with_key(server, "GET", "/").status == 200  # and forgets the failure


@pytest.mark.parametrize("key", ["", QUOTED[:-1], f"{QUOTED}x", QUOTED.upper(), "%00", "%ff%fe", "x" * 3000])
def test_only_the_key_itself_is_the_key(server: Server, key: str) -> None:
    assert ask(server, "PUT", f"/?apikey={key}", b"body").brief == (401, WRONG)
    assert with_key(server, "GET", "/").status == 200


def test_a_large_body_with_a_wrong_key_leaves_nothing(server: Server) -> None:
    data = fresh_bytes(200_000)
    with connected(server) as (sock, file):
        sock.sendall(b"PUT /?apikey=wrong HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + data)

        assert read_answer(file).brief == (401, WRONG)
    assert get(server, path_of(data)).status == 404
    assert with_key(server, "GET", "/").status == 200


# --- the key shows up nowhere ---


@pytest.mark.parametrize("log", ["text", "json"])
def test_the_key_is_in_no_log_line_error_or_metric(tmp_path: Path, log: str) -> None:
    log_file = tmp_path / "data.stderr"
    wrong = "wr0ng-one"
    with running_server(tmp_path / "data", "--access-log", log, env={"HOLDALL_API_KEY": KEY}) as server:
        answers = [
            with_key(server, "PUT", "/?format=*", b"body"),
            with_key(server, "GET", "/"),
            with_key(server, "GET", path_of(b"body")),
            with_key(server, "GET", "/no/such/path"),
            with_key(server, "PUT", "/no.tig?format=%00", b"body"),
            ask(server, "PUT", "/", b"body", {"Authorization": f"Bearer {KEY}".encode().decode("latin-1")}),
            ask(server, "GET", f"/?apikey={wrong}"),
            ask(server, "GET", f"/?x=y&apikey={wrong}&apikey={wrong}"),
            get(server, "/-/metrics"),
        ]
        wait_until(lambda: "/-/metrics" in log_file.read_text(), "the last request is logged")
    logged = log_file.read_text()
    lines = [line for line in logged.splitlines() if "/-/metrics" in line or path_of(b"body") in line]

    everything = logged + "".join(answer.body.decode() + str(answer.headers) for answer in answers)
    assert "wr0ng-one&apikey=wr0ng-one" not in everything
    for word in (KEY, QUOTED, "s3cret", f"apikey={wrong}"):
        assert word not in everything
    assert "apikey=..." in logged
    assert log == "text" or {json.loads(line)["status"] for line in lines} == {200}
