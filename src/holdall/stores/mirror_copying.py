"""What a mirror's members hold, copied from one to another and compared."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.core.address import Address
from holdall.errors import BlobInTheWayError, ConflictError, KindError, NotFoundError, StoreError
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Kind
from holdall.stores.composite_bodies import Kept
from holdall.stores.mirror_looking import info_at

if TYPE_CHECKING:
    from holdall.stores.base import Condition, Info
    from holdall.stores.composite import Member
    from holdall.stores.mirror_leading import Standing


async def bring_up(address: Address, source: Standing, first: Standing) -> Info | None:
    """Brings the one who is to lead up to date, unless another client has done so, and may have gone on, meanwhile."""
    over = ABSENT if first.info is None else IfVersion(first.info.version)
    try:
        return await copy_slot(address, source.member, source.info, first.member, over)
    except ConflictError:
        return await first.member.ask(info_at(first.member.store, address))
    except StoreError as error:
        if type(error) is not StoreError or over is ABSENT:
            raise
        return await copy_slot(address, source.member, source.info, first.member)  # it cannot compare and swap


async def copy_slot(
    address: Address, source: Member, info: Info | None, target: Member, when: Condition = ALWAYS
) -> Info | None:
    """Makes one member's slot what another's is, or removes it where that is None; a blob that has come stays.

    Returns:
        What the target holds then; None too where the source's has gone meanwhile, and nothing was done.

    Raises:
        ConflictError: The condition does not hold.
    """
    if info is None:
        with suppress(NotFoundError, KindError):
            await target.ask(target.store.delete(address, kind=Kind.SLOT))
        return None
    try:
        reading = await source.ask(source.store.get(address, use=False))
    except NotFoundError:
        return None
    async with reading:
        with source.asked():
            body = await Kept.of(reading)
    try:
        return await target.ask(target.store.write(address, body.source(), when=when))
    except BlobInTheWayError:
        return await target.ask(info_at(target.store, address))
    finally:
        body.close()


async def holds_same(address: Address, one: Standing, other: Standing) -> bool:
    """Whether two members hold the same value, or both nothing."""
    if one.info is None or other.info is None or one.info.size_bytes != other.info.size_bytes:
        return one.info is other.info
    with suppress(NotFoundError):
        return await digest_at(address, one.member) == await digest_at(address, other.member)
    return False


async def digest_at(address: Address, member: Member) -> Address:
    """The hash of what a member holds, which is read to its end; no use of it.

    Raises:
        NotFoundError: It holds nothing.
        HoldallError: It cannot be read.
    """
    digest = hashlib.sha256()
    async with await member.ask(member.store.get(address, use=False)) as reading:
        with member.asked():
            async for piece in reading:
                digest.update(piece)
    return Address(digest.digest())
