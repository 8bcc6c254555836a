"""Many connections: wrk with one thread, driven by wrk.lua."""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import blobs
from bench.measure import Sample
from bench.peers.base import tool_missing, tool_path
from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.base import Endpoint, PutStyle

SCRIPT: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")
ANSWER_TIMEOUT: Final = "10s"
GRACE_SECONDS: Final = 30.0
ERROR_KINDS: Final = ("connect", "read", "write", "status", "timeout")


def missing() -> str | None:
    """Why wrk cannot be run on this machine, or None if it can."""
    return tool_missing("wrk", "wrk")


@dataclass(frozen=True)
class Load:
    """What wrk is told.

    Args:
        size_bytes: Of each body.
        connections: Open at once.
        seconds: How long.
    """

    size_bytes: int
    connections: int
    seconds: float


@dataclass(frozen=True)
class PutResult:
    """What a round of PUTs measured, and what can be looked for afterwards."""

    sample: Sample
    requests: int


def put(endpoint: Endpoint, style: PutStyle, load: Load) -> PutResult:
    """Puts bodies that were never sent before.

    Args:
        endpoint: The server.
        style: How it takes a PUT.
        load: How many, how large, how long.

    Raises:
        BenchError: wrk fails, or a stored body does not read back.
    """
    seed = secrets.token_hex(16)
    told = _run(endpoint, load, ["put", str(load.size_bytes), style, seed])
    sample = _sample(told)
    if not sample.errors:
        # wrk asks the script for request 1 to look at it, and sends from 2 on.
        first = blobs.body(seed, 2, load.size_bytes)
        path = blobs.put_path(style, seed, 2) if style == "unique" else blobs.address_path(first)
        if blobs.read_back(endpoint, path) != first:
            raise BenchError("a body that was put under load reads back as other bytes")
    return PutResult(sample, int(told["requests"]))


def get(endpoint: Endpoint, paths: Sequence[str], load: Load, list_path: str) -> Sample:
    """Reads a working set round and round.

    Args:
        endpoint: The server.
        paths: The working set.
        load: How many, how large, how long.
        list_path: A file to write for wrk, which lists the paths.

    Raises:
        BenchError: wrk fails, or the answers are too short to be the bodies.
    """
    with open(list_path, "w", encoding="ascii") as file:
        file.writelines(f"{path}\n" for path in paths)
    told = _run(endpoint, load, ["get", list_path])
    sample = _sample(told)
    if not sample.errors and told["bytes"] < told["requests"] * load.size_bytes:
        raise BenchError(f"an answer has {told['bytes'] / told['requests']:.0f} bytes, less than a body")
    return sample


def _run(endpoint: Endpoint, load: Load, arguments: Sequence[str]) -> dict[str, float]:
    whole = math.ceil(load.seconds)
    command = [tool_path("wrk"), "-t1", f"-c{load.connections}", f"-d{whole}s", "--timeout", ANSWER_TIMEOUT]
    command += ["-s", SCRIPT, endpoint.url, "--", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            if load.seconds != whole:
                _interrupt_after(process, load.seconds)
            output, _ = process.communicate(timeout=whole + GRACE_SECONDS)
        except BaseException:
            process.kill()
            raise
    last = output.strip().rpartition("\n")[2]
    if process.returncode or not last.startswith("{"):
        raise BenchError(f"wrk ended with status {process.returncode}: {' '.join(output.split())[-200:]}")
    told: dict[str, float] = json.loads(last)
    if not told["requests"]:
        raise BenchError("no request was answered in time")
    return told


def _interrupt_after(process: subprocess.Popen[str], seconds: float) -> None:
    """wrk counts whole seconds; interrupted, it stops and reports what it has."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)


def _sample(told: dict[str, float]) -> Sample:
    return Sample(
        rate=told["requests"] / told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        errors=int(sum(told[kind] for kind in ERROR_KINDS)),
    )
