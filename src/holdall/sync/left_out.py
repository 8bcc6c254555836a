"""What a folder holds that is not synced, and why: noted by whoever looks at the folder, for those who ask later."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_LEFT_OUT_MAX
from holdall.sync.large import FROM_STORE, NO_STORE, TO_STORE, Large
from holdall.sync.process import write_atomically
from holdall.sync.reading import CHANGING
from holdall.sync.state import Config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.sync.folder import Folder
    from holdall.sync.outcome import Outcome

_FILE: Final = "left-out.json"


def note(git_dir: str, outcome: Outcome, *, seen: Iterable[str] | None) -> None:
    """Writes down what a look at a folder left alone; where that fails, people are told less.

    Concurrency: the caller holds the folder's lock, so that no earlier look is noted over a later one.

    Args:
        git_dir: Where the folder's history is.
        outcome: What came of the look.
        seen: The paths that were looked at; None for everything. What is known of others stays.
    """
    own, skipped = Path(git_dir, "holdall"), outcome.skipped
    if outcome.held is not None or (not skipped and seen is not None and not os.path.exists(own / _FILE)):
        return
    before = _read(own)
    looked = before if seen is None else set(seen)
    now = {path: why for path, why in before.items() if path not in looked}
    now |= {path: why for path, why in skipped.items() if why != CHANGING}
    # What is still to be done is not forgotten for what only has to be told.
    rows = sorted(now.items(), key=lambda row: (row[1] != TO_STORE, row[0]))
    now = dict(islice(rows, SYNC_LEFT_OUT_MAX))
    if now != before:
        with suppress(LocalFileError):
            write_atomically(own / _FILE, json.dumps(now).encode(), mode=0o600, lasting=False)


def to_store(own: Path) -> list[str]:
    """Large files that wait to be stored, as they were last met."""
    return [path for path, why in _read(own).items() if why == TO_STORE]


def left_out(own: Path, worktree: Path) -> dict[str, str]:
    """What of a folder is not synced, as far as it is still there, large files that wait aside: why, by path.

    Args:
        own: The directory for what a folder has beside its history.
        worktree: The folder.
    """
    moving = {TO_STORE, FROM_STORE, NO_STORE}
    return {path: why for path, why in _read(own).items() if why not in moving and os.path.lexists(worktree / path)}


def waiting(folder: Folder) -> tuple[dict[str, str], str]:
    """A folder's large files that wait, why, by path; and why the store could not be used the last time, if so."""
    own, large = Path(folder.git_dir, "holdall"), Large(folder.repository)
    large.refresh(Config.read(os.fspath(own / "config.toml")))
    wanted = large.wanted()
    found = {os.fsdecode(path): large.lacks() for paths in wanted.values() for path in paths}
    found |= {path: TO_STORE for path in to_store(own) if os.path.lexists(os.path.join(folder.worktree, path))}
    failed = {os.fsdecode(path): why.rstrip(".") for path, why in large.ledger.failed.items()}
    rows = {path: f"{why}, but {failed[path]}" if path in failed else why for path, why in sorted(found.items())}
    return rows, large.ledger.error


def _read(own: Path) -> dict[str, str]:
    try:
        rows = json.loads((own / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}
