"""Fetching what a commit is made of: blob by blob, each held to its address whatever store it comes from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from holdall.core import burst
from holdall.core.address import PATH_CHARS, Address
from holdall.errors import (
    BurstError,
    CommitError,
    DamagedCommitError,
    DamageError,
    MemberNotFoundError,
    NotFoundError,
)
from holdall.limits.snapshot import MANIFEST_LINES_MAX
from holdall.limits.stores import BURST_LINE_BYTES_MAX
from holdall.stores.base import Kind
from holdall.stores.disk import translated

if TYPE_CHECKING:
    from holdall.stores.abilities import ThreadReading
    from holdall.stores.base import Blobs, Reading

LIST_LINES_MORE: Final = 64
"""Lines of a list that are no members: comments, and an empty one at its end."""

FIRST_WORDS: Final = b"# holdall commit "
"""What every manifest begins with, of whatever version."""
_DAMAGE_HINT: Final = "Take it out of the way with holdall verify --quarantine, then copy it from another store."


async def read_manifest(store: Blobs, address: Address, *, use: bool) -> bytes:
    """Reads the text of a commit's manifest.

    Raises:
        NotFoundError: Nothing is stored there.
        CommitError: What is there is none.
        DamageError: It does not hash to its address.
        StoreError: The store failed.
    """
    async with await store.get(address, use=use) as reading:
        if reading.info.size_bytes > list_bytes(MANIFEST_LINES_MAX):
            raise CommitError(f"{address} is not a commit: it is too long for one.")
        text = await reading.read()
        if reading.info.kind is Kind.SLOT and not text.startswith(FIRST_WORDS):
            raise CommitError(f"{address} is a slot, and not a commit.")
    check(address, text)
    if not text.startswith(FIRST_WORDS):
        raise CommitError(
            f"{address} is not a commit.", hint="A commit is what `holdall commit` prints the address of."
        )
    _check_lines(text, MANIFEST_LINES_MAX, "manifest")
    return text


async def read_member(store: Blobs, address: Address, bytes_max: int, *, use: bool) -> bytes:
    """Reads a blob that a commit names.

    Raises:
        MemberNotFoundError: It is not in the store.
        DamageError: It does not hash to its address, or is longer than `bytes_max`.
        StoreError: The store failed.
    """
    async with await open_member(store, address, bytes_max, use=use) as reading:
        data = await reading.read()
    check(address, data)
    return data


async def read_list(store: Blobs, address: Address, lines_max: int, what: str, *, use: bool) -> tuple[Address, ...]:
    """Reads a burst that a commit names: its members.

    Raises:
        CommitError: It is no burst, or has too many lines.
        HoldallError: As `read_member`.
    """
    text = await read_member(store, address, list_bytes(lines_max), use=use)
    _check_lines(text, lines_max, what)
    try:
        return tuple(burst.members(text))
    except BurstError as error:
        raise DamagedCommitError(f"The commit's {what} is damaged: {error.message}") from error


async def open_member(store: Blobs, address: Address, bytes_max: int, *, use: bool) -> Reading:
    """Opens a blob that a commit names; whoever reads it holds it to its address with `check`.

    Raises:
        MemberNotFoundError: It is not in the store.
        DamageError: It is longer than `bytes_max`.
        StoreError: The store failed.
    """
    try:
        reading = await store.get(address, use=use)
    except NotFoundError:
        raise _missing(address) from None
    if reading.info.size_bytes > bytes_max:
        await reading.aclose()
        raise _too_long(address, reading.info.size_bytes)
    return reading


def read_here(store: ThreadReading, address: Address, bytes_max: int, *, use: bool) -> bytes:
    """Reads a blob that a commit names, on the calling thread, and does not hold it to its address yet.

    Raises:
        MemberNotFoundError: It is not in the store.
        DamageError: It is longer than `bytes_max`.
        StoreError: The store failed.
    """
    try:
        opened = store.open_here(address, use=use)
    except NotFoundError:
        raise _missing(address) from None
    try:
        size = opened.info.size_bytes
        if size > bytes_max:
            raise _too_long(address, size)
        with translated():
            data = os.pread(opened.fileno(), size, 0)
            while len(data) < size and (more := os.pread(opened.fileno(), size - len(data), len(data))):
                data += more
        return data
    finally:
        opened.close()


def check(address: Address, data: bytes) -> None:
    """Holds bytes to their address.

    Raises:
        DamageError: They do not hash to it.
    """
    if Address.of(data) != address:
        raise DamageError(f"What the store has at {address} does not hash to it.", hint=_DAMAGE_HINT)


def list_bytes(lines_max: int) -> int:
    """The length of the longest list of so many addresses."""
    return lines_max * (PATH_CHARS + 1) + BURST_LINE_BYTES_MAX


def _missing(address: Address) -> MemberNotFoundError:
    return MemberNotFoundError(f"{address}, which the commit needs, is not in the store.")


def _too_long(address: Address, size_bytes: int) -> DamageError:
    return DamageError(f"{address} has {size_bytes} bytes, more than it can have in a commit.")


def _check_lines(text: bytes, lines_max: int, what: str) -> None:
    if text.count(b"\n") > lines_max + LIST_LINES_MORE:
        raise DamagedCommitError(f"The commit's {what} has over {lines_max} lines.")
