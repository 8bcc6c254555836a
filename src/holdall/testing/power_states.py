"""What a directory may look like after a power cut, rebuilt from a `power.Recording`.

A file system that keeps no order promises only what was synced. So of everything else, each on its own, in any
combination:

* a name may be as it was after any change since the last sync of names;
* each sector of a file may be as it was after any write since the file's last sync, or never have been written (zero);
* a file's length may be any it had since then, or lie between two of them at a sector's end;
* so may its mode and its times, which a sync of data alone does not cover.

There are too many such states to try them all: some are chosen by rule (nothing kept, everything kept, names without
contents, lengths without data, a cut at one place ...) and the rest at random. Nothing here knows what a store is.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from holdall.testing.power import Created, Marked, ModeSet, Named, Synced, Syncs, TimesSet, Truncated, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from holdall.testing.power import Event, Recording

SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

_Change: TypeAlias = "Written | Truncated | ModeSet | TimesSet"

_OLD, _NEW, _ANY, _CUT = "old", "new", "any", "cut"
_RULES: Final = (
    # names, lengths, sectors, modes, times
    (_OLD, _OLD, _OLD, _OLD, _OLD),
    (_NEW, _NEW, _NEW, _NEW, _NEW),
    (_NEW, _OLD, _OLD, _OLD, _OLD),
    (_NEW, _NEW, _OLD, _NEW, _NEW),
    (_NEW, _NEW, _CUT, _NEW, _NEW),
    (_NEW, _ANY, _NEW, _NEW, _NEW),
    (_OLD, _NEW, _NEW, _NEW, _NEW),
    (_ANY, _NEW, _NEW, _NEW, _NEW),
    (_ANY, _OLD, _OLD, _OLD, _OLD),
    (_NEW, _NEW, _NEW, _ANY, _ANY),
    (_NEW, _NEW, _ANY, _NEW, _NEW),
    (_ANY, _ANY, _ANY, _ANY, _ANY),
)


@dataclass(frozen=True, slots=True)
class Left:
    """A file as a power cut left it.

    Attributes:
        content: Its bytes.
        mode: Its permission bits.
        accessed_ns: Its access time.
        modified_ns: Its modification time.
    """

    content: bytes
    mode: int
    accessed_ns: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class State:
    """A directory as a power cut left it.

    Attributes:
        cut: How many events came before the cut.
        marks: What was marked before it.
        files: The files by name.
    """

    cut: int
    marks: tuple[object, ...]
    files: dict[str, Left]

    def write_to(self, path: str) -> None:
        """Makes the directory `path`, which must not exist, look like this."""
        os.mkdir(path)
        for name, left in self.files.items():
            fd = os.open(os.path.join(path, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                _write_sparsely(fd, left.content)
                os.fchmod(fd, left.mode)
                os.utime(fd, ns=(left.accessed_ns, left.modified_ns))
            finally:
                os.close(fd)


def states_after_a_cut(recording: Recording, random: Random, *, cuts: Iterable[int], each: int) -> Iterator[State]:
    """Yields states that a power cut may leave, no two the same for one cut.

    Args:
        recording: What happened before.
        random: Where chance comes from.
        cuts: After how many events the power goes, in ascending order.
        each: How many states to try for each cut; the rules come first, then chance alone.
    """
    platter = _Platter()
    marks: list[object] = []
    done = 0
    for cut in cuts:
        for number in range(done, cut):
            event = recording.events[number]
            if isinstance(event, Marked):
                marks.append(event.note)
            else:
                platter.happen(number, event)
        done = cut
        seen: list[dict[str, Left]] = []
        for turn in range(each):
            files = platter.left(_RULES[min(turn, len(_RULES) - 1)], random)
            if files not in seen:
                seen.append(files)
                yield State(cut, tuple(marks), files)


@dataclass(slots=True)
class _File:
    """What is durable of a file, and the changes that are not."""

    content: bytearray
    mode: int
    times: tuple[int, int]
    floating: list[tuple[int, _Change]] = field(default_factory=list)

    def settle(self, before: int, *, whole: bool) -> None:
        """Makes durable what happened before an event; without `whole`, contents and length only."""
        kept: list[tuple[int, _Change]] = []
        for number, change in self.floating:
            if number >= before:
                kept.append((number, change))
            elif isinstance(change, Written | Truncated):
                _apply(self.content, change)
                if whole:
                    self.times = (self.times[0], change.modified_ns)
                else:
                    kept.append((number, TimesSet(change.file, self.times[0], change.modified_ns)))
            elif not whole:
                kept.append((number, change))
            elif isinstance(change, ModeSet):
                self.mode = change.mode
            else:
                self.times = (change.accessed_ns, change.modified_ns)
        self.floating = kept

    def left(self, rule: tuple[str, ...], random: Random) -> Left:
        """What a cut leaves of it, by a rule."""
        if not self.floating:
            return Left(bytes(self.content), self.mode, *self.times)
        _, lengths, sectors, modes, times = rule
        changes = [change for _, change in self.floating]
        mode_history = [self.mode, *(change.mode for change in changes if isinstance(change, ModeSet))]
        time_history = [self.times]
        for change in changes:
            if isinstance(change, TimesSet):
                time_history.append((change.accessed_ns, change.modified_ns))
            elif isinstance(change, Written | Truncated):
                time_history.append((time_history[-1][0], change.modified_ns))
        return Left(
            self._content(changes, lengths, sectors, random),
            mode_history[_pick(modes, len(mode_history) - 1, random)],
            *time_history[_pick(times, len(time_history) - 1, random)],
        )

    def _content(self, changes: list[_Change], lengths: str, sectors: str, random: Random) -> bytes:
        """Each sector as after a number of the floating writes, and a length of its own."""
        writes = [change for change in changes if isinstance(change, Written | Truncated)]
        sizes, image = [len(self.content)], bytearray(self.content)
        for write in writes:
            sizes.append(_size_after(sizes[-1], write))
        image = image.ljust(max(sizes), b"\0")
        spans = [_as_bytes(write, len(image)) for write in writes]
        first = min((offset for offset, _ in spans), default=0) // SECTOR_BYTES
        last = max((offset + len(data) for offset, data in spans), default=0) // SECTOR_BYTES
        edge = random.randint(first, last + 1)
        until: dict[int, int] = {}
        for turn, (offset, data) in enumerate(spans):
            for sector in range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)):
                if sector not in until:
                    rule = sectors if sectors != _CUT else _NEW if sector < edge else _OLD
                    until[sector] = _pick(rule, len(writes), random)
                if turn < until[sector]:
                    start = max(offset, sector * SECTOR_BYTES)
                    stop = min(offset + len(data), (sector + 1) * SECTOR_BYTES)
                    image[start:stop] = data[start - offset : stop - offset]
        size = sizes[_pick(lengths, len(sizes) - 1, random)]
        if lengths == _ANY and max(sizes) > min(sizes) and random.random() < 0.5:
            between = random.randrange(min(sizes), max(sizes) + 1)
            size = max(min(sizes), between // SECTOR_BYTES * SECTOR_BYTES)
        return bytes(image[:size])


class _Platter:
    """What is durable of a directory, and what is not, as events go by."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._renaming: dict[str, list[tuple[int, int | None]]] = defaultdict(list)

    def happen(self, number: int, event: Event) -> None:
        """Takes in one event."""
        if isinstance(event, Created):
            self._files[event.file] = _File(bytearray(), event.mode, (event.modified_ns, event.modified_ns))
        elif isinstance(event, Named):
            self._renaming[event.name].append((number, event.file))
        elif isinstance(event, Synced):
            self._sync(event)
        elif not isinstance(event, Marked):
            self._files[event.file].floating.append((number, event))

    def left(self, rule: tuple[str, ...], random: Random) -> dict[str, Left]:
        """The files that a cut leaves, by a rule."""
        names: dict[str, int | None] = dict(self._names)
        for name, changes in self._renaming.items():
            if changes:
                history = [self._names.get(name), *(file for _, file in changes)]
                names[name] = history[_pick(rule[0], len(changes), random)]
        return {name: self._files[file].left(rule, random) for name, file in sorted(names.items()) if file is not None}

    def _sync(self, event: Synced) -> None:
        if event.file is not None:
            self._files[event.file].settle(event.before, whole=event.what is Syncs.FILE)
        if event.what is Syncs.ALL:
            for file in self._files.values():
                file.settle(event.before, whole=True)
        if event.what in {Syncs.ALL, Syncs.NAMES}:
            for name, changes in self._renaming.items():
                for _, number in (change for change in changes if change[0] < event.before):
                    if number is None:
                        self._names.pop(name, None)
                    else:
                        self._names[name] = number
                self._renaming[name] = [change for change in changes if change[0] >= event.before]


def _pick(rule: str, last: int, random: Random) -> int:
    """How many of `last` changes a cut left standing."""
    return {_OLD: 0, _NEW: last}[rule] if rule != _ANY else random.randint(0, last)


def _size_after(size_bytes: int, change: Written | Truncated) -> int:
    return change.size_bytes if isinstance(change, Truncated) else max(size_bytes, change.offset + len(change.data))


def _as_bytes(change: Written | Truncated, end: int) -> tuple[int, bytes]:
    """The change as bytes at an offset; what a truncation cuts off reads as zero if the length comes back."""
    if isinstance(change, Written):
        return change.offset, change.data
    return change.size_bytes, bytes(max(0, end - change.size_bytes))


def _apply(content: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Truncated):
        del content[change.size_bytes :]
        content.extend(bytes(change.size_bytes - len(content)))
        return
    end = change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[change.offset : end] = change.data


def _write_sparsely(fd: int, content: bytes) -> None:
    """Writes only what is not zero: a journal is mostly that."""
    block = 4096
    os.ftruncate(fd, len(content))
    zeros = bytes(block)
    for at in range(0, len(content), block):
        piece = content[at : at + block]
        if piece != zeros[: len(piece)]:
            os.pwrite(fd, piece, at)
