"""The program itself: overview, help, version, wrong use, and what each ending is called."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from holdall import __version__, errors
from holdall.cli.commands import COMMANDS, every_command, overview
from holdall.cli.exit_codes import MEANINGS, code_of
from holdall.cli.parser import build
from holdall.errors import HoldallError, RangeError
from ports import closed_port
from support import clean_environment, need_tool, run_cli

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

NAMES = [command.name for command in every_command()]
SLOT_COMMANDS = ["key", "get", "set", "claim", "append", "take"]
STORE_COMMANDS = ["add", "ls", "show", "export", "import", "rm"]
TIMELINE_COMMANDS = ["init", "key", "add", "get", "ls", "export", "stats", "verify", "push", "pull"]
GROUPS = {"slot": SLOT_COMMANDS, "store": STORE_COMMANDS, "timeline": TIMELINE_COMMANDS}
HEAVY = {"aiohttp", "asyncio", "cyclopts", "dataclasses", "platformdirs", "rich", "uvloop"}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_overview_fits_on_a_screen_and_names_every_command(holdall: Holdall, words: tuple[str, ...]) -> None:
    result = holdall(*words)

    assert (result.code, result.out.decode(), result.err) == (0, overview() + "\n", "")
    assert len(result.lines) <= 40
    assert max(map(len, result.lines)) <= 100
    shown = [line.split()[0] for line in result.lines if re.match(r"  [a-z]+ {2,}\S", line)]
    assert shown == NAMES
    assert sorted(name for name in build() if not name.startswith("-")) == sorted(NAMES)


def test_the_version_is_that_of_the_package(holdall: Holdall) -> None:
    assert holdall("--version").out == f"holdall {__version__}\n".encode()


@pytest.mark.parametrize("command", [*NAMES, *(f"{group} {name}" for group, names in GROUPS.items() for name in names)])
def test_every_command_has_help_with_the_exit_codes(holdall: Holdall, command: str) -> None:
    result = holdall(*command.split(), "--help")
    text = " ".join(result.out.decode().split())

    assert (result.code, result.err) == (0, "")
    assert text.startswith(f"Usage: holdall {command}")
    for code, meaning in MEANINGS.items():
        assert f"{code} {meaning}" in text
    assert holdall("help", *command.split()).out == result.out


@pytest.mark.parametrize(("name", "commands"), GROUPS.items())
def test_help_for_a_group_names_each_of_its_commands(holdall: Holdall, name: str, commands: list[str]) -> None:
    lines = holdall(name, "--help").lines

    assert sorted(line.split()[0] for line in lines if re.match(r"  [a-z]+ ", line)) == sorted(commands)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pit",), "There is no command 'pit'. Did you mean put?"),
        (("nonsense",), "There is no command 'nonsense'. See holdall --help for those there are."),
        (("--store", "x", "ls"), "--store comes after the command. See holdall --help."),
        (("get",), "holdall get needs ADDRESS. See holdall get --help."),
        (("get", "x", "y"), "holdall get has no use for 'y'. See holdall get --help."),
        (("get", "x"), "'x' is not an address. An address is written /<64 lowercase hex digits>.tig."),
        (("get", "--range"), "--range needs a value. See holdall get --help."),
        (("get", "0" * 64, "--range", "5"), "'5' is not a range. Write A-B, A- or -N, in bytes counted from 0."),
        (("get", "0" * 64, "--range", "9-5"), "'9-5' is not a range. Write A-B, A- or -N, in bytes counted from 0."),
        (("get", "0" * 64, "--depth", "9"), "--depth is between 1 and 8."),
        (("get", "0" * 64, "--depth", "0"), "--depth is between 1 and 8."),
        (("put", "--nope"), "Unknown option: --nope. A file whose name starts with - is written ./-name."),
        (("put", "-", "-"), "Standard input can be read only once."),
        (("put", "a", "b", "--expect", "0" * 64), "--expect is for one file at a time."),
        (("put", "a", "--format", "x\n*"), "The format holds a control character or an undecodable byte."),
        (("ls", "--limit", "0"), "--limit is 1 or more."),
        (
            ("ls", "--limit", "few"),
            'Invalid value for --limit: unable to convert "few" into int. See holdall ls --help.',
        ),
        (("ls", "--lnog"), "Unknown option: --lnog. Did you mean --long? See holdall ls --help."),
        (("ls", "--store", "ftp://x"), "There are no ftp: stores."),
        (("slot", "nope"), 'Unknown command "nope". See holdall slot --help.'),
        (("slot", "get"), "Which slot? Give its ADDRESS or --key TEXT."),
        (("completion", "bsh"), 'Invalid value "bsh" for SHELL.'),
        (("doctor", "a", "--store", "b"), "There are two stores to look at. Name one."),
        (("rm",), "holdall rm needs ADDRESS. See holdall rm --help."),
        (("rm", "0" * 64, "--kind", "x"), 'Invalid value "x" for --kind.'),
        (("stat", "0" * 63), f"'{'0' * 63}' is not an address."),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(holdall: Holdall, words: tuple[str, ...], sentence: str) -> None:
    result = holdall(*words)

    assert (result.code, result.out, result.err.count("\n")) == (2, b"", 1)
    assert result.err.startswith(f"holdall: {sentence}")


def test_every_error_ends_in_a_code_that_the_table_names() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HoldallError)]

    codes = {kind.slug: code_of(RangeError("", size_bytes=0) if kind is RangeError else kind("")) for kind in kinds}

    assert set(codes.values()) == {1, 2, 3, 4, 5, 6}
    assert [codes[slug] for slug in ("usage", "not-found", "damage", "access", "unreachable")] == [2, 3, 4, 5, 6]
    assert (codes["already-set"], codes["out-of-space"], codes["error"]) == (1, 1, 1)
    assert set(MEANINGS) == {0, *codes.values(), 130, 143}


def test_a_store_that_cannot_be_reached_is_exit_code_6(holdall: Holdall) -> None:
    with closed_port() as port:
        result = holdall("ls", "--store", f"http://127.0.0.1:{port}")

    assert result.code == 6
    assert result.err == (
        f"holdall: 127.0.0.1:{port} does not accept connections. Check its address and that it is running.\n"
    )


def test_who_is_waited_for_is_said(holdall: Holdall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_SILENCE_SECONDS_MAX", 0.2)
    monkeypatch.setattr("holdall.stores.http_session.CLIENT_RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        said, quiet = (holdall("ls", "--store", f"http://{host}", *words) for words in ([], ["--quiet"]))

    error = f"holdall: {host} fell silent. Check its address and that it is running."
    assert said.err.splitlines() == [f"holdall: {host} has not answered for 0 s; it is waited for.", error]
    assert quiet.err.splitlines() == [error]


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("ls", "0" * 64),
        ("get", "0" * 64),
        ("stat", "0" * 64),
        ("rm", "0" * 64),
        ("have", "/dev/null"),
        ("keep", "0" * 64),
        ("show", "0" * 64),
        ("compare", "0" * 64, "1" * 64),
        ("checkout", "0" * 64),
        ("slot", "get", "0" * 64),
        ("slot", "take", "0" * 64),
        ("log", "name"),
    ],
)
def test_what_stores_nothing_makes_no_directory(
    holdall: Holdall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    result = holdall(*words, "--store", "./misspelt")

    assert result.code == 1
    assert result.err == f"holdall: {tmp_path}/misspelt is not a directory. Create it, or name another.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_wants_a_key_is_exit_code_5_until_it_gets_one(
    holdall: Holdall, served: str, api_key: str, tmp_path: Path
) -> None:
    (tmp_path / "right").write_text(api_key)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "wrong").write_text("wrong\n")

    without = holdall("put", tmp_path / "file", "--store", served)
    wrong = holdall("put", tmp_path / "file", "--store", served, "--api-key-file", tmp_path / "wrong")
    right = holdall("put", tmp_path / "file", "--store", served, "--api-key-file", tmp_path / "right")

    assert [without.code, wrong.code, right.code] == [5, 5, 0]
    assert "--api-key-file" in without.err
    assert wrong.err == "holdall: The API key is wrong.\n"


@pytest.mark.parametrize(("content", "code"), [(None, 2), (b"", 2), (b"\xff\xfe", 2), (b"two\nlines", 2)])
def test_an_api_key_file_without_a_key_is_wrong_use(
    holdall: Holdall, tmp_path: Path, content: bytes | None, code: int
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    result = holdall("ls", "--store", "http://127.0.0.1:9", "--api-key-file", tmp_path / "key")

    assert (result.code, result.err.count("\n")) == (code, 1)


def test_json_and_bytes_cannot_share_standard_output(holdall: Holdall) -> None:
    result = holdall("get", "0" * 64, "--json")

    assert (result.code, json.loads(result.err)["error"]["slug"]) == (2, "usage")


def test_errors_are_json_where_json_was_asked_for(holdall: Holdall, tmp_path: Path) -> None:
    result = holdall("get", "0" * 64, "--json", "-o", tmp_path / "out", "--store", "memory:")

    told = json.loads(result.err)["error"]

    assert (told["slug"], told["exit_code"], result.code) == ("not-found", 3, 3)


def test_debug_shows_where_an_error_came_from(holdall: Holdall) -> None:
    plain = holdall("get", "0" * 64, "--store", "memory:")
    debugged = holdall("get", "0" * 64, "--store", "memory:", "--debug")

    assert "Traceback" not in plain.err
    assert "Traceback" in debugged.err
    assert debugged.err.endswith(plain.err)


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ((), HEAVY),
        (("--help",), HEAVY),
        (("--version",), HEAVY),
        (("nonsense",), HEAVY),
        (("slot", "key", "x"), HEAVY - {"cyclopts", "dataclasses"}),
        (("get", "nonsense"), HEAVY - {"cyclopts", "dataclasses"}),
        (("ls", "--store", "memory:"), {"aiohttp", "rich", "uvloop", "platformdirs"}),
        (("put", "--store", "http://127.0.0.1:1", "/nowhere"), {"rich", "uvloop", "platformdirs"}),
    ],
)
def test_nothing_is_imported_before_it_is_needed(words: tuple[str, ...], unwanted: set[str]) -> None:
    script = (
        "import sys; from holdall.cli.main import main; before = sys.stdout; sys.stdout = sys.stderr;"
        f"main({list(words)!r}); print(*sys.modules, file=before)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=clean_environment(), check=True
    )

    assert set(ran.stdout.split()) & unwanted == set()


def test_python_m_holdall_is_the_same_program() -> None:
    ran = run_cli("--version")

    assert (ran.returncode, ran.stdout) == (0, f"holdall {__version__}\n".encode())


def test_the_overview_has_a_title_for_every_group() -> None:
    assert [title for title in COMMANDS if title in overview()] == list(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_knows_every_command(holdall: Holdall, shell: str) -> None:
    script = holdall("completion", shell).out

    assert [name for name in NAMES if name.encode() not in script] == []


def test_bash_can_read_its_completion_script(holdall: Holdall) -> None:
    script = holdall("completion", "bash").out

    checked = subprocess.run([need_tool("bash"), "-n"], input=script, capture_output=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, b"")
    assert b"\ncomplete -o bashdefault -o default -F _holdall holdall" in script  # where it knows no word: files
