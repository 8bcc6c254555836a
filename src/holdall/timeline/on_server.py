"""A timeline on a holdall server: blobs are entries of their own, and a slot lists them, one line each.

A line is `<name> /<address> <label>`, the label quoted as in a URL and left out where there is none. All lines of an
add are appended in one step, after their blobs are stored; so any number of writers may add at once.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from holdall.core import instant
from holdall.core.address import DIGEST_BYTES, Address
from holdall.errors import AddressError, NotFoundError, RangeError, StoreURLError
from holdall.stores.base import Span
from holdall.stores.opening import open_store
from holdall.timeline.exc import BlobUnreadable, BlobVersionUnsupported, RepoRemoteNotAdded
from holdall.timeline.index import Found, Index
from holdall.timeline.scan import label_folder

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from holdall.stores.base import Store as BlobStore
    from holdall.timeline.repository import New

_Result = TypeVar("_Result")
_URL: Final = re.compile(r"(https?://.+?)/([0-9a-f]{64}(?:\.tig)?)(\?.*)?", re.ASCII)


class OnServer:
    """A timeline in a slot; the same calls as `Repository`.

    Args:
        url: `http(s)://host:port/<64 hex>[.tig][?apikey=KEY]`: the server and the slot.

    Raises:
        StoreURLError: It is something else.
    """

    def __init__(self, url: str) -> None:
        matched = _URL.fullmatch(url)
        if matched is None:
            raise StoreURLError(
                "The URL names no slot of a server.", hint="Write http://host:port/<64 lowercase hex digits>.tig."
            )
        self._slot = Address.parse_text(matched[2])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdall-timeline", daemon=True)
        self._thread.start()
        self._turn = threading.Lock()
        self._index = Index(None, oid_bytes=DIGEST_BYTES)
        self._read_bytes = 0
        self._store: BlobStore = self._run(open_store(matched[1] + (matched[3] or "")))

    def close(self) -> None:
        """Lets go of the connection."""
        if self._loop.is_running():
            self._run(self._store.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def index(self) -> Index:
        """The index of what the slot lists now.

        Raises:
            StoreError: The server cannot be asked.
        """
        with self._turn:
            text = self._run(self._rest())
            whole = text[: text.rfind(b"\n") + 1]
            rows = [one for line in whole.splitlines() if (one := _found(line))]
            if rows:
                with self._index.turn:
                    self._index.add(rows, b"slot")
            self._read_bytes += len(whole)
        return self._index

    async def _rest(self) -> bytes:
        try:
            async with await self._store.get(self._slot, Span(self._read_bytes)) as reading:
                return await reading.read()
        except (NotFoundError, RangeError):
            return b""

    def read(self, oid: bytes, name: str) -> bytes:
        """The bytes of a blob's file.

        Args:
            oid: Its address.
            name: The file's, for the error.

        Raises:
            BlobUnreadable: It is not there, or damaged.
            StoreError: The server cannot be asked.
        """
        try:
            content = self._run(self._content(Address(oid)))
        except NotFoundError as error:
            raise BlobUnreadable(f"{name} cannot be read. {error.message}", hint=error.hint) from error
        if Address.of(content) != oid:
            raise BlobUnreadable(f"{name} is not what was stored.", hint="Verify the server's data.")
        return content

    async def _content(self, address: Address) -> bytes:
        async with await self._store.get(address) as reading:
            return await reading.read()

    def add(self, blobs: Iterable[New], label: str | None) -> int:
        """Adds blobs, listed all at once; returns how many.

        Args:
            blobs: What to add.
            label: Of all of them.

        Raises:
            StoreError: The server cannot take them.
        """
        end = "" if label is None else f" {label_folder(label)}"
        lines = [f"{blob.name} {self._run(self._store.put(blob.content)).path}{end}\n" for blob in blobs]
        if lines:
            self._run(self._store.append(self._slot, "".join(lines).encode()))
        return len(lines)

    def size(self, oid: bytes) -> int:
        """How long the file of a blob is, in bytes."""
        return self._run(self._store.stat(Address(oid), use=False)).size_bytes

    def has_remote(self) -> bool:
        """Whether there is anywhere to push to: the server itself is where blobs are."""
        return False

    def push(self, *, sure: bool) -> None:
        """Does not exist here.

        Args:
            sure: Of no matter.

        Raises:
            RepoRemoteNotAdded: Always.
        """
        del sure
        raise RepoRemoteNotAdded("A timeline on a server has no remote.", hint="What is added is there at once.")

    def pull(self) -> None:
        """Nothing is to be done: every call asks the server."""

    def _run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def _found(line: bytes) -> Found | None:
    """What a line lists; None for one that is not a timeline's.

    Raises:
        BlobVersionUnsupported: It is of a later version of the format.
    """
    words = line.decode("utf-8", "replace").split(" ")
    if len(words) not in {2, 3}:
        return None
    version = instant.newer_version(words[0])
    if version is not None:
        raise BlobVersionUnsupported(f"{words[0]} is of version {version} of the format.")
    name = instant.decode(words[0])
    try:
        address = Address.parse_path(words[1])
    except AddressError:
        return None
    return (
        None if name is None else Found(instant.key_of(name), address, unquote(words[2]) if len(words) == 3 else None)
    )
