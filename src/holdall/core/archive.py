"""The archive of a tree: tar blocks, the same on every machine for the same entries.

POSIX.1-2001: a ustar header for each entry, before it an extended header with what ustar has no room for. Times are
0, owners 0 and nameless, unless an entry brings its metadata. Readers need nothing special: `tar -x` reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdall.core.tree import Type
from holdall.errors import TreeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.core.tree import Entry

BLOCK_BYTES: Final = 512
TRAILER: Final = bytes(2 * BLOCK_BYTES)
"""What ends an archive."""

_TYPE_FLAGS: Final = {Type.FILE: b"0", Type.HARD_LINK: b"1", Type.SYMLINK: b"2", Type.DIRECTORY: b"5"}
_EXTENDED: Final = b"x"
_NAME_BYTES: Final = 100
_SIZE_MAX: Final = 8**11 - 1
_OWNER_MAX: Final = 8**7 - 1
_LONG_NAME: Final = b"././@PaxHeader"


def header(entry: Entry) -> bytes:
    """The blocks before an entry's contents.

    Args:
        entry: The entry; a file's contents follow, padded to whole blocks.

    Raises:
        TreeError: Its metadata cannot be written down.
    """
    path = entry.path + b"/" if entry.type is Type.DIRECTORY else entry.path
    extended: list[tuple[bytes, bytes]] = []
    if not _is_plain(path):
        extended.append((b"path", path))
    if not _is_plain(entry.target):
        extended.append((b"linkpath", entry.target))
    if entry.size_bytes > _SIZE_MAX:
        extended.append((b"size", b"%d" % entry.size_bytes))
    extended += _metadata_records(entry)
    block = _ustar(entry, path)
    return _extended_blocks(extended) + block if extended else block


def header_bytes(entry: Entry) -> int:
    """The length of an entry's header, without making the usual ones.

    Raises:
        TreeError: As `header`.
    """
    plain = len(entry.path) < _NAME_BYTES and len(entry.target) <= _NAME_BYTES and entry.size_bytes <= _SIZE_MAX
    return BLOCK_BYTES if plain and entry.metadata is None else len(header(entry))


def _ustar(entry: Entry, path: bytes) -> bytes:
    meta = entry.metadata
    seconds = max(0, meta.mtime_ns // 1_000_000_000) if meta else 0
    uid, gid = (meta.uid, meta.gid) if meta else (0, 0)
    user, group = (meta.user.encode()[:31], meta.group.encode()[:31]) if meta else (b"", b"")
    return _block(
        path[:_NAME_BYTES],
        _TYPE_FLAGS[entry.type],
        mode=entry.mode,
        size=min(entry.size_bytes, _SIZE_MAX),
        link=entry.target[:_NAME_BYTES],
        seconds=min(seconds, _SIZE_MAX),
        owner=(min(uid, _OWNER_MAX), min(gid, _OWNER_MAX)),
        names=(user, group),
    )


def _block(
    name: bytes,
    flag: bytes,
    *,
    size: int,
    mode: int = 0o644,
    link: bytes = b"",
    seconds: int = 0,
    owner: tuple[int, int] = (0, 0),
    names: tuple[bytes, bytes] = (b"", b""),
) -> bytes:
    """One header block of 512 bytes."""
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME_BYTES, b"\0"), mode, *owner, size, seconds)
    after = b"%b%bustar\x0000%b%b0000000\x000000000\0" % (
        flag,
        link.ljust(_NAME_BYTES, b"\0"),
        names[0].ljust(32, b"\0"),
        names[1].ljust(32, b"\0"),
    )
    block = (before + b"        " + after).ljust(BLOCK_BYTES, b"\0")
    return b"%b%06o\0 %b" % (before, sum(block), block[len(before) + 8 :])


def _extended_blocks(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records)
    return _block(_LONG_NAME, _EXTENDED, size=len(body)) + body + bytes(-len(body) % BLOCK_BYTES)


def _record(key: bytes, value: bytes) -> bytes:
    """LENGTH, space, KEY=VALUE and a newline; the length counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _metadata_records(entry: Entry) -> list[tuple[bytes, bytes]]:
    meta = entry.metadata
    if meta is None:
        return []
    records = []
    if meta.mtime_ns % 1_000_000_000 or not 0 <= meta.mtime_ns // 1_000_000_000 <= _SIZE_MAX:
        sign, size = ("-", -meta.mtime_ns) if meta.mtime_ns < 0 else ("", meta.mtime_ns)
        records.append((b"mtime", f"{sign}{size // 10**9}.{size % 10**9:09d}".encode()))
    for key, number in ((b"uid", meta.uid), (b"gid", meta.gid)):
        if number > _OWNER_MAX:
            records.append((key, b"%d" % number))
    for key, name in ((b"uname", meta.user), (b"gname", meta.group)):
        if not _is_plain(name.encode(), 31):
            records.append((key, name.encode()))
    for attribute, value in meta.xattrs:
        if b"=" in attribute or b"\0" in attribute:
            raise TreeError(f"An extended attribute of {entry.path!r} has a name that no archive takes.")
        records.append((b"SCHILY.xattr." + attribute, value))
    return records


def _is_plain(text: bytes, bytes_max: int = _NAME_BYTES) -> bool:
    """Whether a ustar header takes it as it is; readers take the bytes of a name as they come."""
    return len(text) <= bytes_max
