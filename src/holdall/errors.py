"""Every error holdall raises, in families by whose fault it is.

One root, `HoldallError`; under it a family says who can mend the matter (the caller, the state of the store,
the key, the data, the store's machine), and a leaf says what happened. A leaf has a stable `slug` that programs
may match on, and a `hint` that tells a person what to do. Nothing here knows HTTP status codes or exit codes: the
server and the command line each hold their own table.
"""

from __future__ import annotations

from typing import ClassVar


class HoldallError(Exception):
    """The root of all errors that holdall raises on purpose.

    Args:
        message: One sentence that says what was wrong.
        hint: One sentence that says what to do; the class's own where none is given.
    """

    slug: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def sentence(self) -> str:
        """The message and its hint as one line of text."""
        return f"{self.message} {self.hint}".strip()


# The caller asked for something that has no meaning.


class UsageError(HoldallError):
    """The request itself is wrong; repeating it gives the same answer."""

    slug = "usage"


class AddressError(UsageError):
    """The text is not an address."""

    slug = "bad-address"
    default_hint = "An address is written /<64 lowercase hex digits>.tig."


class TemplateError(UsageError):
    """The format template is too long or holds control characters."""

    slug = "bad-format"


class DurationError(UsageError):
    """The text is not a duration."""

    slug = "bad-duration"
    default_hint = "Write a number and a unit, such as 10m, 36h, 2w, or off."


class SizeError(UsageError):
    """The text is not a size in bytes."""

    slug = "bad-size"
    default_hint = "Write a number of bytes, or a number and a unit, such as 512MiB or 1GB."


class BurstError(UsageError):
    """The entry cannot be read as a burst."""

    slug = "bad-burst"
    default_hint = "Every line of a burst is an address, a comment that starts with #, or empty."


class CommitError(UsageError):
    """The entry is not a commit that this version can read."""

    slug = "bad-commit"


class TreeError(UsageError):
    """A tree holds something that cannot be kept, or must not be restored."""

    slug = "bad-tree"


class RangeError(UsageError):
    """The range lies outside the entry."""

    slug = "bad-range"

    def __init__(self, message: str, *, size_bytes: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.size_bytes = size_bytes


class StoreURLError(UsageError):
    """The text names no store that can be opened."""

    slug = "bad-store"
    default_hint = "A store is a path, file:///path, http(s)://host:port or memory:."


class SettingError(UsageError):
    """A setting has a value that cannot be used."""

    slug = "bad-setting"


class RosterError(UsageError):
    """An entry of a cluster's roster is not what an entry has to be."""

    slug = "bad-roster"


# The state of the store does not allow it.


class NotFoundError(HoldallError):
    """The store holds nothing at that address."""

    slug = "not-found"
    default_hint = "It was never stored here, or its retention has passed."


class MemberNotFoundError(NotFoundError):
    """A member of a burst is not in the store."""

    slug = "member-not-found"


class ConflictError(HoldallError):
    """What is already stored does not allow this write."""

    slug = "conflict"


class BlobInTheWayError(ConflictError):
    """A slot operation met an address that holds a blob, which never changes."""

    slug = "blob-in-the-way"
    default_hint = "Use the hash of a random key for a slot."


class AlreadySetError(ConflictError):
    """An exclusive create found the address taken."""

    slug = "already-set"


class VersionMismatchError(ConflictError):
    """A compare-and-swap found another version than the caller named."""

    slug = "version-mismatch"
    default_hint = "Read the entry again and retry with the version it has now."


class KindError(ConflictError):
    """A delete met an entry of the other kind."""

    slug = "wrong-kind"


class ChangedError(ConflictError):
    """A file changed so much while it was read that the commit has to begin anew."""

    slug = "changed"
    default_hint = "Commit again when it is at rest, or leave it out with --exclude."


# This machine's own files do not allow it.


class LocalFileError(HoldallError):
    """A file of this machine cannot be read or written."""

    slug = "local-file"


# The key does not allow it.


class AccessError(HoldallError):
    """The API key is missing, wrong, or not enough for this."""

    slug = "access"


class InviteError(AccessError):
    """An invite is spent, has run out, or is none."""

    slug = "bad-invite"
    default_hint = "Ask for a new one: holdall sync invite."


class PeerError(AccessError):
    """Another node does not take part with this one, or this one not with it."""

    slug = "peer"


class SecretError(AccessError):
    """What is stored there was written with another secret."""

    slug = "wrong-secret"
    default_hint = "Take the secret that these stores were set up with."


# The data is not what it claims to be.


class DamageError(HoldallError):
    """Bytes do not match the address or digest they came with."""

    slug = "damage"


class DigestMismatchError(DamageError):
    """Incoming bytes do not hash to what the sender announced; nothing was kept."""

    slug = "digest-mismatch"
    default_hint = "Send it again; if it fails again, the sender's copy is damaged."


class DamagedCommitError(CommitError, DamageError):
    """A commit contradicts itself: nobody who means well makes such a one."""

    slug = "damaged-commit"


class UnsafeTreeError(TreeError, DamageError):
    """A commit's tree would lead out of the directory that it is restored into, or is no tree."""

    slug = "unsafe-tree"


# The store, its machine or the network cannot do it now.


class StoreError(HoldallError):
    """The store cannot do this now, through no fault of the caller."""

    slug = "store"


class OutOfSpaceError(StoreError):
    """The disk, its inodes or a quota is full; nothing was kept."""

    slug = "out-of-space"
    default_hint = "Free some space or shorten the retention."


class ReadOnlyError(StoreError):
    """The store cannot be written."""

    slug = "read-only"


class TooLargeError(StoreError):
    """The body is larger than the store accepts."""

    slug = "too-large"


class BusyError(StoreError):
    """The store has run out of descriptors, memory or places for now.

    Attributes:
        retry_seconds: How long it wants to be left alone; 0 where it does not say.
    """

    slug = "busy"
    default_hint = "Try again shortly."
    retry_seconds = 0.0


class UnreachableError(StoreError):
    """The store did not answer."""

    slug = "unreachable"
    default_hint = "Check its address and that it is running."
