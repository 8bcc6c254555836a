"""Slots over HTTP: exclusive creation, append, compare-and-swap, take, and who wins where a blob and a slot meet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from asking import Answer, ask, fresh_bytes, fresh_path, get, head, path_of, put, set_slot, stored
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support import Server

EITHER = pytest.mark.parametrize("method", ["PUT", "POST"])
SIZES = pytest.mark.parametrize("size_bytes", [0, 1, 65_537, 1_000_000])
RACERS = 16


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("slots") / "data", "--workers", str(request.param), durable=True
    ) as found:
        yield found


def raced(turn: Callable[[int], Answer]) -> list[Answer]:
    """The answers to as many turns at once as there are racers."""
    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(turn, range(RACERS)))


# --- plain writes ---


@EITHER
@SIZES
def test_a_value_is_replaced_as_often_as_it_is_written(server: Server, method: str, size_bytes: int) -> None:
    path = fresh_path()
    for _ in range(3):
        value = fresh_bytes(size_bytes)

        written = ask(server, method, path, value)

        assert written.brief == (200, path.encode())
        assert written.headers["x-holdall-kind"] == "slot"
        assert get(server, path).brief == (200, value)


@pytest.mark.parametrize("query", ["", "?append=1", "?setifnot=1"])
def test_a_write_answers_in_the_format_asked_for(server: Server, query: str) -> None:
    path = fresh_path()
    target = f"{path}{query}{'&' if query else '?'}format=http://host*"

    assert put(server, target, b"value").brief == (200, f"http://host{path}".encode())


# --- exclusive creation ---


@pytest.mark.parametrize("how", ["setifnot", "header"])
@SIZES
def test_the_first_to_set_wins_and_the_others_see_an_empty_conflict(server: Server, how: str, size_bytes: int) -> None:
    path, values = fresh_path(), [fresh_bytes(size_bytes) for _ in range(3)]

    def create(value: bytes) -> Answer:
        if how == "setifnot":
            return put(server, f"{path}?setifnot=1", value)
        return put(server, path, value, If_None_Match="*")

    assert [create(value).brief for value in values] == [(200, path.encode()), (409, b""), (409, b"")]
    assert get(server, path).brief == (200, values[0])


def test_of_racing_setters_exactly_one_wins(server: Server) -> None:
    path, values = fresh_path(), [fresh_bytes(5000) for _ in range(RACERS)]

    answers = raced(lambda number: put(server, f"{path}?setifnot=1", values[number]))

    winners = [values[number] for number, answer in enumerate(answers) if answer.status == 200]
    assert sorted(answer.status for answer in answers) == [200] + [409] * (RACERS - 1)
    assert get(server, path).brief == (200, winners[0])


def test_what_was_deleted_or_taken_may_be_set_again(server: Server) -> None:
    path = fresh_path()
    for method, target in (("DELETE", path), ("GET", f"{path}?take=1")):
        assert put(server, f"{path}?setifnot=1", b"lock").status == 200
        assert put(server, f"{path}?setifnot=1", b"lock").status == 409
        assert ask(server, method, target).status == 200

    assert put(server, f"{path}?setifnot=1", b"lock").status == 200


def test_a_blob_is_in_the_way_of_an_exclusive_creation(server: Server) -> None:
    path = stored(server, fresh_bytes())

    assert put(server, f"{path}?setifnot=1", b"other").brief == (409, b"")


@pytest.mark.parametrize(
    ("target", "headers", "sentence"),
    [
        ("{path}", {"If-None-Match": '"a"'}, "On a write If-None-Match is *."),
        ("{path}", {"If-Match": "unquoted"}, "If-Match names one version, in double quotes, or *."),
        ("{path}", {"If-Match": '"a", "b"'}, "If-Match names one version, in double quotes, or *."),
        ("{path}", {"If-Match": '"a"', "If-None-Match": "*"}, "If-Match and an exclusive create exclude each other."),
        ("{path}?append=1&setifnot=1", {}, "append= takes no condition."),
        ("{path}?append=1", {"If-Match": '"a"'}, "append= takes no condition."),
        ("/?append=1", {}, "append= and setifnot= need an address in the path. Ask /kv for a key's."),
        ("/?setifnot=1", {}, "append= and setifnot= need an address in the path. Ask /kv for a key's."),
        ("/name?append=1", {}, "append= and setifnot= need an address in the path. Ask /kv for a key's."),
    ],
)
def test_conditions_that_contradict_each_other_are_refused(
    server: Server, target: str, headers: dict[str, str], sentence: str
) -> None:
    path = fresh_path()

    answer = ask(server, "PUT", target.format(path=path), b"value", headers)

    assert answer.brief == (400, f"{sentence}\n".encode())
    assert get(server, path).status == 404


# --- compare-and-swap ---


def test_a_swap_succeeds_over_the_version_named_and_no_other(server: Server) -> None:
    path = set_slot(server, b"one")
    first = get(server, path).headers["etag"]

    second = put(server, path, b"two", If_Match=first)
    late = put(server, path, b"three", If_Match=first)

    assert (second.status, late.status) == (200, 412)
    assert get(server, path).brief == (200, b"two")
    assert put(server, path, b"three", If_Match=second.headers["etag"]).status == 200
    assert put(server, path, b"four", If_Match="*").status == 200
    assert get(server, path).body == b"four"


def test_a_swap_of_nothing_fails(server: Server) -> None:
    path = fresh_path()

    assert put(server, path, b"value", If_Match='"0-0"').status == 412
    assert put(server, path, b"value", If_Match="*").status == 412
    assert get(server, path).status == 404


def test_of_racing_swaps_exactly_one_succeeds(server: Server) -> None:
    path = set_slot(server, b"start")
    tag = get(server, path).headers["etag"]

    answers = raced(lambda number: put(server, path, b"%d" % number, If_Match=tag))

    assert sorted(answer.status for answer in answers) == [200] + [412] * (RACERS - 1)
    assert get(server, path).body == b"%d" % [answer.status for answer in answers].index(200)


# --- append ---


@EITHER
def test_an_append_creates_and_then_adds(server: Server, method: str) -> None:
    path = fresh_path()

    answers = [ask(server, method, f"{path}?append=1", line).brief for line in (b"one\n", b"", b"two\n")]

    assert answers == [(200, path.encode())] * 3
    assert get(server, path).brief == (200, b"one\ntwo\n")


def test_an_append_adds_to_a_value_that_was_written(server: Server) -> None:
    path = set_slot(server, b"written\n")
    large = fresh_bytes(200_000)

    assert put(server, f"{path}?append=1", large).status == 200
    assert put(server, f"{path}?append=1", b"tail").status == 200
    assert get(server, path).body == b"written\n" + large + b"tail"


@pytest.mark.parametrize("size_bytes", [300, 80_000])
def test_racing_appends_stay_whole(server: Server, size_bytes: int) -> None:
    path = fresh_path()
    lines = {b"%03d" % number * (size_bytes // 3) + b"\n" for number in range(RACERS)}
    ordered = sorted(lines)

    answers = raced(lambda number: put(server, f"{path}?append=1", ordered[number]))

    assert {answer.status for answer in answers} == {200}
    found = get(server, path).body.splitlines(keepends=True)
    assert (len(found), set(found)) == (RACERS, lines)


def test_a_blob_is_never_appended_to(server: Server) -> None:
    data = fresh_bytes()
    path = stored(server, data)

    assert put(server, f"{path}?append=1", b"more").status == 409
    assert get(server, path).brief == (200, data)


# --- take ---


@SIZES
def test_a_slot_is_taken_once(server: Server, size_bytes: int) -> None:
    value = fresh_bytes(size_bytes)
    path = set_slot(server, value)

    assert get(server, f"{path}?take=1").brief == (200, value)
    assert get(server, f"{path}?take=1").status == 404
    assert get(server, path).status == 404


@pytest.mark.parametrize("size_bytes", [100, 200_000])
def test_of_racing_takers_exactly_one_gets_it(server: Server, size_bytes: int) -> None:
    value = fresh_bytes(size_bytes)
    path = set_slot(server, value)

    answers = raced(lambda _: get(server, f"{path}?take=1"))

    assert sorted(answer.status for answer in answers) == [200] + [404] * (RACERS - 1)
    assert [answer.body for answer in answers if answer.status == 200] == [value]


def test_a_blob_cannot_be_taken(server: Server) -> None:
    data = fresh_bytes()
    path = stored(server, data)

    assert get(server, f"{path}?take=1").status == 409
    assert get(server, path).brief == (200, data)


def test_a_take_goes_with_a_plain_get_only(server: Server) -> None:
    path = set_slot(server, b"value")

    assert head(server, f"{path}?take=1").status == 400
    assert get(server, f"{path}?take=1&burst=1").brief == (400, b"take= goes with a plain GET.\n")
    assert get(server, path).brief == (200, b"value")


@pytest.mark.parametrize(("method", "query", "what"), [("GET", "?take=1", "A take"), ("DELETE", "", "A DELETE")])
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "If-Unmodified-Since"])
def test_a_removal_with_a_condition_is_refused(server: Server, method: str, query: str, what: str, name: str) -> None:
    path = set_slot(server, b"value")

    answer = ask(server, method, path + query, headers={name: get(server, path).headers["etag"]})

    assert answer.brief == (400, f"{what} takes no condition.\n".encode())
    assert get(server, path).brief == (200, b"value")


# --- where a blob and a slot meet ---


@EITHER
def test_a_slot_write_to_a_blobs_address_is_refused(server: Server, method: str) -> None:
    data = fresh_bytes()
    path = stored(server, data)

    answer = ask(server, method, path, b"another value")

    assert answer.status == 409
    assert answer.body.decode() == (
        f"{path} holds a blob, which never changes. Use the hash of a random key for a slot.\n"
    )
    assert get(server, path).brief == (200, data)


@pytest.mark.parametrize("way", ["put", "write", "chunked"])
@pytest.mark.parametrize("size_bytes", [40, 200_000])
def test_a_blob_that_arrives_over_a_slot_wins_for_good(server: Server, way: str, size_bytes: int) -> None:
    data = fresh_bytes(size_bytes)
    path = path_of(data)
    put(server, path, b"a slot at the blob's address")

    arrived = {
        "put": lambda: put(server, "/", data),
        "write": lambda: put(server, path, data),
        "chunked": lambda: ask(server, "PUT", "/", iter([data])),
    }[way]()

    assert arrived.brief == (200, path.encode())
    found = get(server, path)
    assert found.brief == (200, data)
    assert found.headers["x-holdall-kind"] == "blob"
    assert put(server, path, b"a slot again").status == 409
    assert get(server, f"{path}?take=1").status == 409
    assert get(server, path).brief == (200, data)


def test_a_swap_to_the_addresss_own_blob_holds_to_its_condition(server: Server) -> None:
    data = fresh_bytes()
    path = path_of(data)
    put(server, path, b"slot")

    assert put(server, path, data, If_Match='"other"').status == 412
    assert get(server, path).body == b"slot"
    assert put(server, path, data, If_Match=get(server, path).headers["etag"]).status == 200
    assert get(server, path).headers["x-holdall-kind"] == "blob"
