"""Walking a tree: what is found, in which order, and what becomes of what moves or cannot be read meanwhile."""

from __future__ import annotations

import gc
import grp
import os
import pwd
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall.core.archive import header
from holdall.core.tree import Entry, Metadata, Type, check, order
from holdall.errors import BusyError, HoldallError, LocalFileError
from holdall.limits.snapshot import FILE_BYTES_MAX, PATH_BYTES_MAX, WALK_DESCRIPTORS_MAX
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.walk import Found, Signature, Skipped, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY
NOBODY = 65534


def refuse(skipped: Skipped) -> None:
    pytest.fail(f"left out: {skipped}")


def walked(
    root: Path, on_skip: Callable[[Skipped], None] = refuse, *, take_all: bool = True, **how: bool
) -> list[Found]:
    return list(walk(str(root), ignore=Ignore(str(root), take_all=take_all), on_skip=on_skip, **how))


def entries(root: Path, *, preserve: bool = False) -> dict[bytes, Entry]:
    return {found.entry.path: found.entry for found in walked(root, preserve=preserve)}


def paths(root: Path) -> list[bytes]:
    return [found.entry.path for found in walked(root)]


def steps(root: Path, on_skip: Callable[[Skipped], None] = refuse, **how: bool) -> Iterator[Found]:
    return walk(str(root), ignore=Ignore(str(root), take_all=True), on_skip=on_skip, **how)


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A directory to make things in, and for whom permissions count: root becomes somebody else for a while."""
    folder = Path(tempfile.mkdtemp())
    was = os.geteuid()
    try:
        if was == 0:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        yield folder
    finally:
        os.seteuid(was)
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=True)
        shutil.rmtree(folder)


@contextmanager
def descriptors_at_most(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    gc.collect()  # or one that an earlier test has left in a cycle is closed at any time
    return len(os.listdir("/dev/fd"))


@contextmanager
def chain(root: Path, depth: int, name: str = "deep", beside: tuple[str, ...] = ()) -> Iterator[Path]:
    """A directory in a directory and so on, each with files beside the next."""
    root.mkdir()
    at = os.open(root, FOLDER)
    for _ in range(depth):
        for other in beside:
            os.close(os.open(other, os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.mkdir(name, dir_fd=at)
        below = os.open(name, FOLDER, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)  # deeper than shutil goes


# --- what is found ---


def test_each_kind_of_entry_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "program").write_bytes(b"")
    (tmp_path / "program").chmod(0o711)
    (tmp_path / "others only").touch()
    (tmp_path / "others only").chmod(0o655)
    (tmp_path / "directory").mkdir(0o700)
    (tmp_path / "directory" / "empty").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "dangling").symlink_to(b"\xff".decode(errors="surrogateescape"))

    assert [found.entry for found in walked(tmp_path)] == [
        Entry(b"dangling", Type.SYMLINK, 0o777, target=b"\xff"),
        Entry(b"directory", Type.DIRECTORY, 0o755),
        Entry(b"directory/empty", Type.DIRECTORY, 0o755),
        Entry(b"file", Type.FILE, 0o644, 5),
        Entry(b"link", Type.SYMLINK, 0o777, target=b"directory"),
        Entry(b"others only", Type.FILE, 0o644),
        Entry(b"program", Type.FILE, 0o755),
    ]


def test_a_file_has_a_signature_and_nothing_else_has(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    status = (tmp_path / "file").stat()

    assert [found.signature for found in walked(tmp_path)] == [
        None,
        Signature(status.st_dev, status.st_ino, 5, status.st_mtime_ns, status.st_ctime_ns),
        None,
    ]


@pytest.mark.parametrize("root", [str, os.fsencode])
def test_the_root_may_be_text_or_bytes_or_a_symlink(tmp_path: Path, root: Callable[[Path], Any]) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    (tmp_path / "link").symlink_to("tree")
    found = walk(root(tmp_path / "link"), ignore=Ignore(root(tmp_path / "link")), on_skip=refuse)

    assert [item.entry.path for item in found] == [b"file"]


def test_an_empty_tree_has_no_entries(tmp_path: Path) -> None:
    assert walked(tmp_path) == []


def test_what_is_left_out_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "pipe")
    os.mkfifo(tmp_path / "out.pipe")
    (tmp_path / ".gitignore").write_text("out\n*.pipe\n")

    assert [found.entry.path for found in walked(tmp_path, take_all=False)] == [b".gitignore"]


# --- the order ---


def test_entries_come_name_by_name_with_a_directory_before_its_contents(tmp_path: Path) -> None:
    for name in ["a-b", "a.c", "a/b/c", "a/b-", "a/B", "ab", "B", "é", "~", "\x01"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = paths(tmp_path)

    assert found == sorted(found, key=order)
    assert found.index(b"a/b/c") == found.index(b"a/b") + 1 < found.index(b"a-b")


NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."})
TREES = st.recursive(st.none(), lambda below: st.dictionaries(NAMES, below, max_size=5), max_leaves=25)


def make(at: bytes, tree: dict[bytes, Any] | None) -> None:
    if tree is None:
        with open(at, "xb"):
            return
    os.mkdir(at)
    for name, below in tree.items():
        make(at + b"/" + name, below)


def expected(prefix: bytes, tree: dict[bytes, Any] | None) -> Iterator[bytes]:
    for name, below in (tree or {}).items():
        yield prefix + name
        yield from expected(prefix + name + b"/", below)


@settings(max_examples=60)
@given(TREES.filter(lambda tree: tree is not None))
def test_any_tree_is_found_whole_in_order_and_fit_to_be_restored(tree: dict[bytes, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        make(os.fsencode(root), tree)
        found = [item.entry for item in walked(root)]

        assert [entry.path for entry in found] == sorted(expected(b"", tree), key=order)
        assert list(check(found)) == found


# --- depth and width ---


def test_a_deep_tree_needs_few_descriptors_and_may_have_a_longer_path_than_the_system_takes(tmp_path: Path) -> None:
    with chain(tmp_path / "tree", 2000, beside=("a", "z")) as root:
        before = open_descriptors()
        with descriptors_at_most(before + WALK_DESCRIPTORS_MAX + 8):
            found = paths(root)
        after = open_descriptors()

    assert len(found) == 3 * 2000
    assert max(map(len, found)) > 9000
    assert found == sorted(found, key=order)
    assert after == before


def test_a_path_longer_than_an_archive_takes_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    name = "n" * 250
    depth = PATH_BYTES_MAX // 251
    skipped: list[Skipped] = []
    with chain(tmp_path / "tree", depth + 2, name, beside=("a", "z" * 200)) as root:
        found = [item.entry.path for item in walked(root, skipped.append)]

    assert found
    assert max(map(len, found)) <= PATH_BYTES_MAX
    assert [item.reason for item in skipped] == ["its path is longer than an archive takes"] * len(skipped)
    assert {len(item.path) > PATH_BYTES_MAX for item in skipped} == {True}
    assert found[-1] == b"z" * 200


def test_stopping_early_closes_every_directory(tmp_path: Path) -> None:
    before = open_descriptors()
    with chain(tmp_path / "tree", WALK_DESCRIPTORS_MAX * 2) as root:
        tree = steps(root)
        for _ in range(WALK_DESCRIPTORS_MAX + 10):
            next(tree)
        during = open_descriptors()
        tree.close()  # type: ignore[attr-defined]

    assert WALK_DESCRIPTORS_MAX < during - before < WALK_DESCRIPTORS_MAX + 4
    assert open_descriptors() == before


def test_running_out_of_descriptors_ends_the_walk_rather_than_leaving_out(tmp_path: Path) -> None:
    with chain(tmp_path / "tree", 20) as root:
        tree = steps(root)
        next(tree)
        with descriptors_at_most(open_descriptors() + 3), pytest.raises(BusyError, match="Too many open files"):
            list(tree)


# --- what changes while it is read ---


def test_what_vanishes_meanwhile_was_never_there(tmp_path: Path) -> None:
    for name in ["a", "b", "c", "d"]:
        (tmp_path / name).touch()
    (tmp_path / "e" / "f").mkdir(parents=True)
    tree = steps(tmp_path)
    first = next(tree)
    (tmp_path / "b").unlink()
    shutil.rmtree(tmp_path / "e")

    assert [first.entry.path, *(found.entry.path for found in tree)] == [b"a", b"c", b"d"]


def test_a_directory_that_becomes_a_symlink_is_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").touch()
    (tmp_path / "tree" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a").touch()
    tree = steps(tmp_path / "tree")
    next(tree)
    (tmp_path / "tree" / "b").rmdir()
    (tmp_path / "tree" / "b").symlink_to(tmp_path / "secrets")

    assert [found.entry.type for found in tree] == [Type.SYMLINK]


@pytest.mark.parametrize("target", ["secrets", "file"])
def test_a_directory_swapped_at_the_last_moment_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").touch()
    (tmp_path / "file").touch()
    (tmp_path / "tree" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "c").touch()
    real = os.open

    def swap_and_open(path: Any, *args: Any, **how: Any) -> int:
        if path == b"b" and not (tmp_path / "tree" / "b").is_symlink():
            (tmp_path / "tree" / "b").rmdir()
            (tmp_path / "tree" / "b").symlink_to(tmp_path / target)
        return real(path, *args, **how)

    monkeypatch.setattr(os, "open", swap_and_open)
    skipped: list[Skipped] = []

    assert [found.entry.path for found in walked(tmp_path / "tree", skipped.append)] == [b"c"]
    assert skipped == [Skipped(b"b", "it was replaced while the tree was read")]


def test_a_directory_that_is_moved_while_it_is_read_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b").touch()
    (tmp_path / "tree" / "a" / "c").touch()
    (tmp_path / "tree" / "d").touch()
    tree = steps(tmp_path / "tree")
    next(tree)
    (tmp_path / "tree" / "a").rename(tmp_path / "elsewhere")

    assert [found.entry.path for found in tree] == [b"a/b", b"a/c", b"d"]


def test_the_way_back_is_found_again_when_a_directory_below_has_been_moved(tmp_path: Path) -> None:
    with chain(tmp_path / "tree", WALK_DESCRIPTORS_MAX + 10, "d", beside=("z",)) as root:
        tree = steps(root)
        found = [next(tree) for _ in range(WALK_DESCRIPTORS_MAX + 10)]
        (root / "d" / "d" / "d").rename(tmp_path / "elsewhere")
        found += list(tree)
        shutil.rmtree(tmp_path / "elsewhere")

    assert len(found) == 2 * (WALK_DESCRIPTORS_MAX + 10)


def test_what_is_lost_on_the_way_back_is_told(tmp_path: Path) -> None:
    skipped: list[Skipped] = []
    with chain(tmp_path / "tree", WALK_DESCRIPTORS_MAX + 10, "d", beside=("z",)) as root:
        tree = steps(root, skipped.append)
        found = [next(tree) for _ in range(WALK_DESCRIPTORS_MAX + 10)]
        (root / "d" / "d" / "d").rename(tmp_path / "elsewhere")
        (root / "d" / "d").rename(root / "other")
        found += list(tree)
        shutil.rmtree(tmp_path / "elsewhere")
    paths = [item.entry.path for item in found]

    assert skipped == [Skipped(b"d/d", "it was moved while it was read, so part of it is missing")]
    assert b"d/d/z" not in paths
    assert paths[-2:] == [b"d/z", b"z"]


# --- what no archive takes, and what cannot be read ---


def test_what_no_archive_takes_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 100)
    skipped: list[Skipped] = []

    assert [found.entry.path for found in walked(tmp_path, skipped.append)] == [b"file"]
    assert skipped == [Skipped(b"pipe", "it is a named pipe"), Skipped(b"socket", "it is a socket")]


def test_devices_are_told() -> None:
    skipped: list[Skipped] = []
    found = walked(Path("/dev"), skipped.append, one_file_system=True)

    assert Skipped(b"null", "it is a device") in skipped
    assert b"null" not in [item.entry.path for item in found]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="few other file systems take a file as large")
def test_a_file_larger_than_an_archive_takes_is_told() -> None:
    skipped: list[Skipped] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for name, size in [("large", FILE_BYTES_MAX), ("larger", FILE_BYTES_MAX + 1)]:
            (Path(folder) / name).touch()
            os.truncate(Path(folder) / name, size)

        assert [item.entry.path for item in walked(Path(folder), skipped.append)] == [b"large"]
    assert skipped == [Skipped(b"larger", "it is larger than an archive takes")]


def test_a_directory_that_cannot_be_read_is_told_and_the_rest_goes_on() -> None:
    skipped: list[Skipped] = []
    with unprivileged() as root:
        for name in ["a", "closed", "names only", "z"]:
            (root / name).mkdir()
            (root / name / "file").touch()
        (root / "closed").chmod(0)
        (root / "names only").chmod(0o400)
        found = [item.entry.path for item in walked(root, skipped.append)]

    assert found == [b"a", b"a/file", b"names only", b"z", b"z/file"]
    assert skipped == [Skipped(b"closed", "Permission denied"), Skipped(b"names only/file", "Permission denied")]


def test_the_way_back_is_found_again_when_a_directory_is_closed_meanwhile() -> None:
    skipped: list[Skipped] = []
    with unprivileged() as folder, chain(folder / "tree", WALK_DESCRIPTORS_MAX + 10, "d", beside=("z",)) as root:
        tree = steps(root, skipped.append)
        found = [next(tree) for _ in range(WALK_DESCRIPTORS_MAX + 10)]
        (root / "d" / "d").chmod(0o400)
        found += list(tree)
        (root / "d" / "d").chmod(0o700)

    assert skipped == [Skipped(b"d/d/z", "Permission denied")]
    assert [item.entry.path for item in found[-2:]] == [b"d/z", b"z"]


def test_a_file_that_cannot_be_read_is_found_all_the_same() -> None:
    with unprivileged() as root:
        (root / "file").touch()
        (root / "file").chmod(0)

        assert [item.entry.path for item in walked(root)] == [b"file"]
        assert [item.entry.mode for item in walked(root, preserve=True)] == [0]


def test_an_ignore_file_that_cannot_be_read_ends_the_walk() -> None:
    with unprivileged() as root:
        (root / "sub").mkdir()
        (root / "sub" / ".gitignore").write_text("secret\n")
        (root / "sub" / ".gitignore").chmod(0)
        with pytest.raises(LocalFileError, match=r"'sub/\.gitignore': Permission denied") as refused:
            walked(root, take_all=False)

        assert "--no-ignore" in refused.value.hint
        assert b"sub/.gitignore" in paths(root)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), ("file", "Not a directory"), ("nul\0", "null byte")],
)
def test_a_root_that_is_no_directory_is_one_clear_error(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    root = f"{tmp_path}/{name}"
    with pytest.raises(LocalFileError, match=reason) as refused:
        list(walk(root, ignore=Ignore(str(tmp_path)), on_skip=refuse))

    assert name.rstrip("\0") in refused.value.message
    assert "\n" not in refused.value.sentence()


def test_a_root_that_cannot_be_read_is_one_clear_error() -> None:
    with unprivileged() as root:
        (root / "closed").mkdir(0)
        with pytest.raises(HoldallError, match="Permission denied"):
            walked(root / "closed")


# --- other file systems ---


def test_other_file_systems_are_left_out_when_asked() -> None:
    if not os.path.ismount("/dev/pts") or os.stat("/dev/pts").st_dev == os.stat("/dev").st_dev:
        pytest.skip("no file system is mounted at /dev/pts")
    one = walked(Path("/dev"), lambda _: None, one_file_system=True)
    skipped: list[Skipped] = []
    walked(Path("/dev"), skipped.append)
    inside = [item.path for item in skipped if item.path.startswith(b"pts/")]

    assert Entry(b"pts", Type.DIRECTORY, 0o755) in [item.entry for item in one]
    assert inside
    assert [item.entry.path for item in one if item.entry.path.startswith(b"pts/")] == []


# --- everything preserved ---


def test_with_metadata_all_mode_bits_times_and_owners_are_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").chmod(0o6751)
    (tmp_path / "directory").chmod(0o1707)
    times = {"file": -1_500_000_001, "directory": 1_700_000_000_123_456_789, "link": 3}
    for name, mtime_ns in times.items():
        os.utime(tmp_path / name, ns=(0, mtime_ns), follow_symlinks=False)
    found = entries(tmp_path, preserve=True)
    uid, gid = os.getuid(), (tmp_path / "file").stat().st_gid
    user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
    metadata = {name: Metadata(mtime_ns, uid, gid, user, group) for name, mtime_ns in times.items()}

    assert found == {
        b"directory": Entry(b"directory", Type.DIRECTORY, 0o1707, metadata=metadata["directory"]),
        b"file": Entry(b"file", Type.FILE, 0o6751, 3, metadata=metadata["file"]),
        b"link": Entry(
            b"link",
            Type.SYMLINK,
            stat.S_IMODE((tmp_path / "link").lstat().st_mode),
            target=b"file",
            metadata=metadata["link"],
        ),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_owner_without_a_name_has_only_a_number(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 4_000_000_001, 4_000_000_002)
    metadata = entries(tmp_path, preserve=True)[b"file"].metadata

    assert metadata is not None
    assert (metadata.uid, metadata.gid, metadata.user, metadata.group) == (4_000_000_001, 4_000_000_002, "", "")


def set_attributes(path: Path, **values: bytes) -> None:
    try:
        for name, value in values.items():
            os.setxattr(path, f"user.{name}", value)
    except (OSError, AttributeError):
        pytest.skip("the file system has no extended attributes")


def test_extended_attributes_are_kept_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    set_attributes(tmp_path / "file", b=b"\0\xff\n", a=b"", c=b"x" * 1000)
    set_attributes(tmp_path / "directory", d=b"1")
    found = entries(tmp_path, preserve=True)
    file, directory = found[b"file"].metadata, found[b"directory"].metadata

    assert file is not None
    assert directory is not None
    assert file.xattrs == ((b"user.a", b""), (b"user.b", b"\0\xff\n"), (b"user.c", b"x" * 1000))
    assert directory.xattrs == ((b"user.d", b"1"),)
    assert [entry.metadata for entry in entries(tmp_path).values()] == [None, None]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set them")
def test_attributes_that_mean_something_on_this_machine_alone_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    set_attributes(tmp_path / "file", a=b"1")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000400ffffffff 20000400ffffffff")
    kept = []
    for name, value in [
        ("security.capability", capability),
        ("system.posix_acl_access", acl),
        ("trusted.overlay.opaque", b"y"),
    ]:
        try:
            os.setxattr(tmp_path / "file", name, value)
        except OSError:
            continue
        kept.append(name.encode())
    metadata = entries(tmp_path, preserve=True)[b"file"].metadata

    assert metadata is not None
    assert [name for name, _ in metadata.xattrs] == sorted({*kept, b"user.a"} - {b"trusted.overlay.opaque"})


def test_an_attribute_that_no_archive_takes_is_told_and_the_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    set_attributes(tmp_path / "file", **{"a=b": b"1", "c": b"2"})
    skipped: list[Skipped] = []
    (found,) = walked(tmp_path, skipped.append, preserve=True)

    assert found.entry.metadata is not None
    assert found.entry.metadata.xattrs == ((b"user.c", b"2"),)
    assert skipped == [Skipped(b"file", "only its attribute 'user.a=b', whose name no archive takes")]
    assert header(found.entry)


def test_the_further_names_of_a_file_are_links_to_the_first(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "first").write_bytes(b"123")
    for name in ["a/second", "b", "c"]:
        (tmp_path / name).hardlink_to(tmp_path / "a" / "first")
    (tmp_path / "d").write_bytes(b"123")
    found = walked(tmp_path, preserve=True)
    links = {item.entry.path: (item.entry.type, item.entry.target, item.entry.size_bytes) for item in found}

    assert links == {
        b"a": (Type.DIRECTORY, b"", 0),
        b"a/first": (Type.FILE, b"", 3),
        b"a/second": (Type.HARD_LINK, b"a/first", 0),
        b"b": (Type.HARD_LINK, b"a/first", 0),
        b"c": (Type.HARD_LINK, b"a/first", 0),
        b"d": (Type.FILE, b"", 3),
    }
    assert [item.entry.path for item in found if item.signature is not None] == [b"a/first", b"d"]
    assert list(check(item.entry for item in found)) == [item.entry for item in found]


def test_a_name_that_is_left_out_is_no_first_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    (tmp_path / ".gitignore").write_text("/a\n")
    found = {item.entry.path: item.entry for item in walked(tmp_path, take_all=False, preserve=True)}

    assert found[b"b"].type is Type.FILE
    assert (found[b"c"].type, found[b"c"].target) == (Type.HARD_LINK, b"b")


def test_without_metadata_each_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").hardlink_to(tmp_path / "a")

    assert [(item.entry.type, item.entry.size_bytes) for item in walked(tmp_path)] == [(Type.FILE, 3)] * 2
