"""holdall itself, by its command line."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING

from bench.peers.base import OwnPeer, Place, ended_on_error
from bench.process import HOST, spawn

if TYPE_CHECKING:
    from bench.process import Server


class Holdall(OwnPeer):
    """`holdall serve` with some of its options.

    Args:
        name: What its rows are called.
        workers: Processes that serve.
        durability: `sync` or `os`.
        cache: False to open a file for each read.
    """

    def __init__(self, name: str, *, workers: int, durability: str, cache: bool = True) -> None:
        super().__init__(name)
        self._options = ["--workers", str(workers), "--durability", durability]
        if not cache:
            self._options += ["--cache-size", "0"]

    def version(self) -> tuple[str, str]:
        """The program's name and version."""
        return "holdall", importlib.metadata.version("holdall")

    def start(self, place: Place) -> Server:
        """Starts it on a directory; ready when all its workers listen."""
        reading, writing = os.pipe()
        try:
            command = [sys.executable, "-m", "holdall", "serve", "--data", place.data, "--host", HOST, "--port", "0"]
            command += [*self._options, "--quiet", "--ready-fd", str(writing)]
            try:
                server = spawn(command, log_path=place.log, pass_fds=(writing,))
            finally:
                os.close(writing)
            with ended_on_error(server):
                server.wait_descriptor(reading)
            return server
        finally:
            os.close(reading)
