"""`holdall backup` as people and cron use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from support import DEADLINE_SECONDS, clean_environment, running_server, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

NOT_COPIED = "It was not copied: put the right bytes there from another copy."
LISTS_NOTHING = (
    "The server lists nothing, as one without an API key does, so what it holds cannot be known. "
    "Start it with a key and bring it, or name its directory."
)
HOLDALL = [sys.executable, "-m", "holdall"]


def put(holdall: Holdall, store: Path, *values: bytes) -> list[str]:
    paths = []
    for number, value in enumerate(values):
        file = store.parent / f"value-{number}"
        file.write_bytes(value)
        paths.append(holdall("put", "--store", store, file).line)
    return paths


def damage(store: Path, address: str) -> None:
    file = store / address[1:]
    file.chmod(0o644)
    file.write_bytes(b"?" * file.stat().st_size)
    file.chmod(0o444)


def entries(store: Path) -> set[str]:
    return {f"/{name}" for name in os.listdir(store) if name.endswith(".tig")}


def test_a_backup_says_what_it_did_and_the_next_does_the_rest(holdall: Holdall, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    put(holdall, here, b"one", b"two")
    holdall("slot", "set", "--store", here, "--key", "k", "--value", "1")

    first = holdall("backup", here, there)
    holdall("slot", "set", "--store", here, "--key", "k", "--value", "2")
    dry = holdall("backup", here, there, "--dry-run")
    second = holdall("backup", here, there)

    assert (first.code, first.out) == (0, b"")
    assert first.err == "holdall: copied 3 entries (7 B), 0 were there, 0 damaged\n"
    assert dry.err == "holdall: would copy 1 entry (1 B), 2 were there, 0 damaged\n"
    assert second.err == "holdall: copied 1 entry (1 B), 2 were there, 0 damaged\n"
    assert holdall("slot", "get", "--store", there, "--key", "k").out == b"2"
    assert entries(here) == entries(there)


def test_json_and_quiet(holdall: Holdall, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    put(holdall, here, b"one")
    holdall("slot", "set", "--store", here, "--key", "k", "--value", "1")

    told = holdall("backup", here, there, "--json", "--blobs-only")
    quiet = holdall("backup", here, there, "--quiet")

    expected = {"copied": 1, "copied_bytes": 3, "there": 0, "damaged": 0, "refused": 0, "left_out": 1, "dry_run": False}
    assert (told.code, told.json, told.err) == (0, expected, "")
    assert (quiet.code, quiet.out, quiet.err) == (0, b"", "")


def test_damage_is_told_by_address_and_is_exit_code_4(holdall: Holdall, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    good, bad = put(holdall, here, b"good", b"bad")
    damage(here, bad)

    result = holdall("backup", here, there)
    as_json = holdall("backup", here, there, "--json")

    assert (result.code, result.out) == (4, b"")
    assert result.err.splitlines() == [
        f"holdall: What the store has at {bad} does not hash to it. {NOT_COPIED}",
        "holdall: copied 1 entry (4 B), 0 were there, 1 damaged",
    ]
    assert entries(there) == {good}
    assert (as_json.code, as_json.json["damaged"]) == (4, 1)
    assert json.loads(as_json.err)["error"]["slug"] == "damage"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("here", "here"), "FROM and TO are the same store."),
        (("here", "./here/../here"), "FROM and TO are the same store."),
        (("http://x:1/", "http://x:1?apikey=k"), "FROM and TO are the same store."),
        (("here", "there", "--jobs", "0"), "--jobs is between 1 and 256."),
        (("here", "there", "--store", "x"), "--store has no use here."),
        (("http://x:1", "http://y:1", "--api-key-file", "k"), "--api-key-file does not say whose key it is."),
        (("here",), "holdall backup needs TO."),
    ],
)
def test_wrong_use_is_refused(
    holdall: Holdall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()

    result = holdall("backup", *words)

    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith(f"holdall: {sentence}")
    assert os.listdir(tmp_path) == ["here"]


def test_a_source_that_is_not_there_is_not_made(holdall: Holdall, tmp_path: Path) -> None:
    result = holdall("backup", tmp_path / "here", tmp_path / "there")

    assert (result.code, os.listdir(tmp_path)) == (1, [])
    assert "here is not a directory." in result.err


def test_a_dry_run_makes_no_directory(holdall: Holdall, tmp_path: Path) -> None:
    put(holdall, tmp_path / "here", b"one")

    result = holdall("backup", tmp_path / "here", tmp_path / "there", "--dry-run")

    assert (result.code, (tmp_path / "there").exists()) == (0, False)
    assert result.err == "holdall: would copy 1 entry (3 B), 0 were there, 0 damaged\n"


def test_servers_want_their_keys(holdall: Holdall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "apikey").write_text(f"key of {name}")
    put(holdall, tmp_path / "one", b"value")
    keys = ("--from-key-file", tmp_path / "one" / "apikey", "--to-key-file", tmp_path / "two" / "apikey")
    with running_server(tmp_path / "one") as one, running_server(tmp_path / "two") as two:
        monkeypatch.setenv("HOLDALL_API_KEY", "key of one")
        pulled = holdall("backup", one.url, tmp_path / "copy")
        unsaid = holdall("backup", one.url, two.url)
        half = holdall("backup", one.url, two.url, *keys[:2])
        said = holdall("backup", one.url, two.url, *keys)
        in_url = holdall("backup", f"{one.url}?apikey=key+of+one", f"{two.url}?apikey=key+of+two", "--json")
        monkeypatch.delenv("HOLDALL_API_KEY")
        keyless = holdall("backup", one.url, tmp_path / "copy")

    assert (pulled.code, said.code, in_url.json["there"]) == (0, 0, 1)
    assert (unsaid.code, half.code, keyless.code) == (5, 5, 5)
    assert "--from-key-file and --to-key-file" in unsaid.err
    assert "holdall: The server wants its API key for this." in keyless.err
    assert entries(tmp_path / "copy") == entries(tmp_path / "two") == {Address.of(b"value").path}


def test_a_server_without_a_key_cannot_be_copied(holdall: Holdall, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        result = holdall("backup", server.url, tmp_path / "copy")

    assert (result.code, result.err) == (
        5,
        f"holdall: {LISTS_NOTHING}\n",
    )


def test_a_backup_that_is_interrupted_goes_on_where_it_was(holdall: Holdall, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (large,) = put(holdall, here, bytes(300_000_000))
    (small,) = put(holdall, here, b"small")
    words = ["backup", str(here), str(there), "--jobs", "1"]
    with subprocess.Popen([*HOLDALL, *words], stderr=subprocess.PIPE, env=clean_environment()) as process:
        wait_until(lambda: there.is_dir() and small in entries(there), "the small blob is copied")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read()
        code = process.wait(DEADLINE_SECONDS)

    assert (code, err) in [(130, b"holdall: Interrupted.\n"), (0, err)]  # it may just have ended
    assert entries(there) <= {large, small}
    again = holdall(*words, "--json")
    assert again.json["there"] >= 1
    assert entries(there) == {large, small}
    assert [name for name in os.listdir(there) if name.startswith(".holdall-tmp")] == []


def test_a_large_blob_takes_little_memory(holdall: Holdall, tmp_path: Path) -> None:
    """A blob of 256 MiB through a process that may not have that much."""
    put(holdall, tmp_path / "here", bytes(256 << 20))
    script = (
        "import sys; from holdall.cli.main import main;"
        "code = main(sys.argv[1:]);"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "sys.stdout.write(peak.split()[1]); sys.exit(code)"
    )
    peaks = [
        subprocess.run([sys.executable, "-c", script, *words], capture_output=True, env=clean_environment(), check=True)
        for words in (
            ["backup", str(tmp_path / "here"), str(tmp_path / "there")],
            ["verify", str(tmp_path / "there")],
        )
    ]

    assert all(int(peak.stdout) < 128 * 1024 for peak in peaks)
