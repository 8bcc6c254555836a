"""What reaches the terminal. Results go to standard output and nothing else does; all other words go to standard error.

Nothing outside this file prints. What a terminal would obey is never sent to one as it is: names and messages come from
stores, and from whoever wrote to them.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from holdall.cli.exit_codes import code_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdall.errors import HoldallError
    from holdall.stores.base import Info

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f]")
"""What moves a terminal, or sets it up, but for line feeds and tabs; the last are single bytes of no UTF-8."""
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def line(text: str) -> None:
    """Writes one line of a result; file names come out as the bytes they are, but for a terminal's control characters.

    These are escaped on a terminal only.
    """
    _write(_harmless(text) if sys.stdout.isatty() else text)


def named_line(text: str, name: str) -> None:
    """Writes a result and the file it is of, as sha256sum does: a name that would break the line is escaped."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    line(f"{text}  {name}" if escaped == name else f"\\{text}  {escaped}")


def path_line(words: str, path: bytes, target: bytes = b"") -> None:
    """Writes a result that ends in a path of a commit, and where that is a link to.

    A path may hold anything, also what would move a terminal's cursor: where it has control characters or a backslash,
    these are escaped and the line begins with a backslash, as that of sha256sum does.
    """
    text = os.fsdecode(path) + (f" -> {os.fsdecode(target)}" if target else "")
    escaped = escape(text)
    line(f"{words}{text}" if escaped == text else f"\\{words}{escaped}")


def escape(text: str) -> str:
    """A text on one line, without control characters: these and backslashes are written as in Python."""
    return _CONTROLS.sub(_escape, text)


def moment(time_ns: int) -> str:
    """A time in nanoseconds since 1970 as people of the machine's time zone write it."""
    if not time_ns:
        return "not known"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time_ns // 1_000_000_000))
    except (OverflowError, ValueError, OSError):  # a commit may say anything
        return "out of all time"


def count(number: int, word: str, words: str = "") -> str:
    """A number of things in words: 1 chunk, 2,000 chunks."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def data(piece: bytes) -> None:
    """Writes bytes of a result."""
    sys.stdout.buffer.write(piece)


def document(value: dict[str, Any]) -> None:
    """Writes one JSON document, on a line of its own."""
    import json  # noqa: PLC0415 - only --json needs it

    line(json.dumps(value))


def table(rows: Iterable[Sequence[str]]) -> None:
    """Writes rows of words in aligned columns."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        _write("  ".join(map(_painted, cells)).rstrip())


def bars(rows: Sequence[tuple[str, int]]) -> None:
    """Writes counts, drawn as bars on a terminal and as plain columns elsewhere.

    Args:
        rows: What is counted, and how many.
    """
    if not sys.stdout.isatty():
        table([(label, str(count)) for label, count in rows])
        return
    from rich.bar import Bar  # noqa: PLC0415 - rich is slow to import and seldom needed
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above

    most = max(count for _, count in rows)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    for label, count in rows:
        grid.add_row(label, Bar(most, 0, count, color="cyan"), f"{count:,}")
    flush()
    Console().print(grid)


def flush() -> None:
    """Writes out what is buffered."""
    sys.stdout.flush()


def discard() -> None:
    """Gives up on standard output, whose reader has gone, so that nothing complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Says something beside the result; what a terminal would obey is escaped wherever it goes."""
    sys.stderr.write(f"holdall: {_harmless(text)}\n")
    sys.stderr.flush()


def failure(error: HoldallError, *, as_json: bool = False) -> None:
    """Says what failed: one sentence and what to do about it, or, with --json, a JSON document."""
    if not as_json:
        note(error.sentence())
        return
    import json  # noqa: PLC0415 - only --json needs it

    report = {"slug": error.slug, "message": error.message, "hint": error.hint, "exit_code": code_of(error)}
    sys.stderr.write(json.dumps({"error": report}) + "\n")
    sys.stderr.flush()


def member_failure(member: str, message: str, *, as_json: bool = False) -> None:
    """Says what a member of a store did wrong: one sentence, or, with --json, a JSON document."""
    if not as_json:
        note(f"{member}: {message}")
        return
    import json  # noqa: PLC0415 - only --json needs it

    sys.stderr.write(json.dumps({"fault": {"member": member, "message": message}}) + "\n")
    sys.stderr.flush()


def tell_of_waits(*, quiet: bool) -> None:
    """Says from now on, unless quiet, which server is waited for; the stores log it."""
    import logging  # noqa: PLC0415 - needed for servers only, whose client has it

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    log = logging.getLogger("holdall.stores")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    if not log.handlers:
        log.addHandler(Notes())


def traceback() -> None:
    """Shows where the error at hand came from, for --debug."""
    import traceback as shown  # noqa: PLC0415 - only --debug needs it

    shown.print_exc(file=sys.stderr)


def described(info: Info) -> dict[str, Any]:
    """An entry's facts as they appear in JSON documents."""
    return {
        "address": info.address.path,
        "kind": info.kind.value,
        "size_bytes": info.size_bytes,
        "version": info.version,
        "used_ns": info.used_ns,
        "expires_ns": info.expires_ns,
    }


def _write(text: str) -> None:
    sys.stdout.buffer.write(os.fsencode(text) + b"\n")


def _harmless(text: str) -> str:
    return _OBEYED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\x{ord(found[0]) & 0xFF:02x}"


def _painted(cell: str) -> str:
    if sys.stdout.isatty():
        cell = _harmless(cell)
    colour = _COLOURS.get(cell.strip())
    if colour is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return cell
    return f"\x1b[{colour}m{cell}\x1b[0m"


def panel(lines: Sequence[str]) -> None:
    """Shows a few lines together, set off by empty ones."""
    sys.stderr.write("\n" + "\n".join(map(_harmless, lines)) + "\n\n")
    sys.stderr.flush()
