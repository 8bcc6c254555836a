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

SMALL, LARGE = b"small", b"large " * 40_000
KEYS = {"small": b"the key of a small slot", "large": b"the key of a large slot"}
SIZES = pytest.mark.parametrize(("size", "data"), [("small", SMALL), ("large", LARGE)], ids=["small", "large"])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a directory as the original leaves it: every file 0600, blobs and slots, an apikey."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "apikey").write_text("abc\n")
    for contents in (SMALL, LARGE):
        (data / path_of(contents)[1:]).write_bytes(contents)
    for size, contents in (("small", SMALL), ("large", LARGE)):
        (data / path_of(KEYS[size])[1:]).write_bytes(b"slot " + contents)
    for file in data.iterdir():
        file.chmod(0o600)
    with running_server(data) as found:
        yield found


@SIZES
def test_entries_of_the_original_are_read_and_get_their_modes_on_first_use(
    server: Server, size: str, data: bytes
) -> None:
    blob, slot = path_of(data), path_of(KEYS[size])
    assert [mode_of(server.data / path[1:]) for path in (blob, slot)] == [0o600, 0o600]

    found = [get(server, path) for path in (blob, slot)]

    assert [answer.brief for answer in found] == [(200, data), (200, b"slot " + data)]
    assert [answer.headers["x-holdall-kind"] for answer in found] == ["blob", "slot"]
    assert [mode_of(server.data / path[1:]) for path in (blob, slot)] == [0o444, 0o644]
    assert [get(server, path).brief for path in (blob, slot)] == [(200, data), (200, b"slot " + data)]


@SIZES
@pytest.mark.parametrize("query", ["", "&setifnot=1", "&append=1"])
def test_a_blob_of_the_original_is_never_overwritten(server: Server, size: str, data: bytes, query: str) -> None:
    blob = path_of(data)

    answer = put(server, f"{blob}?apikey=abc{query}", b"another value")

    assert answer.status == 409, size
    assert get(server, blob).brief == (200, data)


@SIZES
def test_slots_of_the_original_are_written_appended_to_and_taken(server: Server, size: str, data: bytes) -> None:
    slot = path_of(KEYS[size])

    assert put(server, f"{slot}?apikey=abc&append=1", b" more").status == 200
    assert get(server, slot).body == b"slot " + data + b" more"
    assert put(server, f"{slot}?apikey=abc", b"new").status == 200
    assert get(server, f"{slot}?apikey=abc&take=1").brief == (200, b"new")
    assert get(server, slot).status == 404


@SIZES
def test_a_slot_of_the_original_is_taken_or_deleted_unread(server: Server, size: str, data: bytes) -> None:
    assert get(server, f"{path_of(KEYS[size])}?apikey=abc&take=1").brief == (200, b"slot " + data)
    assert ask(server, "DELETE", f"{path_of(data)}?apikey=abc").status == 200
    assert get(server, path_of(data)).status == 404


def test_entries_of_the_original_are_listed_put_again_and_read_in_bursts(server: Server) -> None:
    everything = {path_of(SMALL), path_of(LARGE), *map(path_of, KEYS.values())}

    assert set(get(server, "/?apikey=abc").body.decode().splitlines()) == everything
    assert ask(server, "POST", "/-/have", "\n".join(everything).encode()).brief == (200, b"")
    assert put(server, "/?apikey=abc", LARGE).brief == (200, path_of(LARGE).encode())
    burst = put(server, "/?apikey=abc", f"{path_of(SMALL)}\n{path_of(KEYS['small'])}\n".encode()).body.decode()
    assert get(server, f"{burst}?burst=1").body == SMALL + b"slot " + SMALL


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

    with running_server(data, "--retention", "500ms", "--sweep-interval", "50ms") as server:
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
    with running_server(tmp_path / "data") as server:
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
