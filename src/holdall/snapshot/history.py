"""A ref: a named list of commits, newest last, in a slot that only those find who know its secret.

Each entry is one line of JSON, appended in one step, so two who commit at once both leave theirs. Order is that of the
appends; the times are those of the machines that wrote them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

import msgspec

from holdall.core.address import Address
from holdall.errors import AddressError, DamageError, NotFoundError, UsageError
from holdall.limits.snapshot import REF_BYTES_MAX, REF_MESSAGE_BYTES_MAX, REF_NAME_BYTES_MAX

if TYPE_CHECKING:
    from holdall.stores.base import Store

_PURPOSE: Final = b"holdall ref 1\0"


class Record(msgspec.Struct, frozen=True):
    """One commit of a ref.

    Attributes:
        address: The commit's, in its wire form.
        time: When it was made, as ISO 8601 in UTC.
        message: What the committer said of it.
    """

    address: str
    time: str
    message: str = ""


_DECODER: Final = msgspec.json.Decoder(Record)


def ref_address(secret: bytes, name: str) -> Address:
    """The slot of a ref.

    Args:
        secret: What only those know who may find it.
        name: The ref's name.

    Raises:
        UsageError: The name is empty or too long.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) <= REF_NAME_BYTES_MAX:
        raise UsageError(f"The name of a ref has 1 to {REF_NAME_BYTES_MAX} bytes.")
    return Address(hmac.digest(secret, _PURPOSE + encoded, hashlib.sha256))


def check_message(message: str) -> None:
    """Refuses what is too long for a message, or no text.

    Raises:
        UsageError: It is.
    """
    try:
        size = len(message.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError("The message is not UTF-8.") from None
    if size > REF_MESSAGE_BYTES_MAX:
        raise UsageError(f"A message has at most {REF_MESSAGE_BYTES_MAX} bytes.")


async def record(store: Store, ref: Address, entry: Record) -> None:
    """Appends a commit to a ref.

    Raises:
        UsageError: The message is too long, or no text.
        StoreError: See `Slots.append`.
    """
    check_message(entry.message)
    await store.append(ref, msgspec.json.encode(entry) + b"\n")


async def read(store: Store, ref: Address) -> list[Record]:
    """The commits of a ref, oldest first.

    Raises:
        NotFoundError: Nothing was recorded under it.
        DamageError: It is no ref.
    """
    try:
        reading = await store.get(ref)
    except NotFoundError:
        raise NotFoundError(
            "There is no such ref in this store.", hint="Its name, its secret, or the store may be another."
        ) from None
    async with reading:
        if reading.info.size_bytes > REF_BYTES_MAX:
            raise DamageError(f"The ref has over {REF_BYTES_MAX} bytes.")
        lines = (await reading.read()).splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _DECODER.decode(line)
            Address.parse_path(entry.address)
        except (msgspec.MsgspecError, AddressError):
            raise DamageError(f"Line {number} of the ref is damaged.") from None
        found.append(entry)
    return found
