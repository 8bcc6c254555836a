"""A commit that somebody made to do harm is refused with one sentence, and nothing outside the directory changes."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from backports import zstd
from making import META, Made, file, folder, hard_link, made, symlink, with_content

from holdall.core.address import Address
from holdall.core.burst import members
from holdall.core.codec import Codec
from holdall.core.manifest import Manifest, burst, encode_sizes
from holdall.errors import (
    CommitError,
    DamageError,
    HoldallError,
    LocalFileError,
    MemberNotFoundError,
    NotFoundError,
    TreeError,
)
from holdall.limits import MIB
from holdall.limits.snapshot import CHUNK_RAW_BYTES_MAX, MANIFEST_LINES_MAX
from holdall.snapshot import fetching, reading
from holdall.snapshot.checkout import Wish, checkout
from holdall.snapshot.compare import compare
from holdall.snapshot.keep import keep
from holdall.snapshot.reading import open_commit
from holdall.stores.directory import DirectoryStore
from holdall.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.stores.base import Store


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory to restore into, `in/out`, with things all around it that must not change."""
    for name in ("secret", "in/beside", "in/folder/file"):
        path = tmp_path / "trap" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"untouched")
        os.utime(path, ns=(1, 1))
    (tmp_path / "trap" / "in" / "link").symlink_to("../secret")
    return tmp_path / "trap"


