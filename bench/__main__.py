"""`python -m bench`: plans, measures, reports."""

from __future__ import annotations

import dataclasses
import datetime as dt
import signal
import sys
from typing import TYPE_CHECKING, Any

from bench import goals, machine, options, plan, plot, record, report
from bench.ground import Ground, prepared
from bench.load import wrk
from bench.measure import Results, short_size
from bench.process import BenchError
from bench.runner import Runner

if TYPE_CHECKING:
    from types import FrameType

    from bench.options import Options
    from bench.plan import Plan

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
OVERHEAD_SECONDS = 1.5
"""What starting, checking, stopping and settling take for each measurement, about."""


def main() -> int:
    """Runs the benchmark.

    Returns:
        The exit status: 0, or 1 if a row failed, or 130 if it was interrupted; whether goals are met does not count.
    """
    settings = options.parse(sys.argv[1:])
    try:
        planned = plan.make(settings)
    except ValueError as error:
        sys.exit(f"{error}")
    if settings.list_rows:
        _list(planned)
        return 0
    if not planned.rows:
        sys.exit("No row matches; --list shows them all.")
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    results = Results(list(planned.rows))
    looked = machine.look()
    began = dt.datetime.now().astimezone()
    interrupted = False
    ground = None
    try:
        with prepared(settings.directory, seconds=settings.seconds) as ground:
            print(_announcement(settings, planned), file=sys.stderr)
            Runner(settings, planned, results).run(ground)
    except KeyboardInterrupt:
        interrupted = True
    except BenchError as error:
        sys.exit(f"{error}")
    if ground:
        _publish(
            settings=settings,
            planned=planned,
            results=results,
            looked=looked,
            ground=ground,
            began=began,
            interrupted=interrupted,
        )
    return INTERRUPTED if interrupted else int(any(row.failure for row in results.rows))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends the run once; from then on everything is being cleaned up, which must not be cut short."""
    del number, frame
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _list(planned: Plan) -> None:
    for row in planned.rows:
        print(row.name)
    for name, reason in planned.skipped.items():
        print(f"skipped: {name}: {reason}")


def _announcement(settings: Options, planned: Plan) -> str:
    minutes = settings.rounds * len(planned.rows) * (settings.seconds + OVERHEAD_SECONDS) / 60
    return f"{len(planned.rows)} rows in {settings.rounds} rounds: about {minutes:.0f} minutes."


def _publish(
    *,
    settings: Options,
    planned: Plan,
    results: Results,
    looked: machine.Machine,
    ground: Ground,
    began: dt.datetime,
    interrupted: bool,
) -> None:
    judged = goals.judge(results, short_size(settings.stream_bytes))
    versions = dict(peer.version() for phase in planned.phases for peer in phase.peers)
    if wrk.missing() is None:
        versions["wrk"] = machine.wrk_version()
    directory = f"{ground.filesystem}, {ground.note or f'fresh, in {settings.directory}'}"
    load = ", ".join(f"{value:.2f}" for value in looked.load_average)
    header = [
        ("holdall bench", began.isoformat(" ", "seconds")),
        ("machine", f"{looked.node}, {looked.system}"),
        ("processor", f"{looked.cpu}, {looked.cores} usable"),
        ("memory", f"{looked.memory_bytes / (1 << 30):.0f} GiB"),
        ("directory", directory),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in versions.items()) + f", Python {looked.python}",
        ),
        ("load average", f"{load} at the start"),
        ("rounds", f"{settings.rounds} of {settings.seconds:g} s for each row, peers interleaved"),
    ]
    if interrupted:
        header.append(("INTERRUPTED", "what was measured until then"))
    print(report.render(results, judged, header=header, skipped=planned.skipped))
    about: dict[str, Any] = {
        "interrupted": interrupted,
        "began": began.isoformat(),
        "ended": dt.datetime.now().astimezone().isoformat(),
        "machine": looked.as_dict(),
        "directory": {"filesystem": ground.filesystem, "kind": ground.kind, "note": ground.note},
        "versions": versions,
        "options": dataclasses.asdict(settings),
        "skipped": planned.skipped,
    }
    record.write(settings.json_path, record.as_dict(results, judged, about))
    plot.draw(results, settings.svg_path, f"{looked.cpu}, {looked.cores} cores, {ground.filesystem}, {began:%Y-%m-%d}")
    print(f"{settings.json_path}\n{settings.svg_path}")


if __name__ == "__main__":
    sys.exit(main())
