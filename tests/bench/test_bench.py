"""The benchmark runs, its files hold what its readers look for, and its arithmetic is right; no timing is judged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.__main__ import main
from bench.ground import is_journaled
from bench.load import redis
from bench.process import BenchError, descendants

from bench import goals, measure, options, plan
from support import DEADLINE_SECONDS, need_tool, wait_until

ROOT = Path(__file__).parents[2]
SMALL = measure.Workload("put", 1024, 16)
ROW_KEYS = {
    "connections",
    "errors",
    "failure",
    "name",
    "operation",
    "p50_ms",
    "p99_ms",
    "peer",
    "place",
    "rate",
    "ratios",
    "resident_bytes_max",
    "rounds",
    "size_bytes",
    "unit",
}


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for_load(pid: int) -> dict[int, bytes]:
    """The command lines of a run's processes by their ids, once its load generator is among them."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        lines = {each: command_line(each) for each in descendants(pid)}
        if any(b"wrk.lua" in line for line in lines.values()):
            return lines
    pytest.fail(f"no load within {DEADLINE_SECONDS} s")


def row(peer: str, *rates: float) -> measure.Row:
    made = measure.Row(SMALL, peer)
    for number, rate in enumerate(rates):
        made.add(number, measure.Sample(rate=rate, p99_ms=1.0))
    return made


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
def test_a_short_run_measures_each_kind_of_row_and_writes_both_files(tmp_path: Path) -> None:
    for tool in ("wrk", "nginx", "redis-server", "redis-benchmark"):
        need_tool(tool)
    patterns = [
        *("put-1k-c16/holdall-os-w1", "put-1k-c16/holdall-sync-w2", "put-1k-c16/nginx", "put-1k-c16/redis-always"),
        *("get-hot-1k-c16/holdall-hot-w1", "get-hot-1k-c16/redis-off", "get-disk-1k-c16/holdall-disk-w1"),
        *("get-disk-1k-c16/uvicorn", "get-disk-1k-c16/granian", "64m-tmpfs/holdall-sync-w1", "64m-tmpfs/one-core"),
    ]
    json_path, svg_path = tmp_path / "figures.json", tmp_path / "plot.svg"
    only = [argument for pattern in patterns for argument in ("--only", pattern)]
    files = ["--json", str(json_path), "--svg", str(svg_path)]
    done = run_bench("--quick", "--tmpfs", "--seconds", "1", *only, *files)

    assert (done.returncode, done.stderr if done.returncode else "") == (0, "")
    record = json.loads(json_path.read_text())
    assert record["format"] == 1
    assert record.keys() >= {"machine", "directory", "versions", "options", "skipped", "goals", "rows", "interrupted"}
    assert {frozenset(each) for each in record["rows"]} == {frozenset(ROW_KEYS)}
    assert [each["name"] for each in record["rows"] if not each["rate"]] == []
    assert len(record["rows"]) == len(patterns) + 1
    assert ET.parse(svg_path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    for heading in ("RATIOS", "ABSOLUTE VALUES", "GOALS", "load average"):
        assert heading in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
def test_an_interrupted_run_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    for tool in ("wrk", "nginx"):
        need_tool(tool)
    files = ["--json", str(tmp_path / "figures.json"), "--svg", str(tmp_path / "plot.svg")]
    command = [sys.executable, "-m", "bench", "--quick", "--tmpfs", "--seconds", "60", "--only", "put-1k-c16/nginx"]
    with subprocess.Popen([*command, *files], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as bench:
        try:
            lines = wait_for_load(bench.pid)
        finally:
            bench.send_signal(signal.SIGTERM)
            output = bench.communicate(timeout=240)[0].decode()
    places = {
        found[0].decode() for line in lines.values() if (found := re.search(rb"/dev/shm/holdall-bench-\w+", line))
    }

    assert bench.returncode == 130
    assert "INTERRUPTED" in output
    assert json.loads((tmp_path / "figures.json").read_text())["interrupted"] is True
    # Who was killed without being a child of the one who killed it may take a moment to go.
    wait_until(lambda: not [pid for pid, line in lines.items() if line and command_line(pid) == line], "none is left")
    assert [os.path.exists(place) for place in places] == [False]


def test_rows_of_absent_programs_are_skipped_with_the_package_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.base.tool_folders", lambda: [str(tmp_path)])
    made = plan.make(options.parse(["--quick", "--tmpfs"]))

    assert made.skipped["put-1k/nginx"] == "nginx is not installed; on Debian: apt install nginx-light"
    assert made.skipped["put-1k/redis-off"] == "redis-server is not installed; on Debian: apt install redis-server"
    assert made.skipped["put-1k/holdall-os-w1"] == "wrk is not installed; on Debian: apt install wrk"
    assert {each.workload.stream for each in made.rows} == {True}


def test_the_list_of_rows_is_printed_without_measuring() -> None:
    done = run_bench("--list", "--quick", "--tmpfs", "--only", "one-core-sha256")

    assert (done.returncode, done.stdout) == (0, "put-64m-tmpfs/one-core-sha256\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "no such row"], "No row matches; --list shows them all."),
        (["--also", "https://example.invalid"], "--also takes http://host:port, not 'https://example.invalid'."),
        (["--rounds", "0"], "--rounds takes a number from 1."),
        (["--seconds", "0"], "--seconds takes a number from 0.1 to 3600."),
        (["--dir", "/nonexistent"], "/nonexistent is not a directory."),
        (["--dir", ".", "--tmpfs"], "--dir and --tmpfs exclude each other."),
    ],
)
def test_a_wrong_command_line_gets_a_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    said = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
    assert ended.value.code not in {0, None}
    assert said.strip().endswith(sentence)


@pytest.mark.parametrize(
    ("ours", "base", "ratio"),
    [
        ((10.0, 20.0, 30.0), (10.0, 10.0, 10.0), 2.0),
        ((10.0, 20.0, 30.0), (10.0, 20.0, 30.0), 1.0),
        ((10.0, 200.0), (20.0, 100.0), 1.25),
        ((10.0,), (), None),
    ],
)
def test_a_ratio_is_the_median_of_the_rounds_own_ratios(
    ours: tuple[float, ...], base: tuple[float, ...], ratio: float | None
) -> None:
    assert row("holdall-os-w1", *ours).ratio_to(row("nginx", *base)) == ratio


def test_a_row_with_errors_has_failed_and_has_no_ratio() -> None:
    failed = row("holdall-os-w1", 10.0)
    failed.add(1, measure.Sample(rate=10.0, errors=3))

    assert failed.failure == "3 requests failed or were not answered 2xx"
    assert failed.ratio_to(row("nginx", 10.0, 10.0)) is None


@pytest.mark.parametrize(("rate", "met"), [(95.0, True), (94.0, False)])
def test_a_goal_is_judged_by_the_ratio_of_the_same_run(rate: float, met: bool) -> None:
    results = measure.Results([row("holdall-os-w1", rate), row("nginx", 100.0)])
    judged = {goal.text: goal.met for goal in goals.judge(results, "512m")}

    assert judged["PUT 1 KiB, 16 connections, os / nginx DAV"] is met
    assert judged["GET 1 KiB, 16 connections, hot / nginx"] is None


@pytest.mark.parametrize(
    ("filesystem", "device", "journaled"),
    [
        ("xfs", "sda1", True),
        ("btrfs", "", True),
        ("tmpfs", "", False),
        ("overlay", "", False),
        ("ext4", "absent", False),
    ],
)
def test_only_file_systems_known_to_have_a_journal_count_as_journaled(
    filesystem: str, device: str, journaled: bool
) -> None:
    assert is_journaled(filesystem, device) is journaled


def test_redis_benchmark_figures_are_read_from_its_csv() -> None:
    text = '"test","rps","p50_latency_ms","p99_latency_ms"\n"SET","41200.50","0.351","0.911"\n'

    assert redis.parse_csv(text) == {"rps": 41200.5, "p50_latency_ms": 0.351, "p99_latency_ms": 0.911}


@pytest.mark.parametrize("text", ["", "Could not connect to Redis", '"test","rps"\n"SET","many"\n'])
def test_redis_benchmark_output_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(BenchError):
        redis.parse_csv(text)


def test_the_default_directory_for_results_is_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert "bench/results/" in ignored
    assert os.path.dirname(options.parse([]).json_path) == str(ROOT / "bench" / "results")
