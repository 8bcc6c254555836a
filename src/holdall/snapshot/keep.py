"""Using every blob of a commit, so that none of them expires."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from holdall.core.manifest import decode_manifest
from holdall.errors import MemberNotFoundError, ReadOnlyError
from holdall.limits.snapshot import INDEX_PARTS_MAX, MANIFEST_LINES_MAX
from holdall.snapshot.fetching import read_list, read_manifest
from holdall.stores.abilities import UseRecording
from holdall.stores.base import missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from holdall.core.address import Address
    from holdall.core.manifest import Manifest
    from holdall.stores.base import Blobs

_BATCH: Final = 8192


@dataclass(slots=True)
class KeepReport:
    """What was used.

    Attributes:
        members: Blobs that the commit needs, the manifest included; one that it needs twice may count twice.
        missing: Those that are not in the store.
    """

    members: int = 1
    missing: list[Address] = field(default_factory=list)


async def keep(store: Blobs, address: Address) -> KeepReport:
    """Restarts the timer of a commit and of all that it is made of.

    Args:
        store: Where it is.
        address: The commit's.

    Raises:
        NotFoundError: There is no such commit.
        CommitError: What is there is no commit.
        DamageError: The manifest, or a list that it names, does not hash to its address.
        ReadOnlyError: The store cannot write down that it was used.
        StoreError: The store failed.
    """
    report = KeepReport()
    manifest = decode_manifest(await read_manifest(store, address, use=True))
    async for batch in members_of(store, manifest, use=True):
        for start in range(0, len(batch), _BATCH):
            part = batch[start : start + _BATCH]
            report.members += len(part)
            report.missing += await missing(store, part)
    if isinstance(store, UseRecording) and store.unrecorded_uses:
        raise ReadOnlyError(
            f"{address} is not kept: the store cannot be written, so what it is made of expires as before.",
            hint="Check the owner, mode and mount of its directory and files.",
        )
    report.missing = list(dict.fromkeys(report.missing))
    return report


async def members_of(store: Blobs, manifest: Manifest, *, use: bool) -> AsyncGenerator[Sequence[Address], None]:
    """Yields the addresses of all that a commit is made of but its manifest, some at a time.

    What a list names that is not in the store is left out; the list itself is not.

    Args:
        store: Where the commit is.
        manifest: What it says.
        use: Whether reading counts as a use of the lists.

    Raises:
        CommitError: A list is none.
        DamageError: A list does not hash to its address.
        StoreError: The store failed.
    """
    yield (manifest.index, manifest.sizes, *manifest.members)
    with suppress(MemberNotFoundError):
        yield await read_list(store, manifest.index, INDEX_PARTS_MAX, "index", use=use)
    if manifest.depth > 1:
        for part in manifest.members:
            with suppress(MemberNotFoundError):
                yield await read_list(store, part, MANIFEST_LINES_MAX, "manifest", use=use)
