"""Files that cannot be read, or go while they are read, leave a commit that can be restored: the rest of the tree."""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from holdall.core.chunking import cut
from holdall.limits.snapshot import LARGE_FILE_BYTES_MIN
from holdall.snapshot.checkout import Wish, checkout
from holdall.snapshot.commit import Committer
from holdall.snapshot.file_cache import FileCache
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.reading import open_commit
from holdall.snapshot.walk import walk
from holdall.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdall.snapshot.walk import Found, Skipped

NOBODY = 65534
SIZES = pytest.mark.parametrize("size_bytes", [100, LARGE_FILE_BYTES_MIN + 1], ids=["small", "large"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "plain").write_bytes(b"plain")
    return tree


@contextmanager
def without_privileges(tree: Path) -> Iterator[None]:
    """For a while permissions count: root has entered the tree's directory and becomes somebody else."""
    if os.geteuid() != 0:
        yield
        return
    list(cut(io.BytesIO(b"x"), 1))  # imports what nobody may not be allowed to read
    for path in (tree, *tree.rglob("*")):
        os.chown(path, NOBODY, -1)
    for parent in tree.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def committed(
    tree: Path, out: Path, before_reading: Callable[[bytes], None] = lambda _: None
) -> tuple[dict[bytes, str], set[str]]:
    """Commits a tree and restores it: what was left out, with the reasons, and what is there now."""

    def walked(on_skip: Callable[[Skipped], None]) -> Iterator[Found]:
        ignore = Ignore(str(tree), take_all=True)
        for found in walk(str(tree), ignore=ignore, preserve=True, on_skip=on_skip):
            before_reading(found.entry.path)
            yield found

    async def run() -> list[Skipped]:
        store = MemoryStore()
        with without_privileges(tree):
            report = await Committer(store).commit(str(tree), walked, FileCache(None))
        assert report.address is not None
        async with await open_commit(store, report.address) as reader:
            await checkout(reader, Wish(directory=str(out)))
        return report.skipped

    skipped = asyncio.run(run())
    assert len(skipped) == len({each.path for each in skipped})
    return {each.path: each.reason for each in skipped}, {path.name for path in out.iterdir()}


@SIZES
def test_what_has_several_names_and_may_not_be_read_is_left_out_under_each(
    tmp_path: Path, tree: Path, size_bytes: int
) -> None:
    for number in range(4):  # more than a commit is begun anew
        (tree / f"{number} first").write_bytes(bytes(size_bytes))
        (tree / f"{number} first").chmod(0)
        (tree / f"{number} second").hardlink_to(tree / f"{number} first")
        (tree / f"{number} alone").write_bytes(bytes(size_bytes))
        (tree / f"{number} alone").chmod(0)
    skipped, restored = committed(tree, tmp_path / "out")

    assert skipped == {
        f"{number} {name}".encode(): "Permission denied" for number in range(4) for name in ("first", "second", "alone")
    }
    assert restored == {"plain"}


@SIZES
def test_the_next_name_of_a_file_whose_first_goes_while_it_is_read_is_the_file(
    tmp_path: Path, tree: Path, size_bytes: int
) -> None:
    contents = os.urandom(size_bytes)
    (tree / "a").write_bytes(contents)
    (tree / "b").hardlink_to(tree / "a")
    (tree / "c").hardlink_to(tree / "a")

    def before_reading(path: bytes) -> None:
        if path == b"a":
            (tree / "a").unlink()

    skipped, restored = committed(tree, tmp_path / "out", before_reading)

    assert (skipped, restored) == ({}, {"b", "c", "plain"})
    assert (tmp_path / "out" / "b").read_bytes() == contents
    assert (tmp_path / "out" / "c").samefile(tmp_path / "out" / "b")


@SIZES
def test_what_may_not_be_read_any_more_is_left_out_under_each_of_its_names(
    tmp_path: Path, tree: Path, size_bytes: int
) -> None:
    (tree / "a").write_bytes(bytes(size_bytes))
    (tree / "b").hardlink_to(tree / "a")

    def before_reading(path: bytes) -> None:
        if path == b"a":
            (tree / "a").chmod(0)

    skipped, restored = committed(tree, tmp_path / "out", before_reading)

    assert skipped == {b"a": "Permission denied", b"b": "Permission denied"}
    assert restored == {"plain"}
