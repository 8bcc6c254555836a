"""What of `holdall timeline` reads: get, ls, export, stats, verify."""

import base64
import math
import os
import re
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from holdall.cli import local_files, output
from holdall.cli.exit_codes import DAMAGED, DONE
from holdall.cli.timeline_options import DEFAULTS, Common, Label, When, moment_of, opened
from holdall.cli.timeline_shown import file_name, histogram, moment, seconds, step
from holdall.core.units import SECOND_NS, format_size, parse_duration_ns
from holdall.errors import LocalFileError, UsageError
from holdall.limits.timeline import TIMELINE_POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdall.timeline import Blob, Store

_STEPS_MAX: Final = 24
_FIELD: Final = re.compile(r"\{(\w+)\}")
_FIELDS: Final = ("time", "seconds", "label", "name", "size", "blob")


def get(
    start: When = None,
    end: When = None,
    /,
    *,
    label: Label = None,
    pull: bool = False,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = False,
    every: Annotated[str | None, Parameter(metavar="TIME")] = None,
    raw: bool = False,
    template: Annotated[str | None, Parameter(name="--format", metavar="TEXT", allow_leading_hyphen=True)] = None,
    common: Common = DEFAULTS,
) -> int:
    """Writes the blobs of a range of times, both ends included, to standard output, oldest first.

    A blob alone comes out as the bytes that it is. Of several, each that does not end in a newline gets one. With
    --json, prints a line for each: {"timestamp_ns", "time", "name", "label", "size_bytes", "blob_base64"}.

    Args:
        start: From when on: "since yesterday", "2 hours ago", 2026-05-04T12:00Z, or @SECONDS since 1970. Without it,
            from the first. If it is later than END, the newest comes first.
        end: Until when; without it, to the last.
        label: Only those with this label.
        pull: Pull from the remote first.
        follow: Then go on with what arrives, whether added here or pushed by others, until Ctrl-C.
        every: How often --follow pulls, such as 500ms. Default: 2s.
        raw: Write nothing between blobs.
        template: Write a line for each, with {time}, {seconds}, {label}, {name}, {size} and {blob} filled in.
        common: The options of every command.
    """
    if (common.json, raw, template is not None).count(True) > 1:
        raise UsageError("--json, --raw and --format exclude one another.")
    if every is not None and not follow:
        raise UsageError("--every says how often --follow pulls.")
    pause_seconds = TIMELINE_POLL_SECONDS if every is None else parse_duration_ns(every) / SECOND_NS
    write = None if template is None else _filling(template)
    if common.json:
        write = _write_document
    elif raw:
        write = _write_bytes
    with opened(common) as store:
        if follow:
            for blob in _arriving(store, start, end, label, pause_seconds):
                (write or _write_line)(blob)
                output.flush()
            return DONE
        blobs = store.getblobs(moment_of(start), moment_of(end), pull=pull, label=label)
        if write is None:
            _write_all(blobs)
        else:
            for blob in blobs:
                write(blob)
    return DONE


def ls(start: When = None, end: When = None, /, *, label: Label = None, common: Common = DEFAULTS) -> int:
    """Lists the blobs of a range of times: time, name, label. No blob is read, so that no key is needed.

    With --json, prints a line for each: {"timestamp_ns", "time", "name", "label"}.

    Args:
        start: From when on, as `timeline get` takes it.
        end: Until when; without it, to the last.
        label: Only those with this label.
        common: The options of every command.
    """
    with opened(common) as store:
        for row in store.names(moment_of(start), moment_of(end), label=label):
            if common.json:
                output.document(_facts(row))
            else:
                output.path_line(f"{moment(row.timestamp_ns)}  {row.name}  ", (row.label or "-").encode())
    return DONE


