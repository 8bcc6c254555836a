"""`holdall verify`: of a store and of an address."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from support import clean_environment, running_server

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

KEY = "a key of the tests of verify"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


def put(holdall: Holdall, data: Path, value: bytes) -> str:
    (data.parent / "value").write_bytes(value)
    return holdall("put", "--store", data, data.parent / "value").line


def damage(data: Path, address: str) -> None:
    file = data / address[1:]
    file.chmod(0o644)
    file.write_bytes(b"?" * file.stat().st_size)
    file.chmod(0o444)


def test_a_whole_store_prints_nothing(holdall: Holdall, data: Path) -> None:
    put(holdall, data, b"one")
    put(holdall, data, b"three")
    holdall("slot", "set", "--store", data, "--key", "k", "--value", "1")

    named = holdall("verify", data)
    by_option = holdall("verify", "--store", data)
    told = holdall("verify", data, "--json", "--jobs", "1")
    quiet = holdall("verify", data, "--quiet")

    words = "holdall: verified 2 blobs (8 B), 0 damaged; read 1 slot, which has no hash\n"
    assert (named.code, named.out, named.err) == (0, b"", words)
    assert (by_option.code, by_option.err) == (0, words)
    expected = {"blobs": 2, "blobs_bytes": 8, "slots": 1, "damaged": 0, "refused": 0, "set_aside": 0}
    expected |= {"unmarked": 0, "marked": 0}
    assert (told.code, told.json, told.err) == (0, expected, "")
    assert (quiet.code, quiet.out, quiet.err) == (0, b"", "")


def test_blobs_that_lost_their_mark_are_told_and_marked_again(holdall: Holdall, data: Path) -> None:
    address = put(holdall, data, b"copied without its mode")
    slot = data / holdall("slot", "set", "--store", data, "--key", "k", "--value", "1").line[1:]
    file = data / address[1:]
    file.chmod(0o644)

    told = holdall("verify", data)
    one = holdall("verify", address, "--store", data)
    mended = holdall("verify", data, "--repair")
    again = holdall("verify", data, "--json")

    assert (told.code, told.out) == (1, b"")
    assert "\nholdall: 1 blob looks like a slot, as after a copy without modes" in told.err
    assert (one.code, one.err) == (0, f"holdall: {address} is whole (23 B).\n")
    words = "holdall: verified 1 blob (23 B), 0 damaged, 1 marked as blobs again; read 1 slot, which has no hash\n"
    assert (mended.code, mended.err) == (0, words)
    assert (again.code, again.json["unmarked"], again.json["slots"]) == (0, 0, 1)
    assert [entry.stat().st_mode & 0o777 for entry in (file, slot)] == [0o444, 0o644]
    assert file.read_bytes() == b"copied without its mode"


def test_damaged_blobs_are_the_result(holdall: Holdall, data: Path) -> None:
    put(holdall, data, b"good")
    bad = put(holdall, data, b"bad")
    damage(data, bad)

    plain = holdall("verify", data)
    told = holdall("verify", data, "--json")

    assert (plain.code, plain.lines) == (4, [bad])
    assert plain.err == ("holdall: verified 1 blob (4 B), 1 damaged. --quarantine takes damaged blobs out of the way\n")
    found, summary = map(json.loads, told.lines)
    assert (told.code, found["address"], found["slug"], found["set_aside"]) == (4, bad, "damage", False)
    assert (summary["blobs"], summary["damaged"]) == (1, 1)


def test_quarantine_makes_room_for_the_right_bytes(holdall: Holdall, data: Path, tmp_path: Path) -> None:
    address = put(holdall, data, b"value")
    holdall("backup", data, tmp_path / "twin")
    damage(data, address)

    found = holdall("verify", data, "--quarantine")
    mended = holdall("backup", tmp_path / "twin", data)
    after = holdall("verify", data, "--quarantine")

    assert (found.code, found.lines) == (4, [address])
    assert found.err == "holdall: verified 0 blobs (0 B), 1 damaged, 1 of them taken out of the way\n"
    assert (mended.code, after.code) == (0, 0)
    assert holdall("get", "--store", data, address).out == b"value"
    assert (data / f".holdall-damaged-{address[1:65]}").read_bytes() == b"?????"
    assert holdall("ls", "--store", data).lines == [address]


def test_a_server_is_verified_with_its_key(holdall: Holdall, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(holdall, data, b"value")
    damage(data, address)
    (data / "apikey").write_text(KEY)
    with running_server(data) as server:
        keyless = holdall("verify", server.url)
        monkeypatch.setenv("HOLDALL_API_KEY", KEY)
        found = holdall("verify", server.url, "--quarantine")
        after = holdall("verify", server.url)

    assert (keyless.code, found.code, after.code) == (5, 4, 0)
    assert found.lines == [address]
    assert [name for name in os.listdir(data) if name.endswith(".tig")] == []


def test_one_address_is_verified_alone(holdall: Holdall, data: Path) -> None:
    good, bad = put(holdall, data, b"good"), put(holdall, data, b"bad")
    damage(data, bad)
    key = holdall("slot", "set", "--store", data, "--key", "k", "--value", "1").line

    whole = holdall("verify", good, "--store", data)
    told = holdall("verify", good[1:65], "--store", data, "--json")
    damaged = holdall("verify", bad, "--store", data)
    missing = holdall("verify", Address.of(b"nowhere").path, "--store", data)
    slot = holdall("verify", key, "--store", data)
    aside = holdall("verify", bad, "--store", data, "--quarantine", "--json")

    assert (whole.code, whole.out, whole.err) == (0, b"", f"holdall: {good} is whole (4 B).\n")
    assert told.json == {"address": good, "kind": "blob", "size_bytes": 4}
    assert (damaged.code, damaged.lines, damaged.err) == (4, [bad], "")
    assert missing.code == 3
    assert (slot.code, slot.err) == (2, f"holdall: {key} holds a slot, which has no hash to be held to.\n")
    assert (aside.code, aside.json["set_aside"]) == (4, True)
    assert holdall("stat", "--store", data, bad).code == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--sample", "0%"), "'0%' is no part of a store."),
        (("--sample", "101%"), "'101%' is no part of a store."),
        (("--sample", "5"), "'5' is no part of a store."),
        (("--jobs", "257"), "--jobs is between 1 and 256."),
        (("a", "--store", "b"), "There are two stores to look at."),
        (("0" * 64, "--sample", "1%"), "--sample is for whole stores."),
        (("/" + "0" * 63 + ".tig",), f"'/{'0' * 63}.tig' is not an address."),
    ],
)
def test_wrong_use_is_refused(holdall: Holdall, words: tuple[str, ...], sentence: str) -> None:
    result = holdall("verify", *words)

    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith(f"holdall: {sentence}")


def test_a_store_that_is_not_there_is_not_made(holdall: Holdall, tmp_path: Path) -> None:
    result = holdall("verify", tmp_path / "nowhere")

    assert (result.code, (tmp_path / "nowhere").exists()) == (1, False)


def test_a_sample_reads_less(holdall: Holdall, data: Path) -> None:
    for number in range(20):
        put(holdall, data, b"%d" % number)

    all_of_it = holdall("verify", data, "--sample", "100%", "--json")
    part = holdall("verify", data, "--sample", "0.000001%", "--json")

    assert (all_of_it.json["blobs"], part.json["blobs"]) == (20, 0)


def test_a_bar_shows_how_far_it_is(holdall: Holdall, data: Path) -> None:
    for number in range(30):
        put(holdall, data, b"%d" % number * 100_000)
    ours, theirs = pty.openpty()
    script = (
        "import sys; from holdall.cli import progress; progress._PATIENCE_SECONDS = -1.0;"
        "from holdall.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", script, "verify", str(data)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=clean_environment({"TERM": "xterm"}),
    ) as process:
        os.close(theirs)
        while process.poll() is None or select.select([ours], [], [], 0.05)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)

    assert process.returncode == 0
    assert re.search(rb"Verifying, \d+ entries", shown)
    assert b"verified 30 blobs" in shown
