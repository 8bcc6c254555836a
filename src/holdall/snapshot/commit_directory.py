"""A directory into a store in one call, with the choices that `holdall commit` has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdall.core.codec import Codec
from holdall.errors import UsageError
from holdall.snapshot.commit import Committer
from holdall.snapshot.file_cache import FileCache, cache_path
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdall.snapshot.commit import Report
    from holdall.snapshot.walk import Found, Skipped
    from holdall.stores.base import Store


class CommitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken of a tree, and how it is kept.

    Attributes:
        exclude: Patterns of what is left out, written as in `.gitignore`.
        no_ignore: Take everything else, `.git` included.
        one_file_system: Do not descend into other file systems.
        preserve: Also keep times, owners, all mode bits, extended attributes and hard links.
        codec: How chunks are compressed: zstd, gzip or none.
        no_cache: Read every file, whatever is remembered of earlier commits.
    """

    exclude: Sequence[str] = ()
    no_ignore: bool = False
    one_file_system: bool = False
    preserve: bool = False
    codec: str = "zstd"
    no_cache: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.exclude, str):  # each letter of it would be a pattern
            raise UsageError("What is to be left out is a list of patterns.")

    def ignore(self, root: str) -> Ignore:
        """What is left out of a tree.

        Raises:
            LocalFileError: `.git/info/exclude` cannot be read.
            UsageError: Nothing can match one of `exclude`.
        """
        return Ignore(root, exclude=self.exclude, take_all=self.no_ignore)


def _nothing(report: Report) -> None:
    del report


def cache_folder() -> str:
    """Where is remembered what trees were when they were committed."""
    from platformdirs import user_cache_dir  # noqa: PLC0415 - slow to import

    return user_cache_dir("holdall", appauthor=False)


def own_places(root: str, places: dict[str, str]) -> list[str]:
    """Patterns of what holdall itself writes to, where that lies in a tree: no part of what is kept there.

    Args:
        root: The tree.
        places: Directories beside that of the caches, and what each is called where it is the tree itself.

    Raises:
        UsageError: One is the tree itself.
    """
    found = []
    real = os.path.realpath(root)
    for place, called in (places | {cache_folder(): "the directory of caches"}).items():
        inner = os.path.relpath(os.path.realpath(place), real)
        if inner == os.curdir:
            raise UsageError(f"The tree is {called} itself.")
        if inner.split(os.sep, 1)[0] != os.pardir:
            found.append("/" + "".join(f"\\{letter}" if letter in "\\*?[ " else letter for letter in inner) + "/")
    return found


async def commit_directory(
    store: Store,
    directory: str,
    options: CommitOptions | None = None,
    *,
    dry_run: bool = False,
    on_progress: Callable[[Report], None] = _nothing,
) -> Report:
    """Commits a directory tree.

    Args:
        store: Where to.
        directory: The tree.
        options: What of it, and how; None for all defaults.
        dry_run: Send nothing; count what would be sent.
        on_progress: Told how far the report has come.

    Returns:
        What was done; all of it is durable.

    Raises:
        UsageError: There is no such codec, or nothing can match one of the patterns.
        HoldallError: As `Committer.commit`.
    """
    chosen = options or CommitOptions()
    try:
        codec = Codec(chosen.codec)
    except ValueError:
        names = ", ".join(each.value for each in Codec)
        raise UsageError(f"There is no codec {chosen.codec!r}.", hint=f"Take one of {names}.") from None
    root = os.path.abspath(directory)  # noqa: ASYNC240 - it touches no disk
    ignore = chosen.ignore(root)

    def walked(on_skip: Callable[[Skipped], None]) -> Iterator[Found]:
        preserve, alone = chosen.preserve, chosen.one_file_system
        return walk(root, ignore=ignore, preserve=preserve, one_file_system=alone, on_skip=on_skip)

    path = None if chosen.no_cache else cache_path(cache_folder(), root, f"{codec.value} {chosen.preserve}")
    committer = Committer(store, codec=codec, dry_run=dry_run, on_progress=on_progress)
    return await committer.commit(root, walked, FileCache(path))
