"""The pages of the documentation, and what a reader is told to do on each, in order.

A page is read for its fenced blocks:

* `console`: commands after `$ ` (continued after `> `), each followed by what it shows;
* `http`: a request, and in the next `http` block the answer to it, to the letter;
* any block right after `<!-- file: NAME -->`: a file that later commands use;
* `sh`: commands that cannot be run here, such as those that need a domain of one's own.

`<!-- serve: OPTIONS -->` changes the server that the following blocks talk to. In what is shown, `…` stands for any
text within a line, and alone on a line for any lines; columns may be wider or narrower.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCS: Final = ROOT / "docs"
LANGUAGES: Final = {"console", "http", "ini", "nginx", "python", "sh", "text", "toml"}

_FENCE: Final = re.compile(r"^(\s*)```(\S*)\s*$")
_GAP: Final = re.compile(" {2,}")
_NOTE: Final = re.compile(r"^<!-- (file|serve):\s*(.*?)\s*-->$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: The word after the fence.
        text: What is inside.
        line: The line of the fence, from 1.
        note: The kind and text of the comment right before it, or None.
    """

    language: str
    text: str
    line: int
    note: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Serve:
    """A server is started, instead of the one before."""

    options: str
    shown: str | None
    line: int


@dataclass(frozen=True, slots=True)
class File:
    """A file is written."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command is run in the page's shell."""

    text: str
    shown: str
    line: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request is sent as it is written, and answered as it is written."""

    request: str
    answer: str
    line: int


Step = Serve | File | Command | Exchange


def promise_of(step: Step) -> tuple[str | None, int]:
    """What a page says that a step shows, or None where it says nothing, and on which line."""
    match step:
        case Exchange():
            return step.answer, step.line
        case Serve() | Command():
            return step.shown, step.line
        case File():
            return None, 0


def all_pages() -> list[str]:
    """Every page, relative to the repository."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def text_of(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = text_of(page).split("\n")
    start: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        assert not fence[1], f"{page}:{number + 1}: a fence stands at the margin"
        if start is None:
            start, language = number, fence[2]
            before = next((text for text in reversed(lines[:number]) if text.strip()), "")
            note = _NOTE.match(before)
        else:
            text = "".join(f"{inner}\n" for inner in lines[start + 1 : number])
            found.append(Block(language, text, start + 1, (note[1], note[2]) if note else None))
            start = None
    assert start is None, f"{page}: the fence of line {start} is never closed"
    return found


def steps_of(page: str) -> list[Step]:
    """What a reader does on a page, in order."""
    found: list[Step] = []
    request: Block | None = None
    for block in blocks_of(page):
        if block.note is not None and block.note[0] == "file":
            found.append(File(block.note[1], block.text))
            continue
        if block.note is not None:
            found.append(Serve(block.note[1], None, block.line))
        if block.language == "console":
            found += _commands(page, block)
        elif block.language == "http" and request is None:
            request = block
        elif block.language == "http":
            assert request is not None
            found.append(Exchange(request.text, block.text, request.line))
            request = None
    assert request is None, f"{page}: the last http block has no answer"
    return found


def _commands(page: str, block: Block) -> list[Step]:
    found: list[Step] = []
    command, shown, line = "", "", 0

    def finish() -> None:
        if not command:
            return
        served = re.fullmatch(r"((?:[A-Z_]+=\S+ )*)holdall serve ?(.*)", command, re.DOTALL)
        if served is not None and not command.endswith("&"):
            found.append(Serve(served[1] + served[2], shown, line))
        else:
            found.append(Command(command, shown, line))

    for number, text in enumerate(block.text.split("\n")[:-1], start=block.line + 1):
        if text.startswith("$ "):
            finish()
            command, shown, line = text[2:], "", number
        elif text.startswith("> ") and not shown:
            command += "\n" + text[2:]
        else:
            assert command, f"{page}:{number}: a console block begins with a command"
            shown += text + "\n"
    finish()
    return found


def matches(actual: str, shown: str) -> bool:
    """Whether an output is what a page shows of it; see the module."""
    parts = []
    actual, shown = _GAP.sub("  ", actual), _GAP.sub("  ", shown)
    for line in shown.rstrip("\n").split("\n"):
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part.rstrip("\n")) for part in line.rstrip().split("…")) + r"[ \t]*\n")
    return re.fullmatch("".join(parts), actual.rstrip("\n") + "\n") is not None
