"""Large files, brought to the store and from it: beside rounds, never while the folder's lock is held.

A large file goes to the store first: read for its SHA-256, sent if the store lacks that, and noted. Only then does a
round put a pointer to it into the history, so no node ever hears of bytes that the store has not acknowledged. What the
history names and this node lacks is fetched to `staged/`, checked, and put in place by the next round. Whatever the
moment at which this is killed, nothing is half there, and what was fetched is gone on with.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import stat
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from holdall.core.address import Address
from holdall.errors import DamageError, HoldallError, LocalFileError, NotFoundError, RangeError, TooLargeError
from holdall.limits.snapshot import COARSE_CLOCK_TICK_NS
from holdall.limits.sync import SYNC_KEPT_SECONDS, SYNC_STAGED_SECONDS
from holdall.stores.base import WHOLE, Span, missing
from holdall.sync.large import Large
from holdall.sync.left_out import to_store
from holdall.sync.reading import READ
from holdall.sync.repository import Repository
from holdall.sync.state import Config, Signature
from holdall.sync.streaming import changing, local, pieces, settled, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from holdall.stores.base import Store
    from holdall.sync.folder import Folder
    from holdall.sync.large import Ledger
    from holdall.sync.pointer import Pointer

Opener: TypeAlias = "Callable[[str], Awaitable[Store]]"
"""Opens the store that is called so."""

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR}


class Mover:
    """Brings a folder's large files to the store and from it.

    Concurrency: of several for one folder, one works at a time.

    Args:
        folder: It.
        open_store: Opens its store.
        gives: Whether this node's files go to the store.
        say: Told in a line what is done.
        tell: Told each path for which a round is due.
    """

    def __init__(
        self,
        folder: Folder,
        open_store: Opener,
        *,
        gives: Callable[[], bool],
        say: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._worktree = os.fsencode(folder.worktree)
        self._own = Path(folder.git_dir, "holdall")
        self._open_store = open_store
        self._gives = gives
        self._say = say
        self._tell = tell
        self._large = Large(Repository(folder.git_dir))  # of its own: it may be used on another thread
        self._error = ""
        self._failed: dict[bytes, str] = {}
        self._stopping = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def run(self) -> str:
        """Moves all that waits, as the last look at the folder left it.

        Returns:
            What did not succeed, as a sentence; empty where all did.

        Raises:
            HoldallError: What the folder has beside its history cannot be read or written.
        """
        self._large.refresh(Config.read(os.fspath(self._own / "config.toml")))
        ledger = self._large.ledger
        is_rested = not self._keeps() and not ledger.error and not ledger.failed
        if is_rested and not self._lacking() and not to_store(self._own):
            return ""
        self._error, self._failed = "", {}
        with self._turn():
            self._large.refresh(Config.read(os.fspath(self._own / "config.toml")))  # it may have waited long
            self._large.settle(self._worktree, self._large.store.partition("?")[0])
            self._drop_others()
            with suppress(asyncio.CancelledError):
                asyncio.run(self._main())
            if not self._stopping:
                self._large.change(lambda old: msgspec.structs.replace(old, error=self._error, failed=self._failed))
        if self._error or not self._failed:
            return self._error
        path, why = next(iter(self._failed.items()))
        return f"{os.fsdecode(path)!a} waits: {why}"

    def stop(self) -> None:
        """Ends what `run` does on another thread."""
        self._stopping = True
        if self._running is not None:
            loop, task = self._running
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)

    def _keeps(self) -> bool:
        """Whether the store is to be asked again for what it has."""
        since = time.time() - self._large.ledger.kept
        return bool(self._large.store and self._large.ledger.known) and not 0 <= since < SYNC_KEPT_SECONDS

    def _lacking(self) -> dict[Pointer, list[bytes]]:
        wanted = self._large.wanted()
        return {pointer: paths for pointer, paths in wanted.items() if not self._large.has(pointer)}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other process moves files of this folder."""
        fd = os.open(self._own / "transfer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("Another process moves large files of this folder; waiting for it.")
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _drop_others(self) -> None:
        """Removes what has come and is not wanted any more."""
        wanted = {pointer.address.hex() for pointer in self._large.wanted()}
        with suppress(FileNotFoundError), os.scandir(self._own / "staged") as listing:
            for entry in listing:
                if entry.name.partition(".")[0] not in wanted:
                    with suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_ctime < time.time() - SYNC_STAGED_SECONDS:
                            os.unlink(entry.path)

    # --- inside the event loop ---

    async def _main(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        self._running = asyncio.get_running_loop(), task
        downs = [
            (pointer, paths) for pointer, paths in self._lacking().items() if not await self._copied(pointer, paths)
        ]
        paths = [os.fsencode(path) for path in to_store(self._own)]
        if not self._gives():
            self._failed |= dict.fromkeys(paths, "a read-only node stores nothing.")
            paths = []
        # What is gone may have been moved to one of the others: it goes with it.
        ups = sorted(paths, key=lambda path: not os.path.lexists(os.path.join(self._worktree, path)))
        name = self._large.store
        if name and (ups or downs or self._keeps()) and not self._stopping:
            try:
                store = await self._open_store(name)
            except HoldallError as error:
                self._error = f"The store cannot be used. {error.sentence()}"
                return
            try:
                await self._lane([([], partial(self._keep, store))] if self._keeps() else ())
                await asyncio.gather(
                    self._lane([([path], partial(self._up, store, name, path)) for path in ups]),
                    self._lane([(paths, partial(self._down, store, pointer, paths)) for pointer, paths in downs]),
                )
            finally:
                with suppress(HoldallError):
                    await store.aclose()

    async def _lane(self, works: Iterable[tuple[list[bytes], Callable[[], Awaitable[None]]]]) -> None:
        """Does one after the other, until the store fails."""
        for paths, work in works:
            if self._error:
                return
            try:
                await work()
            except (NotFoundError, DamageError, TooLargeError, LocalFileError) as error:
                self._failed |= dict.fromkeys(paths, error.message)
            except HoldallError as error:
                self._error = f"The store cannot be used. {error.sentence()}"

    async def _keep(self, store: Store) -> None:
        """Restarts the timers of what the folder has; what the store lost is to be stored again."""
        rows = self._large.ledger.known
        lost = set(await missing(store, {Address(address) for _, address in rows.values()}))

        def kept(ledger: Ledger) -> Ledger:
            known = {path: row for path, row in ledger.known.items() if row[1] not in lost}
            return msgspec.structs.replace(ledger, known=known, kept=int(time.time()))

        self._large.change(kept)
        for path in rows.keys() - self._large.ledger.known.keys():
            self._tell(os.fsdecode(path))

    async def _up(self, store: Store, called: str, path: bytes) -> None:
        """Brings a file to the store of that name, if it is not there."""
        full = os.path.join(self._worktree, path)
        try:
            fd = os.open(full, READ)
        except OSError as error:
            if error.errno not in _GONE:
                raise LocalFileError(f"It cannot be read: {error.strerror}.") from error
            self._tell(os.fsdecode(path))
            return
        try:
            with local("read"):
                signature = await settled(fd)
                if not stat.S_ISREG(signature.mode) or self._large.known(path, signature) is not None:
                    self._tell(os.fsdecode(path))
                    return
                digest = hashlib.sha256()
                async for piece in pieces(fd, signature):
                    digest.update(piece)
                address = Address(digest.digest())
                if await missing(store, [address]):
                    await store.put(pieces(fd, signature), expected=address)
                if {Signature.of(os.fstat(fd)), Signature.of(os.lstat(full))} != {signature}:
                    raise changing()
            self._large.keep({path: (signature, address)}, store=called)
        finally:
            os.close(fd)
        self._say(f"{os.fsdecode(path)!a} is stored, {signature.size_bytes:,} bytes.")
        self._tell(os.fsdecode(path))

    async def _down(self, store: Store, pointer: Pointer, paths: list[bytes]) -> None:
        """Brings the bytes of a large file here; what came of them before stays."""
        with self._draft(pointer) as fd:
            digest = hashlib.sha256()
            have = 0
            async for piece in pieces(fd, Signature.of(os.fstat(fd))):
                digest.update(piece)
                have += len(piece)
            self._check_room(pointer.size_bytes - have)
            if have < pointer.size_bytes:
                try:
                    span = Span(have) if have else WHOLE
                    async with await store.get(pointer.address, span) as reading:
                        async for piece in reading:
                            have += len(piece)
                            if have > pointer.size_bytes:
                                break
                            write(fd, piece)
                            digest.update(piece)
                except NotFoundError:
                    raise NotFoundError(f"the store does not have its bytes, {pointer.address.hex()}.") from None
                except RangeError:
                    have = -1
            self._finish(fd, pointer, is_right=(have, digest.digest()) == (pointer.size_bytes, pointer.address))
        self._came(pointer, paths)

    async def _copied(self, pointer: Pointer, paths: list[bytes]) -> bool:
        """Whether some file of the folder had the bytes of a large file, and they were taken from there."""
        for path, (signature, address) in self._large.ledger.known.items():
            if address != pointer.address or signature.size_bytes != pointer.size_bytes:
                continue
            try:
                source = os.open(os.path.join(self._worktree, path), READ)
            except OSError:
                continue
            try:
                self._check_room(pointer.size_bytes)
                with self._draft(pointer) as fd:
                    os.ftruncate(fd, 0)
                    digest = hashlib.sha256()
                    async for piece in pieces(source, signature):
                        write(fd, piece)
                        digest.update(piece)
                    self._finish(fd, pointer, is_right=digest.digest() == pointer.address)
            except (LocalFileError, DamageError):
                continue
            finally:
                os.close(source)
            self._came(pointer, paths)
            return True
        return False

    @contextmanager
    def _draft(self, pointer: Pointer) -> Iterator[int]:
        """The file that the bytes of a large file are written to, open, at its beginning."""
        with local("written"):
            os.makedirs(self._own / "staged", mode=0o700, exist_ok=True)
            fd = os.open(f"{self._large.staged(pointer)}.part", _NEW, 0o600)
            try:
                yield fd
            finally:
                os.close(fd)

    def _finish(self, fd: int, pointer: Pointer, *, is_right: bool) -> None:
        """Gives the bytes of a large file their name, if they are right, and drops them if not."""
        place = self._large.staged(pointer)
        if not is_right:
            os.unlink(f"{place}.part")
            raise DamageError(f"the store has other bytes under {pointer.address.hex()} than those.")
        os.fsync(fd)
        past_ns = time.time_ns() - COARSE_CLOCK_TICK_NS - 1  # whoever changes it in its place changes its time too
        os.utime(fd, ns=(past_ns, past_ns))
        os.rename(f"{place}.part", place)

    def _came(self, pointer: Pointer, paths: list[bytes]) -> None:
        for path in map(os.fsdecode, paths):
            self._say(f"{path!a} has come, {pointer.size_bytes:,} bytes.")
            self._tell(path)

    def _check_room(self, size_bytes: int) -> None:
        status = os.statvfs(self._own)
        room_bytes = status.f_bavail * status.f_frsize
        if size_bytes > room_bytes:
            raise LocalFileError(f"there is room for {room_bytes:,} bytes, and it takes {size_bytes:,}.")
