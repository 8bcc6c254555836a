"""holdall for Python programs: `open` for code that waits, `open_async` for code that runs in an event loop.

A `SyncStore` does what the asynchronous layer does, with the same names, words and errors, on an event loop of its own
(see `bridge`). An address may be given as an `Address`, or as text in any form that the command line takes.
"""

from __future__ import annotations

import os
import warnings
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from holdall.bridge import LoopThread
from holdall.errors import UsageError
from holdall.stores.base import WHOLE, missing
from holdall.stores.opening import open_store
from holdall.sync_parts import Commit, SyncParts, address_of, left_out, name_of, slot_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from holdall.core.address import Address
    from holdall.snapshot.backup import BackupReport
    from holdall.snapshot.checkout import Report as CheckoutReport
    from holdall.snapshot.commit import Report as CommitReport
    from holdall.snapshot.compare import Change
    from holdall.snapshot.keep import KeepReport
    from holdall.snapshot.verify_commit import CommitReport as VerifyCommitReport
    from holdall.snapshot.verify_store import VerifyReport
    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Info, Kind, Span, Store
    from holdall.sync_parts import Path, Slot, Stream, SyncSource


@asynccontextmanager
async def open_async(url: Path, *, api_key: str | None = None, create: bool = True) -> AsyncIterator[Store]:
    """Opens a store for a block of asynchronous code; what it can do says `holdall.stores.base.Store`.

    Args:
        url: A path, `file:///path`, `http(s)://host:port[/path][?apikey=KEY]` or `memory:`.
        api_key: The API key for a server, instead of one in the URL.
        create: Make a directory that is missing.

    Raises:
        HoldallError: As `holdall.stores.opening.open_store`.
    """
    store = await open_store(name_of(url), api_key=api_key, create=create)
    try:
        yield store
    finally:
        await store.aclose()


def open(url: Path, *, api_key: str | None = None, create: bool = True) -> SyncStore:  # noqa: A001 - holdall.open
    """Opens a store for code that does not use asyncio; close it, or use it in a `with`. See `SyncStore`."""
    return SyncStore(url, api_key=api_key, create=create)


