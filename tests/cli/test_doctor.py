"""`holdall doctor`: what it looks at, what it says, and that it leaves nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from holdall.cli.check_server import is_loopback, judge_openness
from holdall.cli.findings import (
    Outcome,
    judge_clock,
    judge_descriptors,
    judge_inodes,
    judge_key,
    judge_space,
    key_bits,
)
from holdall.limits import MIB
from ports import closed_port
from support import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from cli_harness import Holdall

pytest_plugins = ("cli_harness",)

GIB = 1024 * MIB
NOW_NS = 1_800_000_000 * 1_000_000_000
STRONG = "Zp4vR8kq1mWx0nYt5uBs"


@pytest.mark.parametrize(
    ("free", "total", "expected"),
    [
        (50 * GIB, 100 * GIB, Outcome.OK),
        (50 * GIB, None, Outcome.OK),
        (4 * GIB, 100 * GIB, Outcome.WARN),
        (900 * MIB, None, Outcome.WARN),
        (10 * MIB, 100 * GIB, Outcome.FAIL),
        (0, 0, Outcome.FAIL),
    ],
)
def test_room_for_data(free: int, total: int | None, expected: Outcome) -> None:
    assert judge_space(free, total).outcome is expected


@pytest.mark.parametrize(
    ("free", "total", "expected"),
    [
        (500_000, 1_000_000, Outcome.OK),
        (0, 0, Outcome.OK),
        (40_000, 1_000_000, Outcome.WARN),
        (5_000, 10_000, Outcome.WARN),
        (99, 10_000, Outcome.FAIL),
    ],
)
def test_room_for_files(free: int, total: int, expected: Outcome) -> None:
    assert judge_inodes(free, total).outcome is expected


@pytest.mark.parametrize(("limit", "expected"), [(1024, Outcome.WARN), (8192, Outcome.OK), (1 << 20, Outcome.OK)])
def test_room_for_connections(limit: int, expected: Outcome) -> None:
    assert judge_descriptors(limit).outcome is expected


@pytest.mark.parametrize(
    ("now_ns", "other_ns", "expected"),
    [
        (NOW_NS, None, Outcome.OK),
        (NOW_NS, NOW_NS + 10**9, Outcome.OK),
        (NOW_NS, NOW_NS - 9 * 10**9, Outcome.WARN),
        (0, None, Outcome.FAIL),
    ],
)
def test_the_clock(now_ns: int, other_ns: int | None, expected: Outcome) -> None:
    assert judge_clock(now_ns, other_ns, "the other's", apart_ns_max=5 * 10**9).outcome is expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("abc", Outcome.WARN),
        ("a" * 100, Outcome.WARN),
        ("", Outcome.WARN),
        ("12345678", Outcome.WARN),
        (STRONG, Outcome.OK),
    ],
)
def test_the_strength_of_a_key(key: str, expected: Outcome) -> None:
    finding = judge_key(key)

    assert finding.outcome is expected
    assert len(key) < 4 or key not in f"{finding.detail}{finding.advice}"


def test_a_longer_and_a_more_varied_key_is_stronger() -> None:
    bits = [key_bits(key) for key in ("aaaa", "aabb", "abcd", "abcdabcd", "abCD12-_")]

    assert bits == sorted(bits)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:7777", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
        ("http://example.com", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, *, expected: bool) -> None:
    assert is_loopback(url) is expected


@pytest.mark.parametrize(
    ("url", "has_key", "expected"),
    [
        ("http://127.0.0.1", False, Outcome.OK),
        ("http://10.0.0.1", True, Outcome.OK),
        ("http://10.0.0.1", False, Outcome.WARN),
    ],
)
def test_a_server_that_everybody_may_write_to_is_warned_of(url: str, *, has_key: bool, expected: Outcome) -> None:
    assert judge_openness(url, has_key=has_key).outcome is expected


def outcomes(holdall: Holdall, *words: str | Path) -> tuple[int, dict[str, str]]:
    result = holdall("doctor", *words, "--json")
    return result.code, {check["check"]: check["outcome"] for check in result.json["checks"]}


def test_a_good_directory_passes_every_check_and_nothing_is_left_in_it(holdall: Holdall, tmp_path: Path) -> None:
    where = tmp_path / "store"
    where.mkdir()
    (where / "apikey").write_text(STRONG)
    (where / "apikey").chmod(0o600)

    code, found = outcomes(holdall, where)
    text = holdall("doctor", where)

    assert code == 0
    assert {check for check, outcome in found.items() if outcome != "ok"} <= {"free space", "descriptors"}
    assert {"directory", "free inodes", "file system", "clock", "hard links", "file times", "API key", "write"} <= {
        *found
    }
    assert [name for name in os.listdir(where) if name.endswith(".tig") or "doctor" in name] == []
    assert text.lines[0] == f"Store: {where}"
    assert STRONG not in text.out.decode()


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [(b"abc", 0o600, "warn"), (STRONG.encode(), 0o644, "warn"), (b"", 0o600, "fail"), (b"x" * 5000, 0o600, "fail")],
)
def test_a_poor_api_key_is_found(holdall: Holdall, tmp_path: Path, *, content: bytes, mode: int, expected: str) -> None:
    (tmp_path / "apikey").write_bytes(content)
    (tmp_path / "apikey").chmod(mode)

    code, found = outcomes(holdall, tmp_path)

    assert (code, found["API key"]) == (1 if expected == "fail" else 0, expected)


def test_a_directory_that_is_not_there_yet_is_no_failure_and_is_not_made(holdall: Holdall, tmp_path: Path) -> None:
    code, found = outcomes(holdall, tmp_path / "missing" / "store")

    assert (code, found["directory"]) == (0, "ok")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_the_directory_is_a_failure(holdall: Holdall, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    code, found = outcomes(holdall, tmp_path / "file")

    assert (code, found["directory"]) == (1, "fail")


def test_a_directory_that_everybody_may_write_to_is_warned_of(holdall: Holdall, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    assert outcomes(holdall, tmp_path)[1]["directory"] == "warn"


def test_a_server_is_looked_at_from_outside(
    holdall: Holdall, served: str, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = outcomes(holdall, served)
    monkeypatch.setenv("HOLDALL_API_KEY", api_key)
    code, found = outcomes(holdall, served)

    assert (without[0], without[1]["write"]) == (1, "fail")
    assert (code, found["server"], found["clock"], found["transport"], found["write"], found["access"]) == (
        0,
        *["ok"] * 5,
    )


def test_a_server_without_a_key_on_this_machine_is_fine(holdall: Holdall, tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        code, found = outcomes(holdall, f"{server.url}/")

    assert (code, found["access"]) == (0, "ok")


def test_a_server_that_does_not_answer_fails(holdall: Holdall) -> None:
    with closed_port() as port:
        assert outcomes(holdall, f"http://127.0.0.1:{port}") == (1, {"server": "fail"})


def test_what_to_do_is_said_below(holdall: Holdall, tmp_path: Path) -> None:
    (tmp_path / "apikey").write_bytes(b"")

    lines = holdall("doctor", tmp_path).lines

    assert lines[lines.index("What to do") + 1].startswith("  ")
    assert f"  API key: Write one to {tmp_path}/apikey" in lines
