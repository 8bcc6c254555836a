"""Blobs indexed by time in an ordinary git repository; takes the place of gitblobts by a change of one import."""

from holdall.timeline import exc
from holdall.timeline.aio import AsyncStore
from holdall.timeline.codecs import generate_key
from holdall.timeline.exc import (
    BlobError,
    BlobTypeInvalid,
    BlobUnreadable,
    BlobVersionUnsupported,
    RepoBare,
    RepoDamaged,
    RepoDirty,
    RepoError,
    RepoHasUntrackedFiles,
    RepoNoRemote,
    RepoNotFound,
    RepoPullError,
    RepoPushError,
    RepoRemoteNotAdded,
    RepoRemoteNotExist,
    RepoTransportError,
    RepoUnclean,
    SettingInvalid,
    StoreError,
    TimeError,
    TimeInvalid,
    TimeUnhandledType,
)
from holdall.timeline.sharded import ShardedStore
from holdall.timeline.store import Blob, Problem, Stats, Store

__all__ = [
    "AsyncStore",
    "Blob",
    "BlobError",
    "BlobTypeInvalid",
    "BlobUnreadable",
    "BlobVersionUnsupported",
    "Problem",
    "RepoBare",
    "RepoDamaged",
    "RepoDirty",
    "RepoError",
    "RepoHasUntrackedFiles",
    "RepoNoRemote",
    "RepoNotFound",
    "RepoPullError",
    "RepoPushError",
    "RepoRemoteNotAdded",
    "RepoRemoteNotExist",
    "RepoTransportError",
    "RepoUnclean",
    "SettingInvalid",
    "ShardedStore",
    "Stats",
    "Store",
    "StoreError",
    "TimeError",
    "TimeInvalid",
    "TimeUnhandledType",
    "exc",
    "generate_key",
]
