"""Every curl example of the two texts that holdall grew from, run with real curl as it is written there.

Only the server's port and the /tmp/ paths are replaced by the test's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from terminal import Terminal, terminal

from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEST = "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2"
WRONG = "This server has no API key, so none can be right.\n"
NEEDED = "This needs the API key. Send ?apikey=KEY.\n"
SLOT = "7574284e16a554088122dcd49e69f96061965d7c599f834393b563fb31854c7f"
KEY = "a7998f247bd965694ff227fa325c81169a07471a8b6808d3e002a486c4e65975"
BURST = "1bc742e60c70acf19ff57998fb85e129a69396526a3c7fc114d2df4acb54248e"
MEMBERS = (
    "/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.tig\n"
    "/cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34.tig\n"
    "/50ae61e841fac4e8f9e40baf2ad36ec868922ea48368c18f9535e47db56dd7fb.tig\n"
)

# The commands of each text, in order, each with what it shows on a server with the key abc, on one without a key,
# and there once more with the words that bring a key left out. An empty listing shows nothing.
FIRST_TEXT = [
    ("curl 127.0.0.1:7777/?apikey=abc", "", WRONG, ""),
    ("curl -X PUT 127.0.0.1:7777/?apikey=abc -T /tmp/test", f"/{TEST}.tig", WRONG, f"/{TEST}.tig"),
    ("curl -X POST 127.0.0.1:7777/?apikey=abc -T /tmp/test", f"/{TEST}.tig", WRONG, f"/{TEST}.tig"),
    ("curl 127.0.0.1:7777/?apikey=abc", f"/{TEST}.tig\n", WRONG, ""),
    (f"curl 127.0.0.1:7777/{TEST}.tig", "test\n", None, "test\n"),
    ("cat /tmp/test | sha256sum | head -c 64", TEST, TEST, TEST),
    (
        'printf "http://127.0.0.1:7777/`cat /tmp/test | sha256sum | head -c 64`.tig"',
        *(f"http://127.0.0.1:7777/{TEST}.tig",) * 3,
    ),
]
SECOND_TEXT = [
    ("curl 'http://127.0.0.1:7777/?apikey=abc'", "", WRONG, ""),
    ("curl -X PUT 'http://127.0.0.1:7777/?apikey=abc' -T /tmp/test", f"/{TEST}.tig", WRONG, f"/{TEST}.tig"),
    ("curl -X POST 'http://127.0.0.1:7777/?apikey=abc' -T /tmp/test", f"/{TEST}.tig", WRONG, f"/{TEST}.tig"),
    ("curl 'http://127.0.0.1:7777?apikey=abc'", f"/{TEST}.tig\n", WRONG, ""),
    (f"curl 'http://127.0.0.1:7777/{TEST}.tig'", "test\n", None, "test\n"),
    ("cat /tmp/test | sha256sum | head -c 64", TEST, TEST, TEST),
    (
        'printf "http://127.0.0.1:7777/`cat /tmp/test | sha256sum | head -c 64`.tig"',
        *(f"http://127.0.0.1:7777/{TEST}.tig",) * 3,
    ),
    (
        "curl 'http://127.0.0.1:7777?apikey=abc&format=http://127.0.0.1:7777*'",
        f"http://127.0.0.1:7777/{TEST}.tig\n",
        WRONG,
        "",
    ),
]


@pytest.fixture
def fresh_terminal(tmp_path: Path) -> Iterator[Terminal]:
    """One without a key, whose store is empty."""
    with terminal(tmp_path, key=False) as found:
        yield found


@pytest.fixture(scope="module")
def open_terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One without a key, for examples that do not depend on what is stored already."""
    with terminal(tmp_path_factory.mktemp("open"), key=False) as found:
        yield found


@pytest.fixture
def locked_terminal(tmp_path: Path) -> Iterator[Terminal]:
    """One with the key abc, whose store is empty."""
    with terminal(tmp_path, key=True) as found:
        yield found


both_texts = pytest.mark.parametrize("examples", [FIRST_TEXT, SECOND_TEXT], ids=["first text", "second text"])
Examples = list[tuple[str, str, str | None, str]]


