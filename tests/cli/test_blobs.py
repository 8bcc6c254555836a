"""`put`, `get`, `stat`, `ls`, `have`, `rm`: the same on a directory and on a server."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from typing import TYPE_CHECKING

import pytest

from asking import wait_for_the_next_time_stamp
from holdall.core.address import Address

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

pytestmark = pytest.mark.usefixtures("store")

SIZES = [0, 1, 1000, 70_000, 3_000_000]
NOWHERE = Address.of(b"nothing is stored here").path


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    value = secrets.token_bytes(100)
    (tmp_path / "file").write_bytes(value)
    return value


@pytest.fixture
def address(holdall: Holdall, tmp_path: Path, data: bytes) -> str:
    assert data
    return holdall("put", tmp_path / "file").line


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_comes_back_byte_for_byte(holdall: Holdall, tmp_path: Path, size: int) -> None:
    data = secrets.token_bytes(size)
    (tmp_path / "in").write_bytes(data)

    put = holdall("put", tmp_path / "in")
    got = holdall("get", put.line)
    to_file = holdall("get", put.line, "-o", tmp_path / "out")

    assert (put.code, put.line, put.err) == (0, f"/{hashlib.sha256(data).hexdigest()}.tig", "")
    assert (got.code, got.out == data, got.err) == (0, True, "")
    assert (to_file.code, to_file.out, (tmp_path / "out").read_bytes() == data) == (0, b"", True)


def test_several_files_are_listed_as_sha256sum_does(holdall: Holdall, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("plain", "with space", "new\nline", "back\\slash")]
    for name in names:
        with open(name, "wb") as file:
            file.write(name.encode())

    lines = holdall("put", *names).lines

    paths = [Address.of(name.encode()).path for name in names]
    expected = [f"{paths[0]}  {names[0]}", f"{paths[1]}  {names[1]}"]
    expected += [f"\\{paths[2]}  {tmp_path}/new\\nline", f"\\{paths[3]}  {tmp_path}/back\\\\slash"]
    assert lines == expected


def test_a_file_that_cannot_be_read_does_not_keep_the_others_out(holdall: Holdall, tmp_path: Path, data: bytes) -> None:
    result = holdall("put", tmp_path / "missing", tmp_path / "file", tmp_path)

    assert result.code == 1
    assert result.lines == [f"{Address.of(data).path}  {tmp_path}/file"]
    assert result.err.splitlines() == [
        f"holdall: Cannot use '{tmp_path}/missing': No such file or directory.",
        f"holdall: Cannot use '{tmp_path}': Is a directory. Store it with holdall commit.",
    ]


def test_put_prints_what_the_format_says(holdall: Holdall, tmp_path: Path, data: bytes) -> None:
    result = holdall("put", tmp_path / "file", "--format", "http://host*?burst=1")

    assert result.line == f"http://host{Address.of(data).path}?burst=1"


def test_put_refuses_what_was_not_expected_and_keeps_nothing(holdall: Holdall, tmp_path: Path, data: bytes) -> None:
    right, wrong = Address.of(data).path, NOWHERE

    refused = holdall("put", tmp_path / "file", "--expect", wrong)
    kept = [holdall("stat", address).code for address in (right, wrong)]
    taken = holdall("put", tmp_path / "file", "--expect", right)

    assert (refused.code, refused.out) == (4, b"")
    assert kept == [3, 3]
    assert (taken.code, taken.line) == (0, right)


@pytest.mark.parametrize(
    ("part", "start", "stop"), [("0-9", 0, 10), ("90-", 90, 100), ("-5", 95, 100), ("99-200", 99, 100), ("0-", 0, 100)]
)
def test_get_reads_a_part(holdall: Holdall, address: str, data: bytes, *, part: str, start: int, stop: int) -> None:
    assert holdall("get", address, "--range", part).out == data[start:stop]


def test_a_part_past_the_end_is_wrong_use(holdall: Holdall, address: str) -> None:
    result = holdall("get", address, "--range", "100-")

    assert (result.code, result.err) == (2, "holdall: The entry has only 100 bytes.\n")


def test_get_accepts_an_address_in_all_its_forms(holdall: Holdall, address: str, data: bytes) -> None:
    hexadecimal = Address.parse_path(address).hex()

    for form in (address, hexadecimal, f"{hexadecimal}.tig", f"http://other:7777{address}"):
        assert holdall("get", form).out == data


def test_what_is_not_there_is_exit_code_3_and_no_file(holdall: Holdall, tmp_path: Path) -> None:
    (tmp_path / "the store").mkdir(exist_ok=True)  # where the store is a directory

    result = holdall("get", NOWHERE, "-o", tmp_path / "out")

    assert result.code == 3
    assert os.listdir(tmp_path) == ["the store"]


def test_an_existing_file_is_replaced_at_once_and_keeps_to_the_umask(
    holdall: Holdall, tmp_path: Path, address: str, data: bytes
) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    out.write_bytes(b"before")
    link.symlink_to(out)

    holdall("get", address, "-o", link)

    assert link.is_symlink()
    assert out.read_bytes() == data
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask


def test_a_device_is_written_to_and_not_replaced(holdall: Holdall, address: str) -> None:
    result = holdall("get", address, "-o", "/dev/null")

    assert result.code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_that_cannot_be_written_is_said(holdall: Holdall, tmp_path: Path, address: str) -> None:
    result = holdall("get", address, "-o", tmp_path / "missing" / "out")

    assert result.code == 1
    assert result.err == f"holdall: Cannot use '{tmp_path}/missing/out': No such file or directory.\n"


@pytest.mark.parametrize("words", [("--burst",), ("--depth", "1"), ("--burst", "--depth", "2")])
def test_a_burst_is_read_as_its_members(holdall: Holdall, tmp_path: Path, words: tuple[str, ...]) -> None:
    members = []
    for number in range(3):
        (tmp_path / "member").write_bytes(b"%d" % number * 100_000)
        members.append(holdall("put", tmp_path / "member").line)
    for _ in range(2 if words[-1] == "2" else 1):
        (tmp_path / "burst").write_text("# a burst\n" + "\n".join(members))
        members = [holdall("put", tmp_path / "burst").line]

    whole = holdall("get", members[0], *words)
    part = holdall("get", members[0], *words, "--range", "99999-100000")

    assert whole.out == b"0" * 100_000 + b"1" * 100_000 + b"2" * 100_000
    assert part.out == b"01"


def test_a_burst_with_a_member_missing_writes_nothing(holdall: Holdall, tmp_path: Path, address: str) -> None:
    (tmp_path / "burst").write_text(f"{address}\n{NOWHERE}\n")
    burst = holdall("put", tmp_path / "burst").line

    result = holdall("get", burst, "--burst", "-o", tmp_path / "out")
    to_output = holdall("get", burst, "--burst")

    assert (result.code, (tmp_path / "out").exists()) == (3, False)
    assert NOWHERE in result.err
    assert (to_output.code, to_output.out) == (3, b"")


def test_reading_counts_as_use_only_if_it_may(holdall: Holdall, address: str) -> None:
    seen = [holdall("stat", address, "--json").json["used_ns"]]
    holdall("get", address, "--no-touch")
    seen.append(holdall("stat", address, "--json").json["used_ns"])

    assert seen[0] == seen[1]


def test_stat_tells_what_is_known(holdall: Holdall, address: str) -> None:
    told = holdall("stat", address, "--json").json
    text = holdall("stat", address).lines

    assert (told["address"], told["kind"], told["size_bytes"]) == (address, "blob", 100)
    assert told["version"] == Address.parse_path(address).hex()
    assert [line.split()[0] for line in text] == [address, "kind", "size", "version", "used", "expires"]


def test_of_several_addresses_the_missing_ones_are_told_and_the_rest_done(holdall: Holdall, address: str) -> None:
    looked = holdall("stat", NOWHERE, address, "--json")
    removed = holdall("rm", NOWHERE, address, "--json")

    assert (looked.code, looked.json["address"]) == (3, address)
    assert (removed.code, removed.json) == (3, {"address": address, "deleted": True})
    for result in (looked, removed):
        told = json.loads(result.err)["error"]
        assert (told["slug"], told["exit_code"]) == ("not-found", 3)
        assert NOWHERE in told["message"]
    assert holdall("get", address).code == 3


@pytest.mark.parametrize(("kind", "code"), [("blob", 0), ("slot", 1)])
def test_rm_of_one_kind_spares_the_other(holdall: Holdall, address: str, kind: str, code: int) -> None:
    result = holdall("rm", address, "--kind", kind)

    assert (result.code, result.out) == (code, b"")
    assert holdall("stat", address).code == (3 if code == 0 else 0)


def test_ls_lists_newest_use_first(holdall: Holdall, tmp_path: Path) -> None:
    put = []
    for name in ("one", "two", "three"):
        wait_for_the_next_time_stamp(tmp_path)
        (tmp_path / name).write_bytes(secrets.token_bytes(10))
        put.append(holdall("put", tmp_path / name).line)

    newest = holdall("ls", "--limit", "3")
    short = holdall("ls", "-n", "1", "--json")
    long = holdall("ls", "--long", "-n", "3", "--json")

    assert newest.lines == put[::-1]
    assert short.json == {"address": put[2]}
    assert [json.loads(line)["address"] for line in long.lines] == put[::-1]
    kind, size, *_, address = holdall("ls", "-l", "-n", "1").line.split()
    assert (kind, size, address) == ("blob", "10", put[2])


def test_have_prints_what_is_missing(holdall: Holdall, tmp_path: Path, address: str) -> None:
    (tmp_path / "list").write_text(f"# asked\n\n{address}\n{NOWHERE[1:65]}\r\n{address}\n{NOWHERE}")

    plain = holdall("have", tmp_path / "list")
    told = holdall("have", tmp_path / "list", "--json")

    assert (plain.code, plain.lines) == (0, [NOWHERE])
    assert told.json == {"address": NOWHERE}


def test_have_says_which_line_is_wrong(holdall: Holdall, tmp_path: Path, address: str) -> None:
    (tmp_path / "list").write_text(f"{address}\nhello\n")

    result = holdall("have", tmp_path / "list")

    assert (result.code, result.err.startswith("holdall: Line 2: 'hello' is not an address.")) == (2, True)


def test_json_tells_what_was_done(holdall: Holdall, tmp_path: Path, address: str) -> None:
    put = holdall("put", tmp_path / "file", "--json").json
    got = holdall("get", address, "-o", tmp_path / "out", "--json").json

    assert put == {"address": address, "name": f"{tmp_path}/file", "size_bytes": 100}
    assert got == {"address": address, "kind": "blob", "size_bytes": 100, "file": f"{tmp_path}/out"}
