"""A terminal for typing the seed texts' command lines: bash, curl and a server, their port and /tmp mapped."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import need_tool, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the examples are typed: a server, and the directory that stands for /tmp."""

    server: Server
    tmp: Path

    def here(self, text: str) -> str:
        """A text of the examples with this test's port and directory."""
        bound = f"127.0.0.1:{self.server.port}"
        return text.replace("127.0.0.1:7777", bound).replace("127.0.0.1/", f"{bound}/").replace("/tmp/", f"{self.tmp}/")

    def run(self, command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command line as bash does, in the directory that stands for /tmp or in another."""
        return subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=cwd or self.tmp,
            env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def type(self, command: str, cwd: Path | None = None) -> str:
        """What a command line shows on standard output."""
        return self.run(command, cwd).stdout


@contextmanager
def terminal(parent: Path, *options: str, key: bool) -> Iterator[Terminal]:
    """A server on the directory that stands for /tmp, as the original's default was, with a key file or without."""
    for tool in ("bash", "curl", "sha256sum"):
        need_tool(tool)
    tmp = parent / "tmp"
    tmp.mkdir()
    if key:
        (tmp / "apikey").write_text("abc\n")  # as `echo abc > /tmp/apikey` does
    with running_server(tmp, *options) as server:
        yield Terminal(server, tmp)
