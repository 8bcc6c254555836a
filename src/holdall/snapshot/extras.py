"""What of a directory a checkout may delete: only what a commit of it would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.core.tree import Type
from holdall.snapshot.ignore import Ignore
from holdall.snapshot.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def present(directory: str, spared: Sequence[str] = ()) -> Iterator[tuple[bytes, bool]]:
    """Yields the entries of a directory, each with whether it is a directory too, in the order of a commit.

    `.git`, what ignore files name, other file systems and what cannot be read are left out.

    Args:
        directory: The directory.
        spared: Patterns of what else is left out, written as in `.gitignore`.

    Raises:
        LocalFileError: The directory, or an ignore file, cannot be read.
    """
    found = walk(directory, ignore=Ignore(directory, exclude=spared), one_file_system=True, on_skip=lambda _: None)
    return ((item.entry.path, item.entry.type is Type.DIRECTORY) for item in found)
