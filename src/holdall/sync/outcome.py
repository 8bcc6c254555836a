"""What a round did, for those who asked for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdall.sync.merge import Conflict


@dataclass(slots=True)
class Outcome:
    """What a reconcile did.

    Attributes:
        head: The commit that the folder is at now; None while it has never had a file.
        committed: Whether something new was found in the folder.
        merged: Nodes whose commits came in.
        applied: Paths that were changed in the folder.
        conflicts: Conflicts that were met, each with both versions kept.
        put_back: Files of the roster that were gone or garbled, and others that a loss of power emptied; they
            are as they were, unless `skipped` has them.
        lags: Whether there are files that could not be made what they should be.
        held: Why nothing was done; None where the folder is not held.
        held_back: Nodes whose commits were not merged, since somebody has to be asked, and why.
        skipped: What was left alone, and why, by path.
    """

    head: str | None = None
    committed: bool = False
    merged: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    put_back: list[str] = field(default_factory=list)
    lags: bool = False
    held: str | None = None
    held_back: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, reasons: dict[bytes, str]) -> None:
        """Notes what was left alone."""
        self.skipped |= {os.fsdecode(path): reason for path, reason in reasons.items()}


@dataclass(frozen=True, slots=True)
class Version:
    """One commit of a folder.

    Attributes:
        commit: Its id.
        time: Seconds since 1970, by the clock of its node.
        node: Who made it; `merge` where histories were brought together.
        message: What it changed, in a few words.
    """

    commit: str
    time: int
    node: str
    message: str
