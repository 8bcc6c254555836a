"""Git, as the tests call it, and what they ask of a repository."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

from support import need_tool, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from holdall.timeline import Store


def git(folder: Path, *words: str) -> str:
    """Runs git in a folder and returns what it says; it has to succeed."""
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(
        [need_tool("git"), "-C", str(folder), *who, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_sound(folder: Path) -> None:
    """Git finds nothing wrong, nothing changed and nothing left over."""
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "fsck", "--strict", "--no-dangling", "--no-progress") == ""
    wait_until(lambda: not list((folder / ".git").rglob("*.lock")), "no lock is left; git's upkeep has its own briefly")


def wait_for_upkeep() -> None:
    """Returns when the upkeep that stores have started has ended: git fsck misses what it moves into a pack just then.

    In the repository, gc.autoDetach has to be off.
    """
    names = {"holdall-timeline-repack"}
    wait_until(lambda: not names & {thread.name for thread in threading.enumerate()}, "git has done its upkeep")


def blobs_of(store: Store) -> list[bytes]:
    return [blob.blob for blob in store.getblobs()]
