"""The remote of a repository, spoken to by git's own program: it has the protocols and the credentials."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from contextlib import suppress
from os import killpg
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError
from holdall.limits.timeline import TRANSFER_SECONDS_MAX
from holdall.timeline.exc import RepoPullError, RepoPushError, RepoRemoteNotAdded, RepoRemoteNotExist

if TYPE_CHECKING:
    import pygit2

_ENVIRONMENT: Final = (
    "env",
    *("-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE", "-u", "GIT_OBJECT_DIRECTORY"),
    *("-u", "GIT_ASKPASS", "-u", "SSH_ASKPASS", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"),
)
"""Nobody is there to answer a prompt, and what a calling git has set is not meant for this repository."""

_NO_REASONS: Final = (
    *("error: failed to push some refs", "fatal: Could not read from remote repository", "hint:", "To "),
    *("Please make sure you have the correct access rights", "and the repository exists", "Warning: "),
)
"""What git says besides the reason, which may be a line of ssh's or of a hook's."""

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")


class Remote:
    """Where a branch is pushed to and pulled from.

    Args:
        repo: The repository.
        ref: The full name of the branch.

    Attributes:
        name: The remote's.
        branch: The full name of the branch there.
        tracking: Where the last known state of it is noted here.

    Raises:
        RepoRemoteNotAdded: The repository has no remote.
        RepoRemoteNotExist: It has none that this branch could mean.
    """

    def __init__(self, repo: pygit2.Repository, ref: str) -> None:
        self._folder = repo.path
        self._ref = ref
        short = ref.removeprefix("refs/heads/")
        names = [name for name in repo.remotes.names() if name is not None]
        if not names:
            raise RepoRemoteNotAdded("The repository has no remote.")
        config = repo.config
        key = f"branch.{short}.remote"
        chosen = _setting(config, key)
        self._is_new = chosen is None
        self.name = chosen or (names[0] if len(names) == 1 else "origin")  # as git does; never just any of several
        if self.name not in names:
            raise RepoRemoteNotExist(
                f"The branch {short} belongs to the remote {self.name!r}, which there is not.",
                hint=f"Say which it is: git config branch.{short}.remote NAME.",
            )
        key = f"branch.{short}.merge"
        self.branch = _setting(config, key) or ref
        self.tracking = f"refs/remotes/{self.name}/{self.branch.removeprefix('refs/heads/')}"

    def fetch(self) -> bool:
        """Brings `tracking` up to date; returns False if the remote has no such branch.

        Raises:
            RepoPullError: The remote could not be asked.
        """
        words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        code, said = self._git(*words, "--", self.name, f"+{self.branch}:{self.tracking}")
        if code and "couldn't find remote ref" in said:
            return False
        if code:
            raise RepoPullError(f"The remote {self.name} could not be fetched: {_last(said)}.")
        return True

    def push(self) -> None:
        """Pushes the branch as it is.

        Raises:
            RepoPushError: The remote did not take it.
        """
        words = ("push", "--quiet", "--no-recurse-submodules", *(("--set-upstream",) if self._is_new else ()))
        code, said = self._git(*words, "--", self.name, f"{self._ref}:{self.branch}")
        if code:
            raise RepoPushError(f"The remote {self.name} did not take a push: {_last(said)}.")

    def _git(self, *words: str) -> tuple[int, str]:
        try:
            # A session of its own has no terminal that git or ssh could ask on.
            process = subprocess.Popen(  # noqa: S603 - a list of words; names of remotes cannot be options of git
                [*_ENVIRONMENT, "git", "--git-dir", self._folder, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalFileError(f"git cannot be run: {error.strerror or error}.") from error
        with process:
            try:
                _, said = process.communicate(timeout=TRANSFER_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                _stop(process)
                return 1, "it took too long"
            except BaseException:
                _stop(process)
                raise
        return process.returncode, said.decode(errors="replace")


def pack_loose(repo: pygit2.Repository) -> None:
    """Starts git to pack what is loose, and does not wait for it: it goes on whatever becomes of this process."""
    _start(repo, "repack", "-d", "-l", "--quiet")


def collect_garbage(repo: pygit2.Repository) -> None:
    """Starts git's own upkeep, as `git commit` does, unless it is configured away; does not wait for it either."""
    _start(repo, "gc", "--auto", "--quiet")


def _start(repo: pygit2.Repository, *words: str) -> None:
    with suppress(OSError):
        process = subprocess.Popen(  # noqa: S603 - a list of words
            [*_ENVIRONMENT, "git", "--git-dir", repo.path, "-c", "pack.window=2", "-c", "pack.threads=1", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=process.wait, name="holdall-timeline-repack", daemon=True).start()


def _setting(config: pygit2.Config, key: str) -> str | None:
    return str(config[key]) if key in config else None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends git and whatever it has started."""
    with suppress(ProcessLookupError):
        killpg(process.pid, signal.SIGTERM)


def _last(said: str) -> str:
    """The line of git's output that says why, without the credentials of a URL."""
    lines = [line.strip() for line in _CREDENTIALS.sub("", said).splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(_NO_REASONS)]
    telling = [line for line in own if line.startswith(("fatal:", "error:", "!", "remote:"))]
    return (telling or own or lines or ["git gave no reason"])[0].rstrip(".")[:300]
