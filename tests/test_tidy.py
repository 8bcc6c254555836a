"""The house rules that a machine can check: sizes, walls, docstrings, and what never to write."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "holdall"
MODULES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))

FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 70
IMPURE = {"asyncio", "datetime", "os", "pathlib", "random", "secrets", "socket", "subprocess", "tempfile", "time"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
UNFINISHED = ("TODO", "FIXME", "XXX", "NotImplementedError")
# In two parts, so that this file does not hold what it looks for.
DEVELOPERS_PLACES = tuple(f"/{name}/" for name in ("work", "root"))

Function = ast.FunctionDef | ast.AsyncFunctionDef

every_module = pytest.mark.parametrize("module", MODULES)


@cache
def text_of(module: str) -> str:
    return (SRC / module).read_text(encoding="utf-8")


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(text_of(module), filename=module)


def imported_by(module: str) -> set[str]:
    """The first name of every module that this one imports."""
    names = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def public_definitions(node: ast.Module | ast.ClassDef, prefix: str = "") -> list[tuple[str, Function | ast.ClassDef]]:
    """Every class, function and method that a user may call, by its dotted name."""
    found: list[tuple[str, Function | ast.ClassDef]] = []
    for child in node.body:
        if not isinstance(child, Function | ast.ClassDef) or child.name.startswith("_"):
            continue
        found.append((prefix + child.name, child))
        if isinstance(child, ast.ClassDef):
            found += public_definitions(child, f"{prefix}{child.name}.")
    return found


def tracked_files() -> list[str]:
    """Every file of the repository that is or will be committed."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("this is no git checkout, so nothing is tracked")
    return [name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@every_module
def test_files_are_short(module: str) -> None:
    lines = text_of(module).count("\n")

    assert lines <= FILE_LINES_MAX


@every_module
def test_functions_are_short(module: str) -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree_of(module))
        if isinstance(node, Function)
    }

    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


@every_module
def test_every_import_names_what_it_imports(module: str) -> None:
    stars = [
        node.lineno
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]

    assert stars == []


@every_module
def test_only_the_output_module_prints(module: str) -> None:
    prints = [
        node.lineno
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert prints == [] or module == "cli/output.py"


@every_module
def test_only_the_edges_read_the_environment(module: str) -> None:
    reads = [
        node.lineno
        for node in ast.walk(tree_of(module))
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or (isinstance(node, ast.ImportFrom) and any(alias.name in ENVIRONMENT for alias in node.names))
    ]

    # The shell behind a key is a program of its own, which sshd starts.
    assert reads == [] or module.startswith(("cli/", "server/", "sync/shell.py"))


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("core/")])
def test_core_knows_no_files_sockets_processes_clock_or_randomness(module: str) -> None:
    assert imported_by(module) & IMPURE == set()


@every_module
def test_every_public_name_says_what_it_is(module: str) -> None:
    tree = tree_of(module)
    silent = [
        name
        for name, node in public_definitions(tree)
        # In the conformance suite, as in any test, the name of a test is its sentence.
        if not ast.get_docstring(node) and not (module.startswith("testing/") and ".test_" in name)
    ]

    assert ast.get_docstring(tree)
    assert silent == []


@every_module
def test_nothing_is_left_unfinished(module: str) -> None:
    found = [word for word in UNFINISHED if word in text_of(module)]

    assert found == []


def test_no_tracked_file_names_a_developers_place() -> None:
    found = [
        f"{name} holds {place}"
        for name in tracked_files()
        for place in DEVELOPERS_PLACES
        if place.encode() in (ROOT / name).read_bytes()
    ]

    assert found == []


def test_the_floors_stand_as_pyproject_draws_them() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
