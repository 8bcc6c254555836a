"""A spool: bytes on their way into a data directory, hashed as they come, without a name until they are whole."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from holdall.core.address import Address
from holdall.errors import TooLargeError
from holdall.stores.disk import translated
from holdall.stores.entry_file import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from holdall.stores.disk import Disk

_numbers: Final = count()


class Spool:
    """Bytes written to an unnamed file (or, where the file system has none, to a temporary one).

    Closing it without committing leaves nothing behind. `write` does all; `keep` and `hash` are its two halves, for a
    caller that overlaps them on two threads.

    Args:
        disk: The directory.
        temporary: Prefix of this process's temporary names.
        size_bytes_max: Refuse more than this.
    """

    def __init__(self, disk: Disk, temporary: str, size_bytes_max: int) -> None:
        self.fd = -1
        self._disk = disk
        self._hash = hashlib.sha256()
        self._max = size_bytes_max
        self.size_bytes = 0
        self.name: str | None = None
        self._temporary = f"{temporary}{next(_numbers)}"
        with translated():
            if disk.unnamed:
                self.fd = disk.create_unnamed(0o600)
            else:
                self.fd = disk.create(self._temporary, 0o600)
                self.name = self._temporary

    def write(self, piece: bytes | memoryview) -> None:
        """Adds a piece.

        Raises:
            TooLargeError: It would pass the largest size.
            StoreError: The disk cannot take it.
        """
        self.keep(piece)
        self._hash.update(piece)

    def keep(self, piece: bytes | memoryview) -> None:
        """Writes a piece without hashing it; errors as `write`."""
        if self.size_bytes + len(piece) > self._max:
            raise TooLargeError(f"The body is over {self._max} bytes.")
        with translated():
            self._disk.write(self.fd, piece, self.size_bytes)
        self.size_bytes += len(piece)

    def hash(self, piece: bytes | memoryview) -> None:
        """Hashes a piece without writing it; pieces must come in order, each once."""
        self._hash.update(piece)

    @property
    def address(self) -> Address:
        """The address of what was hashed so far."""
        return Address(self._hash.digest())

    def give_name(self) -> str:
        """Gives the file a temporary name, from which it can be renamed over another.

        Raises:
            OSError: The disk failed.
        """
        if self.name is None:
            self._disk.link(self.fd, self._temporary)
            self.name = self._temporary
        return self.name

    def link(self, name: str) -> None:
        """Gives the file its final name, if that is free.

        Raises:
            FileExistsError: The name is taken.
            OSError: The disk failed.
        """
        if self.name is None:
            self._disk.link(self.fd, name)
        else:
            self._disk.link_name(self.name, name)
            self._disk.unlink(self.name)
            self.name = None

    def rename(self, name: str) -> None:
        """Moves the file over another.

        Raises:
            OSError: The disk failed.
        """
        self._disk.rename(self.give_name(), name)
        self.name = None

    def __del__(self) -> None:
        self.close()  # a call that was cancelled before a thread took it up

    def close(self) -> None:
        """Lets go; what has no final name is gone. Closing twice is harmless."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self.name is not None:
            with suppress(OSError):  # a full or read-only disk: the sweeper removes what is left
                self._disk.unlink(self.name)
            self.name = None


def temporary_prefix(process_index: int, incarnation: int) -> str:
    """The prefix of one process's temporary names, from which a sweep can tell whether it still lives."""
    return f"{TEMPORARY_PREFIX}{process_index}-{incarnation}-"
