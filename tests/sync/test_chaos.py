"""Random lives of a whole cluster, on hosts that fail in every way: see chaos.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trial import need_namespaces

from support import need_tool

RUNS, STEPS = (200, 24) if "HOLDALL_TEST_LONG" in os.environ else (2, 12)
BATCH = 20


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, RUNS, BATCH))
def test_a_cluster_ends_equal_and_complete_whatever_happens_to_its_hosts(first: int) -> None:
    need_namespaces()
    need_tool("cc")
    count = min(BATCH, RUNS - first)
    # In a process of its own, which can be replayed alone.
    asked = ["--seed", str(first), "--count", str(count), "--steps", str(STEPS)]
    command = [sys.executable, "-m", "tests.sync.chaos", *asked]
    ran = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False)
    sys.stdout.write(ran.stdout)

    assert ran.returncode == 0, ran.stderr
