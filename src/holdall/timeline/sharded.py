"""Several timelines as one: each blob is in one of them, and reads go through all."""

from __future__ import annotations

import hashlib
import heapq
import math
from itertools import repeat
from typing import TYPE_CHECKING, Final, Self

from holdall.timeline.exc import SettingInvalid
from holdall.timeline.times import bound_ns, to_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from holdall.timeline.store import Blob, Problem, Store
    from holdall.timeline.times import Timestamp

_DAY_NS: Final = 86_400 * 1_000_000_000


class ShardedStore:
    """Stores as one.

    Args:
        stores: The same ones, in the same order, whenever blobs are added; for reading the order does not matter.
        by: `time`: the days of UTC take turns; `hash`: the SHA-256 of a blob says where it goes.

    Raises:
        SettingInvalid: There is no store, or no such way to spread blobs.
    """

    def __init__(self, stores: Sequence[Store], *, by: str = "time") -> None:
        if not stores or by not in {"time", "hash"}:
            raise SettingInvalid("Shards are spread over one or more stores, by time or by hash.")
        self._stores, self._by = list(stores), by

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all stores."""
        self._each(lambda store: store.close())

    def addblob(
        self, blob: bytes, timestamp: Timestamp = None, *, label: str | None = None, push: bool | None = None
    ) -> None:
        """Adds a blob to the store that it belongs to; see `Store.addblob`."""
        self.addblobs((blob,), (timestamp,), label=label, push=push)

    def addblobs(
        self,
        blobs: Iterable[bytes],
        timestamps: Iterable[Timestamp] | None = None,
        *,
        label: str | None = None,
        push: bool | None = None,
    ) -> None:
        """Adds blobs, in one commit of each store that gets any; see `Store.addblobs`.

        All are held in memory. What one store took stays there if another fails.
        """
        parts: list[list[tuple[bytes, int]]] = [[] for _ in self._stores]
        for blob, moment in zip(blobs, repeat(None) if timestamps is None else timestamps):  # noqa: B905 - as gitblobts
            timestamp_ns = to_ns(moment)
            parts[self._shard(blob, timestamp_ns)].append((blob, timestamp_ns))
        for store, part in zip(self._stores, parts, strict=True):
            if part:
                store.add_at(part, label=label, push=push)

    def _shard(self, blob: bytes, timestamp_ns: int) -> int:
        if self._by == "time":
            return timestamp_ns // _DAY_NS % len(self._stores)
        return int.from_bytes(hashlib.sha256(blob).digest(), "big") % len(self._stores)

    def getblobs(
        self,
        start_time: Timestamp = -math.inf,
        end_time: Timestamp = math.inf,
        *,
        pull: bool | None = False,
        label: str | None = None,
    ) -> Iterator[Blob]:
        """Yields the blobs of all stores in one order; see `Store.getblobs`."""
        first_ns, last_ns = bound_ns(start_time, -math.inf), bound_ns(end_time, math.inf)
        if pull:
            self.pull()
        found = [store.blobs_between(first_ns, last_ns, label=label) for store in self._stores]
        yield from heapq.merge(*found, key=lambda blob: blob.timestamp_ns, reverse=first_ns > last_ns)

    def find(self, sha256: str | bytes) -> Iterator[Blob]:
        """Yields the blobs with this SHA-256; see `Store.find`."""
        for store in self._stores:
            yield from store.find(sha256)

    def verify(self) -> Iterator[Problem]:
        """Yields what is wrong in any store; see `Store.verify`."""
        for store in self._stores:
            yield from store.verify()

    def push(self) -> None:
        """Pushes each store; all are tried, and the first error is raised."""
        self._each(lambda store: store.push())

    def pull(self) -> None:
        """Pulls each store; all are tried, and the first error is raised."""
        self._each(lambda store: store.pull())

    def _each(self, act: Callable[[Store], None]) -> None:
        errors = []
        for store in self._stores:
            try:
                act(store)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]
