"""`slot key|get|set|claim|append|take`: the same on a directory and on a server."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def key() -> str:
    return f"-k {secrets.token_hex(8)}"


@pytest.fixture
def address(key: str) -> str:
    return Address.of(key.encode()).path


def test_a_key_names_a_slot_by_its_hash(holdall: Holdall, key: str, address: str) -> None:
    assert holdall("slot", "key", key).line == address
    assert holdall("slot", "key", key, "--json").json == {"address": address}


def test_a_value_is_set_and_read_by_key_or_by_address(holdall: Holdall, key: str, address: str) -> None:
    written = holdall("slot", "set", "--key", key, "--value", "one\n")
    by_key = holdall("slot", "get", "--key", key)
    by_address = holdall("slot", "get", address)

    assert (written.code, written.line) == (0, address)
    assert (by_key.out, by_address.out) == (b"one\n", b"one\n")


def test_a_value_can_come_from_a_file(holdall: Holdall, tmp_path: Path, key: str, address: str) -> None:
    (tmp_path / "value").write_bytes(b"\xff of a file")

    holdall("slot", "set", address, tmp_path / "value")
    holdall("slot", "append", "--key", key, tmp_path / "value")

    assert holdall("slot", "get", address).out == b"\xff of a file" * 2


def test_a_claim_succeeds_once(holdall: Holdall, key: str) -> None:
    results = [holdall("slot", "claim", "-k", key, "--value", value) for value in ("first", "second")]

    assert [result.code for result in results] == [0, 1]
    assert results[1].out == b""
    assert holdall("slot", "get", "-k", key).out == b"first"


def test_a_swap_needs_the_version_that_is_there(holdall: Holdall, key: str) -> None:
    first = holdall("slot", "set", "-k", key, "--value", "1", "--json").json["version"]

    second = holdall("slot", "set", "-k", key, "--value", "2", "--if-version", first, "--json")
    stale = holdall("slot", "set", "-k", key, "--value", "3", "--if-version", first)
    read = holdall("slot", "get", "-k", key, "--json").json

    assert (second.code, stale.code) == (0, 1)
    assert (read["value"], read["version"]) == ("2", second.json["version"])


def test_a_take_reads_and_removes(holdall: Holdall, key: str) -> None:
    holdall("slot", "set", "-k", key, "--value", "once")

    taken = [holdall("slot", "take", "-k", key) for _ in range(2)]

    assert [(result.code, result.out) for result in taken] == [(0, b"once"), (3, b"")]


@pytest.mark.parametrize(
    ("value", "told"), [(b"text \xc3\xbc", ("value", "text ü")), (b"\xff\x00", ("value_base64", "/wA="))]
)
def test_json_carries_any_value(
    holdall: Holdall, tmp_path: Path, key: str, address: str, *, value: bytes, told: tuple[str, str]
) -> None:
    (tmp_path / "value").write_bytes(value)
    holdall("slot", "set", "-k", key, tmp_path / "value")

    for command in ("get", "take"):
        found = holdall("slot", command, "-k", key, "--json").json
        assert (found["address"], found["kind"], found["size_bytes"]) == (address, "slot", len(value))
        assert found[told[0]] == told[1]


def test_a_blob_is_no_slot(holdall: Holdall, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(secrets.token_bytes(10))
    blob = holdall("put", tmp_path / "file").line

    codes = [holdall("slot", *words).code for words in (("get", blob), ("take", blob), ("set", blob, "--value", "x"))]

    assert codes == [1, 1, 1]
    assert holdall("get", blob).out == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize(
    "words",
    [("get",), ("get", "nonsense"), ("set", "--key", "k", "a", "b"), ("set", "--key", "k", "file", "--value", "v")],
)
def test_what_makes_no_sense_is_wrong_use(holdall: Holdall, words: tuple[str, ...]) -> None:
    result = holdall("slot", *words)

    assert (result.code, result.out) == (2, b"")
    assert result.err.count("\n") == 1
