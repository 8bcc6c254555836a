"""A commit is restored as it was, in one step or in several, into nothing or into what is there."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from making import META, file, folder, hard_link, made, symlink, tree_of

from holdall.core.address import Address
from holdall.core.tree import Metadata
from holdall.errors import ConflictError, DamageError, MemberNotFoundError, NotFoundError, OutOfSpaceError, UsageError
from holdall.limits import MIB
from holdall.limits.snapshot import DIRECTORIES_OPEN_MAX
from holdall.snapshot import places, restoring
from holdall.snapshot.checkout import Report, Wish, checkout
from holdall.snapshot.reading import open_commit
from holdall.stores.directory import DirectoryStore
from holdall.stores.memory import MemoryStore
from support import clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.stores.base import Store

LARGE = random.Random(4).randbytes(1_500_000)
TREE = [
    folder("a"),
    folder("a/b"),
    file("a/b/deep", b"deep"),
    file("a/empty"),
    file("a/large", LARGE),
    symlink("a/link", "../b\xff"),
    symlink("a/way-out", "/etc"),
    folder("empty"),
    file(b"odd\xff\n name", b"odd"),
    file("run", b"#!/bin/sh\n", 0o755),
    file("small", b"s" * 100_000),
]


def restore(tree: Any, directory: Path, store: Store | None = None, **wish: Any) -> Report:
    """Restores a tree; `changes` among the words takes what a dry run tells."""
    changes = wish.pop("changes", [])

    async def run() -> Report:
        place = store or MemoryStore()
        address = await made(tree).put(place)
        async with await open_commit(place, address) as reader:
            return await checkout(
                reader,
                Wish(directory=str(directory), **wish),
                on_change=lambda letter, path: changes.append((letter, path)),
            )

    return asyncio.run(run())


def address_of(tree: Any) -> Address:
    return Address.of(made(tree).blobs()[-1])


def building(directory: Path, tree: Any) -> Path:
    """Where a run builds before it is done."""
    return directory.with_name(f".{directory.name}.holdall-{address_of(tree).hex()[:12]}")


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# --- into nothing ---


def test_a_tree_is_restored_as_it_was(tmp_path: Path) -> None:
    report = restore(TREE, tmp_path / "out")

    assert tree_of(tmp_path / "out") == TREE
    assert (report.entries, report.files, report.files_bytes) == (11, 6, len(LARGE) + 100_017)
    assert os.listdir(tmp_path) == ["out"]


def test_an_empty_tree_is_an_empty_directory(tmp_path: Path) -> None:
    restore([], tmp_path / "out")

    assert os.listdir(tmp_path / "out") == []


def test_the_directories_above_are_made(tmp_path: Path) -> None:
    restore(TREE, tmp_path / "x" / "y" / "out")

    assert tree_of(tmp_path / "x" / "y" / "out") == TREE


def test_modes_are_those_of_the_commit_within_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        restore(TREE, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in ("small", "run", "a")}

    assert modes == {"small": 0o640, "run": 0o750, "a": 0o750}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


def test_an_empty_directory_is_filled_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    restore(TREE, tmp_path / "out")

    assert tree_of(tmp_path / "out") == TREE
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_the_directory_one_is_in_stays_the_same_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    inode = os.stat(".").st_ino
    restore(TREE, Path("."))

    assert os.stat(".").st_ino == inode
    assert tree_of(tmp_path / "out") == TREE


def test_a_symlink_to_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    restore(TREE, tmp_path / "out")

    assert (tmp_path / "out").is_symlink()
    assert tree_of(tmp_path / "real") == TREE


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")

    with pytest.raises(ConflictError, match="is not a directory"):
        restore(TREE, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_a_name_as_long_as_can_be_is_built_beside_too(tmp_path: Path) -> None:
    restore(TREE, tmp_path / ("n" * 255))

    assert tree_of(tmp_path / ("n" * 255)) == TREE


def test_a_path_longer_than_a_system_call_takes_is_restored(tmp_path: Path) -> None:
    names = ["d" * 120] * (DIRECTORIES_OPEN_MAX + 20)
    tree = [folder("/".join(names[:depth])) for depth in range(1, len(names) + 1)]
    tree += [file("/".join([*names, "x"]), b"deep"), symlink("/".join([*names, "y"]), "x"), file("e", b"after")]
    restore(tree, tmp_path / "out")
    at = os.open(tmp_path / "out", os.O_RDONLY)
    for name in names:
        deeper = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    found = os.open("y", os.O_RDONLY, dir_fd=at)

    assert os.read(found, 100) == b"deep"
    assert (tmp_path / "out" / "e").read_bytes() == b"after"
    os.close(found)
    os.close(at)


def test_long_runs_of_zeros_take_no_room(tmp_path: Path) -> None:
    holey = {
        "begin": bytes(4 * MIB) + LARGE,
        "end": LARGE + bytes(4 * MIB),
        "middle": LARGE[:1001] + bytes(4 * MIB) + LARGE[:77],
        "all": bytes(8 * MIB),
        "small": b"x" + bytes(200_000) + b"y",
        "small-all": bytes(200_000),
    }
    tree = [file(name, data) for name, data in sorted(holey.items())]
    restore(tree, tmp_path / "out")
    rooms = {name: (tmp_path / "out" / name).stat().st_blocks * 512 for name in holey}

    assert {name: (tmp_path / "out" / name).read_bytes() == data for name, data in holey.items()} == dict.fromkeys(
        holey, True
    )
    assert rooms["all"] == rooms["small-all"] == 0
    assert rooms["begin"] < len(LARGE) + MIB
    assert rooms["end"] < len(LARGE) + MIB
    assert rooms["middle"] < MIB
    assert rooms["small"] <= 16_384


# --- metadata ---

FULL = [
    folder("a", 0o750, meta=META),
    file("a/one", b"1", 0o640, meta=META),
    hard_link("a/two", "a/one", 0o640),
    folder("r", 0o555, meta=META),
    file("r/in", LARGE, 0o400, meta=META),
    symlink("s", "a/one", meta=META),
    hard_link("z", "a/one", 0o640),
]


def mtimes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.lstat().st_mtime_ns for path in root.rglob("*")}


def unlock(root: Path) -> None:
    """Lets pytest delete what has no write permission."""
    for path in root.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


@pytest.mark.parametrize("there", [False, True], ids=["new", "in place"])
def test_metadata_and_hard_links_are_restored(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_bytes(b"mine")
    report = restore(FULL, tmp_path / "out")
    out = tmp_path / "out"
    (out / "mine").unlink(missing_ok=True)
    found = mtimes(out)
    modes = {name: stat.S_IMODE((out / name).lstat().st_mode) for name in ("a", "a/one", "r", "r/in")}
    same = {(out / name).stat().st_ino for name in ("a/one", "a/two", "z")}
    unlock(out)

    assert found == dict.fromkeys(["a", "a/one", "a/two", "r", "r/in", "s", "z"], META.mtime_ns)
    assert modes == {"a": 0o750, "a/one": 0o640, "r": 0o555, "r/in": 0o400}
    assert len(same) == 1
    assert (out / "r/in").read_bytes() == LARGE
    assert report.troubles == []


def test_extended_attributes_are_restored_where_the_file_system_has_them(tmp_path: Path) -> None:
    (tmp_path / "probe").write_bytes(b"")
    try:
        os.setxattr(tmp_path / "probe", "user.a", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    meta = Metadata(0, os.getuid(), os.getgid(), xattrs=((b"user.a", b"1\n"), (b"user.b", b"")))
    report = restore([folder("d", meta=meta), file("d/f", b"x", meta=meta)], tmp_path / "out")

    assert report.troubles == []
    assert os.getxattr(tmp_path / "out" / "d" / "f", "user.a") == b"1\n"
    assert os.getxattr(tmp_path / "out" / "d", "user.b") == b""


def test_what_metadata_cannot_be_given_back_is_told_and_the_rest_restored(tmp_path: Path) -> None:
    odd = ((b"nowhere.a", b"1"), (b"user.\0", b"2"))
    meta = Metadata(5, os.getuid(), os.getgid(), xattrs=odd[:1])
    report = restore([file("f", b"x", meta=meta), file("g", b"y", meta=meta)], tmp_path / "out")

    assert (tmp_path / "out" / "g").read_bytes() == b"y"
    assert (tmp_path / "out" / "g").stat().st_mtime_ns == 5
    assert len(report.troubles) == 1
    assert report.troubles[0].startswith("2 entries could not be given back extended attributes, first 'f': ")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_root_gives_files_back_to_their_owners_by_name_else_by_number(tmp_path: Path) -> None:
    by_name = Metadata(0, 54_321, 54_321, "root", "root")
    by_number = Metadata(0, 54_321, 12_345, "nobody-of-this-name", "")
    restore([file("a", meta=by_name), file("b", meta=by_number), symlink("c", "x", meta=by_number)], tmp_path / "out")
    owners = [(tmp_path / "out" / name).lstat() for name in "abc"]

    assert [(owner.st_uid, owner.st_gid) for owner in owners] == [(0, 0), (54_321, 12_345), (54_321, 12_345)]


@pytest.mark.skipif(os.getuid() != 0, reason="only root is refused an owner in this way")
def test_set_id_bits_are_not_lent_to_another_owner(tmp_path: Path) -> None:
    nobody = Metadata(0, 2**32 - 1, 2**32 - 1)
    mine = Metadata(0, 0, 0)
    report = restore([file("a", b"x", 0o4755, meta=mine), file("b", b"y", 0o6755, meta=nobody)], tmp_path / "out")
    modes = [stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in "ab"]

    assert modes == [0o4755, 0o755]
    assert any("set-id bits" in trouble for trouble in report.troubles)


def test_without_metadata_no_set_id_bit_comes_from_a_commit(tmp_path: Path) -> None:
    restore([folder("d", 0o7777), file("d/a", b"x", 0o6755), file("d/b", b"x", 0)], tmp_path / "out")
    modes = [stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in ("d", "d/a", "d/b")]

    assert modes == [mode & ~umask() for mode in (0o755, 0o755, 0o644)]


def test_more_links_than_are_remembered_are_found_in_the_index_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "FINISHING_ENTRIES_MAX", 3)
    tree = [folder("d", meta=META), file("d/f", b"x", meta=META)]
    tree += [hard_link(f"d/h{number}", "d/f") for number in range(5)]
    tree += [symlink(f"s{number}", "d/f") for number in range(5)]
    restore(tree, tmp_path / "out")

    assert (tmp_path / "out/d/f").stat().st_nlink == 6
    assert [os.readlink(tmp_path / f"out/s{number}") for number in range(5)] == ["d/f"] * 5
    assert (tmp_path / "out/d").stat().st_mtime_ns == META.mtime_ns


# --- part of it ---


def test_part_of_a_commit_is_restored_with_the_directories_it_is_in(tmp_path: Path) -> None:
    report = restore(TREE, tmp_path / "out", paths=[b"/a/b/", b"./small"])

    assert [entry.path for entry, _ in tree_of(tmp_path / "out")] == [b"a", b"a/b", b"a/b/deep", b"small"]
    assert report.entries == 4


def test_only_the_chunks_that_are_needed_are_read(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        commit = made(TREE)
        address = await commit.put(store)
        for chunk in commit.chunks[:-1]:
            await store.delete(Address.of(commit.codec.compress(chunk)))
        async with await open_commit(store, address) as reader:
            await checkout(reader, Wish(directory=str(tmp_path / "out"), paths=[b"small", b"a/link"]))

    asyncio.run(run())

    assert [entry.path for entry, _ in tree_of(tmp_path / "out")] == [b"a", b"a/link", b"small"]


def test_a_path_that_is_not_there_is_not_found_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="'nowhere'"):
        restore(TREE, tmp_path / "new" / "out", paths=[b"a", b"nowhere"])
    with pytest.raises(UsageError, match="not a path inside"):
        restore(TREE, tmp_path / "new" / "out", paths=[b"a/../b"])
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("there", [False, True], ids=["new", "in place"])
def test_a_hard_link_to_a_file_that_is_not_wanted_becomes_the_file(tmp_path: Path, there: bool) -> None:
    tree = [
        folder("a", meta=META),
        file("a/one", LARGE, meta=META),
        folder("b", 0o750, meta=META),
        folder("b/c", 0o700, meta=META),
        hard_link("b/c/three", "a/one"),
        hard_link("b/two", "a/one"),
    ]
    if there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_bytes(b"mine")
    restore(tree, tmp_path / "out", paths=[b"b"])
    again = restore(tree, tmp_path / "out", paths=[b"b"])
    out = tmp_path / "out"

    assert (out / "b/two").read_bytes() == LARGE
    assert (out / "b/two").samefile(out / "b/c/three")
    assert (out / "b").stat().st_mtime_ns == META.mtime_ns
    assert stat.S_IMODE((out / "b").stat().st_mode) == 0o750
    assert not (out / "a").exists()
    assert again.files == 0


# --- into what is there ---


def test_what_is_there_is_left_alone_and_what_is_not_is_made(tmp_path: Path) -> None:
    restore(TREE, tmp_path / "out")
    (tmp_path / "out" / "small").unlink()
    (tmp_path / "out" / "a" / "link").unlink()
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    inode = (tmp_path / "out" / "a" / "large").stat().st_ino
    report = restore(TREE, tmp_path / "out")

    assert (report.files, report.left) == (1, 9)
    assert (tmp_path / "out" / "a" / "large").stat().st_ino == inode
    (tmp_path / "out" / "mine").unlink()
    assert tree_of(tmp_path / "out") == TREE


def change_contents(out: Path) -> None:
    (out / "small").write_bytes(b"S" * 100_000)


def change_length(out: Path) -> None:
    (out / "small").write_bytes(b"s")


def change_type(out: Path) -> None:
    (out / "small").unlink()
    (out / "small").symlink_to("run")


def change_link(out: Path) -> None:
    (out / "a/link").unlink()
    (out / "a/link").symlink_to("elsewhere")


def change_mode(out: Path) -> None:
    (out / "run").chmod(0o644)


def change_directory(out: Path) -> None:
    (out / "empty").rmdir()
    (out / "empty").write_bytes(b"a file")


def change_to_pipe(out: Path) -> None:
    (out / "small").unlink()
    os.mkfifo(out / "small")


CHANGES = [change_contents, change_length, change_type, change_link, change_mode, change_directory, change_to_pipe]


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_replaced_only_when_asked_to(tmp_path: Path, change: Callable[[Path], None]) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    change(out)
    (out / "a" / "empty").unlink()
    with pytest.raises(ConflictError, match=r"1 entry differs .* nothing was changed") as caught:
        restore(TREE, out)
    refused = not (out / "a" / "empty").exists()
    restore(TREE, out, replace=True)

    assert refused
    assert "--overwrite" in caught.value.hint
    assert tree_of(out) == TREE


def test_a_conflict_names_a_few_of_many(tmp_path: Path) -> None:
    tree = [file(f"f{number:03}", b"x") for number in range(300)]
    restore(tree, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.write_bytes(b"y")

    with pytest.raises(ConflictError, match=r"300 entries differ .*'f000', 'f001', 'f002' and 297 more"):
        restore(tree, tmp_path / "out")


def test_a_file_that_cannot_be_read_differs(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root reads everything")
    restore(TREE, tmp_path / "out")
    (tmp_path / "out" / "small").chmod(0)

    with pytest.raises(ConflictError, match="'small'"):
        restore(TREE, tmp_path / "out")


def test_a_symlink_in_the_place_of_a_directory_is_not_followed(tmp_path: Path) -> None:
    out, trap = tmp_path / "out", tmp_path / "trap"
    restore(TREE, out)
    trap.mkdir()
    (trap / "large").write_bytes(b"mine")
    for name in ("large", "empty", "link", "way-out", "b/deep"):
        (out / "a" / name).unlink()
    (out / "a" / "b").rmdir()
    (out / "a").rmdir()
    (out / "a").symlink_to(trap)
    with pytest.raises(ConflictError):
        restore(TREE, out)
    restore(TREE, out, replace=True)

    assert tree_of(out) == TREE
    assert (trap / "large").read_bytes() == b"mine"
    assert os.listdir(trap) == ["large"]


def test_a_directory_makes_way_for_a_file_only_if_all_in_it_may_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    (out / "small").unlink()
    (out / "small" / "x" / "y").mkdir(parents=True)
    (out / "small" / "x" / "mine").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="A directory is where"):
        restore(TREE, out, replace=True)
    (out / "small" / ".gitignore").write_bytes(b"kept\n")
    (out / "small" / "kept").write_bytes(b"kept")
    with pytest.raises(ConflictError, match="A directory is where"):
        restore(TREE, out, replace=True, delete=True)
    there = (out / "small" / "x" / "mine").exists()
    (out / "small" / "kept").unlink()
    report = restore(TREE, out, replace=True, delete=True)

    assert there
    assert report.deleted == 4
    assert tree_of(out) == TREE


def test_files_that_others_link_to_are_not_written_into(tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    (out / "small").write_bytes(b"mine")
    os.link(out / "small", tmp_path / "other")
    restore(TREE, out, replace=True)

    assert (tmp_path / "other").read_bytes() == b"mine"


def test_what_the_commit_does_not_have_is_deleted_only_when_asked_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    (out / "extra" / "deep").mkdir(parents=True)
    (out / "extra" / "deep" / "file").write_bytes(b"x")
    (out / "a" / "more").symlink_to("/etc")
    (out / ".git").mkdir()
    (out / ".git" / "config").write_bytes(b"mine")
    restore(TREE, out)
    kept = (out / "extra" / "deep" / "file").exists()
    report = restore(TREE, out, delete=True)

    assert kept
    assert report.deleted == 4
    assert (out / ".git" / "config").read_bytes() == b"mine"
    (out / ".git" / "config").unlink()
    (out / ".git").rmdir()
    assert tree_of(out) == TREE


def test_what_a_commit_would_leave_out_is_not_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tree = sorted([*TREE, file(".gitignore", b"*.o\n")], key=lambda pair: pair[0].path)
    restore(tree, out)
    (out / "built").mkdir()
    (out / "built" / "x.o").write_bytes(b"object")
    (out / "built" / "x.c").write_bytes(b"source")
    report = restore(tree, out, delete=True)

    assert report.deleted == 1
    assert os.listdir(out / "built") == ["x.o"]


def test_of_a_part_only_the_part_is_cleaned(tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    for place in ("a/b", "a", "."):
        (out / place / "extra").write_bytes(b"x")
    report = restore(TREE, out, delete=True, paths=[b"a/b"])

    assert report.deleted == 1
    assert not (out / "a/b/extra").exists()
    assert (out / "a/extra").exists()
    assert (out / "extra").exists()


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes: list[tuple[str, bytes]] = []
    restore(TREE, out, dry_run=True, changes=changes)
    nothing = list(tmp_path.iterdir())
    restore(TREE, out)
    (out / "small").write_bytes(b"mine")
    (out / "run").unlink()
    (out / "extra").write_bytes(b"x")
    later: list[tuple[str, bytes]] = []
    restore(TREE, out, dry_run=True, replace=True, delete=True, changes=later)

    assert changes == [("A", entry.path) for entry, _ in TREE]
    assert nothing == []
    assert later == [("D", b"extra"), ("A", b"run"), ("M", b"small")]
    assert (out / "small").read_bytes() == b"mine"
    assert (out / "extra").exists()


def test_metadata_of_what_is_there_is_mended_only_when_asked_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tree = [folder("a", 0o750, meta=META), file("a/f", b"x", 0o640, meta=META)]
    restore(tree, out)
    os.utime(out / "a" / "f", ns=(1, 1))
    os.utime(out / "a", ns=(1, 1))
    inode = (out / "a/f").stat().st_ino
    restore(tree, out)
    untouched = mtimes(out)
    restore(tree, out, replace=True)

    assert untouched == {"a": 1, "a/f": 1}
    assert mtimes(out) == {"a": META.mtime_ns, "a/f": META.mtime_ns}
    assert (out / "a/f").stat().st_ino == inode


def test_a_second_checkout_into_the_same_directory_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(TREE, out)
    fd = os.open(out, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)

    with pytest.raises(ConflictError, match="Another checkout is at work"):
        restore(TREE, out)
    os.close(fd)


# --- interrupted ---


class Breaking(MemoryStore):
    """A store that loses what is asked for after so many reads."""

    left = 10**9

    async def get(self, address, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.left -= 1
        if self.left < 0:
            raise NotFoundError("gone")
        return await super().get(address, *args, **kwargs)


MANY = [file(f"f{number:02}", random.Random(number).randbytes(400_000)) for number in range(20)]


def test_an_interrupted_run_is_gone_on_from(tmp_path: Path) -> None:
    out, store = tmp_path / "out", Breaking()
    half = building(out, MANY)
    written: dict[str, int] = {}
    for _ in range(10):  # how much is written before the break depends on the threads
        store.left = 20
        with pytest.raises(MemberNotFoundError):
            restore(MANY, out, store)
        written = {path.name: path.stat().st_ino for path in half.iterdir()}
        if len(written) > 2:
            break
    store.left = 10**9
    report = restore(MANY, out, store)

    assert 2 < len(written) < len(MANY)
    assert tree_of(out) == MANY
    assert report.left >= len(written) - 1
    assert sum((out / name).stat().st_ino == inode for name, inode in written.items()) >= len(written) - 1
    assert os.listdir(tmp_path) == ["out"]


def test_what_an_interrupted_run_left_damaged_is_written_again(tmp_path: Path) -> None:
    half = building(tmp_path / "out", TREE)
    half.mkdir()
    (half / "small").write_bytes(b"s" * 99_999 + b"?")
    (half / "run").write_bytes(b"#!/bin")
    (half / "a").mkdir()
    (half / "a" / "large").symlink_to("/etc/passwd")
    (half / "empty").write_bytes(b"")
    report = restore(TREE, tmp_path / "out")

    assert tree_of(tmp_path / "out") == TREE
    assert report.left == 1


def test_a_damaged_commit_leaves_no_directory(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        commit = made(TREE)
        address = await commit.put(store)
        await store.delete(Address.of(commit.codec.compress(commit.chunks[-1])))
        async with await open_commit(store, address) as reader:
            await checkout(reader, Wish(directory=str(tmp_path / "out")))

    with pytest.raises(MemberNotFoundError):
        asyncio.run(run())
    assert not (tmp_path / "out").exists()


def test_in_place_an_interrupted_run_leaves_whole_files_only(tmp_path: Path) -> None:
    out, store = tmp_path / "out", Breaking()
    out.mkdir()
    (out / "mine").write_bytes(b"mine")
    store.left = 30
    with pytest.raises(MemberNotFoundError):
        restore(MANY, out, store)
    written = [pair for pair in tree_of(out) if pair[0].path != b"mine"]
    store.left = 10**9
    restore(MANY, out, store)
    (out / "mine").unlink()

    assert 0 < len(written) < 20
    assert [pair for pair in written if pair not in MANY] == []
    assert tree_of(out) == MANY


def test_a_directory_that_is_not_mine_is_not_gone_on_in(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make what is another's")
    half = building(tmp_path / "out", TREE)
    half.mkdir()
    os.chown(half, 12_345, 12_345)

    with pytest.raises(ConflictError, match="is not yours"):
        restore(TREE, tmp_path / "out")


def test_what_comes_to_be_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def run() -> None:
        store = MemoryStore()
        address = await made(MANY).put(store)

        def intrude(_: str, done_bytes: int, total_bytes: int) -> None:
            if done_bytes == total_bytes:
                out.mkdir(exist_ok=True)
                (out / "mine").write_bytes(b"mine")

        async with await open_commit(store, address) as reader:
            await checkout(reader, Wish(directory=str(out)), on_progress=intrude)

    with pytest.raises(ConflictError, match="Something else is in") as caught:
        asyncio.run(run())
    assert str(building(out, MANY)) in caught.value.hint
    assert os.listdir(out) == ["mine"]


def test_progress_ends_where_it_says(tmp_path: Path) -> None:
    async def run(**wish: Any) -> list[tuple[int, int]]:
        store, told = MemoryStore(), list[tuple[int, int]]()
        address = await made(MANY).put(store)
        async with await open_commit(store, address) as reader:
            await checkout(
                reader,
                Wish(directory=str(tmp_path / f"out{len(wish)}"), **wish),
                on_progress=lambda _, done, total: told.append((done, total)),
            )
        return told

    whole, part = asyncio.run(run()), asyncio.run(run(paths=[b"f03", b"f04"]))

    assert whole[-1][0] == whole[-1][1] > 8_000_000
    assert part[-1] == (800_000, 800_000)


RESTORE = """
import asyncio, sys
from holdall.core.address import Address
from holdall.snapshot.checkout import Wish, checkout
from holdall.snapshot.reading import open_commit
from holdall.stores.directory import DirectoryStore
async def main():
    store = await DirectoryStore.open(sys.argv[1])
    async with await open_commit(store, Address.parse_text(sys.argv[2])) as reader:
        await checkout(reader, Wish(directory=sys.argv[3]))
    await store.aclose()
