"""The command line called in this very process, on a directory and on a running server.

A test module asks for these fixtures with `pytest_plugins`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from holdall.cli.main import main
from support import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "a key of the tests of the command line"


@pytest.fixture(scope="session")
def api_key() -> str:
    """The API key of the server of these tests."""
    return KEY


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def line(self) -> str:
        """The one line it printed."""
        (line,) = self.lines
        return line

    @property
    def lines(self) -> list[str]:
        """The lines it printed."""
        return self.out.decode().splitlines()

    @property
    def json(self) -> Any:
        """The one JSON document it printed."""
        return json.loads(self.line)


class Holdall(Protocol):
    """Runs `holdall` with these words."""

    def __call__(self, *words: str | Path) -> Result: ...


@pytest.fixture
def holdall(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Holdall:
    for name in ("HOLDALL_STORE", "HOLDALL_API_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str | Path) -> Result:
        capfdbinary.readouterr()
        code = main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return Result(code, out, err.decode())

    return run


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has an API key."""
    data = tmp_path_factory.mktemp("served") / "data"
    data.mkdir()
    (data / "apikey").write_text(KEY)
    with running_server(data) as server:
        yield server.url


@pytest.fixture(params=["directory", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, holdall: Holdall, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a store, which is also the default of the commands of this test."""
    del holdall  # it must have cleared the environment first
    if request.param == "directory":
        where = str(tmp_path / "the store")
    else:
        where = request.getfixturevalue("served")
        monkeypatch.setenv("HOLDALL_API_KEY", KEY)
    monkeypatch.setenv("HOLDALL_STORE", where)
    return where
