"""The tables of the documentation say what the code says."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest
from pages import DOCS, ROOT, text_of

import holdall
from holdall import limits
from holdall.cli.commands import every_command
from holdall.cli.exit_codes import MEANINGS, PIPE_CLOSED, code_of
from holdall.cli.main import main
from holdall.errors import HoldallError, RangeError
from holdall.limits import server, snapshot, stores, sync, timeline
from holdall.server.reply import HTTPError, error_reply
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEVER_ANSWERED: Final = {
    "access",
    "bad-commit",
    "bad-duration",
    "bad-invite",
    "bad-roster",
    "bad-setting",
    "bad-size",
    "bad-store",
    "bad-tree",
    "changed",
    "damaged-commit",
    "internal",
    "local-file",
    "peer",
    "unreachable",
    "unsafe-tree",
}
"""Errors that no request can cause: those of names, settings, clients and the command line."""

SYNC_COMMANDS: Final = (
    *("bootstrap", "join", "invite", "unjoin", "nodes", "push", "pull", "reconcile"),
    *("conflicts", "log", "show", "restore", "demo"),
    *("watch", "service", "status", "doctor", "release", "drift", "overlay", "store"),
)
SLOT_COMMANDS: Final = ("key", "get", "set", "append", "take", "claim")
TIMELINE_COMMANDS: Final = ("init", "key", "add", "get", "ls", "export", "stats", "verify", "push", "pull")
STORE_COMMANDS: Final = ("add", "ls", "show", "export", "import", "rm")

STATED: Final = [
    ("docs/protocol/errors.md", "HEADER_BYTES_MAX", "16 KiB, 64 headers"),
    ("docs/protocol/errors.md", "HEADER_COUNT_MAX", "16 KiB, 64 headers"),
    ("docs/protocol/errors.md", "TARGET_BYTES_MAX", "| 4 KiB |"),
    ("docs/protocol/errors.md", "TEMPLATE_BYTES_MAX", "| 1 KiB |"),
    ("docs/protocol/errors.md", "TRAILER_BYTES_MAX", "trailers over 4 KiB"),
    ("docs/protocol/errors.md", "BODY_BYTES_MAX", "| 1 TiB |"),
    ("docs/protocol/errors.md", "HAVE_BYTES_MAX", "| 1 MiB |"),
    ("docs/protocol/errors.md", "HEADER_SECONDS_MAX", "| 10 s |"),
    ("docs/protocol/errors.md", "STALL_SECONDS_MAX", "| 30 s |"),
    ("docs/protocol/errors.md", "IDLE_SECONDS_MAX", "| 75 s |"),
    ("docs/protocol/errors.md", "BODY_RATE_BYTES_MIN", "| 512 bytes a second |"),
    ("docs/protocol/errors.md", "CONNECTIONS_MAX", "| 4,096 |"),
    ("docs/protocol/errors.md", "FAILURE_DELAY_SECONDS_MAX", "| 5 s |"),
    ("docs/protocol/errors.md", "BURST_DEPTH_MAX", "8 levels, 524,288 members, 4 KiB a line"),
    ("docs/protocol/errors.md", "BURST_MEMBERS_MAX", "8 levels, 524,288 members, 4 KiB a line"),
    ("docs/protocol/errors.md", "BURST_LINE_BYTES_MAX", "8 levels, 524,288 members, 4 KiB a line"),
    ("docs/protocol/head.md", "TOUCH_FRACTION", "1/64 of the retention"),
    ("docs/operations.md", "SMALL_BYTES_MAX", "small writes (up to 64 KiB)"),
    ("docs/operations.md", "CACHE_BYTES", "| 8 MiB |"),
    ("docs/cli.md", "CACHE_BYTES", "`8MiB`"),
    ("docs/cli.md", "TIMELINE_POLL_SECONDS", "how often it pulls (`2s`)"),
    ("docs/decisions/0007-quick-path.md", "CACHE_BYTES", "8 MiB for each"),
    ("docs/formats.md", "JOURNAL_SEGMENT_BYTES", "at most 32 MiB each"),
    ("docs/formats.md", "JOURNAL_BLOCK_BYTES", "a block of 4,096 bytes"),
    ("docs/formats.md", "LOCK_STRIPES", "4,096 stripes"),
    ("docs/formats.md", "COMMIT_CHUNKS_MAX", "2,097,152 chunks"),
    ("docs/formats.md", "CHUNK_RAW_BYTES_MAX", "up to 8 MiB"),
    ("docs/formats.md", "REMOVALS_REMEMBERED", "the last 1,024 removals"),
    ("docs/backup.md", "IGNORE_FILE_BYTES_MAX", "is longer than 1 MiB"),
    ("docs/backup.md", "PATH_BYTES_MAX", "paths over 16 KiB"),
    ("docs/decisions/0001-journal.md", "CHECKPOINT_SECONDS", "every five seconds"),
    ("docs/decisions/0007-quick-path.md", "CACHE_RECHECK_SECONDS", "for one second"),
]
WRITTEN: Final = {"one": 1, "five": 5}
BOUNDS: Final = {
    name: bound for room in (limits, server, snapshot, stores, sync, timeline) for name, bound in vars(room).items()
}
UNITS: Final = {"KiB": limits.KIB, "MiB": limits.MIB, "TiB": 1 << 40}


def rows_of(page: str, columns: int) -> Iterator[list[str]]:
    """The cells of every table row of a page that has so many."""
    for line in text_of(page).split("\n"):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == columns:
            yield cells


def all_errors() -> dict[str, type[HoldallError]]:
    """Every error there is, by slug, but for those that are another in a special place."""
    for module in pkgutil.walk_packages(holdall.__path__, "holdall."):
        if ".testing" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[HoldallError]] = {}

    def visit(kind: type[HoldallError]) -> None:
        if kind is not HTTPError:
            found.setdefault(kind.slug, kind)
        for child in kind.__subclasses__():
            visit(child)

    visit(HoldallError)
    return found


def an(kind: type[HoldallError]) -> HoldallError:
    return kind("x", size_bytes=1) if issubclass(kind, RangeError) else kind("x")


def test_the_page_of_errors_lists_each_with_its_status_and_exit_code() -> None:
    documented = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[2], cells[3])
        for cells in rows_of("docs/errors.md", 5)
        if cells[0].startswith("`")
    }
    actual = {}
    for slug, kind in all_errors().items():
        status = "—" if slug in NEVER_ANSWERED or slug.startswith("timeline") else str(error_reply(an(kind)).status)
        actual[slug] = (kind.__name__, status, str(code_of(an(kind))))

    assert documented == actual


def test_the_page_of_errors_lists_each_exit_code() -> None:
    documented = {int(code): words for code, words in rows_of("docs/errors.md", 2) if code.isdecimal()}

    assert documented == {**MEANINGS, PIPE_CLOSED: "whoever read the output has gone"}


@pytest.mark.parametrize(
    "words",
    [(command.name,) for command in every_command() if command.usage != "COMMAND"]
    + [("slot", name) for name in SLOT_COMMANDS]
    + [("store", name) for name in STORE_COMMANDS]
    + [("timeline", name) for name in TIMELINE_COMMANDS]
    + [("sync", name) for name in SYNC_COMMANDS],
    ids=" ".join,
)
def test_the_page_of_the_command_line_names_each_command_and_option(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - {"--help"}
    page = text_of("docs/cli.md")
    named = {option for option in options if re.search(rf"{option}(?![\w-])", page)}

    assert " ".join(words) in page
    assert options
    assert options - named == set()


def test_each_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
    wanted += project["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=~! \[]", requirement)[0] for requirement in wanted}
    page = "docs/decisions/0002-dependencies.md"
    listed = {
        name for columns in (2, 3) for cells in rows_of(page, columns) for name in re.findall(r"`([\w-]+)`", cells[0])
    }

    assert listed == names


def test_each_metric_is_described_and_each_described_one_is_there(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        urlopen(f"{server.url}/-/health").close()
        with urlopen(f"{server.url}/-/metrics") as answer:
            exposed = set(re.findall(r"^# TYPE (\w+)", answer.read().decode(), re.MULTILINE))
    described = {
        name
        for cells in rows_of("docs/protocol/health-metrics.md", 2)
        for name in re.findall(r"`(holdall_\w+)", cells[0])
    }
    alerts = set(re.findall(r"holdall_\w+", text_of("docs/operations.md")))

    assert described == exposed
    assert {re.sub(r"_bucket$", "", name) for name in alerts} <= exposed


def test_the_architecture_names_only_what_is_there() -> None:
    named = set(
        re.findall(r"`((?:core|stores|server|snapshot|cli|timeline)/\w+\.py)`", text_of("docs/architecture.md"))
    )
    missing = {name for name in named if not (ROOT / "src" / "holdall" / name).is_file()}

    assert named
    assert missing == set()


@pytest.mark.parametrize("room", ["core", "stores", "server", "snapshot", "timeline"])
def test_the_architecture_has_a_place_for_each_module(room: str) -> None:
    page = text_of("docs/architecture.md")
    named = re.findall(r"^\| (`.*?`) \|", page[page.index("## Rooms") : page.index("## Rules")], re.MULTILINE)
    placed = [pattern for cell in named if f"`{room}/" in cell for pattern in re.findall(r"[\w*]+\.py", cell)]
    modules = sorted((ROOT / "src" / "holdall" / room).glob("[a-z]*.py"))

    assert [path.name for path in modules if not any(path.match(pattern) for pattern in placed)] == []


def test_the_architecture_has_each_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    page = text_of("docs/architecture.md")
    floors = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert floors is not None
    rows = [re.split(" {2,}", line)[0].split(" | ") for line in floors[1].split("\n") if line.strip()]
    drawn = [" | ".join(f"holdall.{room}" for room in rooms) for rooms in rows]
    contracts = [cells for cells in rows_of("docs/architecture.md", 2) if cells[1] != "reason"]
    start = next(number for number, cells in enumerate(contracts) if cells[0].startswith("a room imports"))

    assert drawn == layers
    assert len(project["tool"]["importlinter"]["contracts"]) == 4
    assert contracts[start + 3][0] == "the server never needs the HTTP client"


def test_each_decision_is_listed() -> None:
    there = {path.name for path in (DOCS / "decisions").glob("0*.md")}

    assert set(re.findall(r"\((0\d{3}-[\w-]+\.md)\)", text_of("docs/decisions/index.md"))) == there


@pytest.mark.parametrize(("page", "name", "words"), STATED)
def test_a_bound_that_a_page_states_is_the_one_in_force(page: str, name: str, words: str) -> None:
    bound = BOUNDS[name]
    numbers = set()
    for number, unit in re.findall(r"(\d[\d,]*)(?: ?([KMT]iB))?", words):
        numbers.add(int(number.replace(",", "")) * UNITS.get(unit, 1))
    numbers |= {value for word, value in WRITTEN.items() if re.search(rf"\b{word}\b", words)}

    assert words in " ".join(text_of(page).split())
    assert bound in numbers
