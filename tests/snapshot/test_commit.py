"""Commits of real trees: one address wherever they are made, little sent again, and what tar restores."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.walk import walk

from holdall.core.codec import Codec
from holdall.core.manifest import decode_manifest
from holdall.limits import KIB, MIB
from holdall.snapshot.commit import Committer, Report
from holdall.snapshot.file_cache import FileCache
from holdall.stores.opening import open_store
from holdall.testing.contract import content
from support import need_tool, run_cli, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdall.snapshot.walk import Found, Skipped

    from holdall.core.address import Address

ODD_NAMES = [b"-rf", b"new\nline", b"\xff\xfe", b"x" * 255, b" ", b"\xc3\xbc", b"*", b"a\\b", b"~"]


def make_tree(root: Path, seed: int = 1) -> None:
    """A tree with some of everything; always the same for one seed."""
    chance = random.Random(seed)
    root.mkdir()
    for number in range(60):
        folder = root / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}.txt").write_bytes(chance.randbytes(chance.randrange(9000)))
    for number in range(3):
        (root / f"large{number}").write_bytes(chance.randbytes(900 * KIB + number))
    (root / "empty directory").mkdir()
    (root / "empty file").touch()
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("d1/e1")
    (root / "dangling").symlink_to("nowhere\nat all")
    for name in ODD_NAMES:
        with open(os.fsencode(root) + b"/" + name, "wb") as file:
            file.write(name)


def commit(
    root: Path, where: str, cache: Path | None = None, *, codec: Codec = Codec.ZSTD, dry_run: bool = False
) -> Report:
    def walked(on_skip: Callable[[Skipped], None]) -> Iterator[Found]:
        return walk(str(root), ignore=Ignore(str(root), take_all=True), on_skip=on_skip)

    async def run() -> Report:
        store = await open_store(where)
        try:
            committer = Committer(store, codec=codec, dry_run=dry_run)
            return await committer.commit(str(root), walked, FileCache(None if cache is None else str(cache)))
        finally:
            await store.aclose()

    return asyncio.run(run())


def stored(where: str, address: Address) -> bytes:
    async def run() -> bytes:
        store = await open_store(where)
        try:
            return await content(store, address)
        finally:
            await store.aclose()

    return asyncio.run(run())


def described(root: Path) -> dict[bytes, tuple[str, int, bytes]]:
    """What a commit keeps of a tree."""
    found = {}
    top = os.fsencode(root)
    for folder, directories, names in os.walk(top):
        for name in directories + names:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, top)
            if os.path.islink(path):
                found[short] = ("link", 0, os.readlink(path))
            elif os.path.isdir(path):
                found[short] = ("directory", 0, b"")
            else:
                with open(path, "rb") as file:
                    found[short] = ("file", os.stat(path).st_mode & 0o100, file.read())
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    make_tree(root)
    return root


ADDRESS = "10c0490fdd4a07c0397e9714a565f28a9e6b559e306d2ddabb65b59e3eb031bf"
"""Of the tree above, not compressed, in format version 1."""


@pytest.mark.parametrize("codec", Codec)
def test_the_same_tree_has_the_same_address_everywhere(tmp_path: Path, tree: Path, codec: Codec) -> None:
    make_tree(tmp_path / "again")
    for path in (tmp_path / "again").rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    first = commit(tree, str(tmp_path / "store"), codec=codec)
    again = commit(tmp_path / "again", str(tmp_path / "other store"), codec=codec)

    assert first.address == again.address
    assert first.address is not None
    if codec is Codec.NONE:
        assert first.address.hex() == ADDRESS


def test_curl_and_tar_restore_it(tmp_path: Path, tree: Path) -> None:
    with running_server(tmp_path / "data", "--quiet") as server:
        for codec, unpack in [(Codec.ZSTD, "--zstd"), (Codec.GZIP, "-z"), (Codec.NONE, "--no-same-owner")]:
            if codec is Codec.ZSTD:
                need_tool("zstd")
            report = commit(tree, server.url, codec=codec)
            assert report.address is not None
            out = tmp_path / codec.value
            out.mkdir()
            line = f"curl -sf '{server.url}{report.address.path}?burst=1' | tar {unpack} -x -C {out}"
            subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)

            assert described(out) == described(tree)


def test_a_second_commit_sends_little_and_reads_less(tmp_path: Path, tree: Path) -> None:
    where, cache = str(tmp_path / "store"), tmp_path / "cache"
    for path in tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    first = commit(tree, where, cache)
    same = commit(tree, where, cache)
    (tree / "d1" / "e1" / "f1.txt").write_text("edited")
    edited = commit(tree, where, cache)

    assert same.address == first.address
    assert (same.sent_chunks, same.sent_bytes) == (0, 0)
    assert edited.address != first.address
    assert edited.sent_chunks <= 5
    assert edited.address == commit(tree, str(tmp_path / "another store")).address


def test_what_another_store_lacks_is_made_again(tmp_path: Path, tree: Path) -> None:
    cache = tmp_path / "cache"
    first = commit(tree, str(tmp_path / "store"), cache)
    other = commit(tree, str(tmp_path / "other"), cache)

    assert other.address == first.address
    assert other.sent_chunks == first.sent_chunks
    assert first.address is not None
    assert decode_manifest(stored(str(tmp_path / "other"), first.address)).codec is Codec.ZSTD


def test_a_file_edited_within_a_tick_of_the_clock_is_seen(tmp_path: Path, tree: Path) -> None:
    where, cache = str(tmp_path / "store"), tmp_path / "cache"
    path = tree / "d1" / "e1" / "f1.txt"
    addresses = set()
    for number in range(20):
        path.write_text(f"{number:04}")
        addresses.add(commit(tree, where, cache).address)

    assert len(addresses) == 20


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x94\x02\x80\x80\x80"])
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, tree: Path, damage: bytes) -> None:
    cache = tmp_path / "cache"
    first = commit(tree, str(tmp_path / "store"), cache)
    cache.write_bytes(damage)

    assert commit(tree, str(tmp_path / "store"), cache).address == first.address


def test_a_dry_run_sends_nothing_and_says_how_much_it_would(tmp_path: Path, tree: Path) -> None:
    where = str(tmp_path / "store")
    would = commit(tree, where, dry_run=True)
    assert os.listdir(where) == [".holdall-control"]
    did = commit(tree, where)

    assert would.address is None
    assert (would.sent_bytes, would.sent_chunks) == (did.sent_bytes, did.sent_chunks)


def test_an_empty_tree_is_a_commit(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    report = commit(tmp_path / "tree", str(tmp_path / "store"))

    assert report.address is not None
    assert report.entries == 0


def test_files_that_change_while_they_are_read_are_kept_as_they_were_at_some_moment(tmp_path: Path, tree: Path) -> None:
    small, large = tree / "d1" / "e1" / "changing", tree / "large0"
    script = (
        "import sys, time\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    open(sys.argv[1], 'w').write(str(n) * (n % 5000))\n"
        "    open(sys.argv[2], 'ab').write(b'more')\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, small, large])
    try:
        for number in range(10):
            out = tmp_path / f"out{number}"
            report = commit(tree, str(tmp_path / "store"))
            assert report.address is not None
            done = run_cli("checkout", report.address.path, out, "--store", tmp_path / "store")
            assert done.returncode == 0, done.stderr
            length = (out / "large0").stat().st_size
            assert (out / "large0").read_bytes() == large.read_bytes()[:length]
    finally:
        writer.kill()
        writer.wait()


def test_an_unreadable_file_is_left_out_and_named(tmp_path: Path, tree: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tree / "run").chmod(0)
    (tree / "large1").chmod(0)
    report = commit(tree, str(tmp_path / "store"))

    assert {skipped.path for skipped in report.skipped} == {b"run", b"large1"}


def test_memory_stays_small_for_a_file_of_any_size(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "image", "wb") as file:
        file.truncate(1 << 30)
        for number in range(16):
            file.seek(number * 60 * MIB)
            file.write(os.urandom(4 * MIB))
    script = (
        "import sys\n"
        "from holdall.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    store = str(tmp_path / "store")
    command = [sys.executable, "-c", script, "commit", str(tree), "--store", store, "--no-cache", "--quiet"]
    done = subprocess.run(command, capture_output=True, check=True)

    assert int(done.stderr.split()[-1]) < 100 * KIB  # it is told in KiB
