"""Many connections to redis: redis-benchmark, as many requests as fill the time."""

from __future__ import annotations

import csv
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.measure import Sample
from bench.peers.base import tool_path
from bench.process import BenchError

if TYPE_CHECKING:
    from bench.peers.base import Endpoint

PROBE_REQUESTS: Final = 1000
GRACE_SECONDS: Final = 60.0
KEYS_BYTES_MAX: Final = 256 << 20
KEYS_MAX: Final = 1 << 18


def keys_for(size_bytes: int) -> int:
    """How many keys SETs spread over: redis holds their values in memory."""
    return min(KEYS_MAX, KEYS_BYTES_MAX // size_bytes)


@dataclass(frozen=True)
class Spread:
    """The values that commands go to.

    Args:
        size_bytes: Of each.
        keys: How many, picked at random.
    """

    size_bytes: int
    keys: int


def run(endpoint: Endpoint, command: Literal["set", "get"], spread: Spread, connections: int, seconds: float) -> Sample:
    """Sends SETs or GETs of random keys.

    Args:
        endpoint: The server.
        command: Which.
        spread: The values.
        connections: Open at once.
        seconds: About how long; a short run before tells how many requests that takes.

    Raises:
        BenchError: redis-benchmark fails or cannot be read.
    """
    options = ["-t", command, "-d", str(spread.size_bytes), "-r", str(spread.keys), "-c", str(connections)]
    probe = _figures(endpoint, [*options, "-n", str(PROBE_REQUESTS + 200 * connections)], seconds)
    requests = max(connections, int(probe["rps"] * seconds))
    errors_before = _error_replies(endpoint)
    told = _figures(endpoint, [*options, "-n", str(requests)], seconds)
    return Sample(
        rate=told["rps"],
        p50_ms=told["p50_latency_ms"],
        p99_ms=told["p99_latency_ms"],
        errors=_error_replies(endpoint) - errors_before,
    )


def parse_csv(text: str) -> dict[str, float]:
    """The figures that `redis-benchmark --csv` prints for one test.

    Args:
        text: Its output, heading and one line.

    Raises:
        BenchError: It is not that.
    """
    rows = list(csv.DictReader(line for line in text.splitlines() if line.startswith('"')))
    try:
        return {name: float(value) for name, value in rows[0].items() if name != "test"}
    except (IndexError, ValueError, TypeError) as error:
        raise BenchError(f"redis-benchmark printed {' '.join(text.split())[-200:]!r}") from error


def _figures(endpoint: Endpoint, options: list[str], seconds: float) -> dict[str, float]:
    command = [tool_path("redis-benchmark"), "-h", endpoint.host, "-p", str(endpoint.port), "--csv", *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=10 * seconds + GRACE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError("redis-benchmark took far longer than it should") from error
    if done.returncode:
        raise BenchError(f"redis-benchmark ended with status {done.returncode}: {done.stderr.strip()[-200:]}")
    return parse_csv(done.stdout)


def _error_replies(endpoint: Endpoint) -> int:
    with socket.create_connection((endpoint.host, endpoint.port), 10) as connection:
        connection.sendall(b"INFO stats\r\n")
        replies = connection.makefile("rb")
        size_bytes = int(replies.readline()[1:])
        for line in replies.read(size_bytes).decode("ascii", "replace").splitlines():
            if line.startswith("total_error_replies:"):
                return int(line.partition(":")[2])
    return 0
