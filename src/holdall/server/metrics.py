"""Counters of all workers, in memory that they share; `metrics_text` turns them into words.

A counter is one 64-bit word in the worker's own row, so counting takes no lock; any worker adds the rows up. What a
worker counts is gathered in a list of its own first, which is quicker to add to.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from typing import Final

VERBS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE", "other")
_VERB_INDEX: Final = {verb.encode(): index for index, verb in enumerate(VERBS)}
STATUSES: Final = (
    200, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 414, 416, 417, 431, 500, 501, 502, 503,
    505, 507,
)  # fmt: skip
_STATUS_INDEX: Final = {status: index for index, status in enumerate(STATUSES)}
BUCKETS_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS: Final = 0
LATENCY: Final = REQUESTS + len(VERBS) * len(STATUSES)
LATENCY_ROW: Final = len(BUCKETS_SECONDS) + 2
_PLAIN: Final = LATENCY + len(VERBS) * LATENCY_ROW
RECEIVED_BYTES: Final = _PLAIN
SENT_BYTES: Final = _PLAIN + 1
CONNECTIONS: Final = _PLAIN + 2
CACHE_HITS: Final = _PLAIN + 3
ACCESS_FAILURES: Final = _PLAIN + 4
EXPIRED: Final = _PLAIN + 5
ENTRIES: Final = _PLAIN + 6
ENTRY_BYTES: Final = _PLAIN + 7
SWEEPS: Final = _PLAIN + 8
_QUICK_STATUS: Final = REQUESTS + _STATUS_INDEX[200]
_QUICK_LATENCY: Final = LATENCY
_ROW_WORDS: Final = _PLAIN + 16


class Metrics:
    """One worker's row among all.

    Args:
        shared: Memory that all workers map.
        row: Which is this worker's.
    """

    def __init__(self, shared: mmap.mmap, row: int) -> None:
        self._words = memoryview(shared).cast("Q")
        self._own = self._words[row * _ROW_WORDS : (row + 1) * _ROW_WORDS]
        self._rows = len(self._words) // _ROW_WORDS
        self._gathered = [0] * _ROW_WORDS

    @staticmethod
    def shared(workers: int) -> mmap.mmap:
        """Memory for the rows of so many workers, to be made before they are."""
        return mmap.mmap(-1, -(-workers * _ROW_WORDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE)

    def count(self, verb: bytes, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            verb: Its method.
            status: Of its answer.
            seconds: From its head to the end of its answer.
        """
        gathered, verb_index = self._gathered, _VERB_INDEX.get(verb, len(VERBS) - 1)
        gathered[REQUESTS + verb_index * len(STATUSES) + _STATUS_INDEX.get(status, _STATUS_INDEX[500])] += 1
        base = LATENCY + verb_index * LATENCY_ROW
        gathered[base + bisect_left(BUCKETS_SECONDS, seconds)] += 1
        gathered[base + LATENCY_ROW - 1] += int(seconds * 1e9)

    def count_quick(self, sent_bytes: int) -> None:
        """Counts a GET answered at once with 200: the same as `count` and `add`, in three additions."""
        gathered = self._gathered
        gathered[_QUICK_STATUS] += 1
        gathered[_QUICK_LATENCY] += 1
        gathered[SENT_BYTES] += sent_bytes

    def add(self, counter: int, amount: int = 1) -> None:
        """Adds to one of this worker's counters."""
        self._gathered[counter] += amount

    def set(self, counter: int, value: int) -> None:
        """Sets one of this worker's words."""
        self._gathered[counter] = 0
        self._own[counter] = value

    def publish(self) -> None:
        """Adds what was gathered to the shared words; called often enough for nobody to notice the delay."""
        for index, amount in enumerate(self._gathered):
            if amount:
                self._own[index] = (self._own[index] + amount) % (1 << 64)
                self._gathered[index] = 0

    def total(self, counter: int) -> int:
        """The sum of all workers' words."""
        return sum(self._words[row * _ROW_WORDS + counter] for row in range(self._rows))
