"""Which files of a git tree are a timeline's: those at its top, in `YYYY/MM/DD/HH`, and the same under `labels/…`.

A label is a file of the blob's name, empty, under `labels/<label>/`: it survives clones and unions as any file does,
and whoever knows nothing of labels still finds the blob where it always was.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from holdall.core import git_tree, instant
from holdall.limits.timeline import LABEL_BYTES_MAX
from holdall.timeline.exc import BlobTypeInvalid, BlobVersionUnsupported
from holdall.timeline.index import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LABELS: Final = "labels/"
_AT_ONCE: Final = 1 << 12
_FILES: Final = frozenset({b"100644", b"100755", b"100664"})
_NUMBERS: Final = (re.compile(rb"\d{4}"), *(re.compile(rb"\d\d"),) * 3)


class Seen(NamedTuple):
    """A timeline's file that one of two trees has and the other has not.

    Attributes:
        path: Its path in the tree.
        key: What its name is sorted by; None if it is of a later version of the format.
        oid: The 20 bytes of its blob's name.
        is_new: Whether the newer tree has it.
    """

    path: str
    key: bytes | None
    oid: bytes
    is_new: bool


def label_folder(label: object) -> str:
    """The name of the directory that a label's files are in.

    Raises:
        BlobTypeInvalid: It is no text, empty or too long.
    """
    try:
        if not isinstance(label, str) or not 0 < len(label.encode()) <= LABEL_BYTES_MAX:
            raise BlobTypeInvalid(f"A label is text of 1 to {LABEL_BYTES_MAX} bytes.")
    except UnicodeEncodeError:
        raise BlobTypeInvalid("A label is text that UTF-8 can encode.") from None
    quoted = quote(label, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def is_ours(name: bytes) -> bool:
    """Whether a file of this name is a blob's or a label's."""
    return instant.decode(name.decode("utf-8", "replace")) is not None


def seen(read: Callable[[bytes], bytes], old: bytes | None, new: bytes | None) -> Iterator[Seen]:
    """Yields the timeline's files in which two trees differ.

    Args:
        read: The bytes of a tree, by its object name.
        old: The object name of a tree; None for one without files.
        new: The same.
    """
    yield from _seen(read, old, new, "", 0)
    yield from _seen_labels(read, old, new)


def _seen(
    read: Callable[[bytes], bytes], old: bytes | None, new: bytes | None, path: str, depth: int
) -> Iterator[Seen]:
    if old == new:
        return
    folders: dict[bytes, list[bytes | None]] = {}
    sides = git_tree.changed(read(old) if old else b"", read(new) if new else b"")
    for is_new, entries in enumerate(sides):
        while some := list(islice(entries, _AT_ONCE)):
            yield from _files(some, path, is_new=bool(is_new))
            for entry in some:
                if entry.mode == git_tree.DIRECTORY:
                    folders.setdefault(entry.name, [None, None])[is_new] = entry.oid
    for name, (before, after) in folders.items():
        if depth < len(_NUMBERS) and _NUMBERS[depth].fullmatch(name):
            yield from _seen(read, before, after, f"{path}{name.decode()}/", depth + 1)


def _seen_labels(read: Callable[[bytes], bytes], old: bytes | None, new: bytes | None) -> Iterator[Seen]:
    tops = [git_tree.folder(read(oid), LABELS[:-1].encode()) if oid else None for oid in (old, new)]
    before, after = (
        {entry.name: entry.oid for entry in git_tree.parse(read(top)) if entry.is_directory} if top else {}
        for top in tops
    )
    for name in sorted(before.keys() | after.keys()):
        path = f"{LABELS}{name.decode('utf-8', 'surrogateescape')}/"
        yield from _seen(read, before.get(name), after.get(name), path, 0)


def _files(entries: list[git_tree.Entry], path: str, *, is_new: bool) -> Iterator[Seen]:
    files = [entry for entry in entries if entry.mode in _FILES]
    for (_, name, oid), key in zip(files, instant.keys([file.name for file in files]), strict=True):
        if key is not None or instant.newer_version(name.decode("utf-8", "replace")):
            yield Seen(path + name.decode(), key, oid, is_new)


class GoneError(Exception):
    """A file that the old tree has is not in the new one."""


def found(read: Callable[[bytes], bytes], old: bytes | None, new: bytes | None) -> Iterator[Found]:
    """Yields what the index has to know of the files that one tree has beyond another.

    Args:
        read: As for `seen`.
        old: As for `seen`.
        new: As for `seen`.

    Raises:
        GoneError: One has gone.
        BlobVersionUnsupported: One is of a later version of the format.
    """
    read = lru_cache(2)(read)  # both look at the top
    labels = {one.key: _label(one.path) for one in _seen_labels(read, old, new) if one.is_new}
    for path, key, oid, is_new in _seen(read, old, new, "", 0):
        if not is_new:
            raise GoneError(path)
        if key is None:
            version = instant.newer_version(path.rpartition("/")[2])
            raise BlobVersionUnsupported(
                f"{path} is of version {version} of the format; this is made for version {instant.VERSION}."
            )
        yield Found(key, oid, labels.get(key))


def _label(path: str) -> str:
    return unquote(path.split("/")[1]).encode("utf-8", "replace").decode()
