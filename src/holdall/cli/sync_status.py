"""`holdall sync status` and `doctor`: how a folder fares, and what on this machine and its peers is to be mended."""

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.findings import Finding, Outcome
from holdall.cli.sync_folders import DEFAULTS, Common, clusters, only
from holdall.core.units import SECOND_NS, format_size, parse_duration_ns
from holdall.limits import MIB
from holdall.limits.sync import SYNC_CONNECT_SECONDS_MAX, SYNC_LOOK_SECONDS, SYNC_STALE_SECONDS

if TYPE_CHECKING:
    from holdall.sync.cluster import Cluster
    from holdall.sync.roster import Entry
    from holdall.sync.status import Report, Row

_HEADINGS: Final = (
    *("NODE", "ROLE", "LINK", "HEAD", "AHEAD", "BEHIND", "LAST-SYNC", "LATENCY", "CONFLICTS", "DRIFT", "ERROR"),
)
_HEAD_DIGITS: Final = 10
_LEFT_OUT_SHOWN: Final = 10
_RESCUE_ADVICE: Final = (
    "See 'After a loss of power' in docs/operations.md; then delete holdall/damaged beside the history."
)
_GIT_MIN: Final = (2, 38)
_ROOM_BYTES_MIN: Final = 64 * MIB
_ROOM_BYTES_LOW: Final = 1024 * MIB
_SKEW_SECONDS_MAX: Final = 2.0
_LOGIN_SECONDS_MAX: Final = 0.1
"""What a login shell may take before a word is said; one without a slow start-up file takes 5 ms."""


def status(
    directory: str | None = None,
    /,
    *,
    watch: Annotated[bool, Parameter(negative="")] = False,
    stale: Annotated[str, Parameter(metavar="TIME")] = f"{SYNC_STALE_SECONDS:.0f}s",
    common: Common = DEFAULTS,
) -> int:
    """Shows how every node fares. The exit code is 1 if one is stale, a conflict is open, or something is held.

    Where no daemon runs, the other nodes are asked. AHEAD counts commits that a node lacks, BEHIND those that only it
    has; CONFLICTS and DRIFT are this node's. With --json, prints {"directory", "ok", "held",
    "held_back": {node: reason}, "daemon", "nodes": [{"node", "role", "link", "head", "ahead", "behind", "synced_ns",
    "latency_ms", "conflicts", "drift", "error", "stale"}], "waiting": {path: reason}, "store_error",
    "left_out": {path: reason}, "rescued"}.

    Args:
        directory: The folder; without it, the one that this is in, else every one of this user's.
        watch: Again and again, until it is interrupted.
        stale: A node is stale that was out of touch for so long, or lacked something.
        common: The options of every command.
    """
    from holdall.sync.status import examine  # noqa: PLC0415 - slow to import

    seconds = parse_duration_ns(stale) / SECOND_NS
    while True:
        code = DONE
        for cluster in clusters(directory):
            report = examine(cluster, stale_seconds=seconds)
            _show(cluster, report, common)
            code = code if report.is_well else FAILED
        if not watch:
            return code
        output.flush()
        time.sleep(SYNC_LOOK_SECONDS)


def _show(cluster: "Cluster", report: "Report", common: Common) -> None:
    if common.json:
        daemon = None if report.daemon is None else asdict(report.daemon)
        rows = [asdict(row) for row in report.rows]
        facts = {"directory": str(cluster.worktree), "ok": report.is_well, "held": report.held or None}
        facts |= {"held_back": report.held_back, "daemon": daemon, "nodes": rows, "waiting": report.waiting}
        facts |= {"store_error": report.store_error or None, "left_out": report.left_out}
        output.document(facts | {"rescued": report.rescued or None})
        return
    output.table([_HEADINGS, *(_cells(row) for row in report.rows)])
    if common.quiet:
        return
    if report.held:
        output.note(f"{cluster.worktree} is held. {report.held} If it is right as it is: holdall sync release.")
    for node, why in sorted(report.held_back.items()):
        output.note(f"What {node} sent is held back. {why} If that was meant: holdall sync release.")
    if report.rescued:
        output.note(f"The history was damaged, and made whole. {report.rescued} {_RESCUE_ADVICE}")
    if report.daemon is None:
        output.note(f"No daemon watches {cluster.worktree}: start one with holdall sync service install.")
    elif report.daemon.blind:
        output.note(f"The daemon looks at everything every few seconds, since {report.daemon.blind}.")
    _show_files(report)


