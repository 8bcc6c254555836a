"""`holdall.open`, for programs that do not use asyncio: on a directory and on a running server."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import holdall
from holdall import Address, Kind, Span, SyncStore
from support import clean_environment, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdall.snapshot.commit import Report

KEY = "a key of the tests of the Python API"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("served") / "data"
    data.mkdir()
    (data / "apikey").write_text(KEY)
    with running_server(data) as server:
        yield server.url


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["directory", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncStore]:
    where = tmp_path / "store" if request.param == "directory" else request.getfixturevalue("served")
    with holdall.open(where, api_key=KEY) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "in").mkdir(parents=True)
    (root / "in" / "large").write_bytes(os.urandom(700_000))
    (root / "small").write_text("one")
    return root


def damage(directory: Path, address: Address) -> None:
    (directory / "wrong").write_bytes(b"wrong")
    (directory / "wrong").chmod(0o444)  # as blobs are
    (directory / "wrong").replace(directory / address.name)


def test_bytes_come_in_any_form_and_go_out_whole_or_in_part(store: SyncStore, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    address = Address.of(data)

    assert store.put(data) == address
    assert store.put(memoryview(data)) == address
    assert store.put(path, expected=address) == store.put(str(path), expected=address.hex()) == address
    assert store.put(io.BytesIO(data)) == store.put(data[at : at + 100_000] for at in range(0, 1_000_000, 100_000))
    assert store.get(address) == store.get(address.path) == store.get(address.hex()) == data
    assert store.get(address, Span(-5)) == data[-5:]
    with store.reading(f"http://elsewhere{address}") as stream:
        assert (stream.info.size_bytes, stream.read(10), stream.read()) == (1_000_000, data[:10], data[10:])


def test_entries_are_looked_at_listed_and_removed(store: SyncStore) -> None:
    addresses = {store.put(b"%d" % number) for number in range(40)}
    absent = Address.of(b"absent")

    assert store.stat(Address.of(b"7")).kind is Kind.BLOB
    assert store.missing([Address.of(b"8"), absent, absent.path]) == [absent]
    assert addresses <= {info.address for info in store.entries()}
    next(iter(store.entries()))  # and no more of them
    store.delete(Address.of(b"7"))
    with pytest.raises(holdall.NotFoundError):
        store.get(Address.of(b"7"))


def test_a_slot_is_used_by_its_key(store: SyncStore) -> None:
    slot = store.slot(os.urandom(16).hex())
    blob = store.put(b"never changes")

    assert slot.append(b"one ").address == slot.address
    slot.append(io.BytesIO(b"two"))
    with slot.reading() as stream:
        version = stream.info.version
    assert slot.get() == b"one two"
    slot.set(b"new", if_version=version)
    with pytest.raises(holdall.VersionMismatchError):
        slot.set(b"newer", if_version=version)
    with pytest.raises(holdall.AlreadySetError):
        slot.claim(b"mine")
    assert slot.take() == b"new"
    assert slot.claim(b"mine").size_bytes == 4
    store.slot(address=slot.address.path).delete()
    with pytest.raises(holdall.NotFoundError):
        slot.take()
    with pytest.raises(holdall.KindError):
        store.slot(address=blob).get()
    assert store.slot("clé").address == store.slot("clé".encode()).address == Address.of("clé".encode())


def test_a_store_within_a_tree_is_no_part_of_it_and_stays(tree: Path) -> None:
    with holdall.open(tree / "store") as store:
        first, again = store.commit(tree), store.commit(tree)
        (tree / "extra").touch()
        report = store.checkout(again.address, tree, replace=True, delete=True)

        assert (first.address, report.deleted) == (again.address, 1)
        assert store.verify_commit(again.address).entries == again.report.entries


def test_a_tree_is_committed_compared_restored_and_verified(store: SyncStore, tree: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    first, report = store.commit(tree, on_progress=lambda report: seen.append(report.size_bytes))
    (tree / "small").write_text("two")
    second, _ = store.commit(tree, exclude=["large"])
    whole = store.checkout(first, tmp_path / "whole")
    part = store.checkout(first.path, tmp_path / "part", paths=["small"])

    assert (report.entries, seen[-1]) == (3, report.size_bytes)
    assert [(change.letter, change.path) for change in store.compare(first, second)] == [
        ("D", b"in/large"),
        ("M", b"small"),
    ]
    assert (whole.files, part.files) == (2, 1)
    assert (tmp_path / "whole" / "in" / "large").read_bytes() == (tree / "in" / "large").read_bytes()
    assert (tmp_path / "part" / "small").read_text() == "one"
    assert store.verify_commit(first).entries == 3
    assert store.keep(first).missing == []
    with pytest.raises(holdall.UsageError):
        store.commit(tmp_path / "none")


def test_everything_is_copied_and_damage_is_found(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with holdall.open(tmp_path / "store") as store:
        address, _ = store.commit(tree)
        blob = store.put(b"to be damaged")
        copied = store.backup(copy).copied
    damage(copy, blob)
    damage(copy, address)
    with holdall.open(copy, create=False) as store:
        told: list[str] = []
        report = store.verify(on_trouble=lambda trouble: told.append(f"{store.stat(trouble.address).address}"))

        assert (report.damaged, report.blobs) == (2, copied - 2)
        assert sorted(told) == sorted([blob.path, address.path])
        with pytest.raises(holdall.DamageError):
            store.get(blob)
        with store.reading(blob) as stream, pytest.raises(holdall.DamageError):
            stream.read()
        with pytest.raises(holdall.DamageError):
            store.verify_commit(address)


def test_many_threads_use_one_store(store: SyncStore) -> None:
    def use(number: int) -> bytes:
        return store.get(store.put(b"%d" % number))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(use, range(200)))

    assert found == [b"%d" % number for number in range(200)]


def test_closing_ends_the_calls_of_other_threads_and_every_later_one(tmp_path: Path) -> None:
    store = holdall.open(tmp_path / "store")
    begun, closed = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"begun"
        begun.set()
        closed.wait(30)
        yield b"and never ended"

    stream, entries = store.reading(store.put(b"x")), store.entries()
    next(entries)
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(store.put, slowly())
        begun.wait(30)
        store.close()
        closed.set()
        with pytest.raises(holdall.UsageError, match="closed"):
            under_way.result()
    store.close()
    for call in (lambda: store.put(b"y"), lambda: next(store.entries()), lambda: stream.read(1)):
        with pytest.raises(holdall.UsageError, match="closed"):
            call()
    stream.close()
    del entries

    assert [path.name for path in (tmp_path / "store").glob("*.tig")] == [Address.of(b"x").name]


def test_it_works_where_an_event_loop_runs(store: SyncStore) -> None:
    async def hold_up_the_loop() -> bytes:
        return store.get(store.put(b"called from a coroutine"))

    assert asyncio.run(hold_up_the_loop()) == b"called from a coroutine"


def test_what_a_source_raises_reaches_the_caller_and_nothing_is_kept(store: SyncStore, tmp_path: Path) -> None:
    def broken(error: BaseException) -> Iterator[bytes]:
        yield b"x" * 300_000
        assert store.put(b"the store can be used meanwhile")
        raise error

    for error in (OSError("the disk of the caller"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            store.put(broken(error))
        assert caught.value is error
    for wrong in (tmp_path / "none", "text that was meant as such", tmp_path):
        with pytest.raises(holdall.LocalFileError):
            store.put(wrong)
    for nonsense in (io.StringIO("text"), ["text"], 7):
        with pytest.raises(holdall.UsageError):
            store.put(nonsense)  # type: ignore[arg-type]

    assert store.missing([Address.of(b"x" * 300_000)]) == [Address.of(b"x" * 300_000)]


def test_ctrl_c_ends_a_call_that_waits_for_the_store() -> None:
    silent = socket.create_server(("127.0.0.1", 0))

    def interrupt() -> None:
        """Ctrl-C, once the request has come: then the call that made it waits."""
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(30)

    interrupted = threading.Event()
    with silent, holdall.open(f"http://127.0.0.1:{silent.getsockname()[1]}") as store:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            store.get(Address.of(b"never answered"))
        interrupted.set()
        thread.join()


def test_a_callback_cannot_use_the_store_that_called_it(tree: Path, tmp_path: Path) -> None:
    with holdall.open(tmp_path / "store") as store:

        def callback(report: Report) -> None:
            store.put(b"%d" % report.chunks)

        with pytest.raises(holdall.UsageError, match="callback"):
            store.commit(tree, on_progress=callback)
        assert store.commit(tree).report.entries == 3


def _put_and_forget(place: Path) -> None:
    holdall.open(place).put(b"durable all the same")
    gc.collect()


def test_a_store_that_is_never_closed_is_complained_of_and_let_go(tmp_path: Path) -> None:
    with pytest.warns(ResourceWarning, match="never closed"):
        _put_and_forget(tmp_path / "store")
    wait_until(lambda: "holdall-loop" not in {thread.name for thread in threading.enumerate()}, "its thread ends")


def test_what_cannot_be_opened_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    for where in ("ftp://host", str(tmp_path / "file")):
        with pytest.raises(holdall.HoldallError):
            holdall.open(where)

    assert "holdall-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_child_process_is_told_to_open_the_store_anew(tmp_path: Path) -> None:
    script = """
import os, holdall
store = holdall.open("store")
child = os.fork()
if child == 0:
    try:
        store.put(b"x")
    except holdall.UsageError as error:
        print(error.message, flush=True)
    os._exit(0)
os.waitpid(child, 0)
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "The store was opened by another process.\n"


def test_importing_holdall_imports_nothing_slow() -> None:
    script = "import sys, typing; before = set(sys.modules); import holdall; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) == {"__future__", "holdall"}


def test_every_name_that_holdall_offers_is_there() -> None:
    assert [name for name in holdall.__all__ if not hasattr(holdall, name)] == []
    assert set(holdall.__all__) <= set(dir(holdall))
    with pytest.raises(AttributeError):
        _ = holdall.nothing
