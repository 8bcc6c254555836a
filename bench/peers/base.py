"""What every measured server is to the harness: a name, a way to start it on a directory, and how it takes a PUT."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.process import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

PutStyle = Literal["root", "unique"]


@dataclass(frozen=True)
class Place:
    """The directories of one peer in one phase, on the file system that is measured."""

    path: str

    @property
    def data(self) -> str:
        """Where its blobs live, flat."""
        return f"{self.path}/data"

    @property
    def run(self) -> str:
        """Where its settings, temporary files and log live."""
        return f"{self.path}/run"

    @property
    def log(self) -> str:
        """Where its output goes."""
        return f"{self.run}/log"

    def make(self) -> None:
        """Makes the directories."""
        os.makedirs(self.data)
        os.makedirs(self.run)


@dataclass(frozen=True)
class Endpoint:
    """A server that answers now."""

    host: str
    port: int
    server: Server | None
    """None where somebody else runs it."""

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://{self.host}:{self.port}/"


class Peer(ABC):
    """A server that can be measured.

    Args:
        name: What its rows are called.
    """

    speaks: ClassVar[Literal["http", "redis"]] = "http"
    put_style: ClassVar[PutStyle] = "root"
    owned: ClassVar[bool] = True
    """Whether the harness starts it and may look into its directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine, or None if it can."""
        return None

    @abstractmethod
    def version(self) -> tuple[str, str]:
        """The program's name and version."""

    @abstractmethod
    def running(self, place: Place) -> AbstractContextManager[Endpoint]:
        """The server, answering.

        Args:
            place: Directories that exist; the data may be empty or filled with blobs.

        Raises:
            BenchError: It cannot be reached, or it ended by itself in between.
        """


class OwnPeer(Peer):
    """A server that the harness starts, and ends on the way out, whatever happens."""

    @abstractmethod
    def start(self, place: Place) -> Server:
        """Starts it on a directory; returns when it answers.

        Args:
            place: Directories that exist; the data may be empty or filled with blobs.

        Raises:
            BenchError: It does not start.
        """

    @contextlib.contextmanager
    def running(self, place: Place) -> Iterator[Endpoint]:
        """The server, answering.

        Args:
            place: Directories that exist; the data may be empty or filled with blobs.

        Raises:
            BenchError: It does not start, or it ended by itself in between.
        """
        server = self.start(place)
        try:
            yield Endpoint(HOST, server.port, server)
            server.check_alive()
        finally:
            server.stop()


def tool_missing(tool: str, package: str) -> str | None:
    """Why a program cannot be run, or None if it can.

    Args:
        tool: Its name on PATH.
        package: The Debian package that has it.
    """
    if any(os.access(f"{folder}/{tool}", os.X_OK) for folder in tool_folders()):
        return None
    return f"{tool} is not installed; on Debian: apt install {package}"


def tool_folders() -> list[str]:
    """Where programs are looked for: PATH, and the places of servers that an ordinary user's PATH lacks."""
    return [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"]


def tool_path(tool: str) -> str:
    """The program's full path, or its bare name if it is nowhere."""
    found = (f"{folder}/{tool}" for folder in tool_folders() if os.access(f"{folder}/{tool}", os.X_OK))
    return next(found, tool)


@contextlib.contextmanager
def ended_on_error(server: Server) -> Iterator[Server]:
    """Stops a server that did not become ready, or whose wait was interrupted."""
    try:
        yield server
    except BaseException:
        server.stop()
        raise
