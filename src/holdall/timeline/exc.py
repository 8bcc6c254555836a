"""The errors of a timeline: the families of gitblobts under their names, each also of a family of `holdall.errors`.

So `except RepoError` goes on to work where one import was changed, and whoever knows holdall's families knows these.
`RepoBare`, `RepoUnclean` and what is under it are here for such clauses alone: nothing raises them any more.
"""
# ruff: noqa: N818 - the names are those of gitblobts

from __future__ import annotations

from holdall import errors


class StoreError(errors.HoldallError):
    """The root of a timeline's errors."""

    slug = "timeline"


class SettingInvalid(StoreError, errors.SettingError, ValueError):
    """The key, the compression or another setting of the store cannot be used."""

    slug = "timeline-setting"


class RepoError(StoreError):
    """The repository does not allow it."""

    slug = "timeline-repo"


class RepoDamaged(RepoError, errors.DamageError):
    """An object that the repository needs is damaged, or not there."""

    slug = "timeline-repo-damaged"
    default_hint = "See git fsck; another clone may have it."


class RepoNotFound(RepoError, errors.NotFoundError):
    """There is no git repository at the path."""

    slug = "timeline-repo-not-found"
    default_hint = "Make one with holdall timeline init (create=True in Python), or clone one."


class RepoBare(RepoError):
    """Unused: a bare repository is one without a worktree."""

    slug = "timeline-repo-bare"


class RepoUnclean(RepoError):
    """Unused: what others changed is left alone."""

    slug = "timeline-repo-unclean"


class RepoDirty(RepoUnclean):
    """Unused: changed files of others are left alone."""

    slug = "timeline-repo-dirty"


class RepoHasUntrackedFiles(RepoUnclean):
    """Unused: untracked files are left alone."""

    slug = "timeline-repo-untracked"


class RepoNoRemote(RepoError, errors.UsageError):
    """There is no remote to push to or to pull from."""

    slug = "timeline-no-remote"
    default_hint = "Add one with git remote add."


class RepoRemoteNotAdded(RepoNoRemote):
    """The repository has no remote."""

    slug = "timeline-remote-not-added"


class RepoRemoteNotExist(RepoNoRemote):
    """The branch's remote is none that the repository has."""

    slug = "timeline-remote-not-exist"


class RepoTransportError(RepoError, errors.UnreachableError):
    """The remote did not do it."""

    slug = "timeline-transport"
    default_hint = "What was added is stored here, and goes out with the next push."


class RepoPullError(RepoTransportError):
    """Nothing could be fetched from the remote."""

    slug = "timeline-pull"
    default_hint = "What is stored here can still be read."


class RepoPushError(RepoTransportError):
    """The remote did not take it."""

    slug = "timeline-push"


class BlobError(StoreError):
    """The blob does not allow it."""

    slug = "timeline-blob"


class BlobTypeInvalid(BlobError, errors.UsageError, TypeError):
    """The blob, or its label, is of another type than it has to be."""

    slug = "timeline-blob-type"


class BlobVersionUnsupported(BlobError):
    """A file is of a later version of the format."""

    slug = "timeline-version"
    default_hint = "Use a newer holdall."


class BlobUnreadable(BlobError, errors.DamageError):
    """A file cannot be decrypted or decompressed, or its object is damaged."""

    slug = "timeline-unreadable"
    default_hint = "The key or the compression may be others than it was stored with."


class TimeError(StoreError):
    """The time does not allow it."""

    slug = "timeline-time"


class TimeInvalid(TimeError, errors.UsageError, ValueError):
    """The time cannot be understood, or cannot be the time of a blob."""

    slug = "timeline-time-invalid"


class TimeUnhandledType(TimeError, errors.UsageError, TypeError):
    """The time is of a type that cannot be one."""

    slug = "timeline-time-type"
