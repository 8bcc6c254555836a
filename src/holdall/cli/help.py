"""The help page of one command, as plain text in aligned columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

_WIDTH_MAX: Final = 100
_COLUMN_MAX: Final = 26


class PlainHelp:
    """Lays out what cyclopts knows of a command: usage, description, then a block for each group of options."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Writes the first line."""
        del options
        if usage:
            _write(console, f"Usage: {_plain(usage).removeprefix('Usage:').strip()}")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Writes what the command is for."""
        del options
        if text := _plain(description).strip():
            paragraphs = [textwrap.fill(paragraph, _width()) for paragraph in text.split("\n\n")]
            _write(console, "\n" + "\n\n".join(paragraphs))

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Writes one block: its title and a line or more for each entry."""
        del options
        if not panel.entries:
            return
        rows = [(_label(entry), _words(entry)) for entry in panel.entries]
        column = min(_COLUMN_MAX, max(len(label) for label, _ in rows)) + 4
        _write(console, f"\n{_plain(panel.title)}:")
        for label, words in rows:
            text = textwrap.wrap(words, max(20, _width() - column)) or [""]
            first = f"  {label}"
            if len(first) + 2 > column:
                _write(console, first)
                first = ""
            for number, line in enumerate(text):
                _write(console, ((first if number == 0 else "").ljust(column) + line).rstrip())


def _label(entry: HelpEntry) -> str:
    if entry.positional_label:
        return entry.positional_label
    return ", ".join(entry.display_labels_with_metavar)


def _words(entry: HelpEntry) -> str:
    words = [_plain(entry.description)]
    if entry.choices:
        words.append(f"One of: {', '.join(entry.choices)}.")
    if entry.default not in {None, "False", "()"}:
        words.append(f"Default: {entry.default}.")
    return " ".join(word for word in words if word)


def _plain(text: Any) -> str:
    """The text of a string or of what rich would draw."""
    if text is None:
        return ""
    found = getattr(text, "primary_renderable", text)
    return str(getattr(found, "plain", found)).rstrip()


def _width() -> int:
    import shutil  # noqa: PLC0415 - slow to import, and needed for help pages only

    return min(_WIDTH_MAX, shutil.get_terminal_size().columns)


def _write(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
