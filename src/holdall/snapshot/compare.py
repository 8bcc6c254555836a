"""What is different between two commits, from their indexes alone.

A part of the index that both have is neither fetched nor looked at: what is in it is in both, and the same.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.core.manifest import read_index_part
from holdall.core.tree import EXECUTABLE, Type, order, shown
from holdall.errors import UnsafeTreeError
from holdall.stores.ordered import in_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdall.core.address import Address
    from holdall.core.tree import Entry
    from holdall.snapshot.reading import CommitReader

_WIDTH: Final = 4


class Change(NamedTuple):
    """An entry that is not the same in both commits.

    Attributes:
        letter: A: only the new one has it; D: only the old one; M: type, contents, mode or target differ.
        path: Its path.
    """

    letter: str
    path: bytes


async def compare(old: CommitReader, new: CommitReader) -> AsyncGenerator[Change, None]:
    """Yields what is different, in the order of the paths.

    Times, owners and extended attributes are not compared, and mode bits beyond the owner's right to execute only
    where both commits have them.

    Raises:
        CommitError: An index is damaged.
        UnsafeTreeError: An index is not in order.
        HoldallError: As `CommitReader.index_parts`.
    """
    common = set(await old.index_parts()) & set(await new.index_parts())
    async with aclosing(_entries(old, common)) as olds, aclosing(_entries(new, common)) as news:
        before, after = await anext(olds, None), await anext(news, None)
        while before is not None or after is not None:
            if after is None or (before is not None and order(before.path) < order(after.path)):
                assert before is not None  # noqa: S101 - one of the two is there
                yield Change("D", before.path)
                before = await anext(olds, None)
            elif before is None or order(after.path) < order(before.path):
                yield Change("A", after.path)
                after = await anext(news, None)
            else:
                if not _same(before, after):
                    yield Change("M", after.path)
                before, after = await anext(olds, None), await anext(news, None)


async def _entries(reader: CommitReader, common: set[Address]) -> AsyncGenerator[Entry, None]:
    """The entries of the parts of an index that are not `common`."""
    parts = [part for part in await reader.index_parts() if part not in common]
    previous: list[bytes] = []
    async with aclosing(in_order(parts, reader.index_part, width=_WIDTH)) as found:
        async for part in found:
            for entry in read_index_part(part):
                names = order(entry.path)
                if names <= previous:
                    raise UnsafeTreeError(f"{shown(entry.path)!r} is out of order in the commit, or twice in it.")
                previous = names
                yield entry


def _same(old: Entry, new: Entry) -> bool:
    if (old.type, old.content, old.target) != (new.type, new.content, new.target):
        return False
    if old.metadata is not None and new.metadata is not None:
        return old.mode == new.mode
    return old.type is not Type.FILE or not (old.mode ^ new.mode) & EXECUTABLE
