"""Git repositories for tests, and time for Hypothesis; its being here also lets every test import `support`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from support import need_tool

if TYPE_CHECKING:
    from pathlib import Path

# How long an example takes says more of what else the machine is doing than of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def _git(folder: Path, *words: str) -> None:
    subprocess.run([need_tool("git"), "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty bare git repository."""
    _git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "remote")
    return tmp_path / "remote"


@pytest.fixture
def clone(tmp_path: Path, remote: Path) -> Path:
    """A clone of it, on an unborn branch."""
    _git(tmp_path, "clone", "--quiet", str(remote), "clone")
    return tmp_path / "clone"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A git repository without a remote, on an unborn branch."""
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", "alone")
    return tmp_path / "alone"
