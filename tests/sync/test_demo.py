"""A cluster on one machine, as a reader of the documentation tries it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import need_tool, run_cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("ssh", "ssh-keygen", "ssh-keyscan", "sshd", "git"):
        need_tool(tool)


def test_the_demo_ends_with_the_same_files_everywhere_and_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "trial"

    done = run_cli("sync", "demo", str(place), "--json", timeout=180)

    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    shown = {(step["host"], step["command"]): step["shown"] for step in steps}
    assert "milk, bread, tea, eggs" in shown["beta", "holdall sync conflicts diff notes/list"]
    assert shown["gamma", "ls notes && cat notes/list"] == "list\nmilk, bread, tea, eggs"
    assert len(shown["gamma", "holdall sync log notes/list"].splitlines()) >= 4
    assert not place.exists()


def test_the_demo_does_not_touch_a_directory_with_files(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")

    done = run_cli("sync", "demo", str(tmp_path))

    assert done.returncode == 2
    assert (tmp_path / "mine").read_text() == "precious"
