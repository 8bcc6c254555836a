"""Files of this machine as sources and targets: read without holding up the loop, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdall.cli import output
from holdall.errors import LocalFileError, UsageError
from holdall.limits import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

STANDARD_INPUT: Final = "-"


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The inputs that a command was given; standard input where it was given none.

    Raises:
        UsageError: One looks like an option, standard input is named twice, is closed, or is a terminal nobody named.
    """
    for name in names:
        if name.startswith("-") and name != STANDARD_INPUT:
            raise UsageError(f"Unknown option: {name}.", hint="A file whose name starts with - is written ./-name.")
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("Standard input can be read only once.")
    if sys.stdin is None and (not names or STANDARD_INPUT in names):
        raise UsageError("Standard input is closed.", hint="Name a file, or pipe something in.")
    if not names and sys.stdin.isatty():
        raise UsageError("There is nothing to read.", hint="Name a file, pipe something in, or write - to type it.")
    return names or (STANDARD_INPUT,)


def size_of(name: str) -> int | None:
    """The length of a regular file in bytes; None for anything else."""
    with suppress(OSError):
        found = os.fstat(sys.stdin.fileno()) if name == STANDARD_INPUT else os.stat(name)
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None


async def read_pieces(name: str, *counters: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Yields the bytes of a file, a pipe or standard input.

    Args:
        name: A path, or `-` for standard input.
        counters: Each told how many bytes were read.

    Raises:
        LocalFileError: It cannot be read.
    """
    with _translated(name):
        fd = os.dup(sys.stdin.fileno()) if name == STANDARD_INPUT else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            await _readable(fd)
            with _translated(name):
                piece = os.read(fd, CHUNK_BYTES)
            if not piece:
                return
            for count in counters:
                count(len(piece))
            yield piece
    finally:
        os.close(fd)


@contextmanager
def target(name: str | None) -> Iterator[Callable[[bytes], None]]:
    """Opens what is written: standard output, or a file that appears only when the block has ended well.

    Args:
        name: A path, or None or `-` for standard output. A device or a pipe is written to as it is.

    Raises:
        LocalFileError: It cannot be written.
    """
    if name is None or name == STANDARD_INPUT:
        yield output.data
        return
    with _translated(name):
        if os.path.exists(name) and not os.path.isfile(name):
            with open(name, "wb", buffering=0) as file:
                yield _writer(file.fileno(), name)
            return
        final = os.path.realpath(name)
        temporary = os.path.join(os.path.dirname(final), f".holdall-{secrets.token_hex(8)}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                yield _writer(fd, name)
            finally:
                os.close(fd)
            os.replace(temporary, final)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _writer(fd: int, name: str) -> Callable[[bytes], None]:
    def write(piece: bytes) -> None:
        rest = memoryview(piece)
        with _translated(name):
            while rest:
                rest = rest[os.write(fd, rest) :]

    return write


async def _readable(fd: int) -> None:
    """Waits until a pipe, socket or terminal has something to read; files always have.

    A thread would not do: one that waits for a terminal cannot be stopped by Ctrl-C.
    """
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except OSError:  # epoll takes no regular files, and not every device
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        shown = "standard input" if name == STANDARD_INPUT else repr(name)
        hint = "Store it with holdall commit." if isinstance(error, IsADirectoryError) else ""
        raise LocalFileError(f"Cannot use {shown}: {error.strerror or error}.", hint=hint) from error
