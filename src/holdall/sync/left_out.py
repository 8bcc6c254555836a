"""What a folder holds that is not synced, and why: noted by whoever looks at the folder, for those who ask later."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.sync import SYNC_LEFT_OUT_MAX
from holdall.sync.process import write_atomically
from holdall.sync.snapshot import CHANGING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FILE: Final = "left-out.json"


def note(own: Path, skipped: Mapping[str, str], *, whole: bool) -> None:
    """Writes down what a look at a folder left alone; where that fails, people are told less.

    Args:
        own: The directory for what a folder has beside its history.
        skipped: Why, by path.
        whole: Whether everything was looked at; otherwise what is known already stays.
    """
    if not skipped and not whole:
        return
    lasting = {path: why for path, why in skipped.items() if why != CHANGING}
    before = _read(own)
    now = dict(islice(sorted((lasting if whole else before | lasting).items()), SYNC_LEFT_OUT_MAX))
    if now != before:
        with suppress(LocalFileError):
            write_atomically(own / _FILE, json.dumps(now).encode(), mode=0o600, lasting=False)


def left_out(own: Path, worktree: Path) -> dict[str, str]:
    """What of a folder is not synced, as far as it is still there: why, by path.

    Args:
        own: As for `note`.
        worktree: The folder.
    """
    return {path: why for path, why in _read(own).items() if os.path.lexists(worktree / path)}


def _read(own: Path) -> dict[str, str]:
    try:
        rows = json.loads((own / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}
