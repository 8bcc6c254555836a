"""What a synced folder remembers beside its history, in `holdall/` of its git directory.

`config.toml` is for people: the node, the folder's name, what it takes. `state` is what must survive a crash: which
files lag behind the history, and whether the folder is held. `files` is a cache of what was hashed; losing it costs
time. All are replaced by a rename, so each is whole or as it was before.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdall.errors import LocalFileError, OutOfSpaceError, SettingError
from holdall.limits.snapshot import CLOCK_TICK_NS, COARSE_CLOCK_TICK_NS
from holdall.limits.sync import SYNC_FILE_BYTES_MAX
from holdall.stores.git_objects import sync_together
from holdall.sync.merge import EXECUTABLE, FILE, SYMLINK, Entry
from holdall.sync.repository import NODE
from holdall.sync.trees import blob_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdall.sync.large import Large

_PREFIX: Final = ".git."
_SECOND_NS: Final = 1_000_000_000
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Config:
    """What a folder was set up as.

    Attributes:
        node: This node.
        name: What people call the folder.
        size_max_bytes: Larger files are left out.
        policy: What else was settled, text by name: what becomes of drift, the store of large files.
    """

    node: str
    name: str
    size_max_bytes: int = SYNC_FILE_BYTES_MAX
    policy: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not NODE.fullmatch(self.node):
            raise SettingError(
                f"{self.node!r} is no name for a node.", hint="Use 1 to 32 of a-z, 0-9 and -, such as alpha or nas-2."
            )

    @classmethod
    def read(cls, path: str) -> Config:
        """The config in a file.

        Raises:
            SettingError: It is missing, or is no config.
        """
        try:
            with open(path, "rb") as file:
                found: dict[str, Any] = tomllib.load(file)
            policy = {str(name): str(value) for name, value in found.get("policy", {}).items()}
            return cls(str(found["node"]), str(found["name"]), int(found["size_max_bytes"]), policy)
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SettingError(f"{path} cannot be read: {error}.") from error

    def write(self, path: str) -> None:
        """Writes the config to a file.

        Raises:
            LocalFileError: It cannot be written.
        """
        lines = [
            f"node = {json.dumps(self.node)}",
            f"name = {json.dumps(self.name)}",
            f"size_max_bytes = {self.size_max_bytes}",
        ]
        if self.policy:
            lines += ["", "[policy]"]
            lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in sorted(self.policy.items())]
        _replace(path, ("\n".join(lines) + "\n").encode())


class Lag(msgspec.Struct, array_like=True):
    """A file that may be otherwise than the history has it, and is no edit for that.

    Attributes:
        states: What may be in its place.
        base: The commit that the folder has it from; None for main.
    """

    states: list[Entry | None]
    base: str | None


class State(msgspec.Struct):
    """What must survive a crash.

    Attributes:
        device: The number of the file system that the folder was on.
        held: Why the folder is held by hand; empty where it is not.
        released: Whether the next reconcile may go through the brake.
        tells: Whether it then tells other nodes so.
        lagging: Files that are being written, or could not be, by path.
        marks: What main was, after its time in seconds since 1970, before rounds of the last minute took files away.
        braked: Why what was found in the folder is not believed; empty where it is.
        held_back: Nodes whose commits are not merged without asking, and why.
        held_base: What main was when that began.
        recalls: Whether main went back, so that the folder may have what a merge had that is gone.
    """

    device: int = 0
    held: str = ""
    released: bool = False
    lagging: dict[bytes, Lag] = {}
    tells: bool = True
    marks: list[tuple[int, str]] = []
    braked: str = ""
    held_back: dict[str, str] = {}
    held_base: str = ""
    recalls: bool = False

    @classmethod
    def read(cls, path: str) -> State:
        """The state in a file; a new one where there is none, or none that can be read."""
        try:
            with open(path, "rb") as file:
                return msgspec.msgpack.decode(file.read(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls()

    def noted(self) -> tuple[object, ...]:
        """What the brake notes."""
        return self.device, list(self.marks), self.braked, dict(self.held_back), self.held_base

    def end_release(self) -> None:
        """Notes that what was released is done."""
        self.released, self.tells = False, True
        self.braked, self.held_back, self.marks = "", {}, []

    def write(self, path: str, *, lasting: bool = True) -> None:
        """Writes the state to a file.

        Args:
            path: Where.
            lasting: Whether it has to survive a power cut, not only a crash.

        Raises:
            LocalFileError: It cannot be written.
            OutOfSpaceError: The disk is full.
        """
        _replace(path, msgspec.msgpack.encode(self), lasting=lasting)


class Signature(NamedTuple):
    """What a file's status says; while it is the same, so are its contents."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature in a status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)


