"""Standard input and output as shells use them: pipes, endings, interruptions, progress."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from holdall.cli.progress import Progress
from holdall.core.address import Address
from support import DEADLINE_SECONDS, clean_environment, need_tool, run_cli, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDALL = [sys.executable, "-m", "holdall"]
HELLO = "/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03.tig"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return clean_environment({"HOLDALL_STORE": str(tmp_path / "store")})


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("keyless") / "data") as server:
        yield server.url


@pytest.mark.parametrize("words", [(), ("-",)])
def test_put_reads_standard_input(env: dict[str, str], words: tuple[str, ...]) -> None:
    put = run_cli("put", *words, input=b"hello\n", env=env)
    got = run_cli("get", HELLO, env=env)

    assert (put.stdout, got.stdout) == (f"{HELLO}\n".encode(), b"hello\n")


def test_standard_input_can_be_a_file_and_empty(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    with open(tmp_path / "file", "rb") as file:
        from_file = subprocess.run([*HOLDALL, "put"], stdin=file, capture_output=True, env=env, check=True)
    from_nothing = run_cli("put", env=env)

    assert from_file.stdout.decode() == f"{HELLO}\n"
    assert from_nothing.stdout.decode() == f"{Address.of(b'')}\n"


@pytest.mark.parametrize("where", ["directory", "server"])
def test_a_long_pipe_takes_little_memory(env: dict[str, str], keyless: str, where: str) -> None:
    """256 MiB through a process that may not have that much."""
    if where == "server":
        env["HOLDALL_STORE"] = keyless
    # Not ru_maxrss, which an exec takes over from the process that forked: here, the whole test run.
    script = (
        "import sys; from holdall.cli.main import main;"
        "code = main(['put', '-']);"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "sys.stderr.write(peak.split()[1]); sys.exit(code)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stdin is not None
        digest, block = hashlib.sha256(), bytes(range(256)) * 4096
        for _ in range(256):
            digest.update(block)
            process.stdin.write(block)
        out, err = process.communicate(timeout=240)  # all of it has to reach the disk

    assert out.decode() == f"/{digest.hexdigest()}.tig\n"
    assert int(err) < 128 * 1024


def test_keys_and_lists_and_values_come_from_standard_input_too(env: dict[str, str]) -> None:
    key = run_cli("slot", "key", "-", input=b"key\n", env=env)
    written = run_cli("slot", "set", "--key", "k", input=b"value", env=env)
    read = run_cli("slot", "get", "--key", "k", env=env)
    missing = run_cli("have", input=HELLO, env=env)

    assert key.stdout == b"/a7998f247bd965694ff227fa325c81169a07471a8b6808d3e002a486c4e65975.tig\n"
    assert (written.returncode, read.stdout, missing.stdout.decode()) == (0, b"value", f"{HELLO}\n")


def test_a_reader_that_leaves_early_makes_no_noise(env: dict[str, str]) -> None:
    address = run_cli("put", input=bytes(5_000_000), env=env).stdout.decode().strip()

    with subprocess.Popen(
        [*HOLDALL, "get", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
        code = process.wait(DEADLINE_SECONDS)

    assert (code, err) == (141, b"")


@pytest.mark.parametrize("words", [("ls",), ("ls", "-l")])
def test_a_listing_that_is_not_read_to_its_end_makes_no_noise(env: dict[str, str], words: tuple[str, ...]) -> None:
    for text in (b"one", b"two"):
        run_cli("put", input=text, env=env)
    read, write = os.pipe()
    os.close(read)
    listed = subprocess.run([*HOLDALL, *words], stdout=write, stderr=subprocess.PIPE, env=env, check=False)
    os.close(write)

    assert (listed.returncode, listed.stderr) == (141, b"")


def test_an_output_that_is_full_is_said(env: dict[str, str]) -> None:
    address = run_cli("put", input=b"hello\n", env=env).stdout.decode().strip()

    with open("/dev/full", "wb") as full:
        result = subprocess.run([*HOLDALL, "get", address], stdout=full, stderr=subprocess.PIPE, env=env, check=False)

    assert (result.returncode, result.stderr) == (
        1,
        b"holdall: The output cannot be written: No space left on device.\n",
    )


@pytest.mark.parametrize("where", ["directory", "server"])
def test_ctrl_c_ends_a_waiting_put_with_one_line_and_keeps_nothing(
    env: dict[str, str], tmp_path: Path, keyless: str, where: str
) -> None:
    if where == "server":
        env["HOLDALL_STORE"] = keyless
    with subprocess.Popen(
        [*HOLDALL, "put"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"the first part")
        process.stdin.flush()
        wait_until(lambda: unread(process.stdin.fileno()) == 0, "the command has read its input")  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        code = process.wait(DEADLINE_SECONDS)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()

    assert (code, out, err) == (130, b"", b"holdall: Interrupted.\n")
    if where == "directory":
        assert [name for name in os.listdir(tmp_path / "store") if not name.startswith(".holdall-c")] == []


def unread(pipe: int) -> int:
    """Bytes in a pipe that nobody has read."""
    import array  # noqa: PLC0415 - this alone needs them
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_damage_is_exit_code_4_and_leaves_no_file(env: dict[str, str], tmp_path: Path) -> None:
    data = os.urandom(600_000)
    address = run_cli("put", input=data, env=env).stdout.decode().strip()
    stored = tmp_path / "store" / address[1:]
    stored.chmod(0o644)
    stored.write_bytes(data[:-1] + b"?")
    stored.chmod(0o444)

    to_file = run_cli("get", address, "-o", tmp_path / "out", env=env)
    to_output = run_cli("get", address, env=env)

    assert (to_file.returncode, (tmp_path / "out").exists()) == (4, False)
    assert to_output.returncode == 4
    assert b"does not hash to it" in to_file.stderr
    assert [name for name in os.listdir(tmp_path) if name.startswith(".holdall")] == []


PATIENT = (
    "import sys; from holdall.cli import progress; progress._PATIENCE_SECONDS = 600.0;"
    "from holdall.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@contextmanager
def put_on_a_terminal(env: dict[str, str], *, patient: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A put that waits for its input, and our end of the terminal that is its standard error.

    Args:
        env: Its environment.
        patient: Whether minutes are short to it, as a second is by default.
    """
    command = [sys.executable, "-c", PATIENT] if patient else HOLDALL
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*command, "put"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, env=env
        ) as process:
            os.close(theirs)
            yield process, ours
    finally:
        os.close(ours)