def export(
    directory: str, start: When = None, end: When = None, /, *, label: Label = None, common: Common = DEFAULTS
) -> int:
    """Writes blobs as files, named by their times in UTC, into a directory, which is made if it is missing.

    A file that is there already is left as it is, so that the same command brings what has come since. With --json,
    prints {"written", "written_bytes", "there"}.

    Args:
        directory: Where to.
        start: From when on, as `timeline get` takes it.
        end: Until when; without it, to the last.
        label: Only those with this label.
        common: The options of every command.
    """
    written = there = size_bytes = 0
    with opened(common) as store:
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise LocalFileError(f"Cannot make {directory!r}: {error.strerror or error}.") from error
        rows = store.names(moment_of(start), moment_of(end), label=label)
        for timestamp_ns, tied in groupby(rows, key=lambda row: row.timestamp_ns):
            paths = {row.name: os.path.join(directory, file_name(timestamp_ns, row.name)) for row in tied}
            missing = {name: path for name, path in paths.items() if not os.path.lexists(path)}
            there += len(paths) - len(missing)
            for blob in store.blobs_between(timestamp_ns, timestamp_ns, label=label) if missing else ():
                if path := missing.get(blob.name):
                    _write_file(path, blob)
                    written, size_bytes = written + 1, size_bytes + len(blob.blob)
    if common.json:
        output.document({"written": written, "written_bytes": size_bytes, "there": there})
    elif not common.quiet:
        output.note(f"{output.count(written, 'file')} ({format_size(size_bytes)}) written, {there:,} were there.")
    return DONE


def _write_file(path: str, blob: "Blob") -> None:
    with local_files.target(path) as write:
        write(blob.blob)
    with suppress(OSError, OverflowError):  # no file system knows all times that a blob may have
        os.utime(path, ns=(blob.timestamp_ns, blob.timestamp_ns))


def stats(start: When = None, end: When = None, /, *, label: Label = None, common: Common = DEFAULTS) -> int:
    """Shows how many blobs there are, with which labels, the first and the last, and how they are spread over time.

    With --json, prints {"blobs", "first_ns", "last_ns", "labels", "steps": [{"start_ns", "blobs"}]}, where "labels"
    counts those with each label.

    Args:
        start: From when on, as `timeline get` takes it.
        end: Until when; without it, to the last.
        label: Only those with this label.
        common: The options of every command.
    """
    labels: Counter[str | None] = Counter()
    first_ns = last_ns = None
    steps: list[tuple[int, int]] = []
    with opened(common) as store:
        span = moment_of(start), moment_of(end)
        for row in store.names(*span, label=label):
            labels[row.label] += 1
            first_ns = row.timestamp_ns if first_ns is None else first_ns
            last_ns = row.timestamp_ns
        if first_ns is not None and last_ns is not None:
            first_ns, last_ns = sorted((first_ns, last_ns))
            times = (row.timestamp_ns for row in store.names(*span, label=label))
            steps = histogram(times, first_ns, last_ns, _STEPS_MAX)
    named = {name: count for name, count in sorted(labels.items(), key=str) if name is not None}
    if common.json:
        facts = {"blobs": labels.total(), "first_ns": first_ns, "last_ns": last_ns, "labels": named}
        output.document(facts | {"steps": [{"start_ns": at, "blobs": count} for at, count in steps]})
        return DONE
    output.line(f"blobs   {labels.total():,}")
    if first_ns is not None and last_ns is not None:
        output.line(f"first   {moment(first_ns)}")
        output.line(f"last    {moment(last_ns)}")
    for name, count in named.items():
        output.path_line(f"label   {count:,}  ", name.encode())
    if steps:
        output.line("")
        output.bars([(step(at), count) for at, count in steps])
    return DONE


