"""Hot blobs in memory: the whole answer to a plain GET, ready to send.

Only blobs are kept, which never change, so all that must be noticed is that one was removed (by any process: the
store's removals say so; by another program: the file is looked at again after a while) and that a read must be
written down for the retention. A hit costs two dictionary look-ups and no system call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.limits.stores import CACHE_RECHECK_SECONDS
from holdall.stores.abilities import Removing
from holdall.stores.base import Kind

if TYPE_CHECKING:
    from holdall.core.address import Address
    from holdall.stores.abilities import Glimpse

_ENTRY_OVERHEAD_BYTES: Final = 700
"""What an entry takes besides its body: head, key and the objects that hold them."""


class Hot(NamedTuple):
    """A ready answer.

    Attributes:
        head: Headers after the Date line, the empty line included.
        body: The blob.
        fresh_until: `time.monotonic` seconds until which it may be served without asking the store.
    """

    head: bytes
    body: bytes
    fresh_until: float


class HotCache:
    """A bounded least-recently-used map from request target to ready answer.

    Args:
        store: The store whose removals empty it; one that tells of none is not cached.
        size_bytes_max: Memory to use; 0 keeps nothing.
        grain_ns: A read this long after the recorded last use must reach the store, to be written down.

    Attributes:
        keeps: Whether it keeps anything at all.
    """

    def __init__(self, store: object, size_bytes_max: int, grain_ns: int) -> None:
        self._removing = store if isinstance(store, Removing) else None
        self._max = size_bytes_max if self._removing is not None else 0
        self.keeps = self._max > 0
        self._grain_ns = grain_ns
        self._size = 0
        self._hot: OrderedDict[bytes, Hot] = OrderedDict()
        self._counter = memoryview(bytes(8)).cast("Q") if self._removing is None else self._removing.removals_counter()
        self._position = self._counter[0]

    def get(self, target: bytes) -> Hot | None:
        """The ready answer for a target, if it is certain to be current."""
        hot = self._hot.get(target)
        if hot is None:
            return None
        if self._counter[0] != self._position:
            self._drop_removed()
            hot = self._hot.get(target)
            if hot is None:
                return None
        if time.monotonic() > hot.fresh_until:
            self._drop(target)
            return None
        self._hot.move_to_end(target)
        return hot

    def position(self) -> int:
        """The removals seen so far; take it before reading what will be kept."""
        if self._counter[0] != self._position:
            self._drop_removed()
        return self._position

    def keep(self, target: bytes, head: bytes, glimpse: Glimpse, position: int) -> None:
        """Keeps an answer.

        Args:
            target: The request target it answers.
            head: Its headers after the Date line.
            glimpse: The entry; only blobs are kept.
            position: The removals seen before the entry was read; if there were more since, it is not kept.
        """
        if not self.keeps or glimpse.kind is not Kind.BLOB:
            return
        body = glimpse.data
        cost = len(body) + len(head) + _ENTRY_OVERHEAD_BYTES
        if cost * 4 > self._max or position != self.position():
            return
        unrecorded_seconds = (glimpse.used_ns + self._grain_ns - time.time_ns()) / 1e9
        self._drop(target)
        self._hot[target] = Hot(head, body, time.monotonic() + min(CACHE_RECHECK_SECONDS, unrecorded_seconds))
        self._size += cost
        while self._size > self._max:
            self._drop(next(iter(self._hot)))

    def _drop_removed(self) -> None:
        assert self._removing is not None  # noqa: S101 - only a store that tells of removals gets here
        latest = self._counter[0]
        removed = self._removing.removals_since(self._position)
        if removed is None:
            self._hot.clear()
            self._size = 0
            self._position = latest
            return
        self._position += len(removed)
        for address in removed:
            self._drop(_target(address))

    def _drop(self, target: bytes) -> None:
        hot = self._hot.pop(target, None)
        if hot is not None:
            self._size -= len(hot.body) + len(hot.head) + _ENTRY_OVERHEAD_BYTES


def _target(address: Address) -> bytes:
    return address.path.encode()
