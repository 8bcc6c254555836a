"""The seed text's way of committing and backing up: tar or zip through curl, and everything fetched by xargs."""

from __future__ import annotations

import os
import shutil
import stat
import sysconfig
import tarfile
import zipfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import Terminal, terminal

from asking import path_of
from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE_BYTES_MIN = 100_000_000
COMMIT = "curl --data-binary @- -X POST 'http://127.0.0.1:7777/?apikey=abc'"


@pytest.fixture(scope="module")
def locked_terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal whose server has the key abc."""
    with terminal(tmp_path_factory.mktemp("archives"), key=True) as found:
        yield found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The running Python's library with installed packages, as much of it as makes a tree of over 100 MB."""
    root = tmp_path_factory.mktemp("tree")
    left = TREE_BYTES_MIN
    places = sysconfig.get_paths()
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        for source in _files(Path(places[name])):
            target = root / name / source.relative_to(places[name])
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)  # quicker, where the file system and the owner allow it
            except OSError:
                shutil.copy2(source, target)
            left -= target.stat().st_size
            if left < 0:
                return root
    pytest.skip(f"this Python has no library of {TREE_BYTES_MIN} bytes")


def _files(place: Path) -> Iterator[Path]:
    """The regular files below a directory, in an order of their own names; no bytecode, which may change meanwhile."""
    for directory, below, names in os.walk(place):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """The mode and bytes of every file below a directory, and the mode of every directory, by relative path."""
    found = {}
    for directory, below, names in os.walk(root):
        for path in (Path(directory, name) for name in chain(below, names)):
            mode = stat.S_IMODE(path.stat().st_mode)
            found[str(path.relative_to(root))] = (mode, b"" if path.is_dir() else path.read_bytes())
    return found


def test_a_tree_of_over_100_mb_is_committed_with_tar_and_comes_back_identical(
    locked_terminal: Terminal, tree: Path, tmp_path: Path
) -> None:
    need_tool("tar")

    path = locked_terminal.type(f"tar --exclude .git -c . | {COMMIT}", cwd=tree)
    done = locked_terminal.run(f"curl -s http://127.0.0.1:7777{path} | (umask 0; tar -x)", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    committed, returned = contents(tree), contents(tmp_path)
    assert sum(len(data) for _, data in committed.values()) > TREE_BYTES_MIN
    assert returned.keys() == committed.keys()
    assert [name for name, found in committed.items() if returned[name] != found] == []


def test_the_stored_file_is_the_archive_itself(locked_terminal: Terminal, tmp_path: Path) -> None:
    need_tool("tar")
    (tmp_path / "a").write_text("alpha")

    path = locked_terminal.type(f"tar --exclude .git -c . | {COMMIT}", cwd=tmp_path)

    stored = locked_terminal.tmp / path.strip("/")
    assert path_of(stored.read_bytes()) == path
    with tarfile.open(stored) as archive:
        assert sorted(archive.getnames()) == [".", "./a"]


def test_a_directory_is_committed_with_zip_and_comes_back_identical(locked_terminal: Terminal, tmp_path: Path) -> None:
    need_tool("zip")
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "run.sh").write_bytes(b"#!/bin/sh\n" * 1000)
    (source / "run.sh").chmod(0o755)
    (source / "below" / "data").write_bytes(os.urandom(300_000))
    (source / ".hidden").write_text("left out by -x")

    path = locked_terminal.type(f"zip -r -x '.*' - . | {COMMIT}", cwd=source)
    locked_terminal.type(f"curl -s http://127.0.0.1:7777{path} --output ../back.zip", cwd=source)

    with zipfile.ZipFile(tmp_path / "back.zip") as archive:
        found = {item.filename: (item.external_attr >> 16 & 0o777, archive.read(item)) for item in archive.infolist()}
    assert {name: found[name] for name in found if not name.endswith("/")} == {
        "run.sh": (0o755, b"#!/bin/sh\n" * 1000),
        "below/data": (0o644, (source / "below" / "data").read_bytes()),
    }


def test_a_full_backup_holds_every_entry_under_its_name(tmp_path: Path) -> None:
    need_tool("xargs")
    with terminal(tmp_path, key=True) as typed:
        bodies = [b"one", b"two\n", b"\x00\xff" * 50_000, b""]
        for body in bodies:
            (typed.tmp / "body").write_bytes(body)
            typed.type("curl --data-binary @body 'http://127.0.0.1:7777/?apikey=abc'")
        backup = tmp_path / "backup"
        backup.mkdir()

        typed.type(
            "curl -s 'http://127.0.0.1:7777?apikey=abc' | xargs -I {} curl -s 127.0.0.1:7777{} --output .{}",
            cwd=backup,
        )

        assert {path.name: path.read_bytes() for path in backup.iterdir()} == {
            path_of(body)[1:]: body for body in bodies
        }
