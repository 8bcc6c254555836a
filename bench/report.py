"""The printed report: ratios first, then absolute values, then the goals. Pure: results in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.measure import Workload, long_size
from bench.plan import SHA256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.goals import Goal
    from bench.measure import Results, Row

MIB: Final = 1 << 20
NOTHING: Final = "-"
TITLES: Final = {
    "put": "PUT",
    "get": "GET",
    "get-hot": "GET hot",
    "get-disk": "GET from disk",
    "mixed": "mixed",
}


def bases(workload: Workload) -> tuple[str, ...]:
    """The peers that a workload's ratios are taken to.

    Args:
        workload: Any.
    """
    if workload.operation == "mixed":
        return ()
    if workload.stream:
        return ("nginx", SHA256) if workload.operation == "put" else ("nginx",)
    return {"put": ("nginx", "redis-always"), "get-hot": ("nginx", "redis-off")}.get(workload.operation, ("nginx",))


def title(workload: Workload) -> str:
    """A heading for the workloads that differ only in connections."""
    if workload.operation == "mixed":
        return "Mixed load, one life"
    name = f"{TITLES[workload.operation]} {long_size(workload.size_bytes)}"
    return f"{name}, one stream, {workload.place}" if workload.stream else name


def families(results: Results) -> list[list[Workload]]:
    """Workloads in groups that differ only in connections.

    Args:
        results: The run's rows.
    """
    groups: dict[tuple[str, int, str], list[Workload]] = {}
    for workload in results.workloads():
        groups.setdefault((workload.operation, workload.size_bytes, workload.place), []).append(workload)
    return list(groups.values())


def peers_of(results: Results, family: Sequence[Workload]) -> list[str]:
    """The peers that have a row in the group, in order."""
    return list(dict.fromkeys(row.peer for workload in family for row in results.of(workload)))


def render(
    results: Results, goals: Sequence[Goal], *, header: Sequence[tuple[str, str]], skipped: dict[str, str]
) -> str:
    """The whole report.

    Args:
        results: The run's rows.
        goals: Judged.
        header: What was measured on, as names and texts.
        skipped: What was left out, and why.
    """
    width = max(len(name) for name, _ in header)
    parts = ["\n".join(f"{name:<{width}}  {text}" for name, text in header)]
    groups = families(results)
    parts.append("RATIOS: times as fast as the peer named after the slash; medians of the rounds' own ratios")
    parts += [text for family in groups if (text := _ratio_table(results, family))]
    parts.append("ABSOLUTE VALUES: medians of the rounds; memory is the largest process of the server in any round")
    parts += [_absolute_table(results, family) for family in groups]
    parts.append(_goals_table(goals))
    failures = [f"{row.name}: {row.failure}" for row in results.rows if row.failure]
    if failures:
        parts.append("FAILED\n" + "\n".join(f"  {line}" for line in failures))
    if skipped:
        parts.append("SKIPPED\n" + "\n".join(f"  {name}: {reason}" for name, reason in skipped.items()))
    return "\n\n".join(parts) + "\n"


def _ratio_table(results: Results, family: Sequence[Workload]) -> str:
    columns = [(workload, base) for base in bases(family[0]) for workload in family if results.get(workload.name, base)]
    if not columns:
        return ""
    head = [title(family[0]), *(_column_title(workload, base) for workload, base in columns)]
    lines = []
    for peer in peers_of(results, family):
        cells = [
            _ratio_cell(results.get(workload.name, peer), results.get(workload.name, base))
            for workload, base in columns
        ]
        lines.append([peer, *cells])
    return _table(head, lines)


def _column_title(workload: Workload, base: str) -> str:
    short = {"nginx": "nginx", "redis-always": "redis-always", SHA256: "SHA-256"}.get(base, base)
    return f"/{short}" if workload.stream else f"/{short} c{workload.connections}"


def _ratio_cell(row: Row | None, base: Row | None) -> str:
    if row is not None and row.failure:
        return "failed"
    ratio = row.ratio_to(base) if row else None
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _absolute_table(results: Results, family: Sequence[Workload]) -> str:
    stream = family[0].stream
    head = [title(family[0]), *(["GB/s"] if stream else ["conns", "req/s", "p50 ms", "p99 ms"]), "memory MiB", "errors"]
    lines = []
    for peer in peers_of(results, family):
        for workload in family:
            row = results.get(workload.name, peer)
            if row is None:
                continue
            memory = NOTHING if row.resident_bytes_max is None else f"{row.resident_bytes_max / MIB:.1f}"
            if stream:
                figures = [_number(row.rate and row.rate / 1e9, ".2f")]
            else:
                figures = [
                    _connections(workload),
                    _number(row.rate, ",.0f"),
                    _number(row.p50_ms, ".2f"),
                    _number(row.p99_ms, ".2f"),
                ]
            lines.append([peer, *figures, memory, "FAILED" if row.failure else str(row.errors)])
    return _table(head, lines)


def _connections(workload: Workload) -> str:
    return NOTHING if workload.operation == "mixed" else str(workload.connections)


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _goals_table(goals: Sequence[Goal]) -> str:
    lines = []
    for goal in goals:
        unit = f" {goal.unit}" if goal.unit else ""
        measured = NOTHING if goal.measured is None else f"{goal.measured:.2f}{unit}"
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[goal.met]
        lines.append([goal.text, f"{goal.direction} {goal.bound:g}{unit}", measured, verdict, goal.worst])
    return _table(["GOALS", "goal", "measured", "", ""], lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right, a last one of text to the left."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    rendered = []
    for line in [head, *lines]:
        cells = [
            f"{line[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        rendered.append("  ".join(cells).rstrip())
    rendered.insert(1, "-" * max(len(line) for line in rendered))
    return "\n".join(rendered)
