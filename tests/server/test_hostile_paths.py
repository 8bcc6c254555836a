"""Path tricks and odd files in the data directory: no request reaches any file but an entry's own."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from support import running_server, wait_until
from wire import Wire, ask, assert_silent, assert_well, path_of, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support import Server

BLOB = b"the only thing that may be read"
PATH = path_of(BLOB)
HEX = PATH[1:65]
WRITTEN = b"written by a request"
SECRET = b"outside of every entry"

TRICKS = [
    "/..",
    "/../",
    "/../secret",
    "/../../../../etc/passwd",
    "/..%2fsecret",
    "/%2e%2e/secret",
    "/%2e%2e%2fsecret",
    "/%252e%252e/secret",
    "/..;/secret",
    "/%c0%ae%c0%ae/secret",
    "/./secret",
    "//etc/passwd",
    "/etc/passwd",
    "/./apikey",
    "/apikey.tig",
    "/.",
    "/%2f",
    "/%00",
    "/-/",
    "/-/health/",
    "/-/../apikey",
    "/kv/",
    "/kv%00",
    f"/{HEX}.TIG",
    f"/{HEX}.tig.tig",
    f"/{HEX}%2etig",
    f"/{HEX}.tig/",
    f"/{HEX}.tig/.",
    f"/{HEX}.tig/../{HEX}.tig",
    f"/{HEX}.tig%00",
    f"/{HEX}.tig%00.html",
    f"/{HEX.upper()}.tig",
    f"/{HEX[:-1].upper()}{HEX[-1]}.tig",
    f"/{HEX[:-1]}.tig",
    f"/{HEX}0.tig",
    f"/{HEX[:-1]}g.tig",
    f"/{HEX[:-1]}%{ord(HEX[-1]):x}.tig",
    f"/{HEX[:-2]}0x.tig",
    f"/{HEX[:-1]}+.tig",
    f"/./{HEX}.tig",
    f"//{HEX}.tig",
    f"/x/{HEX}.tig",
    f"/\\{HEX}.tig",
    "*",
    "http://h/../secret",
    "http://h/%2e%2e/secret",
    f"http://h//{HEX}.tig",
]

# What `curl -T` could have added to the address; on a write such a name says nothing.
FILE_NAMES = [
    "/..\\secret",
    "/..%5csecret",
    "/apikey",
    "/%61pikey",
    "/.holdall-control",
    "/.holdall-journal",
    "/.holdall-journal-new",
    "/.holdall-tmp-0-1-0",
    "/%",
    "/%zz",
    "/~root",
    "http://h/apikey",
    "/KV",
    f"/{HEX}",
    f"/{HEX}.tigg",
    f"/{HEX}.ti",
    f"/{HEX}.tig%0a",
    f"/{HEX}.tig%20",
    f"/{HEX}.tig;v=1",
    f"/{HEX}.tig&burst=1",
]

METHODS = [("GET", None), ("HEAD", None), ("PUT", WRITTEN), ("POST", WRITTEN), ("DELETE", None)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("paths") / "data"
    data.mkdir()
    (data.parent / "secret").write_bytes(SECRET)
    with running_server(data, "--quiet", "--retention", "off") as found:
        assert ask(found.port, request("PUT", "/", BLOB), "PUT").status == 200
        yield found


@pytest.mark.parametrize("target", TRICKS)
def test_a_path_that_is_not_to_the_letter_is_nothing(server: Server, target: str) -> None:
    before = entries(server.data)

    assert statuses_of_all_methods(server, target) == [404, 404, 404, 404, 404]
    assert entries(server.data) == before
    assert_silent(server)


@pytest.mark.parametrize("target", FILE_NAMES)
def test_a_file_name_is_heeded_neither_by_a_read_nor_by_a_write(server: Server, target: str) -> None:
    apikey, before = server.data / "apikey", entries(server.data)

    assert statuses_of_all_methods(server, target) == [404, 404, 200, 200, 404]
    assert not apikey.exists()
    assert entries(server.data) == before | {path_of(WRITTEN)[1:]: WRITTEN}
    assert_silent(server)


def statuses_of_all_methods(server: Server, target: str) -> list[int]:
    statuses = []
    with Wire(server.port) as wire:
        for method, body in METHODS:
            answer = wire.send(request(method, target, body)).answer(method)
            assert answer is not None
            assert not any(word in answer.body for word in (BLOB, SECRET, b"root:"))
            assert answer.status != 200 or answer.body == path_of(WRITTEN).encode()
            statuses.append(answer.status)
    assert (server.data.parent / "secret").read_bytes() == SECRET
    return statuses


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (PATH, 200),
        (f"http://h{PATH}", 200),
        (f"https://elsewhere:99{PATH}", 200),
        (f"{PATH}?", 200),
        (f"{PATH}?&&=&x", 200),
        (f"{PATH}?../secret", 200),
        (f"{PATH}?format=../*", 200),
        (f"{PATH}?Content-Type=text/html%0d%0aX:%20y", 400),
        (f"{PATH}?Content-Type=", 400),
        (f"{PATH}?Content-Type=%ff/x", 400),
        (f"{PATH}?burst=9", 400),
        (f"{PATH}?burst=-1", 400),
        (f"{PATH}?burst=%d9%a1", 400),
        (f"{PATH}?burst=1", 400),
        (f"{PATH}?take=yes", 400),
        (f"{PATH}?take=1", 409),
        (f"{PATH}?chtimes=2", 400),
        (f"{PATH}?format=%0d%0aX", 400),
        (f"{PATH}?format={'x' * 1025}", 400),
        ("http://h", 200),
        ("http://h?x", 200),
    ],
)
def test_odd_but_legal_targets_have_their_status(server: Server, target: str, status: int) -> None:
    answer = ask(server.port, request("GET", target))

    assert answer.status == status
    assert "x" not in answer.headers
    assert_well(server)


def symlink(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent.parent / "made-by-a-request")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def symlink_within(path: Path) -> None:
    path.symlink_to(PATH[1:])


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_PATH)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path may have 107 bytes at most
        finally:
            os.close(here)


@pytest.fixture
def odd(server: Server, make: Callable[[Path], None]) -> Iterator[tuple[Path, bytes]]:
    """A file that is none, where a blob would be, and that blob."""
    content = f"the content of the name that {make.__name__} takes".encode()
    path = server.data / path_of(content)[1:]
    make(path)
    yield path, content
    if make is os.mkdir:
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize("make", [symlink, dangling, loop, symlink_within, os.mkfifo, os.mkdir, unix_socket])
def test_what_is_no_plain_file_is_no_entry(server: Server, odd: tuple[Path, bytes]) -> None:
    path, content = odd
    target = path_of(content)
    before = os.lstat(path)
    asked = [
        ("GET", target, None),
        ("GET", f"{target}?chtimes=0", None),
        ("GET", f"{target}?burst=1", None),
        ("HEAD", target, None),
        ("DELETE", target, None),
        ("GET", f"{target}?take=1", None),
        ("PUT", target, b"a slot"),
        ("PUT", f"{target}?setifnot=1", b"a slot"),
        ("PUT", f"{target}?append=1", b"a line"),
        ("PUT", target, content),
        ("PUT", "/", content),
        ("POST", "/-/have", f"{target}\n".encode()),
    ]
    with Wire(server.port) as wire:
        answers = [wire.send(request(method, where, body)).answer(method) for method, where, body in asked]

    after = os.lstat(path)
    assert [answer and answer.status for answer in answers] == [404] * 5 + [409] * 6 + [200]
    assert answers[-1] is not None
    assert answers[-1].body == f"{target}\n".encode()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert (server.data.parent / "secret").read_bytes() == SECRET
    assert not (server.data.parent / "made-by-a-request").exists()
    assert_well(server)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, loop])
def test_a_key_file_that_cannot_be_read_locks_the_server(tmp_path: Path, make: Callable[[Path], None]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make(data / "apikey")
    with running_server(data, "--quiet") as server:
        write = ask(server.port, request("PUT", "/", b"x"), "PUT")
        with_a_key = ask(server.port, request("PUT", "/?apikey=x", b"x"), "PUT")
        read = ask(server.port, request("GET", PATH))

    assert (write.status, with_a_key.status, read.status) == (401, 401, 404)
    assert entries(data) == {}
    assert_silent(server)


def test_other_files_of_the_directory_are_neither_listed_nor_expired(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "a directory").mkdir(parents=True)
    (data / "apikey").write_text("key")
    for name in (
        "notes.txt",
        f"{HEX.upper()}.tig",
        f"{HEX}.TIG",
        f"{HEX[:-1]}.tig",
        f"{HEX}.tig.bak",
        ".hidden",
        ".tig",
    ):
        (data / name).write_bytes(b"not an entry")
        os.utime(data / name, (0, 0))
    (data / f"{'1' * 64}.tig").symlink_to("notes.txt")
    (data / f"{'2' * 64}.tig").mkdir()
    os.utime(data / f"{'2' * 64}.tig", (0, 0))
    os.mkfifo(data / f"{'3' * 64}.tig")
    os.utime(data / f"{'3' * 64}.tig", (0, 0))
    before = set(os.listdir(data))
    with running_server(data, "--quiet", "--retention", "1s", "--sweep-interval", "100ms") as server:
        listed: set[str] = set()

        def is_listed() -> bool:
            """On a machine that stood still for a second the entry has expired before it could be listed."""
            assert ask(server.port, request("PUT", "/?apikey=key", BLOB), "PUT").status == 200
            listed.update(ask(server.port, request("GET", "/?apikey=key")).body.decode().split())
            return PATH in listed

        wait_until(is_listed, "the one entry is listed")
        wait_until(lambda: not (data / PATH[1:]).exists(), "the one entry has expired")
        server.stop()

    assert listed == {PATH}
    assert {name for name in os.listdir(data) if not name.startswith(".holdall-")} == before


def entries(data: Path) -> dict[str, bytes]:
    """What the directory holds but for the server's own dot-files."""
    return {path.name: path.read_bytes() for path in data.iterdir() if path.suffix == ".tig" and path.is_file()}
