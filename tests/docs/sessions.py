"""Doing what a page tells its reader, in a scratch directory, with a real shell and a real server."""

from __future__ import annotations

import os
import secrets
import select
import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from pages import Command, Exchange, File, Serve

from support import clean_environment, free_port, running_server

if TYPE_CHECKING:
    from types import TracebackType

    from pages import Step

SHOWN_PORT: Final = "7777"
_DEADLINE_SECONDS: Final = 120.0


class Session:
    """One reader of one page.

    Args:
        place: The scratch directory, which is also the working directory.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._port = str(free_port())
        self._servers = ExitStack()
        self._status = 0
        (place / ".curlrc").write_text("no-progress-meter\n")  # as on a terminal, where the answer goes
        bin_directory = Path(sys.executable).parent
        proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
        environment = clean_environment(
            {
                "HOME": str(place),
                "XDG_DATA_HOME": str(place / "share"),
                "XDG_CONFIG_HOME": str(place / ".config"),
                "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
                "LC_ALL": "C.UTF-8",
                "TZ": "UTC",
            }
        )
        for name in proxies:
            del environment[name]
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=place,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()
        self._shell.kill()
        self._shell.communicate()

    def do(self, step: Step) -> tuple[str, int]:
        """Does one step; returns what it showed, in a page's terms, and its exit status."""
        if isinstance(step, File):
            path = self._place / step.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._real(step.text), encoding="utf-8")
            return "", 0
        if isinstance(step, Serve):
            return self._serve(step), 0
        if isinstance(step, Exchange):
            return self._as_shown(self._exchange(self._real(step.request))), 0
        assert isinstance(step, Command)
        output, status = self._run(self._real(step.text))
        return self._as_shown(output), status

    def _serve(self, step: Serve) -> str:
        words = shlex.split(self._real(step.options))
        env = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("-"))
        words = [word for word in words if word.split("=")[0] not in env]
        data = self._place / "data"
        if "--data" in words:
            at = words.index("--data")
            data = self._place / words[at + 1]
            del words[at : at + 2]
        self._servers.close()
        options = words if "--port" in words else ["--port", self._port, *words]
        self._servers.enter_context(running_server(data, *options, env=env, durable=True))
        shown = data.with_name(f"{data.name}.stderr").read_text(encoding="utf-8")
        return self._as_shown(shown).strip("\n")

    def _run(self, command: str) -> tuple[str, int]:
        mark = f"-- {secrets.token_hex(8)}"
        script = f"(exit {self._status}); {{ {command}\n}} </dev/null\nprintf '\\n%s %d\\n' '{mark}' $?\n"
        assert self._shell.stdin is not None
        self._shell.stdin.write(script.encode())
        self._shell.stdin.flush()
        output = self._read_to(mark, command)
        shown, _, rest = output.rpartition(f"\n{mark} ")
        self._status = int(rest)
        return shown.replace("\r\n", "\n"), self._status

    def _read_to(self, mark: str, command: str) -> str:
        assert self._shell.stdout is not None
        fd, deadline, output = self._shell.stdout.fileno(), time.monotonic() + _DEADLINE_SECONDS, b""
        while not (mark.encode() in output and output.endswith(b"\n")):
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(fd, 65536) if ready else b""
            if not piece:
                pytest.fail(f"this did not end: {command}\n{output.decode(errors='replace')}")
            output += piece
        return output.decode(errors="replace").rstrip("\n")

    def _exchange(self, request: str) -> str:
        head, _, body = request.rstrip("\n").partition("\n\n")
        with socket.create_connection(("127.0.0.1", int(self._port)), timeout=_DEADLINE_SECONDS) as client:
            client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode())
            with client.makefile("rb") as answer:
                lines = [answer.readline()]
                while lines[-1] not in {b"\r\n", b""}:
                    lines.append(answer.readline())
                names = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:-1]}
                length = 0 if head.startswith("HEAD ") else int(names.get(b"content-length", b"0"))
                return (b"".join(lines).replace(b"\r\n", b"\n") + answer.read(length)).decode()

    def _real(self, text: str) -> str:
        """A page's text with the port that its server really has."""
        return text.replace(f"127.0.0.1:{SHOWN_PORT}", f"127.0.0.1:{self._port}").replace(
            f"--port {SHOWN_PORT}", f"--port {self._port}"
        )

    def _as_shown(self, text: str) -> str:
        """An output with the port that the page shows."""
        return text.replace(f"127.0.0.1:{self._port}", f"127.0.0.1:{SHOWN_PORT}")


def with_a_server(steps: list[Step]) -> list[Step]:
    """The steps, begun with a server where they talk to one that they do not start."""
    first = next((step for step in steps if not isinstance(step, File)), None)
    needs = any(f"127.0.0.1:{SHOWN_PORT}" in str(step) or isinstance(step, Exchange) for step in steps)
    return [Serve("", None, 0), *steps] if needs and not isinstance(first, Serve) else steps
