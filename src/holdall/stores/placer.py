"""A second process that gives small blobs their files, so that one worker's writes use two cores.

Half of what a small write costs is the file system's work of creating a file, in calls too short for a thread to take
them over: threads of one Python process would spend more on handing the interpreter to each other. So a busy event
loop sends the blobs of one turn, as one message, to a process that does nothing but create files, and goes on with
its next requests until the outcomes come back.

Run as `python -m holdall.stores.placer`, this is that process; it ends when its store does. It makes nothing durable
and replaces nothing: a name that is taken is reported, and the store sees to it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.core.address import SUFFIX
from holdall.stores.disk import Disk
from holdall.stores.entry_file import BLOB_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdall.core.address import Address

MESSAGE_BYTES_MAX: Final = 128 * 1024
"""Of one message; a socket pair's buffer holds a few."""
PLACED: Final = 0
TAKEN: Final = 255
"""Outcomes of one blob: its file is there; something else has its name. Any other is an errno."""

_READY: Final = b"ready"
"""What the process says once, before it takes anything."""

_ITEM: Final = struct.Struct("<32sI")
_OUTSTANDING_MAX: Final = 8


def place(disk: Disk, name: str, data: bytes | memoryview, *, sync: bool = False) -> bool:
    """Gives a blob its file if nothing has its name; returns False otherwise, having done nothing.

    Args:
        disk: The directory, on a file system with unnamed files.
        name: The file's name.
        data: The blob.
        sync: Make the contents, though not the name, durable first.

    Raises:
        OSError: The disk failed.
    """
    fd = disk.create_unnamed(BLOB_MODE)
    try:
        if disk.masked:
            disk.set_mode(fd, BLOB_MODE)
        disk.write(fd, data, 0)
        if sync:
            disk.sync_data(fd)
        disk.link(fd, name)
    except FileExistsError:
        return False
    finally:
        os.close(fd)
    return True


class Placer:
    """An event loop's end of a placing process.

    Concurrency: for the loop's own thread.

    Args:
        path: The data directory.
    """

    def __init__(self, path: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE_BYTES_MAX)
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), path]
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))  # noqa: S603
        ours.setblocking(False)
        self._socket: socket.socket | None = ours
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outstanding: deque[tuple[int, Callable[[bytes | None], None]]] = deque()
        self._ready = False

    def offer(self, blobs: Sequence[tuple[Address, bytes]], done: Callable[[bytes | None], None]) -> bool:
        """Sends blobs to be placed, unless that would have to wait, as while it starts; then returns False.

        Args:
            blobs: At most `MESSAGE_BYTES_MAX` of them together.
            done: Called with one outcome for each, or with None if the process is gone and it is not known what it did.
        """
        if self._socket is None or len(self._outstanding) >= _OUTSTANDING_MAX:
            return False
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket.fileno(), self._outcomes)
        if not self._ready:  # it takes longer to start than a hundred files take to be created here
            return False
        parts: list[bytes] = []
        for address, data in blobs:
            parts += (_ITEM.pack(address, len(data)), data)
        try:
            self._socket.send(b"".join(parts))
        except BlockingIOError:
            return False
        except OSError:
            self._give_up()
            return False
        self._outstanding.append((len(blobs), done))
        return True

    def close(self) -> None:
        """Ends the process."""
        self._give_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
            return
        self._process.kill()
        self._process.wait()

    def _outcomes(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._give_up()
                return
            if not self._ready:  # its first word
                self._ready = True
                continue
            count, done = self._outstanding.popleft()
            done(message if len(message) == count else None)

    def _give_up(self) -> None:
        """Without the process the store places its blobs itself; what it had in hand is placed again."""
        if self._socket is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        while self._outstanding:
            self._outstanding.popleft()[1](None)


def serve(sock: socket.socket, disk: Disk) -> None:
    """Places what comes until the other end closes."""
    sock.send(_READY)
    while message := sock.recv(MESSAGE_BYTES_MAX):
        view, at, outcomes = memoryview(message), 0, bytearray()
        while at < len(message):
            digest, length = _ITEM.unpack_from(message, at)
            at += _ITEM.size
            try:
                placed = place(disk, digest.hex() + SUFFIX, view[at : at + length])
                outcomes.append(PLACED if placed else TAKEN)
            except OSError as error:
                outcomes.append(error.errno if error.errno is not None and 0 < error.errno < TAKEN else 5)
            at += length
        sock.send(outcomes)


def _main() -> None:
    import signal  # noqa: PLC0415 - only this process needs it

    # A terminal's Ctrl-C reaches every process; this one ends when its store lets go of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(ConnectionError), socket.socket(fileno=int(sys.argv[1])) as sock:
        serve(sock, Disk(sys.argv[2]))


if __name__ == "__main__":
    _main()
