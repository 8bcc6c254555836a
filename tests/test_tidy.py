"""The house rules that a machine can check: sizes, walls, docstrings, and what never to write."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@cache
def text_of(module: str) -> str:
    return (SRC / module).read_text(encoding="utf-8")


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(text_of(module), filename=module)


def every_node() -> Iterator[tuple[str, ast.AST]]:
    """Whatever any module consists of."""
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            yield module, node


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


def test_files_are_short() -> None:
    lengths = {module: text_of(module).count("\n") for module in MODULES}

    assert {module: lines for module, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{module}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module, node in every_node()
        if isinstance(node, Function)
    }

    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_every_import_names_what_it_imports() -> None:
    stars = [
        f"{module}:{node.lineno}"
        for module, node in every_node()
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]

    assert stars == []


def test_only_the_output_module_prints() -> None:
    prints = [
        f"{module}:{node.lineno}"
        for module, node in every_node()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if module != "cli/output.py"
    ]

    assert prints == []


def test_only_the_edges_read_the_environment() -> None:
    reads = [
        f"{module}:{node.lineno}"
        for module, node in every_node()
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or (isinstance(node, ast.ImportFrom) and any(alias.name in ENVIRONMENT for alias in node.names))
        # The shell behind a key is a program of its own, which sshd starts.
        if not module.startswith(("cli/", "server/", "sync/shell.py"))
    ]

    assert reads == []


def test_core_knows_no_files_sockets_processes_clock_or_randomness() -> None:
    known = {module: imported_by(module) & IMPURE for module in MODULES if module.startswith("core/")}

    assert {module: names for module, names in known.items() if names} == {}


def test_every_public_name_says_what_it_is() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(tree_of(module))]
    silent += [
        f"{module}: {name}"
        for module in MODULES
        for name, node in public_definitions(tree_of(module))
        # In the conformance suite, as in any test, the name of a test is its sentence.
        if not ast.get_docstring(node) and not (module.startswith("testing/") and ".test_" in name)
    ]

    assert silent == []


def test_nothing_is_left_unfinished() -> None:
    found = [f"{module}: {word}" for module in MODULES for word in UNFINISHED if word in text_of(module)]

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
