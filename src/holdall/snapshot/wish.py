"""What is asked of a checkout, and what it then did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdall.snapshot.reading import THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Report:
    """What a checkout did.

    Attributes:
        directory: Where the tree is.
        entries: Entries of the commit that were wanted.
        files: Files written.
        files_bytes: Their length together.
        left: Entries that were there as they should be.
        deleted: Entries deleted.
        troubles: A sentence for each kind of metadata that could not be given back.
    """

    directory: str
    entries: int = 0
    files: int = 0
    files_bytes: int = 0
    left: int = 0
    deleted: int = 0
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a commit is to be restored.

    Attributes:
        directory: Where to.
        paths: What of it; without any, everything.
        replace: Whether to replace what differs.
        delete: Whether to delete what the commit does not have.
        dry_run: Whether only to plan.
        threads: How many compare files.
    """

    directory: str
    paths: Sequence[bytes] = ()
    replace: bool = False
    delete: bool = False
    dry_run: bool = False
    threads: int = THREADS
