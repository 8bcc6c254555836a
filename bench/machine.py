"""What the figures were measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers.base import tool_path


@dataclass(frozen=True)
class Machine:
    """The machine at the start of a run."""

    node: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int
    python: str
    load_average: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return asdict(self)


def look() -> Machine:
    """Reads what the kernel tells."""
    return Machine(
        node=platform.node(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=platform.python_version(),
        load_average=os.getloadavg(),
    )


def wrk_version() -> str:
    """wrk's version."""
    told = subprocess.run([tool_path("wrk"), "-v"], capture_output=True, text=True, check=False)
    words = (told.stdout + told.stderr).split()
    return words[1] if len(words) > 1 else "unknown"


def _field(path: str, name: str) -> str | None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None
