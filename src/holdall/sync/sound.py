"""Which files of a folder's history are what they should be, and where those go that are not.

What was written last is looked at; the rest has been on the disk. A pack is put aside only where git has no use for it,
and its index is made anew if that is all that is wrong. What cannot be read now is not damaged for that.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.errors import OutOfSpaceError, StoreError
from holdall.limits import CHUNK_BYTES
from holdall.limits.sync import SYNC_STALE_LOCK_SECONDS, SYNC_TRANSFER_SECONDS_MAX, SYNC_WRITTEN_SECONDS
from holdall.sync.lock import was_cut_short
from holdall.sync.process import GIT, Done, run

if TYPE_CHECKING:
    from collections.abc import Iterator

FATAL: Final = 128
"""How git ends where something is missing."""

_ID_BYTES: Final = 20
_FILE: Final = re.compile(r"[0-9a-f]{38}|pack-.*\.(pack|idx)")
_PASSING: Final = re.compile(
    "too many open|cannot allocate|out of memory|input/output|permission|temporarily|no space", re.IGNORECASE
)
"""What git says where it could not look."""
_CLOCK_SECONDS: Final = 2.0
"""What the times of files are rounded to on some disks."""


def _look(place: Path) -> Path:
    return place / "holdall" / "looked"


def note_look(place: Path, begun: float) -> None:
    """Notes when the files of a git directory were looked at, in seconds since 1970, as the time of a file."""
    with suppress(OSError):
        os.close(os.open(_look(place), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(_look(place), (begun, begun))


def keep_look(place: Path) -> None:
    """Notes that what is written from now on is to be looked at, where the clock was put back since the last look."""
    now = time.time()
    with suppress(OSError):
        if _look(place).stat().st_mtime > now:
            os.utime(_look(place), (now, now))


def _looked_until(place: Path) -> float:
    """Files from before then have been looked at, and were on the disk; by the clock, in seconds since 1970."""
    try:
        looked = _look(place).stat().st_mtime
    except FileNotFoundError:
        return 0.0
    if looked > time.time():  # the clock was put back
        return 0.0
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else looked
    return looked - (_CLOCK_SECONDS if started < looked else SYNC_WRITTEN_SECONDS)


def is_sound(place: Path) -> bool:
    """Whether the files that were written last are what they should be.

    Raises:
        OSError: One cannot be read.
    """
    since = _looked_until(place)
    if was_cut_short(os.fspath(place), since=since):
        since = newest = 0.0  # it may have been ended for not coming to an end with something older
        files = [(entry, 0.0) for entry in _files(place)]
    else:
        files = [(entry, changed) for entry in _files(place, since) if (changed := _changed(entry)) >= since]
        newest = max((changed for _, changed in files), default=0.0)
    for entry, changed in files:
        path = Path(entry.path)
        if path.suffix:
            is_good = _is_paired(path) or _is_arriving(path)
        else:  # what is small is read whatever its time is: the clock may have been wrong
            is_good = (newest - changed > SYNC_WRITTEN_SECONDS and _is_long(path)) or _is_itself(path)
        if not is_good:
            return False
    return True


def _is_long(path: Path) -> bool:
    with suppress(FileNotFoundError):  # packed meanwhile
        return path.stat().st_size > CHUNK_BYTES
    return False


def _files(place: Path, since: float = 0.0) -> Iterator[os.DirEntry[str]]:
    """Every file that holds objects, and the indexes of packs, but for directories to which none came since a time."""
    objects = place / "objects"
    for name in os.listdir(objects):
        folder = os.path.join(objects, name)
        # The first digits of ids. What is made in a directory, or renamed into it, sets its time.
        if (len(name) == 2 or name == "pack") and os.stat(folder).st_mtime >= since:
            with os.scandir(folder) as listing:
                yield from (entry for entry in listing if _FILE.fullmatch(entry.name))


def _changed(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # packed meanwhile
        return -1.0


def _is_itself(path: Path) -> bool:
    """Whether an object in a file of its own has the bytes that its name is the SHA-1 of; or is not there any more."""
    digest, unpacking = hashlib.sha1(usedforsecurity=False), zlib.decompressobj()
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(unpacking.decompress(piece))
    except FileNotFoundError:
        return True
    except zlib.error:
        return False
    return unpacking.eof and digest.hexdigest() == path.parent.name + path.name


def _is_paired(path: Path) -> bool:
    """Whether a pack and its index end as they do if both are whole: the index has the end of the pack, and its own."""
    try:
        with open(path.with_suffix(".pack"), "rb") as pack, open(path.with_suffix(".idx"), "rb") as index:
            if min(os.fstat(pack.fileno()).st_size, os.fstat(index.fileno()).st_size) < 2 * _ID_BYTES:
                return False
            pack.seek(-_ID_BYTES, os.SEEK_END)
            index.seek(-2 * _ID_BYTES, os.SEEK_END)
            return pack.read(_ID_BYTES) == index.read(_ID_BYTES)
    except FileNotFoundError:
        return False


def _is_arriving(path: Path) -> bool:
    """Whether a pack was put there, or removed, just now, so that its index may be about to follow it."""
    try:
        return time.time() - path.stat().st_mtime < SYNC_STALE_LOCK_SECONDS and path.stat().st_size > 0
    except FileNotFoundError:
        return True


def _sums_up(path: Path) -> bool:
    """Whether a pack, or the index of one, ends with the SHA-1 of what comes before."""
    digest, last = hashlib.sha1(usedforsecurity=False), b""
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update((last + piece)[:-_ID_BYTES])
                last = (last + piece)[-_ID_BYTES:]
    except FileNotFoundError:
        return False
    return last == digest.digest()


def put_aside(place: Path) -> int:
    """Moves objects that are not what their names say to where nobody looks for them; returns how many files.

    Raises:
        OSError: A file cannot be read, and then none was moved; or not be moved.
        StoreError: git cannot take what is whole out of a pack.
    """
    packs, bad = set[Path](), list[Path]()
    for path in [Path(entry.path) for entry in _files(place)]:
        if path.suffix:
            packs.add(path.with_suffix(".pack"))
        elif not _is_itself(path):
            bad.append(path)
    useless = [pack for pack in sorted(packs) if not (_is_paired(pack) and _sums_up(pack.with_suffix(".idx")))]
    useless = [pack for pack in useless if pack.exists() or pack.with_suffix(".idx").exists()]
    aside = place / "holdall" / "damaged"
    if bad or useless:
        aside.mkdir(mode=0o700, exist_ok=True)
        # Git's summaries name what may have gone; it makes them anew.
        summaries = [place / "objects" / "pack" / "multi-pack-index"]
        for path in (place / "objects" / "info").glob("commit-graph*"):
            summaries += [path, *path.glob("*")]
        for path in summaries:
            if path.is_file():
                path.unlink()
    for path in bad:
        _move(path, aside / f"{path.parent.name}{path.name}")
    return len(bad) + sum(_mend_pack(place, pack, aside) for pack in useless)


def _mend_pack(place: Path, pack: Path, aside: Path) -> int:
    """Makes the index of a pack anew, or takes what is whole out of it and puts it aside; returns how many files."""
    parts = [part for part in pack.parent.glob(f"{pack.stem}.*") if part != pack]
    for part in parts:
        _move(part, aside / part.name)
    if not pack.exists():
        return len(parts)
    words = ("git", *GIT, "--git-dir", place)
    if _sums_up(pack):
        checked(run((*words, "index-pack", pack), seconds=SYNC_TRANSFER_SECONDS_MAX), worked=(0,))
        return len(parts)
    # Without an index, it is not the repository's, so that git unpacks it; up to where it is damaged.
    unpack = ("sh", "-c", 'file=$1; shift; exec "$@" <"$file"', "sh", pack, *words, "unpack-objects", "-r", "-q")
    checked(run(unpack, seconds=SYNC_TRANSFER_SECONDS_MAX), worked=(0, 1, FATAL))
    _move(pack, aside / pack.name)
    return len(parts) + 1


def _move(path: Path, to: Path) -> None:
    with suppress(FileNotFoundError):  # packed meanwhile
        path.replace(to)


def checked(done: Done, worked: tuple[int, ...]) -> Done:
    """What git said, unless it could not look, or was ended, from which nothing follows.

    Args:
        done: How it ended.
        worked: The exit codes with which it does if it could.

    Raises:
        StoreError: It could not.
        OutOfSpaceError: The disk is full.
    """
    if done.code not in worked or (done.code and _PASSING.search(done.words)):
        is_full = "No space" in done.words
        raise (OutOfSpaceError if is_full else StoreError)(
            f"The history cannot be made whole now; git said: {done.last_words()}."
        )
    return done
