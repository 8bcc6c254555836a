"""The JSON file of a run: every sample of every round, so that any other reading can be made of it later."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from bench.report import bases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.goals import Goal
    from bench.measure import Results, Row

FORMAT: Final = 1
"""Raised when a reader of the file would have to change."""


def as_dict(results: Results, goals: Sequence[Goal], about: dict[str, Any]) -> dict[str, Any]:
    """The run as plain values.

    Args:
        results: Its rows.
        goals: Judged.
        about: Machine, settings, versions and what was skipped.
    """
    return {
        "format": FORMAT,
        **about,
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals],
        "rows": [_row(results, row) for row in results.rows],
    }


def write(path: str, record: dict[str, Any]) -> None:
    """Writes the file; its directory is made.

    Args:
        path: Where.
        record: What `as_dict` gave.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def _row(results: Results, row: Row) -> dict[str, Any]:
    workload = row.workload
    return {
        "name": row.name,
        "operation": workload.operation,
        "size_bytes": workload.size_bytes,
        "connections": workload.connections,
        "place": workload.place,
        "peer": row.peer,
        "failure": row.failure,
        "unit": "bytes/s" if workload.stream else "requests/s",
        "rate": row.rate,
        "p50_ms": row.p50_ms,
        "p99_ms": row.p99_ms,
        "errors": row.errors,
        "resident_bytes_max": row.resident_bytes_max,
        "ratios": {base: row.ratio_to(results.get(workload.name, base)) for base in bases(workload)},
        "rounds": {str(number): asdict(sample) for number, sample in row.samples.items()},
    }
