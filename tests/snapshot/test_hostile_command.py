"""Commits and bursts that somebody made to do harm, through the command line: one sentence, and no trap is sprung."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from backports import zstd
from making import file, folder, hard_link, made, symlink, with_content
from msgspec.structs import replace

from holdall.cli.main import main
from holdall.core.address import Address
from holdall.core.burst import members
from holdall.core.codec import Codec
from holdall.core.manifest import Manifest, burst, encode_sizes
from holdall.limits import MIB
from holdall.stores import bursts
from holdall.stores.directory import DirectoryStore
from holdall.testing.contract import content

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.core.tree import Entry
    from holdall.stores.base import Store

    Put = Callable[[Store, str], Awaitable[Address]]
    Run = Callable[..., tuple[int, bytes, str]]

GOOD = [file("a", b"a" * 70_000), folder("b"), file("b/c", os.urandom(5000))]


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories around `in/out`, where commits are restored, with things in them that must not change."""
    traps = tmp_path / "traps"
    for name in ("secret", "in/beside", "in/folder/file", "here/file"):
        path = traps / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"untouched")
    (traps / "in" / "link").symlink_to("../secret")
    os.link(traps / "secret", traps / "in" / "name of secret")
    monkeypatch.chdir(traps / "here")
    for name in ("HOLDALL_STORE", "HOLDALL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return traps


def picture(traps: Path) -> dict[str, Any]:
    """All there is but for `in/out`, down to when anything of it was changed."""
    found: dict[str, Any] = {}
    for path in (traps, *sorted(traps.rglob("*"))):
        name = str(path.relative_to(traps))
        if name.startswith(("in/out", "in/.out.holdall-")):
            continue
        status = path.lstat()
        facts = [status.st_ino, status.st_mode, status.st_uid, status.st_gid]
        if name != "in":  # in which `out` is built
            facts += [status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        found[name] = (*facts, path.read_bytes() if path.is_file() else None)
    return found


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command line: from words to exit code, standard output and standard error."""

    def run(*words: str | Path) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        code = main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


def stored(path: Path, put: Put, outside: str) -> str:
    """What `put` makes in a directory store; its address."""

    async def work() -> Address:
        store = await DirectoryStore.open(str(path))
        try:
            return await put(store, outside)
        finally:
            await store.aclose()

    return asyncio.run(work()).path


def tree(*entries: Callable[[str], tuple[Entry, bytes]]) -> Put:
    """A commit with these entries in its index, made for a path outside."""

    async def put(store: Store, outside: str) -> Address:
        commit = made([file("x", b"x" * 5000)])
        commit.entries = [entry(outside)[0] for entry in entries]
        return await commit.put(store)

    return put


async def device(store: Store, outside: str) -> Address:
    del outside
    row = msgspec.msgpack.encode([[b"a", 4, 0o644, 0, b"", b"", None]])
    index = await store.put(burst([await store.put(Codec.ZSTD.compress(row))]))
    chunk = await store.put(Codec.ZSTD.compress(bytes(2048)))
    sizes = await store.put(Codec.ZSTD.compress(encode_sizes([2048])))
    return await store.put(Manifest(Codec.ZSTD, index, sizes, 1, (chunk,)).encode())


async def bomb(store: Store, outside: str) -> Address:
    del outside
    good = await content(store, await made(GOOD).put(store))
    evil = await store.put(zstd.compress(bytes(256 * MIB)))
    return await store.put(good.replace(members(good)[0].path.encode(), evil.path.encode()))


async def cycle(store: Store, outside: str) -> Address:
    del outside
    circle = Address.of(b"a circle")
    await store.write(circle, b"%b\n" % circle.path.encode())
    sizes = await store.put(Codec.ZSTD.compress(encode_sizes([2048])))
    return await store.put(Manifest(Codec.ZSTD, await store.put(burst([circle])), sizes, 2, (circle,)).encode())


async def empty_lines(store: Store, outside: str) -> Address:
    del outside
    return await store.put(await content(store, await made(GOOD).put(store)) + b"\n" * 1_000_000)


async def member_missing(store: Store, outside: str) -> Address:
    del outside
    address = await made(GOOD).put(store)
    await store.delete(members(await content(store, address))[0])
    return address


def spoil(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(os.urandom(path.stat().st_size))
    path.chmod(0o444)


async def other_bytes(store: Store, outside: str) -> Address:
    del outside
    assert isinstance(store, DirectoryStore)
    address = await made(GOOD).put(store)
    spoil(Path(store.path, members(await content(store, address))[0].name))
    return address


async def other_contents(store: Store, outside: str) -> Address:
    del outside
    commit = made(GOOD)
    commit.entries[0] = with_content(commit.entries[0], b"other")
    return await commit.put(store)


async def longer_than_its_archive(store: Store, outside: str) -> Address:
    del outside
    commit = made(GOOD)
    commit.entries[-1] = replace(commit.entries[-1], size_bytes=1 << 40)
    return await commit.put(store)


async def no_commit(store: Store, outside: str) -> Address:
    del outside
    return await store.put(b"#!/bin/sh\nrm -rf /\n")


COMMITS: dict[str, tuple[Put, int]] = {
    "the parent": (tree(lambda _: file("../secret")), 4),
    "through the parent": (tree(lambda _: folder("a"), lambda _: file("a/../../beside")), 4),
    "an absolute path": (tree(lambda outside: file(f"{outside}/secret")), 4),
    "a NUL": (tree(lambda _: file("a\0b")), 4),
    "the same twice": (tree(lambda _: file("a"), lambda _: file("a")), 4),
    "a symlink, then a file through it": (tree(lambda outside: symlink("a", outside), lambda _: file("a/secret")), 4),
    "a symlink where a directory was": (
        tree(lambda _: folder("a"), lambda outside: symlink("a", outside), lambda _: file("a/secret")),
        4,
    ),
    "only a slash at the end is different": (tree(lambda _: folder("a"), lambda _: file("a/")), 4),
    "a hard link out": (tree(lambda _: hard_link("a", "../secret")), 4),
    "a hard link to an absolute path": (tree(lambda outside: hard_link("a", f"{outside}/secret")), 4),
    "a device": (device, 4),
    "a chunk that unpacks without end": (bomb, 4),
    "bursts that name themselves": (cycle, 4),
    "a million empty lines": (empty_lines, 4),
    "a chunk with other bytes": (other_bytes, 4),
    "other contents than its index says": (other_contents, 4),
    "longer than its archive": (longer_than_its_archive, 4),
    "a member is missing": (member_missing, 3),
    "no commit": (no_commit, 2),
}


@pytest.mark.parametrize(("put", "code"), COMMITS.values(), ids=COMMITS)
def test_a_hostile_commit_is_refused_and_nothing_around_is_touched(traps: Path, run: Run, put: Put, code: int) -> None:
    store, out = traps.parent / "store", traps / "in" / "out"
    address = stored(store, put, str(traps))
    before = picture(traps)

    new = run("checkout", address, out, "--store", store)
    assert not out.exists()
    out.mkdir(exist_ok=True)
    (out / "mine").write_bytes(b"mine")
    there = run("checkout", address, out, "--store", store, "--overwrite")
    others = {
        words[0]: run(*words, "--store", store)
        for words in (["verify", address], ["ls", address], ["show", address], ["keep", address])
    }

    assert (new[0], new[1], there[0], there[1]) == (code, b"", code, b"")
    assert re.fullmatch(r"holdall: [^\n]{10,500}\.\n", new[2])
    assert there[2] == new[2]
    assert (out / "mine").read_bytes() == b"mine"
    assert [name for name in os.listdir(out) if name.startswith(".holdall-")] == []
    assert picture(traps) == before
    assert {command: found for command, found in others.items() if found[0] not in {0, 2, 3, 4}} == {}
    assert {command: found for command, found in others.items() if "fault in holdall" in found[2]} == {}


# --- bursts, read as what they name ---


async def doubling(store: Store, outside: str) -> Address:
    """64 to the power of 8 members, in 9 blobs."""
    del outside
    address = await store.put(b"x")
    for _ in range(8):
        address = await store.put(burst([address] * 64))
    return address


async def lines_of_nothing(store: Store, outside: str) -> Address:
    del outside
    return await store.put(burst([await store.put(b"\n" * 1_000_000)] * 4000))


@pytest.mark.parametrize(
    ("put", "said"),
    [(doubling, "made of over 4096 bursts"), (lines_of_nothing, "over 20 MiB of lines")],
    ids=["doubling", "empty lines"],
)
def test_a_burst_that_takes_too_long_to_read_is_refused(
    traps: Path, run: Run, monkeypatch: pytest.MonkeyPatch, put: Put, said: str
) -> None:
    monkeypatch.setattr(bursts, "BURST_TEXT_BYTES_MAX", 20 * MIB)
    address = stored(traps.parent / "store", put, str(traps))

    code, out, err = run("get", "--depth", "8", address, "--store", traps.parent / "store")

    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert said in err
