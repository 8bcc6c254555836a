"""The timeline's front: what gitblobts offers under the same names, and what it does not."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import secrets
import weakref
from collections import Counter
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from holdall.core import instant
from holdall.errors import HoldallError
from holdall.timeline.codecs import Codec, read_key_file
from holdall.timeline.exc import BlobTypeInvalid, SettingInvalid, StoreError
from holdall.timeline.repository import New, Repository
from holdall.timeline.times import bound_ns, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from holdall.timeline.codecs import Key
    from holdall.timeline.index import Row
    from holdall.timeline.times import Timestamp

_LAYOUTS: Final = frozenset({None, "flat", "hour"})
_log: Final = logging.getLogger("holdall.timeline")


@dataclass
class Blob:
    """A blob as it is read.

    Attributes:
        timestamp: Its time in seconds since 1970, as near as a float comes.
        blob: Its bytes.
        timestamp_ns: Its time in nanoseconds, exactly.
        name: Its file's.
        label: Its label, or None.
    """

    timestamp: float
    blob: bytes
    timestamp_ns: int = field(default=0, compare=False, repr=False)
    name: str = field(default="", compare=False, repr=False)
    label: str | None = field(default=None, compare=False, repr=False)


class Problem(NamedTuple):
    """What `Store.verify` found wrong.

    Attributes:
        name: Of the file.
        error: What reading it raised.
    """

    name: str
    error: StoreError


@dataclass(frozen=True, slots=True)
class Stats:
    """What a timeline holds.

    Attributes:
        count: How many blobs.
        stored_bytes: The length of their files.
        first_ns: The earliest time, nanoseconds since 1970; None where there is none.
        last_ns: The latest.
        labels: How many blobs each label has, None those without one.
    """

    count: int
    stored_bytes: int
    first_ns: int | None
    last_ns: int | None
    labels: Counter[str | None]


class Store:
    """Blobs indexed by time, in a git repository.

    Concurrency: any number of threads and processes may use one repository.

    Args:
        path: The repository's worktree, the repository itself if it is bare, or the URL of a slot on a holdall server,
            `http://host:port/<64 hex>.tig`.
        compression: `bz2`, `gzip`, `lzma`, `zstd`, the name of a module with `compress` and `decompress`, or None.
        key: What `generate_key` made, or several of them: the first encrypts, each decrypts. None encrypts nothing.
        key_file: The file that holds them, one a line.
        layout: `flat`: all files at the top, where gitblobts finds them; `hour`: in `YYYY/MM/DD/HH`, for a million and
            more; None: as the repository has it, flat if it is new.
        worktree: Whether the worktree gets the files too.
        push: Whether adds push to the remote, if there is one.
        create: Whether to make the repository if there is none.

    Attributes:
        push_error: Why the last push after an add failed; None when it did not.

    Raises:
        RepoError: The repository cannot be opened.
        SettingInvalid: A setting cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        compression: str | None = None,
        key: Key | None = None,
        key_file: str | os.PathLike[str] | None = None,
        layout: str | None = None,
        worktree: bool = True,
        push: bool = True,
        create: bool = False,
    ) -> None:
        if layout not in _LAYOUTS:
            raise SettingInvalid(f"There is no layout {layout!r}.", hint="Take flat or hour.")
        if key_file is not None:
            if key is not None:
                raise SettingInvalid("The key is given twice.", hint="Take key or key_file.")
            key = read_key_file(key_file)
        self._codec = Codec(compression, key)
        self._push = push
        self.push_error: HoldallError | None = None
        where = os.fsdecode(path)
        if where.startswith(("http://", "https://")):
            from holdall.timeline.on_server import OnServer  # noqa: PLC0415 - for those who use it

            self._place: Repository | OnServer = OnServer(where)
        else:
            options = {"worktree": worktree, "create": create, "dense": self._codec.is_dense}
            self._place = Repository(where, layout=layout, **options)
        self._finish = weakref.finalize(self, self._place.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finishes what is still to be done and lets go of the repository; the end of the program does it too."""
        self._finish()

    # --- adding ---

    def addblob(
        self, blob: bytes, timestamp: Timestamp = None, *, label: str | None = None, push: bool | None = None
    ) -> None:
        """Adds a blob; see `addblobs`.

        Args:
            blob: Its bytes.
            timestamp: Its time; now where None. See `times.to_ns`.
            label: What it can be found by besides its time.
            push: See `addblobs`.
        """
        self.addblobs((blob,), (timestamp,), label=label, push=push)

    def addblobs(
        self,
        blobs: Iterable[bytes],
        timestamps: Iterable[Timestamp] | None = None,
        *,
        label: str | None = None,
        push: bool | None = None,
    ) -> None:
        """Adds blobs in one commit, all of them or, if anything is wrong with one, none.

        Durability: when it returns, they survive a power cut of this machine.

        Args:
            blobs: Their bytes; they are taken one at a time.
            timestamps: Their times; now where None. The shorter of the two ends both.
            label: Of all of them.
            push: True pushes and raises what fails, None pushes if the store does and only reports a failure:
                to the log, and in `push_error`. The blobs are stored in any case, and go out with the next push.

        Raises:
            BlobTypeInvalid: One is not bytes, or the label is none.
            TimeError: A time cannot be used.
            RepoError: The repository cannot take them.
            RepoPushError: `push` is True, and the remote did not take them; they are stored.
        """
        pairs = zip(blobs, repeat(None) if timestamps is None else timestamps)  # noqa: B905 - as with gitblobts
        self.add_at(((blob, to_ns(moment)) for blob, moment in pairs), label=label, push=push)

    def add_at(self, pairs: Iterable[tuple[bytes, int]], *, label: str | None = None, push: bool | None = None) -> None:
        """Adds blobs whose times are known; errors are those of `addblobs`.

        Args:
            pairs: Each blob and its time in nanoseconds since 1970.
            label: Of all of them.
            push: See `addblobs`.
        """
        added = self._place.add((self._new(*pair) for pair in pairs), label)
        if push:
            self.push(sure=not added)
        elif added and push is None and self._push and self._place.has_remote():
            try:
                self.push(sure=False)
            except HoldallError as error:
                self.report(error)

    def report(self, error: HoldallError) -> None:
        """Says that a push after an add failed."""
        _log.warning("%s %s", error.message, "What was added is stored here, and goes out with the next push.")

    def _new(self, blob: bytes, timestamp_ns: int) -> New:
        if not isinstance(blob, bytes):
            raise BlobTypeInvalid(f"A blob is bytes, not {type(blob).__name__}.")
        name = instant.encode(timestamp_ns, secrets.randbits(instant.RANDOM_BITS))
        return New(name, timestamp_ns, self._codec.encode(blob))

    # --- reading ---

    def getblobs(
        self,
        start_time: Timestamp = -math.inf,
        end_time: Timestamp = math.inf,
        *,
        pull: bool | None = False,
        label: str | None = None,
    ) -> Iterator[Blob]:
        """Yields the blobs of a range of times, both ends included, one at a time.

        Args:
            start_time: Where to begin. None and NaN are open.
            end_time: Where to end. If it is before `start_time`, the latest come first.
            pull: Fetch from the remote first.
            label: Only those with this label.

        Raises:
            TimeError: A time cannot be used.
            BlobVersionUnsupported: A file is of a later version of the format.
            BlobUnreadable: A file is damaged, or was stored with another key or compression.
            RepoPullError: The remote could not be fetched.
        """
        first_ns, last_ns = bound_ns(start_time, -math.inf), bound_ns(end_time, math.inf)
        if pull:
            self.pull()
        yield from self.blobs_between(first_ns, last_ns, label=label)

    def blobs_between(self, first_ns: float, last_ns: float, *, label: str | None = None) -> Iterator[Blob]:
        """Yields the blobs of a range of times as `getblobs` does.

        Args:
            first_ns: Nanoseconds since 1970, or an infinity.
            last_ns: The same; if it is smaller, the latest come first.
            label: Only those with this label.
        """
        return map(self._blob, self._rows(first_ns, last_ns, label))

    def names(
        self, start_time: Timestamp = -math.inf, end_time: Timestamp = math.inf, *, label: str | None = None
    ) -> Iterator[Row]:
        """The times, names and labels of what `getblobs` would yield, without reading the blobs.

        Args:
            start_time: As for `getblobs`.
            end_time: As for `getblobs`.
            label: As for `getblobs`.
        """
        return self._rows(bound_ns(start_time, -math.inf), bound_ns(end_time, math.inf), label)

    def _rows(self, first_ns: float, last_ns: float, label: str | None) -> Iterator[Row]:
        descending = first_ns > last_ns
        if descending:
            first_ns, last_ns = last_ns, first_ns
        return self._place.index().rows(first_ns, last_ns, descending=descending, label=label)

    def find(self, sha256: str | bytes) -> Iterator[Blob]:
        """Yields the blobs whose bytes have this SHA-256; every blob is read for it.

        Args:
            sha256: 32 bytes, or 64 hex digits.

        Raises:
            BlobTypeInvalid: It is neither.
        """
        try:
            wanted = bytes.fromhex(sha256) if isinstance(sha256, str) else bytes(sha256)
        except (ValueError, TypeError):
            wanted = b""
        if len(wanted) != hashlib.sha256().digest_size:
            raise BlobTypeInvalid("A SHA-256 is 32 bytes or 64 hex digits.")
        return (blob for blob in self.getblobs() if hashlib.sha256(blob.blob).digest() == wanted)

    def _blob(self, row: Row) -> Blob:
        content = self._codec.decode(self._place.read(row.oid, row.name), row.name)
        return Blob(row.timestamp_ns / 1e9, content, row.timestamp_ns, row.name, row.label)

    def verify(self) -> Iterator[Problem]:
        """Reads every blob, decrypts and decompresses it, and yields those where that fails."""
        for row in self.names():
            try:
                self._blob(row)
            except StoreError as error:
                yield Problem(row.name, error)

    def stats(self) -> Stats:
        """What the timeline holds."""
        labels: Counter[str | None] = Counter()
        first_ns = last_ns = None
        stored_bytes = 0
        for last_ns, _, oid, label in self.names():
            labels[label] += 1
            stored_bytes += self._place.size(oid)
            first_ns = last_ns if first_ns is None else first_ns
        return Stats(labels.total(), stored_bytes, first_ns, last_ns, labels)

    def has_remote(self) -> bool:
        """Whether there is anywhere to push to."""
        return self._place.has_remote()

    # --- the remote ---

    def push(self, *, sure: bool = True) -> None:
        """Pushes what was added, united with what others have pushed meanwhile.

        Args:
            sure: Whether the remote is asked even if it had all when it was last heard of.

        Raises:
            RepoNoRemote: There is no remote.
            RepoPushError: The remote did not take it, or cannot be reached; all is still stored here.
        """
        try:
            self._place.push(sure=sure)
        except HoldallError as error:
            self.push_error = error
            raise
        self.push_error = None

    def pull(self) -> None:
        """Fetches what others have pushed and unites it with what is here.

        Raises:
            RepoNoRemote: There is no remote.
            RepoPullError: It cannot be reached.
        """
        self._place.pull()
