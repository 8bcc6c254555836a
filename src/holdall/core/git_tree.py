r"""Git's tree objects as bytes: read, added to, compared and united, without a repository.

A tree is its entries one after the other, each `<octal mode> <name>\0<20 bytes of object name>`, sorted by name, where
a directory's name counts as if it ended in a slash. Objects are read through a function that the caller brings.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FILE: Final = b"100644"
DIRECTORY: Final = b"40000"

_PARTS: Final = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)

_ROW: Final = re.compile(rb"[0-7]{5,6} [^\0]+\0.{20}", re.DOTALL)
_FEW: Final = 8


class Entry(NamedTuple):
    """One name in a tree.

    Attributes:
        mode: As git writes it, in octal digits.
        name: Without slashes.
        oid: The 20 bytes of the object's name.
    """

    mode: bytes
    name: bytes
    oid: bytes

    @property
    def is_directory(self) -> bool:
        """Whether it is a tree in its turn."""
        return self.mode == DIRECTORY


class Tree:
    """A tree that entries are put into, fast also when there are a hundred thousand.

    Args:
        raw: The tree object's bytes.
    """

    def __init__(self, raw: bytes = b"") -> None:
        self._rows: list[bytes] = _ROW.findall(raw)
        self._keys: list[bytes] = [_key(mode, name) for mode, name, _ in _PARTS.findall(raw)]

    def put(self, entries: Sequence[Entry]) -> None:
        """Adds entries, or replaces those of the same name and kind."""
        if len(entries) > _FEW:
            rows = dict(zip(self._keys, self._rows, strict=True))
            rows |= {_key(entry.mode, entry.name): _row(entry) for entry in entries}
            self._keys = sorted(rows)
            self._rows = [rows[key] for key in self._keys]
            return
        for entry in entries:
            key, row = _key(entry.mode, entry.name), _row(entry)
            at = bisect_left(self._keys, key)
            if at < len(self._keys) and self._keys[at] == key:
                self._rows[at] = row
            else:
                self._keys.insert(at, key)
                self._rows.insert(at, row)

    def get(self, name: bytes) -> Entry | None:
        """The entry of a name, of whatever kind."""
        for key in (name, name + b"/"):
            at = bisect_left(self._keys, key)
            if at < len(self._keys) and self._keys[at] == key:
                return parse(self._rows[at])[0]
        return None

    def raw(self) -> bytes:
        """The tree object's bytes."""
        return b"".join(self._rows)


def parse(raw: bytes) -> list[Entry]:
    """The entries of a tree object, in its order."""
    return list(_entries(raw))


def build(entries: Iterable[Entry]) -> bytes:
    """A tree object's bytes of entries in any order."""
    return b"".join(_row(entry) for entry in sorted(entries, key=lambda entry: _key(entry.mode, entry.name)))


def folder(raw: bytes, name: bytes) -> bytes | None:
    """The object name of a directory in a tree, found without reading the tree where it is not there."""
    if b"%b %b\0" % (DIRECTORY, name) not in raw:
        return None
    return next((entry.oid for entry in _entries(raw) if entry.is_directory and entry.name == name), None)


def changed(old: bytes, new: bytes) -> tuple[Iterator[Entry], Iterator[Entry]]:
    """Yields the entries that only the old of two trees has, and those that only the new one has."""
    if not old:
        return iter(()), _entries(new)
    before, after = _ROW.findall(old), _ROW.findall(new)
    known, wanted = set(before), set(after)
    gone = b"".join(row for row in before if row not in wanted)
    come = b"".join(row for row in after if row not in known)
    return _entries(gone), _entries(come)


class Union:
    """Two trees made one.

    What either has and the other has not is kept, unless it is somebody else's file that one side has removed since
    their common ancestor. Of a file that both have changed, ours stays.

    Args:
        read: The bytes of a tree, by its object name.
        write: Keeps the bytes of a tree and returns its object name.
        kept: Whether a file of this name is never removed.
    """

    def __init__(
        self, read: Callable[[bytes], bytes], write: Callable[[bytes], bytes], kept: Callable[[bytes], bool]
    ) -> None:
        self._read, self._write, self._kept = read, write, kept

    def of(self, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes:
        """The object name of the union.

        Args:
            base: The tree of the common ancestor, if there is one.
            ours: A tree; None for one without entries.
            theirs: Another.
        """
        if ours is not None and ours == theirs:
            return ours
        sides = [{entry.name: entry for entry in self._entries(oid)} for oid in (base, ours, theirs)]
        names = sides[1].keys() | sides[2].keys()
        chosen = [self._choose(*(side.get(name) for side in sides)) for name in names]
        return self._write(build(entry for entry in chosen if entry is not None))

    def _entries(self, oid: bytes | None) -> list[Entry]:
        return [] if oid is None else parse(self._read(oid))

    def _choose(self, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        if ours == theirs:
            return ours
        if ours is None or theirs is None:
            present = ours or theirs
            if present is None or base is None:
                return present
            return self._survivor(base, present)
        if ours.is_directory and theirs.is_directory:
            common = base.oid if base is not None and base.is_directory else None
            return Entry(DIRECTORY, ours.name, self.of(common, ours.oid, theirs.oid))
        return theirs if ours == base else ours

    def _survivor(self, base: Entry, present: Entry) -> Entry | None:
        """What is left of an entry that one side removed and the other has."""
        if not present.is_directory:
            return present if present != base or self._kept(present.name) else None
        known = {entry.name: entry for entry in self._entries(base.oid)} if base.is_directory else {}
        left = []
        for entry in self._entries(present.oid):
            before = known.get(entry.name)
            kept = entry if before is None else self._survivor(before, entry)
            if kept is not None:
                left.append(kept)
        return Entry(DIRECTORY, present.name, self._write(build(left))) if left else None


def _entries(raw: bytes) -> Iterator[Entry]:
    return (Entry(*found.groups()) for found in _PARTS.finditer(raw))


def _key(mode: bytes, name: bytes) -> bytes:
    return name + b"/" if mode == DIRECTORY else name


def _row(entry: Entry) -> bytes:
    return b"%b %b\0%b" % entry