def verify(*, common: Common = DEFAULTS) -> int:
    """Reads every blob, decrypts and decompresses it, and prints the names of those where that fails.

    If there are any, the exit code is 4; they are damaged, or were stored with another key or compression. With
    --json, prints a line for each, {"name", "slug", "message"}, and then {"blobs", "damaged"}.

    Args:
        common: The options of every command.
    """
    damaged = 0
    with opened(common) as store:
        for problem in store.verify():
            damaged += 1
            if common.json:
                slug, message = problem.error.slug, problem.error.message
                output.document({"name": problem.name, "slug": slug, "message": message})
            else:
                output.line(problem.name)
                if damaged == 1 and not common.quiet:
                    output.note(problem.error.sentence())
        count = sum(1 for _ in store.names())
    if common.json:
        output.document({"blobs": count, "damaged": damaged})
    elif not common.quiet:
        output.note(f"verified {output.count(count, 'blob')}, {damaged:,} damaged")
    return DAMAGED if damaged else DONE


def _facts(row: Any) -> dict[str, Any]:
    """What is known of a blob or its row, as it appears in JSON documents."""
    return {
        "timestamp_ns": row.timestamp_ns,
        "time": moment(row.timestamp_ns),
        "name": row.name,
        "label": row.label,
    }


def _write_all(blobs: "Iterable[Blob]") -> None:
    """Writes one blob as it is, and several one below the other."""
    count, owed = 0, False
    for blob in blobs:
        if owed:
            output.data(b"\n")
        output.data(blob.blob)
        count, owed = count + 1, not blob.blob.endswith(b"\n")
    if owed and count > 1:
        output.data(b"\n")


def _write_bytes(blob: "Blob") -> None:
    output.data(blob.blob)


def _write_line(blob: "Blob") -> None:
    output.data(blob.blob if blob.blob.endswith(b"\n") else blob.blob + b"\n")


def _write_document(blob: "Blob") -> None:
    content = base64.b64encode(blob.blob).decode("ascii")
    output.document(_facts(blob) | {"size_bytes": len(blob.blob), "blob_base64": content})


def _filling(template: str) -> "Callable[[Blob], None]":
    """What writes a template for each blob, its fields replaced.

    Raises:
        UsageError: It has a field that there is not.
    """
    parts = _FIELD.split(template)
    for name in parts[1::2]:
        if name not in _FIELDS:
            raise UsageError(f"There is no {{{name}}} in a --format.", hint=f"There are {', '.join(_FIELDS)}.")
    literal = [os.fsencode(part) for part in parts]

    def write(blob: "Blob") -> None:
        values = {
            b"time": moment(blob.timestamp_ns).encode(),
            b"seconds": seconds(blob.timestamp_ns).encode(),
            b"label": (blob.label or "").encode(),
            b"name": blob.name.encode(),
            b"size": b"%d" % len(blob.blob),
            b"blob": blob.blob,
        }
        output.data(b"".join(values[part] if at % 2 else part for at, part in enumerate(literal)) + b"\n")

    return write


def _arriving(store: "Store", start: When, end: When, label: str | None, pause_seconds: float) -> "Iterator[Blob]":
    """Yields what is there, and then, for ever, what arrives: whatever its time, if it is in the range."""
    from holdall.timeline.exc import RepoTransportError  # noqa: PLC0415 - an optional extra
    from holdall.timeline.times import bound_ns  # noqa: PLC0415 - as above

    # In words such as "now", the range would move on.
    bounds = bound_ns(moment_of(start), -math.inf), bound_ns(moment_of(end), math.inf)
    first, last = (Decimal(bound) / SECOND_NS for bound in bounds)
    seen: set[int] = set()
    failing = False
    while True:
        if store.has_remote():
            try:
                store.pull()
                failing = False
            except RepoTransportError as error:
                if not failing:
                    output.note(error.sentence())
                failing = True
        began, came = time.monotonic(), False
        for row in store.names(first, last, label=label):
            if hash(row.name) not in seen:
                came = True
                for blob in store.blobs_between(row.timestamp_ns, row.timestamp_ns, label=label):
                    if hash(blob.name) not in seen:
                        seen.add(hash(blob.name))
                        yield blob
        # To look through a million names takes seconds; it rests nine tenths of the time all the same.
        time.sleep(pause_seconds if came else max(pause_seconds, 9 * (time.monotonic() - began)))
