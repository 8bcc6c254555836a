"""What a node knows of a folder's large files: which bytes the store has, and which have come from it.

A large file's bytes lie in a store and a pointer to them in the history. `large` beside the history says, by path, what
a file was when all of its bytes were known to be in the store; while it is that, it need not be read. `staged/` has,
under their SHA-256, bytes that have come and have no place in the folder yet. Rounds read both, and never ask a store;
`transfer` asks it, without the folder's lock.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address
from holdall.errors import DamageError, StoreError
from holdall.sync.merge import EXECUTABLE, FILE
from holdall.sync.pointer import POINTER_BYTES_MAX, Pointer, parse
from holdall.sync.process import locked, write_atomically
from holdall.sync.repository import MAIN
from holdall.sync.state import Config, Signature, State, settled_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdall.sync.folder import Folder
    from holdall.sync.merge import Entry
    from holdall.sync.repository import Repository

TO_STORE: Final = "it waits to be stored"
FROM_STORE: Final = "it waits for its bytes from the store"
NO_STORE: Final = "its bytes lie in a store and this node has none; name it with holdall sync store"
_ALIKE: Final = "it reads like a pointer to a large file, which takes a store: holdall sync store"
_VERSION: Final = 1
_MODE_BITS: Final = 0o777


class Ledger(msgspec.Struct):
    """What is written down of a folder's large files.

    Attributes:
        version: Of this format.
        store: What the store is called that `known` speaks of.
        known: The files whose bytes it has: what each was, and its SHA-256, by path.
        error: Why the store could not be used the last time; empty if it could.
        failed: Why single files could not be moved, by path.
        kept: When the store was last asked whether it has them still, in seconds since 1970.
    """

    version: int = _VERSION
    store: str = ""
    known: dict[bytes, tuple[Signature, bytes]] = {}
    error: str = ""
    failed: dict[bytes, str] = {}
    kept: int = 0


class Large:
    """The large files of a folder, as far as can be told without asking a store.

    Concurrency: several processes and threads may have one each for the same folder.

    Args:
        repository: The folder's.

    Attributes:
        size_max_bytes: Files beyond this are large.
        store: What the store is called; empty where there is none.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._own = Path(repository.path, "holdall")
        self._staged = os.path.join(repository.path, "holdall", "staged")
        self._mark: tuple[int, ...] = ()
        self.ledger = Ledger()
        self.size_max_bytes = 0
        self.store = ""

    def refresh(self, config: Config) -> None:
        """Goes by these settings, and by what others wrote down meanwhile."""
        self.size_max_bytes, self.store = config.size_max_bytes, (config.policy or {}).get("store", "")
        path = self._own / "large"
        mark: tuple[int, ...] = ()
        with suppress(OSError):
            status = path.stat()
            mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        if mark != self._mark:
            self._mark = mark
            self.ledger = Ledger()
            with suppress(OSError, msgspec.MsgspecError):
                found = msgspec.msgpack.decode(path.read_bytes(), type=Ledger)
                self.ledger = found if found.version == _VERSION else self.ledger

    def reason(self, size_bytes: int) -> str:
        """Why a file whose bytes are not known to be in the store is left alone."""
        if self.store:
            return TO_STORE
        return f"larger than {self.size_max_bytes:,} bytes" if size_bytes > self.size_max_bytes else _ALIKE

    # --- what the store has ---

    def known(self, path: bytes, signature: Signature) -> Pointer | None:
        """The pointer to a file, if the store has its bytes and it is as it was then."""
        found = self.ledger.known.get(path)
        if found is None or found[0] != signature:
            return None
        return Pointer(Address(found[1]), signature.size_bytes)

    def change(self, change: Callable[[Ledger], Ledger]) -> None:
        """Changes what is written down; the argument makes the new of the old.

        Raises:
            LocalFileError: It cannot be written.
            SettingError: The folder's settings cannot be read.
        """
        with locked(self._own / "large.lock"):
            self.refresh(Config.read(os.fspath(self._own / "config.toml")))
            now = change(self.ledger)
            if now != self.ledger:
                write_atomically(self._own / "large", msgspec.msgpack.encode(now), mode=0o600, lasting=False)
                self.ledger = now

    def keep(self, rows: Mapping[bytes, tuple[Signature, bytes]], *, store: str | None = None) -> None:
        """Writes down that the store has the bytes of some files; what each was, and its SHA-256, by path.

        Args:
            rows: Them.
            store: To which store they were brought: where it is not the folder's any more, nothing is written down.

        Raises:
            HoldallError: As `change`.
        """
        plain = {path: (signature, bytes(address)) for path, (signature, address) in rows.items()}

        def kept(ledger: Ledger) -> Ledger:
            is_other = store is not None and store != self.store
            return ledger if is_other else msgspec.structs.replace(ledger, known=ledger.known | plain)

        self.change(kept)

    def settle(self, root: bytes, store: str) -> None:
        """Forgets files that are not as they were, and everything where the store is another than it was.

        Args:
            root: Where the folder is.
            store: What the store is called.

        Raises:
            HoldallError: As `change`.
        """

        def settled(ledger: Ledger) -> Ledger:
            known = {}
            for path, (signature, address) in ledger.known.items() if ledger.store == store else ():
                with suppress(OSError):
                    if Signature.of(os.lstat(os.path.join(root, path))) == signature:
                        known[path] = signature, address
            kept = ledger.kept if known else int(time.time())
            return msgspec.structs.replace(ledger, store=store, known=known, kept=kept)

        self.change(settled)

    # --- the history's blobs ---

    def size_bytes(self, blob: bytes) -> int:
        """How long a blob of the history is; -1 where it is missing, which is for others to tell."""
        try:
            return self._repository.size_bytes(blob)
        except (DamageError, StoreError):
            return -1

    def pointer(self, entry: Entry | None) -> Pointer | None:
        """The pointer that an entry of the history is; None where it is anything else."""
        if entry is None or entry.mode not in {FILE, EXECUTABLE}:
            return None
        if not 0 < self.size_bytes(entry.blob) <= POINTER_BYTES_MAX:
            return None
        return parse(self._repository.blob(entry.blob))

    def wanted(self) -> dict[Pointer, list[bytes]]:
        """The large files that have to come, or have come and are not in their places: which, and where."""
        found: dict[Pointer, list[bytes]] = {}
        head = self._repository.ref(MAIN)
        for path in sorted(State.read(os.fspath(self._own / "state")).lagging):
            pointer = self.pointer(self._repository.entry(head, path))
            if pointer is not None:
                found.setdefault(pointer, []).append(path)
        return found

    # --- what has come ---

    def staged(self, pointer: Pointer) -> str:
        """Where the bytes of a large file lie that have come, or are to."""
        return os.path.join(self._staged, pointer.address.hex())

    def has(self, pointer: Pointer) -> bool:
        """Whether they are there, all of them."""
        try:
            return os.stat(self.staged(pointer)).st_size == pointer.size_bytes
        except OSError:
            return False

    def lacks(self) -> str:
        """Why a file whose bytes have not come is not there."""
        return FROM_STORE if self.store else NO_STORE

    def give(self, pointer: Pointer, made: int, name: bytes, within: int) -> None:
        """Puts bytes that have come into the place of an empty file, with its permissions.

        Args:
            pointer: Which.
            made: The file, open to be written.
            name: What it is called.
            within: The directory that it is in, open.

        Raises:
            OSError: They cannot be put there.
        """
        staged = self.staged(pointer)
        status = os.stat(staged)
        try:
            os.chmod(staged, os.fstat(made).st_mode & _MODE_BITS)
            os.rename(staged, name, dst_dir_fd=within)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            room = os.fstatvfs(made)
            if room.f_bavail * room.f_frsize < status.st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            with open(staged, "rb") as source, open(made, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target)
            os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.unlink(staged)

    def take(self, pointer: Pointer, name: bytes, within: int) -> bool:
        """Moves a file that is to be removed to what has come, since another place wants its bytes; whether it did."""
        try:
            os.makedirs(self._staged, mode=0o700, exist_ok=True)
            os.rename(name, self.staged(pointer), src_dir_fd=within)
        except OSError:  # a file of its own file system; then it is fetched
            return False
        return True

    def placed(self, name: bytes, within: int) -> Signature | None:
        """What a file is that was put in its place just now; None where it may have been changed since."""
        status = os.lstat(name, dir_fd=within)
        # Its time is that of when its bytes came; who writes to it changes that.
        is_same = stat.S_ISREG(status.st_mode) and settled_ns(status.st_mtime_ns) <= time.time_ns()
        return Signature.of(status) if is_same else None


def permissions(had: int, *, runs: bool) -> int:
    """The permissions of a file that becomes a program, or no program, of those that it had."""
    # Whoever may read a program may run it.
    return had & _MODE_BITS | (had & 0o444) >> 2 if runs else had & _MODE_BITS & ~0o111


def configure(folder: Folder, *, store: str | None = None, size_max_bytes: int | None = None) -> None:
    """Settles where a folder's large files go on this node, and which are large.

    Args:
        folder: It.
        store: What the store is called, by no relative path; empty for none, None as it is.
        size_max_bytes: Files beyond this are large; None as it is.

    Raises:
        HoldallError: The settings cannot be read or written.
    """
    path = os.path.join(folder.git_dir, "holdall", "config.toml")
    with locked(Path(folder.git_dir, "holdall", "config.lock")):
        config = Config.read(path)
        if store is not None:
            policy = {name: value for name, value in (config.policy or {}).items() if name != "store"}
            config = replace(config, policy=policy | ({"store": store} if store else {}))
        if size_max_bytes is not None:
            config = replace(config, size_max_bytes=size_max_bytes)
        config.write(path)
    if store:
        Large(folder.repository).settle(os.fsencode(folder.worktree), store.partition("?")[0])