def _show_files(report: "Report") -> None:
    """Says which files are not where they should be, and why."""
    if report.store_error:
        output.note(report.store_error)
    for words, files in (("is large", report.waiting), ("is not synced", report.left_out)):
        for path, why in islice(files.items(), _LEFT_OUT_SHOWN):
            output.note(f"{path!a} {words}: {why}.")
        if len(files) > _LEFT_OUT_SHOWN:
            output.note(f"And {output.count(len(files) - _LEFT_OUT_SHOWN, 'file')} more; see --json.")
    if any(why.startswith("larger") for why in report.left_out.values()):
        output.note("Name a store for such files, or take larger ones: holdall sync store, and its --max-size.")


def _cells(row: "Row") -> tuple[str, ...]:
    def number(value: int | None) -> str:
        return "?" if value is None else str(value)

    is_this = row.link == "this"
    counts = ("-", "-") if is_this else (number(row.ahead), number(row.behind))
    since = f"{max(0.0, time.time() - row.synced_ns / SECOND_NS):.0f}s" if row.synced_ns else "-"
    latency = f"{row.latency_ms:.0f}ms" if row.latency_ms else "-"
    own = (str(row.conflicts), str(row.drift)) if is_this else ("-", "-")
    error = row.error or ("stale" if row.stale else "-")
    return (row.node, row.role, row.link, row.head[:_HEAD_DIGITS] or "-", *counts, since, latency, *own, error)