def settled_ns(changed_ns: int) -> int:
    """From which moment on a file can be read that changed at another, so that a later change can be told."""
    return changed_ns + (CLOCK_TICK_NS if changed_ns % _SECOND_NS else COARSE_CLOCK_TICK_NS) + 1


class _Files(msgspec.Struct):
    version: int
    known: dict[bytes, tuple[Signature, bytes]]


class FileCache:
    """The blob ids of files that need not be read again, by path.

    Args:
        path: Where it is saved.
        large: What is known of large files.
    """

    def __init__(self, path: str, large: Large | None = None) -> None:
        self._path = path
        self._large = large
        self._known: dict[bytes, tuple[Signature, bytes]] = {}
        self._changed = False
        with suppress(OSError, msgspec.MsgspecError), open(path, "rb") as file:
            found = msgspec.msgpack.decode(file.read(), type=_Files)
            if found.version == _VERSION:
                self._known = found.known

    def blob(self, path: bytes, signature: Signature) -> bytes | None:
        """The blob that a file is, if that is known and the file is as it was."""
        found = self._known.get(path)
        if found is not None and found[0] == signature:
            return found[1]
        pointer = self._large.known(path, signature) if self._large is not None else None
        return None if pointer is None else blob_id(pointer.text)

    def keep(self, path: bytes, signature: Signature, blob: bytes, *, read_ns: int | None = None) -> None:
        """Remembers a file, unless it changed so lately that another change could look the same.

        Args:
            path: Where it is.
            signature: Before it was read.
            blob: Its id.
            read_ns: When reading it began; now, if that is not told.
        """
        read_ns = time.time_ns() if read_ns is None else read_ns
        if settled_ns(max(signature.mtime_ns, signature.ctime_ns)) <= read_ns:
            self._known[path] = (signature, blob)
            self._changed = True
        else:
            self.forget(path)

    def forget(self, path: bytes) -> None:
        """Drops what is known of a file."""
        if self._known.pop(path, None) is not None:
            self._changed = True

    def save(self) -> None:
        """Writes down what is known, if it changed; where that fails, the next process reads more files."""
        if self._changed:
            with suppress(LocalFileError, OutOfSpaceError):
                _replace(self._path, msgspec.msgpack.encode(_Files(_VERSION, self._known)), lasting=False)
                self._changed = False


def entry_of(status: os.stat_result, blob: bytes, before: Entry | None, *, has_modes: bool) -> Entry:
    """The entry that a file is.

    Args:
        status: Of the file, a regular one or a symlink.
        blob: Its contents.
        before: What the history has there.
        has_modes: Whether the file system tells programs from other files; where not, the history does.
    """
    if stat.S_ISLNK(status.st_mode):
        return Entry(SYMLINK, blob)
    if not has_modes:
        return Entry(before.mode if before is not None and before.mode in {FILE, EXECUTABLE} else FILE, blob)
    return Entry(EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE, blob)


def places(path: str) -> tuple[str, str]:
    """A synced folder and its git directory, whichever of them a path names."""
    path = os.path.realpath(path)
    parent, name = os.path.split(path)
    if name.startswith(_PREFIX) and os.path.exists(os.path.join(path, "HEAD")):
        return os.path.join(parent, name.removeprefix(_PREFIX)), path
    return path, os.path.join(parent, _PREFIX + name)


def _replace(path: str, data: bytes, *, lasting: bool = True) -> None:
    """Writes a file whole, over what was there; with `lasting`, it survives a power cut."""
    making = f"{path}.{os.getpid()}"
    try:
        with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(making, path)
        if lasting:
            sync_together([os.path.dirname(path)])
    except OSError as error:
        with suppress(OSError):
            os.unlink(making)
        from_full_disk = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (OutOfSpaceError if from_full_disk else LocalFileError)(
            f"{path} cannot be written: {error.strerror or error}."
        ) from error
