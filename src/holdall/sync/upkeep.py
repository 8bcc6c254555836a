"""Keeps a folder's repository quick, and takes away what fetches that broke off have left.

Every commit leaves some small files in the repository, and every fetch a pack. Where they have become many, git makes
them into a few packs, each at least twice as long as the next (`repack --geometric`), beside everything else and at the
lowest priority. It needs no lock of ours: what is packed is there twice before it is there once, whoever reads finds
either, and what a round is about to refer to is packed or left like the rest.

Nothing is ever removed from the repository, not even what nothing refers to: that is for its owner's own `git gc`.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from holdall.limits.sync import (
    SYNC_LOOSE_OBJECTS_MAX,
    SYNC_PACKING_BYTES_MAX,
    SYNC_PACKS_MAX,
    SYNC_STALE_LOCK_SECONDS,
    SYNC_UPKEEP_SECONDS,
)
from holdall.sync.lock import is_open
from holdall.sync.process import GIT, environment

if TYPE_CHECKING:
    from pathlib import Path


def begin(git_dir: Path) -> None:
    """Starts git to pack what has piled up, if it has, and does not wait for that; at most once in a while.

    A folder that is new is left alone at first. What fails is tried again the next time; nothing is lost by that.
    """
    stamp = git_dir / "holdall" / "upkeep"
    with suppress(OSError):
        is_known = stamp.exists()
        if is_known and 0 <= time.time() - stamp.stat().st_mtime < SYNC_UPKEEP_SECONDS:
            return
        stamp.touch(0o600)
        if not is_known:
            return
        drop_drafts(git_dir)
        if _has_piled_up(git_dir):
            settings = ("pack.threads=1", f"pack.windowMemory={SYNC_PACKING_BYTES_MAX}", "repack.writeBitmaps=false")
            more = [word for setting in settings for word in ("-c", setting)]
            words = ("nice", "-n", "19", "git", *GIT, *more, "--git-dir", os.fspath(git_dir))
            running = subprocess.Popen(  # noqa: S603 - no shell, and the words are ours
                [*words, "repack", "-d", "-l", "-q", "--geometric=2"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
            threading.Thread(target=running.wait, daemon=True).start()


def drop_drafts(git_dir: Path) -> None:
    """Removes packs that a fetch or a push began and did not end: no program has them open any more."""
    objects = git_dir / "objects"
    for path in (*objects.glob("pack/tmp_*"), *objects.glob("tmp_objdir-*/pack/tmp_*")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > SYNC_STALE_LOCK_SECONDS and not is_open(os.fspath(path)):
                path.unlink()


def _has_piled_up(git_dir: Path) -> bool:
    """Whether there are many files; of objects by themselves, one in 256 lies in each directory."""
    objects = git_dir / "objects"
    loose = 256 * sum(1 for _ in objects.glob("17/*"))
    return loose > SYNC_LOOSE_OBJECTS_MAX or sum(1 for _ in objects.glob("pack/*.pack")) > SYNC_PACKS_MAX
