"""What users install: a wheel in an environment of its own, and a command that starts without what it does not need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdall import __version__
from support import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent
SLOW = {"aiohttp", "asyncio", "cyclopts", "prometheus_client", "rich", "uvloop"}
"""What the overview must not wait for."""


def run(*command: str | Path, cwd: Path, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Runs a command that must succeed; returns what it wrote to standard output."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=clean_environment({"PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})}),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(*words: str | Path, cwd: Path) -> None:
    """Runs pip, sparing what only later starts would gain from."""
    run(sys.executable, "-m", "pip", "--quiet", *words, "--no-compile", cwd=cwd)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which what builds the package can be imported."""
    place = tmp_path_factory.mktemp("backend")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    install("install", "--target", place, *requires, cwd=place)
    return {"PYTHONPATH": str(place)}


@pytest.fixture(scope="module")
def wheel(backend: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT)
    run(sys.executable, *build, cwd=place, env=backend)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of a fresh environment with the wheel in it."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place / "venv", with_pip=False)
    programs = place / "venv" / "bin"
    install("--python", programs / "python", "install", "-c", ROOT / "constraints.txt", wheel, cwd=place)
    return programs


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name for name in names if name.endswith(".py")}
    expected = {f"holdall/{path.relative_to(ROOT / 'src/holdall').as_posix()}" for path in (ROOT / "src").rglob("*.py")}

    assert "holdall/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert modules == expected


def test_the_source_distribution_holds_what_building_and_testing_take(backend: dict[str, str], tmp_path: Path) -> None:
    script = (
        "import sys; from hatchling.builders.sdist import SdistBuilder;"
        "print(next(SdistBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=['standard'])))"
    )
    built = run(sys.executable, "-c", script, ROOT, tmp_path, cwd=tmp_path, env=backend).strip()
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml"}
    assert wanted <= names
    assert {"docs/index.md", "tests/support.py", "bench/__main__.py", "src/holdall/py.typed"} <= names
    assert not any(name.startswith((".venv", "site/", ".git/")) or "__pycache__" in name for name in names)


def test_the_installed_program_says_its_version(installed: Path, tmp_path: Path) -> None:
    as_program = run(installed / "holdall", "--version", cwd=tmp_path)
    as_module = run(installed / "python", "-m", "holdall", "--version", cwd=tmp_path)

    assert as_program == as_module == f"holdall {__version__}\n"


def test_the_installed_program_stores_and_reads(installed: Path, tmp_path: Path) -> None:
    holdall = installed / "holdall"
    address = run(holdall, "put", "--store", "store", cwd=tmp_path, stdin="hello\n").strip()

    assert address == "/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03.tig"
    assert run(holdall, "get", address, "--store", "store", cwd=tmp_path) == "hello\n"


def test_the_installed_server_starts_and_stops(installed: Path, tmp_path: Path) -> None:
    ready_read, ready_write = os.pipe()
    server = subprocess.Popen(
        [installed / "holdall", "serve", "--data", "data", "--port", "0", "--quiet", "--ready-fd", str(ready_write)],
        cwd=tmp_path,
        env=clean_environment(),
        pass_fds=(ready_write,),
    )
    os.close(ready_write)
    try:
        with open(ready_read, "rb") as ready:
            port = int(ready.readline())
        url = f"http://127.0.0.1:{port}"
        address = run(installed / "holdall", "put", "--store", url, cwd=tmp_path, stdin="hello\n").strip()

        assert run(installed / "holdall", "get", address, "--store", url, cwd=tmp_path) == "hello\n"
    finally:
        server.terminate()
        code = server.wait(60)

    assert code == 0


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]], ids=" ".join)
def test_the_overview_waits_for_nothing_that_it_does_not_need(words: list[str], tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "holdall", *words],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.split("\n") if "|" in line}

    assert "holdall" in imported
    assert imported & SLOW == set()


def test_ci_installs_each_program_that_a_test_needs() -> None:
    needed = set()
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        needed |= set(re.findall(r'need_tool\("([\w.-]+)"\)', text))
        for names in re.findall(r"for tool in \(([^)]*)\):\s+need_tool\(tool\)", text):
            needed |= set(re.findall(r'"([\w.-]+)"', names))
    listed = re.search(
        r'^tools="\n(.*?)^"$', (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert listed is not None

    assert needed - {line.split()[0] for line in listed[1].splitlines()} == set()
