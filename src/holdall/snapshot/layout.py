"""Which part of which chunk is whose: what is wanted of an archive, in its order, becomes a batch for each chunk.

Pure: it knows neither stores nor files.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_T = TypeVar("_T")

_STEPS_MAX: Final = 4096
"""Steps of one batch that take nothing from its chunk, such as empty files; more of them begin another batch."""


class Step(NamedTuple, Generic[_T]):
    """Something wanted, or a part of it.

    Attributes:
        item: Whose part it is.
        start: Where it begins in the chunk.
        stop: One past its end in the chunk.
        offset: Where it begins in the item.
    """

    item: _T
    start: int
    stop: int
    offset: int


class Batch(NamedTuple, Generic[_T]):
    """What is wanted of one chunk, in order.

    Attributes:
        chunk: The chunk's number, or None where nothing is taken from any.
        steps: What to take.
    """

    chunk: int | None
    steps: list[Step[_T]]


class Layout(Generic[_T]):
    """Gathers what is wanted into batches.

    Args:
        offsets: Where each chunk begins in the archive, and where the last ends.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = offsets
        self._batch: Batch[_T] = Batch(None, [])

    def add(self, item: _T, size_bytes: int, at: int) -> Iterator[Batch[_T]]:
        """Takes the next item, and yields the batches that are complete now.

        Args:
            item: What is wanted.
            size_bytes: Its length; 0 where it has its place in the order and nothing in the archive.
            at: Where it begins in the archive, after the items before it, and not beyond the archive.
        """
        if not size_bytes:
            if len(self._batch.steps) >= _STEPS_MAX:
                yield from self.finish()
            self._batch.steps.append(Step(item, 0, 0, 0))
            return
        done = 0
        number = bisect_right(self._offsets, at) - 1
        while done < size_bytes:
            first, stop = self._offsets[number], min(self._offsets[number + 1], at + size_bytes)
            if stop > at + done:  # a chunk may be empty
                if self._batch.chunk != number:
                    if self._batch.chunk is not None:
                        yield from self.finish()
                    self._batch = Batch(number, self._batch.steps)
                self._batch.steps.append(Step(item, at + done - first, stop - first, done))
                done = stop - at
            number += 1

    def finish(self) -> Iterator[Batch[_T]]:
        """Yields the last batch, if there is one."""
        if self._batch.steps:
            yield self._batch
        self._batch = Batch(None, [])
