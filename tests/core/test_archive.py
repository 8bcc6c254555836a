"""The archive is what tar and Python's tarfile read, and its bytes never change."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall.core.archive import TRAILER, header
from holdall.core.tree import Entry, Metadata, Type
from holdall.errors import TreeError
from support import need_tool

if TYPE_CHECKING:
    from pathlib import Path

META = Metadata(1_234_567_890_123_456_789, 1000, 5_000_000, "bob", "staff", ((b"user.a", b"1\n=2"), (b"user.b", b"")))

ENTRIES = [
    Entry(b"-lead", Type.FILE, 0o644, 3),
    Entry(b"a", Type.DIRECTORY, 0o755),
    Entry(b"a/" + b"x" * 200, Type.FILE, 0o755, 512),
    Entry("a/ü".encode(), Type.SYMLINK, 0o777, target=b"y" * 150),
    Entry(b"b\xff\n", Type.FILE, 0o755),
    Entry(b"c" * 255, Type.FILE, 0o640, 1, metadata=META),
    Entry(b"d", Type.HARD_LINK, 0o640, target=b"c" * 255, metadata=META),
    Entry(b"e" * 120, Type.DIRECTORY, 0o1777, metadata=Metadata(-1_500_000_000, 0, 0)),
]


def archive(entries: list[Entry]) -> bytes:
    parts = []
    for entry in entries:
        parts += [header(entry), b"z" * entry.size_bytes, bytes(entry.padding_bytes)]
    return b"".join([*parts, TRAILER])


def test_python_reads_every_field_back() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(ENTRIES))) as found:
        members = found.getmembers()

    assert [member.name.encode("utf-8", "surrogateescape") for member in members] == [entry.path for entry in ENTRIES]
    for member, entry in zip(members, ENTRIES, strict=True):
        assert (member.mode, member.size) == (entry.mode, entry.size_bytes)
        assert member.linkname.encode("utf-8", "surrogateescape") == entry.target
        meta = entry.metadata or Metadata(0, 0, 0)
        assert (member.uid, member.gid, member.uname, member.gname) == (meta.uid, meta.gid, meta.user, meta.group)
        assert round(member.mtime * 1e9) == pytest.approx(meta.mtime_ns, abs=1000)
        assert {name: member.pax_headers[f"SCHILY.xattr.{name}"] for name in ("user.a",) if meta.xattrs} == {
            name.decode(): value.decode() for name, value in meta.xattrs[:1]
        }


def test_tar_unpacks_it_without_a_word(tmp_path: Path) -> None:
    plain = [entry for entry in ENTRIES if entry.metadata is None]
    run = subprocess.run(
        [need_tool("tar"), "-x", "-C", str(tmp_path)], input=archive(plain), capture_output=True, check=False
    )

    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "a" / ("x" * 200)).read_bytes() == b"z" * 512
    assert (tmp_path / "a" / ("x" * 200)).stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "ü").readlink().name == "y" * 150
    assert (tmp_path / "-lead").read_bytes() == b"zzz"


def test_its_bytes_are_those_of_format_version_1() -> None:
    assert (
        hashlib.sha256(archive(ENTRIES)).hexdigest()
        == "6934eba45a751a3af9e6d8b8ad445d671bf033ba16cb7594c242739bb3aeff97"
    )


def test_an_attribute_that_no_archive_takes_is_refused() -> None:
    with pytest.raises(TreeError, match="extended attribute"):
        header(Entry(b"a", Type.FILE, 0o644, metadata=Metadata(0, 0, 0, xattrs=((b"user.a=b", b""),))))


names = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and b"/" not in name)


@given(name=names, target=names, size=st.sampled_from([0, 1, 8**11 - 1, 8**11, 1 << 45]))
def test_names_and_sizes_of_any_kind_are_read_back(name: bytes, target: bytes, size: int) -> None:
    for entry in (Entry(name, Type.FILE, 0o644, size), Entry(name, Type.SYMLINK, 0o777, target=target)):
        with tarfile.open(fileobj=io.BytesIO(header(entry) + TRAILER), ignore_zeros=True) as found:
            member = found.next()
        assert member is not None
        assert member.name.encode("utf-8", "surrogateescape") == entry.path.rstrip(b"/")
        assert member.linkname.encode("utf-8", "surrogateescape") == entry.target
        assert member.size == entry.size_bytes
