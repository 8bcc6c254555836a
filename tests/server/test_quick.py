"""The quick path answers as the general one does, the second time too, when a request is no longer parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import running_server
from wire import Wire, path_of, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Server
    from wire import Answer

BLOB, OTHER = b"a blob", b"another blob"
GENERAL = "X-General: a header that the quick path does not know"
LIKE_AN_ADDRESS = {
    "another blob": path_of(OTHER),
    "nothing there": path_of(b"never stored"),
    "upper case": path_of(BLOB).upper(),
    "upper case digits": path_of(BLOB).replace(".tig", "").upper() + ".tig",
    "no digits": "/" + "g" * 64 + ".tig",
    "another suffix": path_of(BLOB)[:-4] + ".gif",
    "a query in its place": "/?" + "a" * 63 + ".tig",
    "no slash": path_of(BLOB)[1:] + "x",
    "a space in it": path_of(BLOB)[:-5] + " .tig",
}


@pytest.fixture(scope="module", params=["0", "8M"], ids=["no cache", "cache"])
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("quick") / "data", "--quiet", "--cache-size", request.param, durable=True
    ) as running:
        with Wire(running.port) as wire:
            for data in (BLOB, OTHER):
                wire.send(_put(data)).answer("PUT")
        yield running


def _put(data: bytes) -> bytes:
    return request("PUT", "/", data)


def told(answer: Answer | None) -> tuple[int, bytes, dict[str, str]] | None:
    if answer is None:
        return None
    return answer.status, answer.body, {name: value for name, value in answer.headers.items() if name != "date"}


@pytest.mark.parametrize("target", LIKE_AN_ADDRESS.values(), ids=LIKE_AN_ADDRESS)
def test_what_follows_an_address_is_remembered_and_nothing_else(server: Server, target: str) -> None:
    with Wire(server.port) as general:
        expected = told(general.send(request("GET", target, None, GENERAL)).answer())
    with Wire(server.port) as wire:
        for _ in range(3):
            answer = wire.send(request("GET", path_of(BLOB))).answer()
            assert answer is not None
            assert answer.body == BLOB
        assert told(wire.send(request("GET", target)).answer()) == expected


def test_requests_that_come_together_or_in_parts_are_answered_one_by_one(server: Server) -> None:
    plain = request("GET", path_of(BLOB))
    with Wire(server.port) as wire:
        for data, count in [(plain, 1), (plain + plain, 2), (plain, 1), (plain + plain, 2), (b"\r\n" + plain, 1)]:
            wire.send(data)
            assert [answer.body for answer in (wire.answer() for _ in range(count)) if answer is not None] == [
                BLOB
            ] * count
        for cut in (3, 40, 80, len(plain) - 1):
            wire.send(plain[:cut])
            assert not wire.has_answer()
            answer = wire.send(plain[cut:]).answer()
            assert answer is not None
            assert answer.body == BLOB


def test_a_request_that_ends_the_connection_ends_it_each_time(server: Server) -> None:
    for _ in range(3):
        with Wire(server.port) as wire:
            answer = wire.send(request("GET", path_of(BLOB), None, "Connection: close")).answer()
            assert answer is not None
            assert answer.body == BLOB
            assert wire.closes()