def doctor(directory: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Looks for what usually goes wrong: on this machine, and at every other node that it can connect to.

    The exit code is 1 if a check failed. With --json, prints {"directory", "ok", "checks": [{"check", "outcome",
    "detail", "advice"}]}, where an outcome is "ok", "warn" or "fail".

    Args:
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    cluster = only(clusters(directory))
    findings = [*_machine(cluster), *(found for peer in cluster.peers() for found in _peer(cluster, peer))]
    healthy = all(finding.outcome is not Outcome.FAIL for finding in findings)
    if common.json:
        checks = [asdict(found) | {"outcome": found.outcome.value} for found in findings]
        output.document({"directory": str(cluster.worktree), "ok": healthy, "checks": checks})
        return DONE if healthy else FAILED
    output.table([(found.check, found.outcome.value, found.detail) for found in findings])
    advice = [found for found in findings if found.advice]
    if advice:
        output.line("\nWhat to do")
    for found in advice:
        output.line(f"  {found.check}: {found.advice}")
    return DONE if healthy else FAILED


def _machine(cluster: "Cluster") -> Iterator[Finding]:
    yield _git()
    yield _room(cluster)
    yield _watches(cluster)
    yield _history(cluster)
    yield from _permissions()
    if not cluster.me.address:
        detail = "no sshd answered here when this node joined, so nobody can connect to it"
        advice = "Start sshd, then run holdall sync bootstrap for this folder; or leave it so, and it does the asking."
        yield Finding("address", Outcome.WARN, detail, advice)


def _git() -> Finding:
    from holdall.sync.process import run  # noqa: PLC0415 - slow to import

    found = re.search(rb"(\d+)\.(\d+)[\d.]*", run(("git", "--version")).output)
    if found is None or (int(found[1]), int(found[2])) < _GIT_MIN:
        wanted = ".".join(map(str, _GIT_MIN))
        detail = "its version is not known" if found is None else f"version {found[0].decode()}"
        return Finding("git", Outcome.FAIL, detail, f"Install git {wanted} or newer.")
    return Finding("git", Outcome.OK, f"version {found[0].decode()}")


def _room(cluster: "Cluster") -> Finding:
    room = min(shutil.disk_usage(place).free for place in (cluster.git_dir, cluster.worktree) if place.exists())
    detail, advice = f"{format_size(room)} free", "Free some space: without room, what comes cannot be merged."
    if room < _ROOM_BYTES_LOW:
        return Finding("room", Outcome.FAIL if room < _ROOM_BYTES_MIN else Outcome.WARN, detail, advice)
    return Finding("room", Outcome.OK, detail)


def _history(cluster: "Cluster") -> Finding:
    """Whether anything of the history was damaged, and is put aside still."""
    from holdall.sync.rescue import last_rescue  # noqa: PLC0415 - slow to import

    rescued = last_rescue(cluster.git_dir)
    return (
        Finding("history", Outcome.WARN, rescued, _RESCUE_ADVICE)
        if rescued
        else Finding("history", Outcome.OK, "is whole")
    )


def _watches(cluster: "Cluster") -> Finding:
    """Whether the system tells a daemon of all changes."""
    from holdall.sync.status import ask_daemon  # noqa: PLC0415 - slow to import

    advice = "As root: sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512"
    daemon = ask_daemon(cluster)
    if daemon is None:
        return Finding("daemon", Outcome.WARN, "none runs", "Start one: holdall sync service install.")
    if daemon.blind:
        return Finding("daemon", Outcome.WARN, f"looks every few seconds, since {daemon.blind}", advice)
    if daemon.error:
        return Finding("daemon", Outcome.FAIL, daemon.error, "It goes on by itself when that is mended.")
    return Finding("daemon", Outcome.OK, f"runs as process {daemon.pid}")


def _permissions() -> Iterator[Finding]:
    """Whether sshd trusts this user's files: it passes over what others can write."""
    home = Path(os.path.expanduser("~"))
    for path in (home, home / ".ssh", home / ".ssh" / "authorized_keys"):
        try:
            status = path.stat()
        except OSError as error:
            yield Finding("ssh files", Outcome.FAIL, f"{path}: {error.strerror}", "Run holdall sync bootstrap again.")
            continue
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in {0, os.getuid()}:
            detail = f"{path} can be written by others, so sshd lets no other node in"
            yield Finding("ssh files", Outcome.FAIL, detail, f"chmod go-w {path} and chown it to yourself")
            continue
        yield Finding("ssh files", Outcome.OK, str(path))


def _peer(cluster: "Cluster", peer: "Entry") -> Iterator[Finding]:
    """Whether a peer answers, how fast, and what its clock says."""
    from holdall.sync.process import run  # noqa: PLC0415 - slow to import
    from holdall.sync.transport import sentence  # noqa: PLC0415 - as above

    words = ("ssh", "-F", cluster.ssh_config, peer.node, "clock")
    done = run(words, seconds=2 * SYNC_CONNECT_SECONDS_MAX)
    if done.code:
        detail = sentence(peer, done)
        if "another host key" in detail:
            advice = "If that host was set up anew: there, holdall sync bootstrap; else find out who answers for it."
        else:
            advice = f"Try it by hand: ssh -F {cluster.ssh_config} {peer.node} hello"
        yield Finding(peer.node, Outcome.FAIL, detail, advice)
        return
    begun, before_ns = time.monotonic(), time.time_ns()
    done = run(words, seconds=2 * SYNC_CONNECT_SECONDS_MAX)  # over the connection that there is now
    took, after_ns = time.monotonic() - begun, time.time_ns()
    detail = f"answers in {took * 1000:.0f} ms"
    if took > _LOGIN_SECONDS_MAX:
        advice = (
            f"Its login shell may start slowly: on {peer.node}, leave .bashrc early where $- has no i, or use dash."
        )
        yield Finding(peer.node, Outcome.WARN, detail, advice)
    else:
        yield Finding(peer.node, Outcome.OK, detail)
    if done.output.strip().isdigit():
        theirs = int(done.output)
        apart = max(0, before_ns - theirs, theirs - after_ns) / SECOND_NS
        if apart > _SKEW_SECONDS_MAX:
            advice = "Set both clocks by NTP: of two versions of a file, the later keeps its name."
            yield Finding(f"{peer.node} clock", Outcome.WARN, f"{apart:.1f} s apart from this one", advice)
        else:
            yield Finding(f"{peer.node} clock", Outcome.OK, "agrees with this one")
