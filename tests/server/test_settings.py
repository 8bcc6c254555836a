"""Where a server's settings come from: the command line, else the environment, else a TOML file, else the default."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from asking import path_of, put
from holdall.cli.main import main
from support import DEADLINE_SECONDS, Server, clean_environment, run_cli, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def panel(server: Server) -> dict[str, str]:
    """What the server said of itself when it started, by the first word of each line."""
    text = (server.data.parent / f"{server.data.name}.stderr").read_text()
    rows = re.findall(r"^\W*(data|retention|durability|API key|runs)\s{2,}(.*?)[\s│|]*$", text, re.MULTILINE)
    return dict(rows)


PRECEDENCE = [
    ({}, {}, [], "2w"),
    ({"retention": "1h"}, {"HOLDALL_RETENTION": "2h"}, [], "2h"),
    ({"retention": "1h"}, {"HOLDALL_RETENTION": "2h"}, ["--retention", "3h"], "3h"),
    ({"retention": "1h"}, {"HOLDALL_RETENTION": ""}, [], "1h"),
]


@pytest.mark.parametrize(("file", "env", "options", "retention"), PRECEDENCE)
def test_the_nearest_naming_of_a_setting_counts(
    tmp_path: Path, file: dict[str, str], env: dict[str, str], options: list[str], retention: str
) -> None:
    config = tmp_path / "holdall.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in file.items()))
    with running_server(tmp_path / "data", "--config", str(config), *options, env=env, durable=True) as server:
        shown = panel(server)

    assert shown["retention"].startswith(f"{retention} after its last use an entry is deleted")
    assert shown["data"] == str(tmp_path / "data")


@contextmanager
def started(place: Path, *words: str, env: Mapping[str, str]) -> Iterator[Server]:
    """A server that is told nothing on its command line but the words given."""
    ready_read, ready_write = os.pipe()
    with open(place / "data.stderr", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "holdall", "serve", "--ready-fd", str(ready_write), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(ready_write,),
            env=clean_environment(env),
            cwd=place,
        )
    os.close(ready_write)
    try:
        with open(ready_read, "rb") as ready:
            line = ready.readline()
        assert line, (place / "data.stderr").read_text()
        yield Server(f"http://127.0.0.1:{int(line)}", int(line), process, place / "data")
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def test_every_setting_may_come_from_the_environment_or_from_the_file(tmp_path: Path) -> None:
    """The data directory and the port too, which the tests' other servers get on the command line."""
    file_data, env_data = tmp_path / "file data", tmp_path / "environment data"
    config = tmp_path / "holdall.toml"
    config.write_text(
        f'data = "{file_data}"\nport = 0\nhost = "127.0.0.1"\nworkers = 2\ndurability = "os"\n'
        'retention = "off"\nmax-size = "1MiB"\ncache_size = 0\nmax-connections = 10\ndrain-timeout = "60s"\n'
        'header-timeout = "2s"\nidle_timeout = "3s"\nstall_timeout = "4s"\nsweep-interval = "5s"\naccess-log = "json"\n'
    )
    for env in ({}, {"HOLDALL_DATA": str(env_data), "HOLDALL_MAX_SIZE": "2MiB", "HOLDALL_ACCESS_LOG": "off"}):
        with started(tmp_path, "--config", str(config), env=env) as server:
            shown = panel(server)
            largest = 1 << (21 if env else 20)
            assert server.port != 7777  # which it would have by default
            assert put(server, "/", bytes(largest)).status == 200
            assert put(server, "/", bytes(largest + 1)).status == 413
            assert server.stop() == 0

        assert shown["data"] == str(env_data if env else file_data)
        assert shown["retention"] == "off: everything is kept for ever"
        assert shown["durability"].startswith("os: ")
        assert shown["runs"] == "2 workers, 0 B of hot blobs each"
        assert ((env_data if env else file_data) / path_of(bytes(largest))[1:]).exists()
        logged = (tmp_path / "data.stderr").read_text()
        assert ('"status": 413' in logged) is not bool(env)


def test_a_start_is_told_on_standard_error_and_the_port_on_the_descriptor_given(tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdall", "serve", "--data", "data", "--port", "0", "--ready-fd", str(ready_write)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(ready_write,),
        env=clean_environment({"HOME": str(tmp_path)}),
        cwd=tmp_path,
    )
    os.close(ready_write)
    with open(ready_read, "rb") as ready:
        told = ready.read()
    process.terminate()
    out, error = process.communicate(timeout=DEADLINE_SECONDS)

    assert re.fullmatch(rb"[1-9][0-9]*\n", told)
    assert (process.returncode, out) == (0, b"")
    assert f"http://127.0.0.1:{int(told)}" in error.decode()
    assert str(tmp_path / "data") in error.decode()


def test_quiet_says_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--quiet", durable=True) as server:
        assert server.stop() == 0

    assert (tmp_path / "data.stderr").read_bytes() == b""


@pytest.mark.parametrize(("key", "warned"), [(None, True), ("abc", False)])
def test_a_server_open_to_other_hosts_without_a_key_warns(tmp_path: Path, key: str | None, warned: bool) -> None:
    env = {} if key is None else {"APIKEY": key}
    # 127.0.0.1 as one number: no other host is let in, but the server does not know that.
    with started(tmp_path, "--data", "data", "--port", "0", "--host", "2130706433", env=env):
        shown = (tmp_path / "data.stderr").read_text()

    assert ("Warning: other hosts can reach this server" in shown) is warned


WRONG = [
    (["--port", "abc"], "", "--port must be a whole number, not 'abc'."),
    (["--port", "65536"], "", "The port must be between 0 and 65535."),
    (["--workers", "0"], "", "The workers must be between 1 and 64."),
    (["--retention", "soon"], "", "--retention: 'soon' is not a duration."),
    (["--max-size", "0"], "", "The largest size must be above 0."),
    (["--max-size", "big"], "", "--max-size: 'big' is not a size."),
    (["--durability", "maybe"], "", "--durability is sync or os, not 'maybe'."),
    (["--access-log", "xml"], "", "The access log is off, text or json."),
    (["--cors", "a b"], "", "The CORS origin must be * or an origin such as https://example.com."),
    (["--max-connections", "0"], "", "There must be room for at least one connection."),
    ([], "retention = 'soon'", "--retention: 'soon' is not a duration."),
    ([], "retention = true", "{config}: --retention must be a text or a whole number."),
    ([], "speed = 9", "{config} names 'speed', which is no setting."),
    ([], "retention = ", "{config} is not TOML: "),
    (["--config", "/no/such/file"], "", "/no/such/file cannot be read: No such file or directory."),
]


@pytest.mark.parametrize(("options", "file", "sentence"), WRONG)
def test_a_setting_that_cannot_be_used_is_named_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], file: str, sentence: str
) -> None:
    config = tmp_path / "holdall.toml"
    config.write_text(file)
    words = ["--config", str(config), *options] if "--config" not in options else options

    code = main(["serve", "--data", str(tmp_path / "data"), *words])

    out, shown = capfd.readouterr()
    assert (code, out, shown.count("\n")) == (2, "", 1)
    assert shown.startswith(f"holdall: {sentence.format(config=config)}")
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_cannot_be_had_is_named_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")

    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run_cli("serve", "--data", place, "--port", "0")

        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == f"holdall: {place} is not a directory. Create it, or name another.\n"