@both_texts
def test_the_examples_work_with_a_key_file(locked_terminal: Terminal, examples: Examples) -> None:
    locked_terminal.type("echo test > /tmp/test")

    shown = [locked_terminal.type(command) for command, *_ in examples]

    assert shown == [locked_terminal.here(with_key) for _, with_key, _, _ in examples]


@both_texts
def test_without_a_key_file_the_examples_that_bring_a_key_are_refused(
    open_terminal: Terminal, examples: Examples
) -> None:
    open_terminal.type("echo test > /tmp/test")
    as_written = [(command, refused) for command, _, refused, _ in examples if refused is not None]

    shown = [open_terminal.type(command) for command, _ in as_written]

    assert shown == [open_terminal.here(refused) for _, refused in as_written]


@both_texts
def test_without_a_key_file_the_examples_work_with_the_key_left_out(
    open_terminal: Terminal, examples: Examples
) -> None:
    open_terminal.type("echo test > /tmp/test")

    shown = [
        open_terminal.type(command.replace("apikey=abc&", "").replace("?apikey=abc", "")) for command, *_ in examples
    ]

    assert shown == [open_terminal.here(without_key) for *_, without_key in examples]


def test_the_key_file_may_be_written_while_the_server_runs(fresh_terminal: Terminal) -> None:
    fresh_terminal.type("echo test > /tmp/test")
    fresh_terminal.type("echo abc > /tmp/apikey")
    asked = "until curl -sf 'http://127.0.0.1:7777/?apikey=abc'; do sleep 0.05; done"

    assert fresh_terminal.type(asked) == ""
    assert fresh_terminal.type("curl -X PUT 'http://127.0.0.1:7777/?apikey=abc' -T /tmp/test") == f"/{TEST}.tig"


def test_an_unknown_path_is_told_what_paths_there_are(open_terminal: Terminal) -> None:
    shown = open_terminal.type("curl 'http://127.0.0.1:7777/randomfileunauthorized'")

    assert shown.startswith("'/randomfileunauthorized' is not a path here.")


def test_random_content_gets_its_url(open_terminal: Terminal) -> None:
    need_tool("uuidgen")
    command = (
        "uuidgen | sha256sum | head -c 64 | tee /tmp/content |"
        " curl --data-binary @- -X POST 'http://127.0.0.1:7777?format=http://127.0.0.1:7777*'"
    )

    shown = open_terminal.type(command)

    digest = open_terminal.type("cat /tmp/content | sha256sum | head -c 64")
    assert shown == open_terminal.here(f"http://127.0.0.1:7777/{digest}.tig")
    assert open_terminal.type(f"curl -s {shown}") == (open_terminal.tmp / "content").read_text()


def test_random_content_needs_the_key_where_there_is_one(locked_terminal: Terminal) -> None:
    need_tool("uuidgen")
    command = (
        "uuidgen | sha256sum | head -c 64 |"
        " curl --data-binary @- -X POST 'http://127.0.0.1:7777?format=http://127.0.0.1:7777*'"
    )

    assert locked_terminal.type(command) == NEEDED
    assert locked_terminal.type(command.replace("?format", "?apikey=abc&format")).startswith(
        locked_terminal.here("http://127.0.0.1:7777/")
    )


def test_a_key_value_pair_changes_under_one_url(open_terminal: Terminal) -> None:
    url = f"http://127.0.0.1:7777/{KEY}.tig"
    # The text stores the key as a blob first, which would make the address a blob's for ever; /kv stores nothing.
    typed = [
        "echo key | curl -X PUT --data-binary @- 'http://127.0.0.1:7777/kv?format=http://127.0.0.1:7777*'",
        f"echo abc | curl -X PUT --data-binary @- '{url}?format=http://127.0.0.1:7777*'",
        f"curl {url}",
        f"echo def | curl -X PUT --data-binary @- '{url}?format=http://127.0.0.1:7777*'",
        f"curl {url}",
    ]

    shown = [open_terminal.type(command) for command in typed]

    address = open_terminal.here(url)
    assert shown == [address, address, "abc\n", address, "def\n"]