asyncio.run(main())
"""


def entries_in(directory: Path) -> int:
    with suppress(FileNotFoundError):  # it gets its name when it is done
        return len(os.listdir(directory))
    return 0


def test_a_run_that_is_killed_is_gone_on_from(tmp_path: Path) -> None:
    tree = [file(f"f{number:03}", random.Random(number).randbytes(300_000)) for number in range(100)]
    out, half = tmp_path / "out", building(tmp_path / "out", tree)

    async def put() -> None:
        store = await DirectoryStore.open(str(tmp_path / "store"))
        await made(tree).put(store)
        await store.aclose()

    asyncio.run(put())
    command = [sys.executable, "-c", RESTORE, str(tmp_path / "store"), str(address_of(tree)), str(out)]
    for count in (3, 30, 60):
        process = subprocess.Popen(command, env=clean_environment())
        wait_until(
            lambda count=count, process=process: (
                process.poll() is not None  # type: ignore[misc]
                or entries_in(half) > count
            ),
            "files are written",
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=clean_environment(), check=True)

    assert tree_of(out) == tree
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OutOfSpaceError, match="The disk is full") as caught:
            restore(MANY, small / "out")
        subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
        report = restore(MANY, small / "out")

        assert "goes on" in caught.value.hint
        assert tree_of(small / "out") == MANY
        assert report.left > 5
    finally:
        subprocess.run(["umount", small], check=True)


def test_contents_that_are_not_those_of_the_index_are_refused(tmp_path: Path) -> None:
    async def run(number: int) -> None:
        store = MemoryStore()
        commit = made(TREE)
        commit.chunks[number] = commit.chunks[number].replace(b"ssss", b"SSSS").replace(LARGE[9:99], LARGE[10:100])
        address = await commit.put(store)
        async with await open_commit(store, address) as reader:
            await checkout(reader, Wish(directory=str(tmp_path / "out")))

    for number in (1, -1):
        with pytest.raises(DamageError, match="not those that the commit's index names"):
            asyncio.run(run(number))
        assert not (tmp_path / "out").exists()


def test_a_run_that_is_refused_takes_nothing_from_the_one_at_work(tmp_path: Path) -> None:
    half = building(tmp_path / "out", TREE)
    half.mkdir()
    fd = os.open(half, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)

    with pytest.raises(ConflictError, match="Another checkout is at work"):
        restore(TREE, tmp_path / "out")
    assert half.is_dir()
    os.close(fd)


def deep(root: Path, levels: int) -> list[bytes]:
    """Makes directories one in the other; the paths of all, the outermost first."""
    paths = [b"/".join([b"d"] * level) for level in range(1, levels + 1)]
    for path in paths:
        os.mkdir(os.fsencode(root) + b"/" + path)
    return paths


def test_going_back_up_a_deep_tree_opens_each_directory_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = deep(tmp_path, 10 * DIRECTORIES_OPEN_MAX)
    root = os.open(tmp_path, os.O_RDONLY)
    cursor, opened, before = places.Cursor(root), 0, os.open

    def counted(*args: Any, **named: Any) -> int:
        nonlocal opened
        opened += 1
        return before(*args, **named)

    monkeypatch.setattr(os, "open", counted)
    for path in (*paths, *reversed(paths)):
        assert os.path.samestat(os.fstat(cursor.directory(path)), os.stat(os.fsencode(tmp_path) + b"/" + path))
    cursor.close()
    os.close(root)

    assert opened <= 3 * len(paths)


def test_the_way_back_up_does_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    paths = deep(tmp_path / "tree", 2 * DIRECTORIES_OPEN_MAX)
    root = os.open(tmp_path / "tree", os.O_RDONLY)
    cursor = places.Cursor(root)
    cursor.directory(paths[-1])
    os.rename(tmp_path / "tree" / os.fsdecode(paths[-1]), tmp_path / "moved")

    found = os.fstat(cursor.directory(paths[-2]))
    cursor.close()
    os.close(root)

    assert os.path.samestat(found, os.stat(tmp_path / "tree" / os.fsdecode(paths[-2])))
