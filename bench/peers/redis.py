"""redis: the rate that a database reaches, durable with `appendfsync always` or not at all."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.peers.base import OwnPeer, Place, ended_on_error, tool_missing, tool_path
from bench.process import HOST, free_port, spawn

if TYPE_CHECKING:
    from bench.process import Server


class Redis(OwnPeer):
    """redis-server, either syncing each write or keeping everything in memory only.

    Args:
        name: What its rows are called.
        durable: True for `appendonly yes, appendfsync always`, False for `appendonly no`.
    """

    speaks: ClassVar[Literal["http", "redis"]] = "redis"

    def __init__(self, name: str, *, durable: bool) -> None:
        super().__init__(name)
        # No rewrite in the background: in so short a run it would only disturb the figures, to redis's harm.
        always = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        self._options = always if durable else ["--appendonly", "no"]

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine, or None if it can."""
        return tool_missing("redis-server", "redis-server") or tool_missing("redis-benchmark", "redis-tools")

    def version(self) -> tuple[str, str]:
        """The program's name and version."""
        told = subprocess.run([tool_path("redis-server"), "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"v=(\S+)", told.stdout)
        return "redis", found[1] if found else "unknown"

    def start(self, place: Place) -> Server:
        """Starts it on a directory; ready when it accepts a connection."""
        port = free_port()
        command = [tool_path("redis-server"), "--bind", HOST, "--port", str(port), "--dir", place.data]
        command += ["--save", "", *self._options]
        with ended_on_error(spawn(command, log_path=place.log, port=port)) as server:
            server.wait_ready()
        return server
