"""A repository that several users of one system write to: `core.sharedRepository`, as git heeds it.

Git gives what it makes the permissions that it is told there, whatever the umask. So does this, after each change, for
what the timeline has made. Files of a worktree have those of the umask, as with git.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdall.timeline.exc import RepoError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pygit2

_SETTING: Final = "core.sharedrepository"
_BITS: Final = {
    **dict.fromkeys(("", "umask", "false", "no", "off", "0"), 0),
    **dict.fromkeys(("group", "true", "yes", "on", "1"), 0o660),
    **dict.fromkeys(("all", "world", "everybody", "2"), 0o664),
}
_CLOCK_SECONDS: Final = 2.0
"""What the times of directories are rounded to on some disks."""


def shared_bits(repo: pygit2.Repository) -> int:
    """The permissions that others get beside the umask's; 0 where there are none.

    Raises:
        RepoError: The setting is none that git knows.
    """
    word = str(repo.config[_SETTING]).lower() if _SETTING in repo.config else ""
    try:
        return _BITS[word] if word in _BITS else int(word, 8) & 0o666
    except ValueError:
        raise RepoError(
            f"The repository is shared in a way that git does not know: {word[:40]!a}.",
            hint="Set it with git config core.sharedRepository group.",
        ) from None


def share(bits: int, folders: Iterable[str], objects: str, *, since: float) -> None:
    """Gives this user's files in a repository the permissions that it is shared with; what fails is done next time.

    Args:
        bits: As `shared_bits`.
        folders: Directories with all that is in them.
        objects: The one of the objects.
        since: Directories of it to which nothing came since then, in seconds since 1970, are passed over.
    """
    wanted = list(folders)
    with suppress(OSError), os.scandir(objects) as listing:
        places = [entry.path for entry in listing if len(entry.name) == 2 or entry.name == "pack"]
        wanted += [place for place in places if os.stat(place).st_mtime >= since - _CLOCK_SECONDS]
    for place in wanted:
        _give(place, bits)
        for folder, folders_in, names in os.walk(place):
            for name in (*folders_in, *names):
                _give(os.path.join(folder, name), bits)


def _give(path: str, bits: int) -> None:
    """Adds permissions to a file or a directory of this user's; a file that cannot be written stays so."""
    with suppress(OSError):
        status = os.lstat(path)
        if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode):
            return
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            wanted = mode | bits | (bits & 0o444) >> 2 | stat.S_ISGID
        else:
            wanted = mode | (bits if mode & stat.S_IWUSR else bits & 0o444)
        if wanted != mode:
            os.chmod(path, wanted)
