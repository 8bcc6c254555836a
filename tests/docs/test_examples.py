"""Every command, exchange and example in the documentation does what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pages import LANGUAGES, Command, all_pages, blocks_of, matches, promise_of, steps_of
from sessions import Session, with_a_server

from support import need_tool

if TYPE_CHECKING:
    from pathlib import Path

    from pages import Step

NOT_RUN = {"docs/benchmarks.md"}
"""Measures for half an hour; tests/bench runs its shortest form."""

ONLY_READ = {"README.md", "docs/operations.md"}
"""Pages with `sh` blocks, which no test can run: make on this repository, and what needs a domain or other hosts."""


def pages_to_run() -> list[str]:
    return [page for page in all_pages() if page not in NOT_RUN and steps_of(page)]


@pytest.mark.parametrize("page", pages_to_run())
def test_a_page_shows_what_happens(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("bash", "curl"):
        need_tool(tool)
    monkeypatch.chdir(tmp_path)
    steps = with_a_server(steps_of(page))
    wrong = []
    with Session(tmp_path) as session:
        for number, step in enumerate(steps):
            shown, status = session.do(step)
            promise, line = promise_of(step)
            if promise is not None and not matches(shown, promise):
                wrong.append(f"{page}:{line}: the page shows\n{promise}\nbut it is\n{shown}\n")
            if status and not _asks_for_status(steps[number + 1 :]):
                wrong.append(f"{page}:{line}: this ended with {status}:\n{shown}")

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", all_pages())
def test_every_block_says_what_it_is(page: str) -> None:
    languages = {block.language for block in blocks_of(page)}

    assert languages <= LANGUAGES


def test_only_the_pages_listed_hold_commands_that_are_not_run() -> None:
    pages = {page for page in all_pages() if any(block.language == "sh" for block in blocks_of(page))}

    assert pages - NOT_RUN == ONLY_READ


def _asks_for_status(following: list[Step]) -> bool:
    """Whether the page goes on to show the exit status, so that it knows of the failure."""
    return bool(following) and isinstance(following[0], Command) and following[0].text == "echo $?"
