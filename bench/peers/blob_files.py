"""The job that the peers' applications share: hash a body into a file of its own, find it again by that name.

Written as a careful author of such an application would: no coroutine per step, one temporary file, a rename at the
end. It never syncs, so it compares with durability `os`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from typing import Final

DATA: Final = os.environ.get("BENCH_DATA", "")
PATH: Final = re.compile(r"/[0-9a-f]{64}\.tig", re.ASCII)
INLINE_BYTES_MAX: Final = 1 << 20
READ_BYTES: Final = 256 * 1024

_serial = itertools.count()


class Incoming:
    """One body on its way into a file."""

    __slots__ = ("_descriptor", "_hash", "_temporary")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._temporary = f"{DATA}/.incoming-{os.getpid()}-{next(_serial)}"
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes of the body."""
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def keep(self) -> str:
        """Gives the file its name and returns the path that a client reads it by."""
        os.close(self._descriptor)
        path = f"/{self._hash.hexdigest()}.tig"
        os.rename(self._temporary, DATA + path)
        return path

    def drop(self) -> None:
        """Leaves nothing of a body that did not arrive whole."""
        os.close(self._descriptor)
        os.unlink(self._temporary)


def open_blob(path: str) -> tuple[int, int] | None:
    """Opens the file behind a request's path.

    Args:
        path: The path as the client sent it.

    Returns:
        Its descriptor and size in bytes, or None if there is none.
    """
    if not PATH.fullmatch(path):
        return None
    try:
        descriptor = os.open(DATA + path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return descriptor, os.fstat(descriptor).st_size
