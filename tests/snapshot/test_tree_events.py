"""What of the changes in a tree a commit would take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from holdall.snapshot.commit_directory import CommitOptions
from holdall.snapshot.tree_events import Sieve

if TYPE_CHECKING:
    from pathlib import Path

NO = False
YES = True


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "build" / "in").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("*.log\n/build/\n")
    (tmp_path / "in" / ".holdallignore").write_text("!kept.log\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "is_directory", "takes", "takes_with_no_ignore"),
    [
        ("file", NO, YES, YES),
        ("in/deep/file", NO, YES, YES),
        (".gitignore", NO, YES, YES),
        ("noise.log", NO, NO, YES),
        ("in/deep/noise.log", NO, NO, YES),
        ("in/deep/kept.log", NO, YES, YES),
        ("build", YES, NO, YES),
        ("build", NO, YES, YES),
        ("build/in/file", NO, NO, YES),
        (".git/index", NO, NO, YES),
        ("in/.git", YES, NO, YES),
        ("secret", NO, NO, NO),
        ("gone/and away/file", NO, YES, YES),
    ],
)
def test_it_is_what_a_walk_would_find(
    tree: Path, path: str, is_directory: bool, takes: bool, takes_with_no_ignore: bool
) -> None:
    found = []
    for no_ignore in (False, True):
        options = CommitOptions(exclude=("secret",), no_ignore=no_ignore)
        sieve = Sieve(os.fsencode(tree), options.ignore(str(tree)), take_git=no_ignore)
        found += [sieve.takes(os.fsencode(path), is_directory=is_directory) for _ in range(2)]

    assert found == [takes, takes, takes_with_no_ignore, takes_with_no_ignore]