def shown_on(terminal: int) -> bytes:
    """What a terminal shows now."""
    shown = b""
    while select.select([terminal], [], [], 0.01)[0]:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other end has closed it
            break
    return shown


def test_work_of_more_than_a_second_shows_its_progress_on_a_terminal(env: dict[str, str]) -> None:
    shown, sent = b"", 0

    with put_on_a_terminal({**env, "TERM": "xterm"}) as (process, terminal):
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while b"Storing" not in shown and time.monotonic() < deadline:
            process.stdin.write(bytes(1000))
            process.stdin.flush()
            sent += 1000
            shown += shown_on(terminal)
        process.stdin.close()
        out = process.stdout.read()

    assert b"Storing" in shown
    assert out.decode() == f"{Address.of(bytes(sent))}\n"


def test_short_work_shows_nothing_on_a_terminal(env: dict[str, str]) -> None:
    with put_on_a_terminal({**env, "TERM": "xterm"}, patient=True) as (process, terminal):
        out, _ = process.communicate(b"hello\n", DEADLINE_SECONDS)
        shown = shown_on(terminal)

    assert (out.decode(), shown) == (f"{HELLO}\n", b"")


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_for_terminals_and_for_those_who_want_it(monkeypatch: pytest.MonkeyPatch, *, quiet: bool) -> None:
    monkeypatch.setattr("holdall.cli.progress._PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: quiet, raising=False)

    with Progress("Storing", None, quiet=quiet) as progress:
        progress.add(1000)

        assert progress._bar is None


def test_nothing_to_read_from_a_terminal_is_wrong_use(env: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    try:
        result = subprocess.run([*HOLDALL, "put"], stdin=theirs, capture_output=True, env=env, check=False)
    finally:
        os.close(ours)
        os.close(theirs)

    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"holdall: There is nothing to read.")


def test_what_the_command_line_stores_the_original_tools_can_check(env: dict[str, str], tmp_path: Path) -> None:
    need_tool("sha256sum")
    run_cli("put", input=b"hello\n", env=env)

    summed = subprocess.run(["sha256sum", tmp_path / "store" / HELLO[1:]], capture_output=True, check=True)

    assert summed.stdout.decode().split()[0] == HELLO[1:65]
