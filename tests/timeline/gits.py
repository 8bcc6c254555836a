"""Git, as the tests call it, and what they ask of a repository."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support import need_tool

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
    assert not list((folder / ".git").rglob("*.lock"))


def blobs_of(store: Store) -> list[bytes]:
    return [blob.blob for blob in store.getblobs()]
