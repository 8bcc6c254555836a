"""holdall keeps every version of code and data under the SHA-256 of its bytes.

    with holdall.open("http://127.0.0.1:7777") as store:
        address = store.put(b"hello")

`open` is for code that waits, `open_async` for code that runs in an event loop. What is named here is imported when it
is first used, so that importing holdall costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdall.api import SyncStore, open, open_async  # noqa: A004 - holdall.open
    from holdall.core.address import Address
    from holdall.errors import (
        AccessError,
        AddressError,
        AlreadySetError,
        BlobInTheWayError,
        BurstError,
        BusyError,
        ChangedError,
        CommitError,
        ConflictError,
        DamagedCommitError,
        DamageError,
        DigestMismatchError,
        DurationError,
        HoldallError,
        KindError,
        LocalFileError,
        MemberNotFoundError,
        NotFoundError,
        OutOfSpaceError,
        RangeError,
        ReadOnlyError,
        SecretError,
        SettingError,
        SizeError,
        StoreError,
        StoreURLError,
        TemplateError,
        TooLargeError,
        TreeError,
        UnreachableError,
        UnsafeTreeError,
        UsageError,
        VersionMismatchError,
    )
    from holdall.stores.base import Info, Kind, Span
    from holdall.sync_parts import Commit, Slot, Stream

__version__ = "0.1.0"

_HOMES = {
    "holdall.api": ("SyncStore", "open", "open_async"),
    "holdall.core.address": ("Address",),
    "holdall.stores.base": ("Info", "Kind", "Span"),
    "holdall.sync_parts": ("Commit", "Slot", "Stream"),
}

__all__ = [
    "AccessError",
    "Address",
    "AddressError",
    "AlreadySetError",
    "BlobInTheWayError",
    "BurstError",
    "BusyError",
    "ChangedError",
    "Commit",
    "CommitError",
    "ConflictError",
    "DamageError",
    "DamagedCommitError",
    "DigestMismatchError",
    "DurationError",
    "HoldallError",
    "Info",
    "Kind",
    "KindError",
    "LocalFileError",
    "MemberNotFoundError",
    "NotFoundError",
    "OutOfSpaceError",
    "RangeError",
    "ReadOnlyError",
    "SecretError",
    "SettingError",
    "SizeError",
    "Slot",
    "Span",
    "StoreError",
    "StoreURLError",
    "Stream",
    "SyncStore",
    "TemplateError",
    "TooLargeError",
    "TreeError",
    "UnreachableError",
    "UnsafeTreeError",
    "UsageError",
    "VersionMismatchError",
    "__version__",
    "open",
    "open_async",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not needed by who imports a module of holdall itself

    home = next((home for home, names in _HOMES.items() if name in names), "holdall.errors")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
