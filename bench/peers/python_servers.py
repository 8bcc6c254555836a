"""uvicorn and granian, each running a small application that does the same job."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from typing import TYPE_CHECKING, Final

from bench.peers.base import OwnPeer, Place, ended_on_error
from bench.process import HOST, free_port, spawn

if TYPE_CHECKING:
    from bench.process import Server

OPTIONS: Final = {
    "uvicorn": [
        "bench.peers.asgi_app:app",
        *("--workers", "1", "--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "off"),
        *("--no-access-log", "--no-server-header", "--log-level", "warning"),
    ],
    "granian": [
        "bench.peers.rsgi_app:app",
        *("--interface", "rsgi", "--workers", "1", "--loop", "uvloop", "--runtime-mode", "st", "--http", "1"),
        *("--no-ws", "--no-access-log", "--log-level", "warning"),
    ],
}


class PythonServer(OwnPeer):
    """A Python HTTP server with one worker.

    Args:
        name: `uvicorn` or `granian`, which is its module too.
    """

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine, or None if it can."""
        if importlib.util.find_spec(self.name) is None:
            return f"{self.name} is not installed; python -m pip install -e '.[dev]' has it"
        return None

    def version(self) -> tuple[str, str]:
        """The program's name and version."""
        return self.name, importlib.metadata.version(self.name)

    def start(self, place: Place) -> Server:
        """Starts it on a directory; ready when it accepts a connection."""
        port = free_port()
        command = [sys.executable, "-m", self.name, *OPTIONS[self.name], "--host", HOST, "--port", str(port)]
        environment = {"BENCH_DATA": place.data}
        with ended_on_error(spawn(command, log_path=place.log, port=port, environment=environment)) as server:
            server.wait_ready()
        return server
