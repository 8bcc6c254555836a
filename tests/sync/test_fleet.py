"""Random lives of real folders, with pushes and kills: see fleet.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 200 if "HOLDALL_TEST_LONG" in os.environ else 20
BATCH = 10


@pytest.mark.parametrize("first", range(0, RUNS, BATCH))
def test_real_folders_end_equal_and_complete(first: int) -> None:
    # In a process of its own: it forks, and shall have no threads then.
    command = [sys.executable, "-m", "tests.sync.fleet", "--seed", str(first), "--count", str(BATCH)]
    ran = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
