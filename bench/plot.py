"""The plot of a run: for each workload, how many times as fast as its base each peer is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.plan import SHA256
from bench.report import bases, families, peers_of, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.measure import Results, Workload

# Legible on white and on black alike: middle tones, and no background.
TEXT: Final = "#808080"
GRID: Final = "#80808040"
OURS: Final = ("#86b9ec", "#3d8bd4", "#2a68a8")
THEIRS: Final = ("#bdb7ae", "#979087", "#746e66")
ONLY_SHADE: Final = 1
"""Where there is one bar a peer it takes the middle tone."""
BAR_INCHES: Final = 0.17
GAP_INCHES: Final = 0.12
FRAME_INCHES: Final = 0.75
TITLE_INCHES: Final = 0.8
WIDTH_INCHES: Final = 12.0
COLUMNS: Final = 2
LABEL_ROOM: Final = 1.12


@dataclass(frozen=True)
class _Panel:
    """One set of axes: some peers under workloads that differ only in connections, against one base."""

    family: list[Workload]
    base: str
    peers: list[str]

    @property
    def inches(self) -> float:
        return FRAME_INCHES + len(self.peers) * (GAP_INCHES + BAR_INCHES * len(self.family))


def draw(results: Results, path: str, caption: str) -> None:
    """Writes the SVG; its directory is made.

    Args:
        results: The run's rows.
        path: Where.
        caption: One line on machine and directory.
    """
    panels = _panels(results)
    mpl.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
    lines = [panels[at : at + COLUMNS] for at in range(0, len(panels), COLUMNS)]
    heights = [max(panel.inches for panel in line) for line in lines]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + TITLE_INCHES), layout="constrained")
    connections = sorted({workload.connections for panel in panels for workload in panel.family if not workload.stream})
    legend = f"light to dark: {', '.join(map(str, connections))} connections" if len(connections) > 1 else ""
    figure.suptitle(
        f"holdall (blue) beside its peers; longer is faster\n{caption}\n{legend}".strip(),
        fontsize=9,
        color=TEXT,
    )
    if lines:
        grid = figure.add_gridspec(len(lines), COLUMNS, height_ratios=heights)
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[number // COLUMNS, number % COLUMNS])
            _fill(axes, results, panel)
            # As many places as its neighbour has, so that bars are equally thick in both.
            axes.set_ylim(max(len(each.peers) for each in lines[number // COLUMNS]) - 0.5, -0.5)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _panels(results: Results) -> list[_Panel]:
    panels = []
    for family in families(results):
        for base in bases(family[0]):
            peers = peers_of(results, family)
            if base.startswith("redis"):
                # Beside a database only what is as durable as it says anything.
                peers = [peer for peer in peers if peer.startswith(("holdall-sync", "redis-always"))]
            if base in peers and len(peers) > 1:
                panels.append(_Panel(family, base, peers))
    return panels


def _fill(axes: Axes, results: Results, panel: _Panel) -> None:
    count = len(panel.family)
    bar = BAR_INCHES / (GAP_INCHES + BAR_INCHES * count)
    longest = 1.0
    axes.axvline(1, color=TEXT, linewidth=1, linestyle="--", zorder=0)
    for index, workload in enumerate(panel.family):
        for position, peer in enumerate(panel.peers):
            row = results.get(workload.name, peer)
            if row is None:
                continue
            ratio = row.ratio_to(results.get(workload.name, panel.base))
            told = "failed" if row.failure else "" if ratio is None else f"{ratio:.2f}"
            shades = OURS if peer.startswith("holdall") else THEIRS
            height = position + (index - (count - 1) / 2) * bar
            axes.barh(height, ratio or 0, bar * 0.9, color=shades[index if count > 1 else ONLY_SHADE])
            axes.annotate(
                told,
                (ratio or 0, height),
                (3, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=8,
                color=TEXT,
            )
            longest = max(longest, ratio or 0)
    axes.set_yticks(range(len(panel.peers)), panel.peers)
    axes.set_xlim(0, longest * LABEL_ROOM)
    against = "one core's SHA-256" if panel.base == SHA256 else panel.base
    axes.set_title(f"{title(panel.family[0])}, relative to {against}", fontsize=9, color=TEXT, loc="left")
    axes.tick_params(colors=TEXT, length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID)
    for spine in axes.spines.values():
        spine.set_visible(False)
