"""Lines piped into a timeline are stored when they come, whatever becomes of the push and of the program."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest
from gits import blobs_of, git

from holdall.cli.timeline_lines import Intake
from holdall.timeline import Store
from support import clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDS = '#!/bin/sh\ntouch "$0.began"\nfor _ in $(seq 600); do [ -e "$0.go" ] && exit; sleep 0.05; done\n'


@contextmanager
def adding(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "holdall", "timeline", "add", "--each-line", "--quiet", "-C", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=clean_environment()) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def write(pipe: IO[bytes] | None, text: bytes) -> None:
    """Returns when the other side has read it."""
    assert pipe is not None
    pipe.write(text)
    pipe.flush()
    wait_until(lambda: struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0] == 0, "it was read")


def test_lines_are_stored_while_a_push_hangs(clone: Path, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOLDS)
    hook.chmod(0o755)
    with adding(clone) as process:
        write(process.stdin, b"one\n")
        wait_until(hook.with_name("pre-receive.began").exists, "the push has begun")
        write(process.stdin, b"two\n")
        wait_until(lambda: git(clone, "rev-list", "--count", "main") == "2\n", "the second line is stored")
        hook.with_name("pre-receive.go").touch()

    assert process.returncode == 0
    with Store(remote) as bare:
        assert blobs_of(bare) == [b"one", b"two"]


def test_lines_that_came_are_stored_when_the_program_is_told_to_end(alone: Path) -> None:
    with adding(alone) as process:
        write(process.stdin, b"one\ntwo\nhal")
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    assert process.returncode == 143
    with Store(alone) as store:
        assert blobs_of(store) == [b"one", b"two"]


def test_an_interrupt_at_the_very_start_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, kept = threading.Thread.start, list[bytes]()

    def begin_and_be_interrupted(thread: threading.Thread) -> None:
        begin(thread)
        write(pipe, b"one\ntwo")
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", begin_and_be_interrupted)
    standard_input, end = os.pipe()
    with open(standard_input, "rb"), open(end, "wb") as pipe:
        intake = Intake(standard_input, lambda lines: kept.extend(line for line, _ in lines))
        with pytest.raises(KeyboardInterrupt), intake:
            pass

        assert kept == [b"one"]
        assert not intake._thread.is_alive()


def test_a_closed_standard_input_is_a_wrong_call(alone: Path) -> None:
    command = f"exec '{sys.executable}' -m holdall timeline add <&-"
    done = subprocess.run(["sh", "-c", command], cwd=alone, capture_output=True, env=clean_environment(), check=False)

    assert (done.returncode, done.stderr[:36]) == (2, b"holdall: Standard input is closed. N")