def picture(root: Path, *, without: str) -> dict[str, Any]:
    """All that is in a directory but for `without`, and what that is called while it is built."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith((without, f"in/.{Path(without).name}.holdall-")):
            continue
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[name] = (status.st_mode, status.st_uid, status.st_nlink * (not path.is_dir()), status.st_size, content)
    return found


async def restored(store: Store, address: Address, directory: Path, **wish: Any) -> None:
    async with await open_commit(store, address) as reader:
        await checkout(reader, Wish(directory=str(directory), **wish))


def refused(trap: Path, put: Callable[[Store], Awaitable[Address]], **wish: Any) -> HoldallError:
    """What a commit is refused with, into nothing and into what is there; all around it is as it was."""
    errors = []
    for there in (False, True):
        out = trap / "in" / "out"
        if there:
            out.mkdir(exist_ok=True)
            (out / "mine").write_bytes(b"mine")
        before = picture(trap, without="in/out")

        async def run(out: Path = out) -> None:
            store = MemoryStore()
            await restored(store, await put(store), out, replace=True, delete=False, **wish)

        with pytest.raises(HoldallError) as caught:
            asyncio.run(run())
        errors.append(caught.value)
        assert picture(trap, without="in/out") == before
        assert not there or os.listdir(out) == ["mine"]
        assert there or not out.exists()
    assert type(errors[0]) is type(errors[1])
    assert re.fullmatch(r"[^\n]{10,400}\.", errors[0].message)
    return errors[0]


TREES: dict[str, list[Any]] = {
    "an absolute path": [file("/tmp/evil", b"x")],
    "the parent": [file("..", b"x")],
    "through the parent": [file("../evil", b"x")],
    "through a parent deeper": [folder("a"), file("a/../../secret", b"x")],
    "the directory itself": [file(".", b"x")],
    "an empty name": [folder("a"), file("a//b", b"x")],
    "a slash at the end": [file("a/", b"x")],
    "a NUL": [file("a\0b", b"x")],
    "a name too long": [file("a" * 256, b"x")],
    "a path too long": [file("/".join(["a" * 250] * 66), b"x")],
    "through a symlink": [symlink("a", ".."), file("a/secret", b"x")],
    "through an absolute symlink": [symlink("a", "/tmp"), file("a/evil", b"x")],
    "through a symlink that was a directory": [folder("a"), symlink("a", ".."), file("a/secret", b"x")],
    "a file as a parent": [file("a", b"x"), file("a/b", b"x")],
    "a parent that is not there": [file("a/b", b"x")],
    "the same twice": [file("a", b"x"), file("a", b"y")],
    "the same as file and symlink": [file("a", b"x"), symlink("a", "../secret")],
    "out of order": [file("b", b"x"), file("a", b"x")],
    "a hard link out": [hard_link("a", "../../secret")],
    "a hard link to an absolute path": [hard_link("a", "/etc/passwd")],
    "a hard link to what is in the directory": [hard_link("a", "mine")],
    "a hard link to itself": [hard_link("a", "a")],
    "a hard link to a symlink": [symlink("a", "../secret", meta=META), hard_link("b", "a")],
    "a hard link through a symlink": [symlink("a", "..", meta=META), hard_link("b", "a/secret")],
    "a hard link to a directory": [folder("a", meta=META), hard_link("b", "a")],
    "a hard link to what comes later": [hard_link("a", "b"), file("b", b"x", meta=META)],
    "a symlink to nothing": [symlink("a", "")],
    "a symlink with a NUL": [symlink("a", "b\0")],
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_tree_that_leads_out_is_refused(trap: Path, tree: list[Any]) -> None:
    # The chunks are those of a harmless tree: the packing of some of these would fail.
    async def put(store: Store) -> Address:
        commit = made([file("x", b"x" * 5000)])
        commit.entries = [entry for entry, _ in tree]
        return await commit.put(store)

    assert isinstance(refused(trap, put), TreeError)


ROWS: dict[str, object] = {
    "a device": [b"a", 4, 0o644, 0, b"", b"", None],
    "a pipe": [b"a", 6, 0o644, 0, b"", b"", None],
    "a negative type": [b"a", -2, 0o644, 0, b"", b"", None],
    "a mode that is none": [b"a", 0, 1 << 20, 1, bytes(32), b"", None],
    "a negative length": [b"a", 0, 0o644, -5, bytes(32), b"", None],
    "a length beyond all": [b"a", 0, 0o644, 1 << 62, bytes(32), b"", None],
    "a symlink with contents": [b"a", 2, 0o777, 5, bytes(32), b"b", None],
    "no hash": [b"a", 0, 0o644, 1, b"", b"", None],
    "numbers for names": [5, 0, 0o644, 1, bytes(32), b"", None],
    "too few fields": [b"a"],
    "half of the metadata": [b"a", 0, 0o644, 1, bytes(32), b"", [1, 2]],
    "no list": b"a",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_that_mean_nothing_are_refused(trap: Path, row: object) -> None:
    async def put(store: Store) -> Address:
        return await with_index(store, msgspec.msgpack.encode([row]))

    assert isinstance(refused(trap, put), CommitError)


async def with_index(store: Store, *parts: bytes, chunks: tuple[bytes, ...] = (bytes(2048),)) -> Address:
    """A commit with these parts of an index, whatever they are."""
    packed = [Codec.ZSTD.compress(part) for part in parts]
    index = await store.put(burst([await store.put(part) for part in packed]))
    named = [await store.put(Codec.ZSTD.compress(chunk)) for chunk in chunks]
    sizes = await store.put(Codec.ZSTD.compress(encode_sizes([len(chunk) for chunk in chunks])))
    return await store.put(Manifest(Codec.ZSTD, index, sizes, 1, tuple(named)).encode())


@pytest.mark.parametrize("part", [b"", b"\xff" * 100, b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, os.urandom(5000)])
def test_an_index_that_is_none_is_refused(trap: Path, part: bytes) -> None:
    async def put(store: Store) -> Address:
        return await with_index(store, part)

    assert isinstance(refused(trap, put), CommitError)


# --- what is longer, shorter or other than it says ---


def commit() -> Made:
    return made([file("a", b"a" * 70_000), file("b", bytes(range(256)) * 3000), file("c", b"c")])


async def with_sizes(store: Store, change: Callable[[list[int]], list[int]]) -> Address:
    spoiled = commit()
    spoiled.sizes = change([len(chunk) for chunk in spoiled.chunks])
    return await spoiled.put(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda sizes: sizes[:-1],
        lambda sizes: [*sizes, 5],
        lambda sizes: [-1, *sizes[1:]],
        lambda sizes: [CHUNK_RAW_BYTES_MAX + 1, *sizes[1:]],
        lambda sizes: [1 << 62, *sizes[1:]],
        lambda sizes: [0] * len(sizes),
        lambda sizes: [*sizes[:-1], sizes[-1] - 512],
        lambda sizes: [*sizes[:-1], sizes[-1] + 512],
    ],
    ids=["fewer", "more", "negative", "too long", "beyond all", "nothing", "a block less", "a block more"],
)
def test_lengths_that_do_not_fit_are_refused(trap: Path, change: Callable[[list[int]], list[int]]) -> None:
    assert isinstance(refused(trap, lambda store: with_sizes(store, change)), CommitError)


def test_lengths_that_only_differ_between_chunks_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        address = await with_sizes(store, lambda sizes: [sizes[0] + 512, sizes[1] - 512, *sizes[2:]])
        await restored(store, address, tmp_path / "out")

    with pytest.raises(DamageError, match=r"bytes, and the commit says|cannot be unpacked"):
        asyncio.run(run())
    assert not (tmp_path / "out").exists()


def test_an_index_that_claims_other_contents_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        spoiled = commit()
        spoiled.entries[0] = with_content(spoiled.entries[0], b"other")
        await restored(store, await spoiled.put(store), tmp_path / "out")

    with pytest.raises(DamageError, match="'a' are not those"):
        asyncio.run(run())
    assert not (tmp_path / "out").exists()


# --- bombs ---


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.GZIP])
def test_a_chunk_that_unpacks_without_end_takes_little_memory(tmp_path: Path, codec: Codec) -> None:
    bomb = codec.compress(bytes(64 * MIB)) if codec is Codec.GZIP else zstd.compress(bytes(256 * MIB))

    async def run() -> None:
        store = MemoryStore()
        spoiled = made([file("a", b"a" * 70_000)], codec)
        address = await spoiled.put(store)
        text = b"".join([piece async for piece in await store.get(address)])
        evil = text.replace(members(text)[0].path.encode(), (await store.put(bomb)).path.encode())
        tracemalloc.start()
        await restored(store, await store.put(evil), tmp_path / "out")

    with pytest.raises(DamageError, match="cannot be unpacked: A chunk unpacks to more than"):
        asyncio.run(run())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_an_index_part_that_unpacks_without_end_is_refused(trap: Path) -> None:
    async def put(store: Store) -> Address:
        return await with_index(store, bytes(64 * MIB))

    error = refused(trap, put)

    assert isinstance(error, DamageError)
    assert "index part" in error.message


def test_a_frame_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    greedy = packer.compress(b"x") + packer.flush()

    with pytest.raises(DamageError, match="too much memory"):
        Codec.ZSTD.decompress(greedy)
    assert not (tmp_path / "out").exists()


def test_an_index_of_empty_lists_ends(trap: Path) -> None:
    async def put(store: Store) -> Address:
        empty = await store.put(Codec.ZSTD.compress(b"\x90"))
        sizes = await store.put(Codec.ZSTD.compress(encode_sizes([2048])))
        chunk = await store.put(Codec.ZSTD.compress(bytes(2048)))
        index = await store.put(burst([empty] * 2000))
        return await store.put(Manifest(Codec.ZSTD, index, sizes, 1, (chunk,)).encode())

    assert "not of the same length" in refused(trap, put).message


GOOD = Manifest(Codec.ZSTD, Address.of(b"index"), Address.of(b"sizes"), 1, (Address.of(b"chunk"),)).encode()

MANIFESTS = {
    "nothing": b"",
    "something else": b"#!/bin/sh\nrm -rf /\n",
    "a burst": b"%b\n" % Address.of(b"x").path.encode(),
    "a later format": GOOD.replace(b"commit 1\n", b"commit 2\n"),
    "no index": GOOD.replace(b"# index", b"# outdex"),
    "no sizes": GOOD.replace(b"# sizes", b"# seizes"),
    "an unknown codec": GOOD.replace(b"zstd", b"rot13"),
    "too deep": GOOD + b"# depth 9\n",
    "a depth in the right place": GOOD.replace(b"# codec", b"# depth 9\n# codec"),
    "a depth that is no number": GOOD.replace(b"# codec", b"# depth \xff\n# codec"),
    "a line that is no address": GOOD + b"/etc/passwd\n",
    "a line without end": GOOD + b"#" * 100_000,
    "a million empty lines": GOOD + b"\n" * 1_000_000,
    "more than fits": GOOD + b"%b\n" % Address.of(b"x").path.encode() * (MANIFEST_LINES_MAX + 10_000),
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_what_is_no_manifest_is_refused(trap: Path, text: bytes) -> None:
    if text.endswith(b"# depth 9\n"):  # a header only counts at the top
        assert isinstance(refused(trap, lambda store: store.put(text)), MemberNotFoundError)
        return

    assert isinstance(refused(trap, lambda store: store.put(text)), CommitError)


async def nothing(store: Store) -> Address:
    del store
    return Address.of(b"nothing")


async def slot(store: Store) -> Address:
    return (await store.write(Address.of(b"a key"), b"a value")).address


async def lying_slot(store: Store) -> Address:
    return (await store.write(Address.of(b"a key"), GOOD)).address


async def sizes_that_are_none(store: Store) -> Address:
    nothing = await store.put(b"not zstd")
    return await store.put(Manifest(Codec.ZSTD, nothing, nothing, 1, ()).encode())


@pytest.mark.parametrize(
    ("put", "kind"),
    [(nothing, NotFoundError), (slot, CommitError), (lying_slot, DamageError), (sizes_that_are_none, DamageError)],
)
def test_an_address_of_something_else_is_refused(
    trap: Path, put: Callable[[Store], Awaitable[Address]], kind: type[HoldallError]
) -> None:
    assert isinstance(refused(trap, put), kind)


def test_bursts_that_name_themselves_are_refused(trap: Path) -> None:
    async def put(store: Store) -> Address:
        circle = Address.of(b"a circle")
        await store.write(circle, b"%b\n" % circle.path.encode())
        sizes = await store.put(Codec.ZSTD.compress(encode_sizes([2048])))
        index = await store.put(burst([circle]))
        return await store.put(Manifest(Codec.ZSTD, index, sizes, 2, (circle,)).encode())

    assert isinstance(refused(trap, put), DamageError)


def test_more_chunks_than_a_commit_may_have_are_not_counted_to_the_end(
    trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COMMIT_CHUNKS_MAX", 1000)

    async def put(store: Store) -> Address:
        part = await store.put(burst([Address.of(b"x")] * 300))
        nothing = await store.put(b"")
        return await store.put(Manifest(Codec.ZSTD, nothing, nothing, 2, (part,) * 1000).encode())

    assert "over 1000 chunks" in refused(trap, put).message


def test_a_list_with_too_many_lines_is_refused(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LIST_LINES_MORE", 5)

    async def put(store: Store) -> Address:
        part = await store.put(b"\n" * (MANIFEST_LINES_MAX + 6))
        nothing = await store.put(b"")
        return await store.put(Manifest(Codec.ZSTD, nothing, nothing, 2, (part,)).encode())

    assert "lines" in refused(trap, put).message


# --- stores that lie ---


@pytest.mark.parametrize("what", range(5), ids=["chunk", "index part", "index", "sizes", "manifest"])
@pytest.mark.parametrize("how", ["missing", "other", "shorter", "empty", "huge"])
def test_whatever_a_store_does_to_a_blob_is_found(tmp_path: Path, what: int, how: str) -> None:
    spoiled = made([file("a", b"a" * 70_000)])
    blob = spoiled.blobs()[what]
    bad = {"other": bytes(len(blob)), "shorter": blob[:-1], "empty": b"", "huge": bytes(40 * MIB)}.get(how)
    out = tmp_path / "out"

    async def run() -> None:
        store = await DirectoryStore.open(str(tmp_path / "store"))
        try:
            address = await spoiled.put(store)
            path = tmp_path / "store" / Address.of(blob).name
            path.unlink()
            if bad is not None:
                path.write_bytes(bad)
                path.chmod(0o444)
            await restored(store, address, out)
        finally:
            await store.aclose()

    with pytest.raises((DamageError, NotFoundError, CommitError)) as caught:
        asyncio.run(run())

    assert isinstance(caught.value, NotFoundError) == (how == "missing")
    assert Address.of(blob).path in caught.value.message
    assert not out.exists()


# --- what is there while it is restored ---


@pytest.mark.parametrize("moment", ["Comparing", "Restoring"])
@pytest.mark.parametrize("replace", [False, True])
def test_directories_that_turn_into_symlinks_meanwhile_are_not_followed(trap: Path, moment: str, replace: bool) -> None:
    tree = [folder("d"), *(file(f"d/f{number:02}", os.urandom(300_000)) for number in range(30))]
    out = trap / "in" / "out"
    (out / "d").mkdir(parents=True)
    before = picture(trap, without="in/out")

    async def run() -> None:
        store = MemoryStore()
        address = await made(tree).put(store)

        def swap(doing: str, done_bytes: int, total_bytes: int) -> None:
            if doing == moment and done_bytes > total_bytes // 3 and not (out / "d").is_symlink():
                (out / "d").rename(trap / "in" / "out-moved")
                (out / "d").symlink_to("../folder")

        async with await open_commit(store, address) as reader:
            await checkout(reader, Wish(directory=str(out), replace=replace), on_progress=swap)

    with suppress(LocalFileError):  # what it says, or nothing where it held the directory
        asyncio.run(run())

    assert picture(trap, without="in/out") == before


def test_what_checks_out_does_not_need_many_descriptors(tmp_path: Path) -> None:
    tree = [folder("d" * (number + 1)) for number in range(200)]
    tree += [file("/".join(["d" * (number + 1), "f"]), b"x") for number in range(200)]
    tree.sort(key=lambda pair: pair[0].path.split(b"/"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run() -> None:
        store = MemoryStore()
        address = await made(tree).put(store)
        in_use = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 50, hard))
        await restored(store, address, tmp_path / "out")

    try:
        asyncio.run(run())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(os.listdir(tmp_path / "out")) == 200


# --- compare and keep of such commits ---


def test_comparing_what_is_out_of_order_is_refused() -> None:
    async def run() -> None:
        store = MemoryStore()
        good, evil = made([file("a", b"x")]), made([file("a", b"x"), file("b", b"y")])
        evil.entries.reverse()
        old, new = await good.put(store), await evil.put(store)
        async with await open_commit(store, old) as before, await open_commit(store, new) as after:
            _ = [change async for change in compare(before, after)]

    with pytest.raises(TreeError, match="out of order"):
        asyncio.run(run())


def test_keeping_what_is_no_commit_is_refused() -> None:
    async def run() -> None:
        store = MemoryStore()
        await keep(store, await store.put(b"no commit"))

    with pytest.raises(CommitError):
        asyncio.run(run())
