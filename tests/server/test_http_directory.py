"""A server on a directory that others have written in: the original server's entries, and what is nobody's entry."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asking import ask, fresh_bytes, fresh_path, get, path_of, put
from support import running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server

LARGE = b"large " * 40_000
SIZES = pytest.mark.parametrize("size_bytes", [40, 200_000])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def left_by_the_original(data: Path, path: str, contents: bytes) -> str:
    """Puts an entry there as the original server does, mode 0600, and returns its path."""
    new = data / "copying"
    new.write_bytes(contents)
    new.chmod(0o600)
    new.rename(data / path[1:])
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("original") / "data"
    data.mkdir()
    (data / "apikey").write_text("abc\n")
    (data / "apikey").chmod(0o600)
    with running_server(data, durable=True) as found:
        yield found


def blob_in(server: Server, size_bytes: int) -> tuple[str, bytes]:
    """A blob of the original's: its path and its bytes."""
    contents = fresh_bytes(size_bytes)
    return left_by_the_original(server.data, path_of(contents), contents), contents


def slot_in(server: Server, size_bytes: int) -> tuple[str, bytes]:
    """A slot of the original's: its path and its value."""
    value = fresh_bytes(size_bytes)
    return left_by_the_original(server.data, fresh_path(), value), value


def test_a_directory_of_the_original_opens_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    contents = [fresh_bytes(size_bytes) for size_bytes in (0, 40, 200_000)]
    blobs = {left_by_the_original(data, path_of(held), held): held for held in contents}
    slots = {left_by_the_original(data, fresh_path(), held): held for held in contents}
    (data / "apikey").write_text("abc\n")
    with running_server(data, durable=True) as server:
        for kind, entries, mode in (("blob", blobs, 0o444), ("slot", slots, 0o644)):
            for path, held in entries.items():
                assert mode_of(data / path[1:]) == 0o600
                found = get(server, path)

                assert found.brief == (200, held)
                assert found.headers["x-holdall-kind"] == kind
                assert mode_of(data / path[1:]) == mode
                assert get(server, path).brief == (200, held)
        assert set(get(server, "/?apikey=abc").body.decode().splitlines()) == {*blobs, *slots}


@SIZES
@pytest.mark.parametrize("query", ["", "&setifnot=1", "&append=1"])
def test_a_blob_of_the_original_is_never_overwritten(server: Server, size_bytes: int, query: str) -> None:
    path, contents = blob_in(server, size_bytes)

    assert put(server, f"{path}?apikey=abc{query}", b"another value").status == 409
    assert get(server, path).brief == (200, contents)


@SIZES
def test_slots_of_the_original_are_written_appended_to_and_taken(server: Server, size_bytes: int) -> None:
    path, value = slot_in(server, size_bytes)

    assert put(server, f"{path}?apikey=abc&append=1", b" more").status == 200
    assert get(server, path).body == value + b" more"
    assert put(server, f"{path}?apikey=abc", b"new").status == 200
    assert get(server, f"{path}?apikey=abc&take=1").brief == (200, b"new")
    assert get(server, path).status == 404


@SIZES
def test_entries_of_the_original_are_taken_or_deleted_unread(server: Server, size_bytes: int) -> None:
    slot, value = slot_in(server, size_bytes)
    blob, _ = blob_in(server, size_bytes)

    assert get(server, f"{slot}?apikey=abc&take=1").brief == (200, value)
    assert ask(server, "DELETE", f"{blob}?apikey=abc").status == 200
    assert get(server, blob).status == 404


@SIZES
def test_entries_of_the_original_are_put_again_and_read_in_bursts(server: Server, size_bytes: int) -> None:
    slot, value = slot_in(server, size_bytes)
    blob, contents = blob_in(server, size_bytes)

    assert ask(server, "POST", "/-/have", f"{slot}\n{blob}\n".encode()).brief == (200, b"")
    burst = put(server, "/?apikey=abc", f"{slot}\n{blob}\n".encode()).body.decode()
    assert get(server, f"{burst}?burst=1").body == value + contents
    assert put(server, "/?apikey=abc", contents).brief == (200, blob.encode())
    assert mode_of(server.data / blob[1:]) == 0o444


def test_a_file_put_there_by_hand_while_the_server_runs_is_an_entry(server: Server) -> None:
    data = fresh_bytes()
    assert get(server, path_of(data)).status == 404

    new = server.data / "copying"
    new.write_bytes(data)
    new.rename(server.data / path_of(data)[1:])

    assert get(server, path_of(data)).brief == (200, data)


def test_no_other_file_is_ever_listed_read_written_or_deleted(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.write_bytes(b"outside")
    names = {kind: path_of(kind.encode())[1:] for kind in ("symlink", "dangling", "directory", "fifo")}
    (data / "apikey").write_text("abc\n")
    (data / "notes.txt").write_text("notes")
    (data / f"{'0' * 64}").write_text("no suffix")
    (data / f"{'0' * 64}.tig.bak").write_text("a backup")
    (data / f"{'A' * 64}.tig").write_text("upper case")
    (data / names["symlink"]).symlink_to(outside)
    (data / names["dangling"]).symlink_to(tmp_path / "nothing")
    (data / names["directory"]).mkdir()
    os.mkfifo(data / names["fifo"])
    before = {path.name: path.lstat().st_ino for path in data.iterdir()}

    with running_server(data, "--retention", "500ms", "--sweep-interval", "50ms", durable=True) as server:
        mine = put(server, "/?apikey=abc", b"mine").body.decode()
        for name in names.values():
            assert [
                get(server, f"/{name}").status,
                ask(server, "HEAD", f"/{name}").status,
                get(server, f"/{name}?apikey=abc&take=1").status,
                ask(server, "DELETE", f"/{name}?apikey=abc").status,
                put(server, f"/{name}?apikey=abc", b"another value").status,
            ] == [404, 404, 409, 409, 409], name
            assert ask(server, "POST", "/-/have", f"/{name}".encode()).body.decode() == f"/{name}\n"
        for name in set(before) - set(names.values()):
            assert get(server, f"/{name}").status == 404
            assert ask(server, "DELETE", f"/{name}?apikey=abc").status == 404
        assert get(server, "/?apikey=abc").body.decode() in {f"{mine}\n", ""}
        wait_until(lambda: not (data / mine[1:]).exists(), "an entry of the server's own has expired")
        wait_until(lambda: sweeps(server) >= 3, "three sweeps are over")

    after = {path.name: path.lstat().st_ino for path in data.iterdir() if not path.name.startswith(".")}
    assert after == before
    assert outside.read_bytes() == b"outside"
    assert not (tmp_path / "nothing").exists()


def sweeps(server: Server) -> float:
    families = text_string_to_metric_families(get(server, "/-/metrics").body.decode())
    return next(family.samples[0].value for family in families if family.name == "holdall_sweeps")


def test_a_stopped_server_leaves_plain_files_with_their_modes_and_nothing_else_of_weight(tmp_path: Path) -> None:
    slot = fresh_path()
    with running_server(tmp_path / "data", durable=True) as server:
        put(server, "/", b"blob")
        put(server, slot, b"value")
        put(server, "/", LARGE)
        assert server.stop() == 0
    files = {path.name: path for path in server.data.iterdir()}

    assert {name: mode_of(path) for name, path in files.items() if not name.startswith(".")} == {
        path_of(b"blob")[1:]: 0o444,
        path_of(LARGE)[1:]: 0o444,
        slot[1:]: 0o644,
    }
    assert (server.data / slot[1:]).read_bytes() == b"value"
    assert {name for name in files if name.startswith(".")} <= {".holdall-control", ".holdall-journal"}
