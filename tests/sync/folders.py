"""What is in a folder of this host, and what git says of its history."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdall.sync.folder import Folder


def files(folder: Folder) -> dict[str, bytes]:
    """Its files, the roster among them."""
    root = Path(folder.worktree)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def git(folder: Folder, *words: str) -> str:
    """What a git command prints."""
    command = ["git", f"--git-dir={folder.git_dir}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
