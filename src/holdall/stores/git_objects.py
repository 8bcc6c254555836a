"""New git objects on their way to disk: gathered, then made durable all at once, as loose files or as one pack.

They are written here and not by libgit2, which would sync each of them by itself, has no way to write a pack of what
is not there yet, and hashes at a third of the speed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

from holdall.limits import CHUNK_BYTES
from holdall.limits.stores import LOOSE_BYTES_MAX, LOOSE_OBJECTS_MAX, SYNCS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_KINDS: Final = {b"commit": 1, b"tree": 2, b"blob": 3}
_PACK_HEAD: Final = struct.Struct(">4sII")
_INDEX_HEAD: Final = b"\xfftOc\x00\x00\x00\x02"
_SMALL_WINDOW_BYTES: Final = 1 << 12
_ZLIB_HEAD: Final = b"\x78\x01"
_STORED: Final = struct.Struct("<?HH")
_STORED_MAX: Final = 0xFFFF
_PROBE_BYTES: Final = 1 << 9
_PROBE_VALUES: Final = 160
"""So many random bytes have about 220 different values; text has fewer than 100."""
_UNTRIED_MAX: Final = 63
_FAR: Final = 1 << 31
_MODE: Final = 0o444
_Move: TypeAlias = tuple[str, str]


class _Waiting(NamedTuple):
    kind: bytes
    data: bytes
    level: int


class _Packed(NamedTuple):
    oid: bytes
    checksum: int
    offset: int


class Objects:
    """The objects of one change of a repository; as a context manager, what is not kept is discarded.

    Args:
        folder: The repository's `objects`.
        level: How hard blobs are compressed, as zlib counts.
        lasting: Whether loose files have to survive a power cut; a pack always does.
    """

    def __init__(self, folder: str, level: int, *, lasting: bool = True) -> None:
        self._folder = folder
        self._lasting = lasting
        self._level = level
        self._loose: dict[bytes, _Waiting] = {}
        self._loose_bytes = 0
        self._pack: IO[bytes] | None = None
        self._packed: dict[bytes, _Packed] = {}
        self._futile = 0
        self._untried = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pack is not None:
            self._pack.close()
            with suppress(FileNotFoundError):
                os.unlink(self._pack.name)
            self._pack = None

    def add(self, kind: bytes, data: bytes, *, level: int | None = None) -> bytes:
        """Takes an object and returns its name, 20 bytes.

        Args:
            kind: `blob`, `tree` or `commit`.
            data: Its bytes.
            level: How hard it is compressed; as all blobs, where None.
        """
        hashed = hashlib.sha1(_head(kind, data), usedforsecurity=False)
        hashed.update(data)
        oid = hashed.digest()
        if oid in self._loose or oid in self._packed:
            return oid
        one = _Waiting(kind, data, self._level if level is None else level)
        if self._pack is not None:
            self._into_pack(self._pack, oid, one)
            return oid
        self._loose[oid] = one
        if kind == b"blob":
            self._loose_bytes += len(data)
        if len(self._loose) > LOOSE_OBJECTS_MAX or (self._loose_bytes > LOOSE_BYTES_MAX and len(self._loose) > 1):
            self._pack = self._new_pack()
            for waiting_oid, waiting in self._loose.items():
                self._into_pack(self._pack, waiting_oid, waiting)
            self._loose.clear()
        return oid

    def keep(self) -> None:
        """Gives the objects their names.

        Durability: when it returns, they survive a power cut, unless they need not.
        """
        moves = [self._loose_file(oid.hex(), one) for oid, one in self._loose.items()]
        syncs = self._lasting or self._pack is not None
        if self._pack is not None:
            moves += self._pack_files(self._pack)
        made = [move for move in moves if move is not None]
        sync_together([source for source, _ in made] if syncs else [])
        for source, path in made:
            _rename(source, path)
        sync_together({self._folder, *(os.path.dirname(path) for _, path in made)} if syncs else [])
        self._loose.clear()
        self._pack = None

    def _deflated(self, one: _Waiting, head: bytes) -> list[bytes]:
        """An object as a zlib stream.

        A blob of random bytes that comes after blobs that did not shrink is stored as it is, which takes a twentieth
        of the time; now and then one is tried all the same.
        """
        if one.kind != b"blob" or not one.level:
            return _deflated(one.level, head, one.data)
        if self._untried < self._futile and len(set(one.data[:_PROBE_BYTES])) > _PROBE_VALUES:
            self._untried += 1
            return _deflated(0, head, one.data)
        pieces = _deflated(one.level, head, one.data)
        shrank = sum(map(len, pieces)) < len(one.data)
        self._futile, self._untried = 0 if shrank else min(2 * self._futile + 1, _UNTRIED_MAX), 0
        return pieces

    # --- loose ---

    def _loose_file(self, name: str, one: _Waiting) -> _Move | None:
        path = os.path.join(self._folder, name[:2], name[2:])
        with suppress(FileNotFoundError):
            with suppress(PermissionError):
                os.utime(path)  # git removes old objects that nothing needed
            return None
        making = os.path.join(self._folder, f"tmp_obj_{name[:12]}{os.urandom(4).hex()}")
        write_new(making, self._deflated(one, _head(one.kind, one.data)))
        return making, path

    # --- packed ---

    def _new_pack(self) -> IO[bytes]:
        path = os.path.join(self._folder, "pack", f"tmp_pack_{os.urandom(8).hex()}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, "x+b")  # noqa: SIM115 - closed when it is finished, or at the end of the block
        file.write(_PACK_HEAD.pack(b"PACK", 2, 0))
        return file

    def _into_pack(self, file: IO[bytes], oid: bytes, one: _Waiting) -> None:
        row = b"".join((_pack_head(_KINDS[one.kind], len(one.data)), *self._deflated(one, b"")))
        self._packed[oid] = _Packed(oid, zlib.crc32(row), file.tell())
        file.write(row)

    def _pack_files(self, file: IO[bytes]) -> list[_Move]:
        """Ends the pack and writes its index; the index is to get its name last, for it makes the pack count."""
        file.seek(0)
        file.write(_PACK_HEAD.pack(b"PACK", 2, len(self._packed)))
        file.seek(0)
        hashed = hashlib.sha1(usedforsecurity=False)
        while piece := file.read(CHUNK_BYTES):
            hashed.update(piece)
        file.write(hashed.digest())
        os.fchmod(file.fileno(), _MODE)
        file.close()
        name = os.path.join(self._folder, "pack", f"pack-{hashed.hexdigest()}")
        index = file.name.replace("tmp_pack_", "tmp_idx_")  # git removes an .idx that has no .pack
        write_new(index, (_pack_index(self._packed.values(), hashed.digest()),))
        return [(file.name, f"{name}.pack"), (index, f"{name}.idx")]


def write_new(path: str, pieces: Iterable[bytes], mode: int = _MODE) -> None:
    """Writes a file that is not there yet; where that fails, it is removed.

    Args:
        path: Where; other programs must not look there.
        pieces: Its bytes.
        mode: Its permissions, less the umask.
    """
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        try:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(path)
        raise


def _rename(source: str, path: str) -> None:
    """Moves a file to where it belongs; git may remove the directory, as long as it is empty, whenever it packs."""
    while True:
        try:
            os.replace(source, path)
        except FileNotFoundError:
            if not os.path.exists(source):
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
        else:
            return


def sync_together(paths: Collection[str]) -> None:
    """Returns when files, or the names in directories, survive a power cut.

    They are synced at the same time, so that the file system's journal is written once for all: a tenth of the time.
    A directory that has gone needs none: git, while it packs, removes those whose objects are all packed.
    """
    fds: list[int] = []
    try:
        for path in paths:
            with suppress(FileNotFoundError):
                fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if len(fds) == 1:
            os.fsync(fds[0])
        elif fds:
            with ThreadPoolExecutor(min(len(fds), SYNCS_AT_ONCE)) as pool:
                list(pool.map(os.fsync, fds))
    finally:
        for fd in fds:
            os.close(fd)


def _head(kind: bytes, data: bytes) -> bytes:
    return b"%b %d\0" % (kind, len(data))


def _deflated(level: int, *pieces: bytes) -> list[bytes]:
    """Pieces as one zlib stream; for small ones with a small window, which takes a third of the time to set up."""
    if not level:
        return _stored(b"".join(pieces))
    small = sum(map(len, pieces)) <= _SMALL_WINDOW_BYTES
    packer = zlib.compressobj(level, zlib.DEFLATED, *((12, 5) if small else ()))
    return [*map(packer.compress, pieces), packer.flush()]


def _stored(data: bytes) -> list[bytes]:
    """Bytes as a zlib stream (RFC 1950) of blocks that are not compressed (RFC 1951, 3.2.4), made without zlib."""
    out = [_ZLIB_HEAD]
    for at in range(0, len(data) or 1, _STORED_MAX):
        block = data[at : at + _STORED_MAX]
        out += (_STORED.pack(at + _STORED_MAX >= len(data), len(block), len(block) ^ _STORED_MAX), block)
    out.append(zlib.adler32(data).to_bytes(4, "big"))
    return [b"".join(out)]


def _pack_head(kind: int, size_bytes: int) -> bytes:
    """The kind and length that an object in a pack begins with: 4 bits of the length, then 7 in each further byte."""
    out = bytearray()
    byte, size_bytes = kind << 4 | size_bytes & 15, size_bytes >> 4
    while size_bytes:
        out.append(byte | 128)
        byte, size_bytes = size_bytes & 127, size_bytes >> 7
    out.append(byte)
    return bytes(out)


def _pack_index(packed: Iterable[_Packed], pack_digest: bytes) -> bytes:
    """The index of a pack, version 2 (git's gitformat-pack): fan-out, names, checksums, offsets, digests."""
    rows = sorted(packed)
    counts = [0] * 256
    for row in rows:
        counts[row.oid[0]] += 1
    far = [row.offset for row in rows if row.offset >= _FAR]
    places = {offset: _FAR | number for number, offset in enumerate(far)}
    parts = [
        _INDEX_HEAD,
        struct.pack(">256I", *accumulate(counts)),
        *(row.oid for row in rows),
        struct.pack(f">{len(rows)}I", *(row.checksum for row in rows)),
        struct.pack(f">{len(rows)}I", *(places.get(row.offset, row.offset) for row in rows)),
        struct.pack(f">{len(far)}Q", *far),
        pack_digest,
    ]
    content = b"".join(parts)
    return content + hashlib.sha1(content, usedforsecurity=False).digest()
