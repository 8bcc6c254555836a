"""A server that somebody else runs, named by `--also URL`; it must take PUT / and answer the path."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
from typing import TYPE_CHECKING, ClassVar

from bench.peers.base import Endpoint, Peer, Place
from bench.process import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Also(Peer):
    """A running server.

    Args:
        url: Its root, `http://host:port`.

    Raises:
        ValueError: Not of that form.
    """

    owned: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise ValueError(f"--also takes http://host:port, not {url!r}.")
        self._host, self._port = parts.hostname, parts.port or 80
        super().__init__(f"also-{self._host}:{self._port}")

    def version(self) -> tuple[str, str]:
        """The URL, in place of a version nobody told."""
        return self.name, f"http://{self._host}:{self._port}/"

    @contextlib.contextmanager
    def running(self, place: Place) -> Iterator[Endpoint]:
        """The server as it is; only looks whether it answers."""
        del place
        try:
            socket.create_connection((self._host, self._port), timeout=5).close()
        except OSError as error:
            raise BenchError(f"nobody answers at {self._host}:{self._port}: {error.strerror or error}") from error
        yield Endpoint(self._host, self._port, None)