class SyncStore:
    """An open store whose calls return when they are done.

    Concurrency: any number of threads may use it at once. Ctrl-C during a call ends what is under way, as an error
    would, and then reaches the caller. In a coroutine it holds up the caller's own loop: there, take `open_async`. What
    it calls back (`on_progress`) runs on its own thread and cannot use it. Not for use after a fork.

    Args:
        url: As of `open_async`, like the rest and what it raises.
        api_key: See there.
        create: See there.

    Attributes:
        url: Its name; the API key may be in it.
    """

    def __init__(self, url: Path, *, api_key: str | None = None, create: bool = True) -> None:
        self.url = name_of(url)
        self._thread = LoopThread()
        try:
            opening = partial(open_store, self.url, api_key=api_key, create=create)
            self._parts = SyncParts(self._thread, self._thread.run(self._thread.owned(opening)))
        except BaseException:
            self._thread.close()
            raise
        self._store = self._parts.store

    # --- blobs, and what they have in common with slots ---

    def put(self, source: SyncSource, *, expected: Address | str | None = None) -> Address:
        """Stores bytes under their SHA-256, and returns that; see `Blobs.put`.

        Args:
            source: Bytes, the path of a file (any `str` is one), a file open in binary mode, or an iterable of bytes.
            expected: Refuse bytes that do not hash to this.

        Raises:
            LocalFileError: The file cannot be read.
            HoldallError: As `Blobs.put`; nothing was kept.
        """
        wanted = None if expected is None else address_of(expected)
        return self._parts.feed(source, partial(self._store.put, expected=wanted))

    def get(self, address: Address | str, span: Span = WHOLE, *, use: bool = True) -> bytes:
        """The bytes of the blob or slot at an address; see `Blobs.get`.

        Raises:
            DamageError: They are all of a blob, and do not hash to its address.
            HoldallError: As `Blobs.get`.
        """
        return self._parts.read(partial(self._store.get, address_of(address), span, use=use))

    def reading(self, address: Address | str, span: Span = WHOLE, *, use: bool = True) -> Stream:
        """Opens the blob or slot at an address as a binary file, for what need not fit in memory; errors as `get`."""
        return self._parts.stream(partial(self._store.get, address_of(address), span, use=use))

    def stat(self, address: Address | str, *, use: bool = True) -> Info:
        """What the store knows of the entry at an address; see `Blobs.stat`."""
        return self._thread.run(self._store.stat(address_of(address), use=use))

    def missing(self, addresses: Iterable[Address | str]) -> list[Address]:
        """Which of `addresses` are not in the store, in their order, each once; the others' timers restart."""
        return self._thread.run(missing(self._store, [address_of(address) for address in addresses]))

    def delete(self, address: Address | str, *, kind: Kind | None = None) -> None:
        """Removes the entry at an address, or only one of that kind; see `Blobs.delete`."""
        self._thread.run(self._store.delete(address_of(address), kind=kind))

    def entries(self) -> Iterator[Info]:
        """Yields every entry, newest recorded use first; see `Blobs.entries`."""
        return self._thread.iterate(self._store.entries())

    def slot(self, key: str | bytes | None = None, *, address: Address | str | None = None) -> Slot:
        """The slot of a key, which is at the SHA-256 of its UTF-8, or the one at an address; nothing is asked yet.

        Raises:
            UsageError: Neither is given, or both.
        """
        return slot_of(self._parts, key, address)

    # --- trees ---

    def commit(
        self,
        directory: Path,
        *,
        exclude: Sequence[str] = (),
        no_ignore: bool = False,
        one_file_system: bool = False,
        preserve: bool = False,
        codec: Literal["zstd", "gzip", "none"] = "zstd",
        no_cache: bool = False,
        on_progress: Callable[[CommitReport], None] = lambda _: None,
    ) -> Commit:
        """Stores a directory tree under one address; errors as of `holdall.snapshot.commit_directory`.

        Args:
            directory: The tree.
            exclude: Patterns of what is left out, written as in `.gitignore`.
            no_ignore: Take everything else, `.git` included.
            one_file_system: Do not descend into other file systems.
            preserve: Also keep times, owners, all mode bits, extended attributes and hard links.
            codec: How chunks are compressed.
            no_cache: Read every file, whatever is remembered of earlier commits.
            on_progress: Told how far the report has come.

        Returns:
            The address, and a report whose `skipped` names what could not be read and so is not in the commit.
        """
        from holdall.snapshot.commit_directory import CommitOptions, commit_directory  # noqa: PLC0415 - slow to import

        options = CommitOptions(
            exclude=left_out(self.url, directory, exclude),
            no_ignore=no_ignore,
            one_file_system=one_file_system,
            preserve=preserve,
            codec=codec,
            no_cache=no_cache,
        )
        root = os.fspath(directory)
        report = self._thread.run(commit_directory(self._store, root, options, on_progress=on_progress))
        assert report.address is not None  # noqa: S101 - only a dry run has none
        return Commit(report.address, report)

    def checkout(
        self,
        address: Address | str,
        directory: Path,
        *,
        paths: Iterable[str | bytes] = (),
        replace: bool = False,
        delete: bool = False,
        dry_run: bool = False,
        on_change: Callable[[str, bytes], None] = lambda *_: None,
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> CheckoutReport:
        """Restores a commit, or part of it, into a directory; errors as of `holdall.snapshot.checkout.checkout`.

        Args:
            address: The commit's.
            directory: Where to; made if it is missing.
            paths: What of it; without any, everything.
            replace: Replace what differs.
            delete: Delete what the commit does not have.
            dry_run: Only plan.
            on_change: Told of each planned change, in a dry run: A, M or D, and the path.
            on_progress: Told what is being done, for how many bytes it is done, and of how many.
        """
        from holdall.snapshot.checkout import Wish, checkout  # noqa: PLC0415 - slow to import
        from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - as above

        if isinstance(paths, str | bytes):
            raise UsageError("paths= takes a list of paths.")
        where = os.fspath(directory)
        wanted = [os.fsencode(path) for path in paths]
        spared = left_out(self.url, where) if delete else ()
        wish = Wish(directory=where, paths=wanted, replace=replace, delete=delete, spared=spared, dry_run=dry_run)

        async def work() -> CheckoutReport:
            async with await open_commit(self._store, address_of(address)) as reader:
                return await checkout(reader, wish, on_change=on_change, on_progress=on_progress)

        return self._thread.run(work())

    def compare(self, old: Address | str, new: Address | str) -> Iterator[Change]:
        """Yields what is different between two commits; see `holdall.snapshot.compare`."""
        from holdall.snapshot.compare import compare  # noqa: PLC0415 - slow to import
        from holdall.snapshot.reading import open_commit  # noqa: PLC0415 - as above

        before, after = address_of(old), address_of(new)

        async def changes() -> AsyncIterator[Change]:
            async with (
                await open_commit(self._store, before) as olds,
                await open_commit(self._store, after) as news,
                aclosing(compare(olds, news)) as found,
            ):
                async for change in found:
                    yield change

        return self._thread.iterate(changes())

    def keep(self, address: Address | str) -> KeepReport:
        """Restarts the timer of a commit and of all that it is made of; see `holdall.snapshot.keep`."""
        from holdall.snapshot.keep import keep  # noqa: PLC0415 - slow to import

        return self._thread.run(keep(self._store, address_of(address)))

    # --- whole stores ---

    def verify(
        self, *, share: float = 1.0, quarantine: bool = False, on_trouble: Callable[[Trouble], None] = lambda _: None
    ) -> VerifyReport:
        """Holds every blob to its address, and counts those that do not match.

        Args:
            share: How large a random part is read, from above 0 to 1.
            quarantine: Take damaged blobs out of the way.
            on_trouble: Told of each entry that is damaged or cannot be read.

        Raises:
            HoldallError: As `StoreVerification.troubles`.
        """
        from holdall.snapshot.verify_store import StoreVerification  # noqa: PLC0415 - slow to import

        if not 0 < share <= 1:
            raise UsageError("share= is above 0 and at most 1.")
        run = StoreVerification(self._store, share=share, quarantine=quarantine)
        for trouble in self._thread.iterate(run.troubles()):
            on_trouble(trouble)
        return run.report

    def verify_commit(
        self, address: Address | str, *, on_trouble: Callable[[Trouble], None] = lambda _: None
    ) -> VerifyCommitReport:
        """Holds a commit to its address, with every blob it is made of; see `CommitVerification`.

        Args:
            address: The commit's.
            on_trouble: Told of each blob that is missing or damaged.

        Returns:
            What it is made of; all of that is whole.

        Raises:
            HoldallError: As `CommitVerification.troubles`; or, once all are known, the error of the first trouble.
        """
        from holdall.snapshot.verify_commit import CommitVerification  # noqa: PLC0415 - slow to import

        run = CommitVerification(self._store, address_of(address))
        first: Trouble | None = None
        for trouble in self._thread.iterate(run.troubles()):
            first = first or trouble
            on_trouble(trouble)
        if first is not None:
            raise first.error
        return run.report

    def backup(
        self,
        to: Path,
        *,
        api_key: str | None = None,
        blobs_only: bool = False,
        keep: bool = False,
        on_trouble: Callable[[Trouble], None] = lambda _: None,
    ) -> BackupReport:
        """Copies everything into another store; see `holdall.snapshot.backup`.

        Args:
            to: The other store; a directory is made if it is missing.
            api_key: Its API key.
            blobs_only: Leave slots alone.
            keep: Restart the timers of this store.
            on_trouble: Told of each entry that could not be copied; the report counts them.

        Raises:
            HoldallError: As `Backup.troubles`; what was copied stays, and the same call goes on from there.
        """
        from holdall.snapshot.backup import Backup  # noqa: PLC0415 - slow to import

        target = self._thread.run(self._thread.owned(partial(open_store, name_of(to), api_key=api_key)))
        try:
            run = Backup(self._store, target, blobs_only=blobs_only, keep=keep)
            for trouble in self._thread.iterate(run.troubles()):
                on_trouble(trouble)
        finally:
            self._thread.run(self._thread.disown(target))
        return run.report

    # --- life ---

    def close(self) -> None:
        """Ends what other threads are doing with it, and lets go as `Blobs.aclose`. Closing twice is harmless."""
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.is_open:
            thread.close(waiting=False)  # this may be any thread
            warnings.warn(f"{self!r} was never closed.", ResourceWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        return f"<holdall store {self.url.partition('?')[0]}>"