def test_a_key_stored_as_a_blob_first_is_never_overwritten(fresh_terminal: Terminal) -> None:
    stored = fresh_terminal.type(
        "echo key | curl -X PUT --data-binary @- 'http://127.0.0.1:7777?format=http://127.0.0.1:7777*'"
    )
    refused = fresh_terminal.type(f"echo abc | curl -s -w '%{{http_code}}' -o /dev/null -T - {stored}")

    assert refused == "409"
    assert fresh_terminal.type(f"curl {stored}") == "key\n"


def test_a_burst_shows_the_addresses_and_bytes_of_the_text(open_terminal: Terminal) -> None:
    for part, arrow in (("abc", ">"), ("def", ">>"), ("ghi", ">>")):
        open_terminal.type(
            f"printf {part} | curl -X PUT --data-binary @- 'http://127.0.0.1:7777?format=*' {arrow}/tmp/burst.txt"
        )
        open_terminal.type("echo >>/tmp/burst.txt")

    assert open_terminal.type("cat /tmp/burst.txt") == MEMBERS
    stored = open_terminal.type("cat /tmp/burst.txt | curl -X PUT --data-binary @- 'http://127.0.0.1:7777?format=*'")
    assert stored == f"/{BURST}.tig"
    assert open_terminal.type(f"curl 'http://127.0.0.1:7777/{BURST}.tig'") == MEMBERS
    assert open_terminal.type(f"curl 'http://127.0.0.1:7777/{BURST}.tig?burst=1'") == "abcdefghi"


def test_a_burst_may_name_its_members_by_url_as_the_text_writes_them(open_terminal: Terminal) -> None:
    for part, arrow in (("abc", ">"), ("def", ">>"), ("ghi", ">>")):
        open_terminal.type(
            f"printf {part} | curl -X PUT --data-binary @-"
            f" 'http://127.0.0.1:7777?format=http://127.0.0.1:7777*' {arrow}/tmp/burst.txt"
        )
        open_terminal.type("echo >>/tmp/burst.txt")

    urls = "".join(f"http://127.0.0.1:7777{line}\n" for line in MEMBERS.splitlines())
    assert open_terminal.type("cat /tmp/burst.txt") == open_terminal.here(urls)
    stored = open_terminal.type("cat /tmp/burst.txt | curl -X PUT --data-binary @- 'http://127.0.0.1:7777?format=*'")
    assert open_terminal.type(f"curl 'http://127.0.0.1:7777{stored}?burst=1'") == "abcdefghi"


def test_setifnot_shows_the_path_to_the_first_and_nothing_to_the_rest(open_terminal: Terminal) -> None:
    command = f"echo 123 | curl -X 'PUT' --data-binary @- 'http://127.0.0.1/{SLOT}.tig?setifnot=1'"

    shown = [open_terminal.type(command) for _ in range(3)]

    assert shown == [f"/{SLOT}.tig", "", ""]
    assert open_terminal.type(f"curl 'http://127.0.0.1/{SLOT}.tig'") == "123\n"


def test_append_adds_a_line_each_time(fresh_terminal: Terminal) -> None:
    command = f"echo We added one more file. | curl -X 'PUT' --data-binary @- 'http://127.0.0.1/{SLOT}.tig?append=1'"

    shown = [fresh_terminal.type(command) for _ in range(3)]

    assert shown == [f"/{SLOT}.tig"] * 3
    assert fresh_terminal.type(f"curl 'http://127.0.0.1/{SLOT}.tig'") == "We added one more file.\n" * 3


def test_the_benchmark_line_reads_back_what_it_wrote(open_terminal: Terminal) -> None:
    need_tool("uuidgen")
    # Three rounds for the text's `while true`; `function time` where the program of that name is not installed.
    loop = (
        "for round in 1 2 3; do uuidgen | time curl http://127.0.0.1:7777"
        "`time curl -X 'PUT' --data-binary @- 'http://127.0.0.1:7777'`; done"
    )
    prelude = 'type -P time >/dev/null || function time { "$@"; }\n'

    lines = open_terminal.type(prelude + loop).splitlines()

    assert [len(line) for line in lines] == [36, 36, 36]
    assert len(set(lines)) == 3
