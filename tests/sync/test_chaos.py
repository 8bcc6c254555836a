"""Random lives of a whole cluster, on hosts that fail in every way: see chaos.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from trial import need_namespaces

from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

IS_LONG = "HOLDALL_TEST_LONG" in os.environ
BATCH = 20
LIVES = [(range(first, first + BATCH), 24) for first in range(0, 200, BATCH)] if IS_LONG else [((3, 25), 12)]
"""Seeds, and how many steps: the short ones have two losses of power and a clock that jumps, each."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seeds", "steps"), LIVES)
def test_a_cluster_ends_equal_and_complete_whatever_happens_to_its_hosts(seeds: Sequence[int], steps: int) -> None:
    need_namespaces()
    need_tool("cc")
    # In a process of its own, which can be replayed alone.
    asked = ["--steps", str(steps), "--seed", *map(str, seeds)]
    command = [sys.executable, "tests/sync/chaos.py", *asked]
    ran = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False)
    sys.stdout.write(ran.stdout)

    assert ran.returncode == 0, ran.stderr
