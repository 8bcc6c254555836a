"""The HTTP store when the network or the server misbehaves: what is tried again, what is refused, what stays secret."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trustme
from foreign import Foreign, Said, Seen, foreign

from holdall.core.address import Address
from holdall.errors import (
    AccessError,
    BlobInTheWayError,
    BurstError,
    BusyError,
    DamageError,
    DigestMismatchError,
    HoldallError,
    MemberNotFoundError,
    NotFoundError,
    OutOfSpaceError,
    ReadOnlyError,
    StoreError,
    TooLargeError,
    UnreachableError,
    UsageError,
    VersionMismatchError,
)
from holdall.limits.server import STALL_SECONDS_MAX
from holdall.limits.stores import CLIENT_RETRIES
from holdall.stores.base import ABSENT, IfVersion
from holdall.stores.http import HTTPStore
from ports import closed_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DATA = b"some bytes"
BLOB = Address.of(DATA)
SLOT = Address.of(b"a key")
SECRET = "a-key-that-is-never-shown"
OF_BLOB = {"X-Holdall-Kind": "blob", "ETag": f'"{BLOB.hex()}"'}
OF_SLOT = {"X-Holdall-Kind": "slot", "ETag": '"v1"'}

Work = "Callable[[HTTPStore], Awaitable[object]]"


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_BACKOFF_SECONDS", 0.0)


@asynccontextmanager
async def store_of(
    answer: Callable[[Seen], Said | None], *, reads_bodies: bool = True
) -> AsyncIterator[tuple[HTTPStore, Foreign]]:
    async with foreign(answer, reads_bodies=reads_bodies) as double:
        store = HTTPStore(double.url)
        try:
            yield store, double
        finally:
            await store.aclose()


def failure_of(
    answer: Callable[[Seen], Said | None], work: Callable[[HTTPStore], Awaitable[object]], *, reads_bodies: bool = True
) -> tuple[HoldallError, int]:
    """The error that some work with a server ends in, and how many requests came to it."""

    async def scenario() -> tuple[HoldallError, int]:
        async with store_of(answer, reads_bodies=reads_bodies) as (store, double):
            with pytest.raises(HoldallError) as failed:
                await work(store)
            return failed.value, len(double.seen)

    return asyncio.run(scenario())


async def read(store: HTTPStore, address: Address = BLOB) -> bytes:
    async with await store.get(address) as reading:
        return await reading.read()


async def streamed() -> AsyncIterator[bytes]:
    yield DATA


def silent_at_first(times: int, said: Said) -> Callable[[Seen], Said | None]:
    """Breaks off the first requests, then answers."""
    left = [None] * times

    def answer(_: Seen) -> Said | None:
        return left.pop() if left else said

    return answer


repeatable = pytest.mark.parametrize(
    ("work", "said"),
    [
        pytest.param(read, Said(body=DATA, headers=OF_BLOB), id="get"),
        pytest.param(lambda store: store.stat(BLOB), Said(headers={**OF_BLOB, "Content-Length": "10"}), id="stat"),
        pytest.param(lambda store: store.put(DATA), Said(body=BLOB.path.encode()), id="put of bytes"),
    ],
)
once = pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda store: store.take(SLOT), id="take"),
        pytest.param(lambda store: store.append(SLOT, DATA), id="append"),
        pytest.param(lambda store: store.write(SLOT, DATA), id="write"),
        pytest.param(lambda store: store.write(SLOT, DATA, when=ABSENT), id="claim"),
        pytest.param(lambda store: store.delete(SLOT), id="delete"),
        pytest.param(lambda store: store.put(streamed()), id="put of a stream"),
    ],
)


@repeatable
def test_what_may_happen_twice_is_tried_again(work: Callable[[HTTPStore], Awaitable[object]], said: Said) -> None:
    async def scenario() -> int:
        async with store_of(silent_at_first(CLIENT_RETRIES, said)) as (store, double):
            await work(store)
            return len(double.seen)

    assert asyncio.run(scenario()) == CLIENT_RETRIES + 1


@repeatable
def test_a_server_that_never_answers_is_given_up(work: Callable[[HTTPStore], Awaitable[object]], said: Said) -> None:
    error, requests = failure_of(silent_at_first(100, said), work)

    assert (type(error), requests) == (UnreachableError, CLIENT_RETRIES + 1)


@once
def test_what_must_not_happen_twice_is_sent_once(work: Callable[[HTTPStore], Awaitable[object]]) -> None:
    error, requests = failure_of(lambda _: None, work)

    assert (type(error), requests) == (UnreachableError, 1)


@once
def test_a_connection_that_had_gone_stale_is_no_reason_to_send_again(
    work: Callable[[HTTPStore], Awaitable[object]],
) -> None:
    """The library underneath would send a PUT, DELETE or GET again if an idle connection turns out to be dead."""
    first = Said(headers={**OF_BLOB, "Content-Length": "10"})

    async def scenario() -> list[str]:
        answers = iter([first])
        async with store_of(lambda _: next(answers, None)) as (store, double):
            await store.stat(BLOB)
            with pytest.raises(UnreachableError):
                await work(store)
            return [request.method for request in double.seen[1:]]

    assert len(asyncio.run(scenario())) == 1


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda store: store.append(SLOT, DATA), id="append"),
        pytest.param(lambda store: store.take(SLOT), id="take"),
        pytest.param(read, id="get"),
    ],
)
def test_a_busy_server_did_nothing_and_is_asked_again(work: Callable[[HTTPStore], Awaitable[object]]) -> None:
    error, requests = failure_of(lambda _: Said(503), work)

    assert (type(error), requests) == (BusyError, CLIENT_RETRIES + 1)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_as_long_as_it_asks_within_a_bound(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_RETRY_AFTER_SECONDS_MAX", 0.2)
    answers = iter([Said(status, headers={"Retry-After": "3600"}), Said(body=DATA, headers=OF_BLOB)])

    async def scenario() -> float:
        async with store_of(lambda _: next(answers)) as (store, _):
            began = time.monotonic()
            await read(store)
            return time.monotonic() - began

    assert 0.2 <= asyncio.run(scenario()) < 20


@pytest.mark.parametrize(
    ("status", "slug", "expected"),
    [
        (400, "", UsageError),
        (401, "", AccessError),
        (403, "", AccessError),
        (404, "", NotFoundError),
        (409, "", BlobInTheWayError),
        (412, "", VersionMismatchError),
        (413, "", TooLargeError),
        (418, "", UsageError),
        (500, "", StoreError),
        (502, "", StoreError),
        (507, "", OutOfSpaceError),
        (301, "", StoreError),
        (307, "", StoreError),
        (400, "digest-mismatch", DigestMismatchError),
        (400, "bad-burst", BurstError),
        (404, "member-not-found", MemberNotFoundError),
        (503, "read-only", ReadOnlyError),
        (404, "no such slug", NotFoundError),
    ],
)
def test_each_refusal_has_its_error_and_the_servers_sentence(
    status: int, slug: str, expected: type[HoldallError]
) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Location": "http://other/?apikey=x"}
    headers |= {"X-Holdall-Error": slug} if slug else {}
    said = Said(status, b"This is why. Do that.\nmore\n", headers)

    error, _ = failure_of(lambda _: said, lambda store: store.append(SLOT, DATA))

    assert type(error) is expected
    if status == 401:
        assert error.sentence().startswith("The server wants its API key for this.")
    elif status < 400:
        assert error.sentence() == "The server sends its callers to 'http://other/'. Use that address."
    else:
        assert error.sentence() == "This is why. Do that."


@pytest.mark.parametrize(
    "said",
    [
        Said(404, b"<html>\x1b[31m</html>", {"Content-Type": "text/html"}),
        Said(404, b"\x1b[31m\x00" * 100_000, {"Content-Type": "text/plain"}),
    ],
)
def test_a_strangers_words_cannot_reach_the_terminal(said: Said) -> None:
    error, _ = failure_of(lambda _: said, read)

    assert error.sentence().isprintable()
    assert len(error.sentence()) < 600


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"other byte", DamageError), (b"some bytez", DamageError)],
)
def test_a_blob_that_does_not_hash_to_its_address_is_damage(body: bytes, expected: type[HoldallError]) -> None:
    error, _ = failure_of(lambda _: Said(body=body, headers=OF_BLOB), read)

    assert type(error) is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Holdall-Kind: blob\r\n\r\nsome", DamageError),
        (b"HTTP/1.1 204 No Content\r\n\r\n", StoreError),
    ],
    ids=["a blob cut short, of unknown length", "no content"],
)
def test_what_is_no_whole_entry_is_not_taken_for_a_slot(raw: bytes, expected: type[HoldallError]) -> None:
    error, _ = failure_of(lambda _: Said(raw=raw), read)

    assert type(error) is expected


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    raw = b'HTTP/1.1 200 OK\r\nX-Holdall-Kind: blob\r\nETag: "x"\r\nContent-Length: 10\r\n\r\nsome'

    error, _ = failure_of(lambda _: Said(raw=raw), read)

    assert type(error) is UnreachableError


@pytest.mark.parametrize("answered", [b"", b"<html>", b"/nothing", SLOT.path.encode()])
def test_a_put_believes_only_the_address_of_what_it_sent(answered: bytes) -> None:
    error, _ = failure_of(lambda _: Said(body=answered), lambda store: store.put(DATA))

    assert type(error) is (DamageError if answered == SLOT.path.encode() else StoreError)


def test_bytes_that_are_not_what_was_expected_are_not_sent() -> None:
    error, requests = failure_of(lambda _: Said(), lambda store: store.put(DATA, expected=SLOT))

    assert (type(error), requests) == (DigestMismatchError, 0)


def test_the_end_of_a_stream_that_is_not_what_was_expected_is_not_sent() -> None:
    error, requests = failure_of(lambda _: Said(), lambda store: store.put(streamed(), expected=SLOT))

    assert (type(error), requests) == (DigestMismatchError, 0)  # a request counts once its body is whole


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"\x00" * 100, b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_server_is_said_to_be_none(raw: bytes) -> None:
    error, _ = failure_of(lambda _: Said(raw=raw), read)

    assert type(error) is UnreachableError


@pytest.mark.parametrize(
    "listing", [b"<html>\n", b"x" * 100_000, BLOB.path.encode() + b"\n/../etc/passwd\n", b"/" + b"0" * 64]
)
def test_what_is_no_listing_is_refused(listing: bytes) -> None:
    async def work(store: HTTPStore) -> list[Address]:
        return [address async for address in store.addresses()]

    error, _ = failure_of(lambda _: Said(body=listing), work)

    assert type(error) is StoreError


def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_SILENCE_SECONDS_MAX", 0.1)

    error, _ = failure_of(lambda _: Said(raw=b"HTTP/1.1 200 OK\r\n", hang=True), lambda store: store.take(SLOT))

    assert error.message.endswith("fell silent.")


def test_a_server_that_is_waited_for_is_named_once_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patience = "holdall.stores.http_session.CLIENT_PATIENCE_SECONDS"
    monkeypatch.setattr(patience, 0.05)
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_SILENCE_SECONDS_MAX", 0.2)
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_CONTINUE_SECONDS_MAX", 0.0)
    caplog.set_level("INFO", "holdall.stores")
    unanswered = Said(raw=b"HTTP/1.1 200 OK\r\n", hang=True)

    async def slow_source() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.2)
        monkeypatch.setattr(patience, 60.0)  # for the answer, from the next look on
        await asyncio.sleep(0.1)
        yield DATA

    async def scenario() -> list[str]:
        stored = Said(body=f"{BLOB.path}\n".encode())
        async with store_of(lambda seen: stored if seen.body else unanswered) as (store, double):
            await store.put(slow_source())
            assert caplog.messages == []
            monkeypatch.setattr(patience, 0.05)
            with pytest.raises(UnreachableError):
                await read(store)
            return [f"{double.url.removeprefix('http://')} has not answered for 0 s; it is waited for."]

    expected = asyncio.run(scenario())

    assert caplog.messages == expected


def test_what_was_sent_is_let_go_of_at_once() -> None:
    data = bytes(100_000)
    address = Address.of(data)

    async def scenario() -> int:
        async with store_of(lambda _: Said(body=f"{address.path}\n".encode())) as (store, _):
            for _ in range(3):
                await store.put(data)
            await asyncio.sleep(0)
            return sys.getrefcount(data)

    gc.disable()  # what only it would find stays for long
    try:
        before = sys.getrefcount(data)
        assert asyncio.run(scenario()) <= before
    finally:
        gc.enable()


def test_a_server_that_takes_no_more_of_a_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.http_request.STALL_SECONDS_MAX", 0.2)
    assert STALL_SECONDS_MAX > 1

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    go_on = Said(raw=b"HTTP/1.1 100 Continue\r\n\r\n", hang=True)

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert go_on.raw is not None
        writer.write(go_on.raw)
        try:
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    async def scenario() -> HoldallError:
        server = await asyncio.start_server(never_read, "127.0.0.1", 0, limit=1024)
        store = HTTPStore(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(HoldallError) as failed:
            await store.put(endless())
        await store.aclose()
        server.close()
        return failed.value

    assert type(asyncio.run(scenario())) is UnreachableError


def test_a_stream_is_sent_to_a_server_that_does_not_know_100_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_CONTINUE_SECONDS_MAX", 0.1)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 69\r\n\r\n{BLOB.path}".encode())
        await writer.drain()
        writer.close()

    async def scenario() -> Address:
        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        store = HTTPStore(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with asyncio.timeout(60):
            address = await store.put(streamed())
        await store.aclose()
        server.close()
        return address

    assert asyncio.run(scenario()) == BLOB


def test_nobody_listening_is_said_without_the_api_key() -> None:
    async def scenario(port: int) -> HoldallError:
        store = HTTPStore(f"http://127.0.0.1:{port}/?apikey={SECRET}")
        with pytest.raises(UnreachableError) as failed:
            await store.put(DATA)
        await store.aclose()
        return failed.value

    with closed_port() as port:
        error = asyncio.run(scenario(port))

    assert "does not accept connections" in error.message
    assert SECRET not in f"{error!r} {error.__cause__!r} {error.sentence()}"


def test_the_api_key_goes_only_with_what_needs_it_and_never_to_another_host() -> None:
    def answer(request: Seen) -> Said:
        if request.path == "/-/health":
            return Said(200)
        if request.path == "/-/have":
            return Said(body=request.body)
        if request.method in {"GET", "HEAD"}:
            return Said(body=DATA, headers={**OF_BLOB, "Content-Length": "10"})
        return Said(body=(BLOB if request.path == "/" else SLOT).path.encode(), headers=OF_SLOT)

    async def scenario() -> list[tuple[str, str | None]]:
        async with foreign(answer) as double:
            store = HTTPStore(double.url, api_key=SECRET)
            await store.put(DATA)
            await read(store)
            await store.stat(BLOB)
            await store.missing([BLOB])
            await store.write(SLOT, DATA, when=IfVersion("v1"))
            await store.delete(SLOT)
            await store.aclose()
            assert not any("apikey" in request.query for request in double.seen)
            return [(f"{r.method} {r.path[:7]}", r.headers.get("authorization")) for r in double.seen]

    key = f"Bearer {SECRET}"

    assert asyncio.run(scenario()) == [
        ("GET /-/heal", None),
        ("PUT /", key),
        (f"GET {BLOB.path[:7]}", None),
        (f"HEAD {BLOB.path[:7]}", None),
        ("POST /-/have", None),
        (f"PUT {SLOT.path[:7]}", key),
        (f"DELETE {SLOT.path[:7]}", key),
    ]


def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_that_is_known_is_taken() -> None:
    authority = trustme.CA()
    served, known = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(known)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scenario() -> list[HoldallError]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
        errors = []
        for tls in (None, known):
            store = HTTPStore(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", tls=tls)
            with pytest.raises(HoldallError) as failed:
                await store.stat(BLOB)
            errors.append(failed.value)
            await store.aclose()
        server.close()
        return errors

    stranger, friend = asyncio.run(scenario())

    assert isinstance(stranger, UnreachableError)
    assert "certificate" in stranger.message
    assert type(friend) is NotFoundError


def test_a_closed_store_says_so() -> None:
    async def scenario() -> None:
        async with store_of(lambda _: Said()) as (store, _):
            await store.aclose()
            await store.aclose()
            with pytest.raises(StoreError, match="closed"):
                await store.stat(BLOB)

    asyncio.run(scenario())


def test_any_number_of_open_readings_leave_room_for_more() -> None:
    """Readings hold a connection each; waiting for one of a bounded pool would be waiting for oneself."""

    async def scenario() -> int:
        async with store_of(lambda _: Said(body=DATA, headers=OF_BLOB)) as (store, _):
            readings = [await store.get(BLOB) for _ in range(50)]
            values = [await reading.read() for reading in readings]
            for reading in readings:
                await reading.aclose()
            return len(values)

    assert asyncio.run(scenario()) == 50
