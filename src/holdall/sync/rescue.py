"""A history that a loss of power left in parts is made whole again, with nothing of it thrown away.

What is written of a history is on the disk some seconds later: to wait for that would take longer than all the rest. So
after a loss of power the newest objects and refs may be empty, while the folder's files are there. Then what cannot be
read is put aside, into `holdall/damaged`. Refs to commits of which something is missing go, and main becomes the newest
commit that this node had of which nothing is. What the folder has beyond that is, to the next look at it, an edit; what
other nodes have had comes back from them. Where no commit is whole, the folder is united with theirs.

Older damage is of another kind, such as a disk that fails. Main is not moved for it: too much would be left behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.errors import DamageError, LocalFileError, StoreError
from holdall.limits import CHUNK_BYTES
from holdall.limits.sync import SYNC_WRITTEN_SECONDS
from holdall.sync.lock import was_cut_short
from holdall.sync.process import git
from holdall.sync.repository import MAIN, Repository
from holdall.sync.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REFS: Final = "refs/"
_ID_BYTES: Final = 20
_FILE: Final = re.compile(r"[0-9a-f]{38}|pack-.*\.(pack|idx)")


def is_suspect(repository: Repository, node: str) -> bool:
    """Whether something of a folder's history seems lost: what was written last is read; the rest has been on disk.

    It comes before anything else is read: libgit2 does not come to an end with an object that is cut off.
    """
    files = [(entry, status) for entry in _files(repository.path) if (status := _status(entry)) is not None]
    newest = max((status.st_mtime for _, status in files), default=0.0)
    if was_cut_short(repository.path):
        newest = 0.0  # it may have been ended for not coming to an end with something older
    for entry, status in files:
        if not status.st_size or newest - status.st_mtime <= SYNC_WRITTEN_SECONDS:
            path = Path(entry.path)
            if not (_is_paired(path) if path.suffix else _is_itself(path)) and path.exists():
                return True
    try:
        head = repository.ref(MAIN)
    except (DamageError, StoreError):
        return True
    if head is None:
        return f"refs/sync/{node}/main" in repository.names("refs/sync/")
    return not repository.known(head)


def rescue(git_dir: str, node: str) -> bool:
    """Makes a folder's history whole. The caller holds the folder's lock, and opens the repository anew.

    Args:
        git_dir: The folder's git directory.
        node: This node's name.

    Returns:
        Whether there was anything to do.

    Raises:
        LocalFileError: What is damaged cannot be put aside, or git cannot be started.
        StoreError: The repository cannot be written.
    """
    place = Path(git_dir)
    aside = _put_aside(place)
    repository = Repository(git_dir)
    whole, lost = _sorted_refs(repository)
    head = None
    if MAIN not in whole:
        head, is_far_back = _newest_whole(repository, node, whole)
        if is_far_back:
            return False
    for name in lost:
        (place / name).unlink(missing_ok=True)
        repository.delete_ref(name)
    if head is not None:
        repository.set_ref(MAIN, head)
        repository.set_ref(f"refs/sync/{node}/main", head)
    if not aside and not lost and head is None:
        return False
    (place / "holdall" / "vetted.json").unlink(missing_ok=True)
    _forget(repository, place / "holdall" / "state")
    return True


def _files(git_dir: str) -> Iterator[os.DirEntry[str]]:
    """Every file that holds objects, and the indexes of packs."""
    objects = os.path.join(git_dir, "objects")
    for name in os.listdir(objects):
        if len(name) == 2 or name == "pack":  # the first digits of ids
            with os.scandir(os.path.join(objects, name)) as listing:
                yield from (entry for entry in listing if _FILE.fullmatch(entry.name))


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # packed meanwhile
        return None


def _is_paired(path: Path) -> bool:
    """Whether a pack and its index end as they do if both are whole: the index has the end of the pack, and its own."""
    try:
        with open(path.with_suffix(".pack"), "rb") as pack, open(path.with_suffix(".idx"), "rb") as index:
            pack.seek(-_ID_BYTES, os.SEEK_END)
            index.seek(-2 * _ID_BYTES, os.SEEK_END)
            return pack.read(_ID_BYTES) == index.read(_ID_BYTES)
    except OSError:
        return False


def _put_aside(git_dir: Path) -> bool:
    """Moves objects that are not what their names say to where nobody looks for them; says whether there were any."""
    files = [Path(entry.path) for entry in _files(os.fspath(git_dir))]
    bad = [path for path in files if not (_sums_up(path) if path.suffix else _is_itself(path)) and path.exists()]
    try:
        for path in bad:
            (git_dir / "holdall" / "damaged").mkdir(mode=0o700, exist_ok=True)
            for part in path.parent.glob(f"{path.stem}.*") if path.suffix else (path,):
                name = part.name if path.suffix else part.parent.name + part.name
                part.replace(git_dir / "holdall" / "damaged" / name)
        # Git's summaries of commits name what may have gone; it makes them anew.
        for path in (git_dir / "objects" / "info").glob("commit-graph*"):
            for part in (path, *path.glob("*")):
                if part.is_file():
                    part.unlink()
    except OSError as error:
        raise LocalFileError(f"{error.filename} is damaged and cannot be put aside: {error.strerror}.") from error
    return bool(bad)


def _is_itself(path: Path) -> bool:
    """Whether an object in a file of its own has the bytes that its name is the SHA-1 of."""
    digest, unpacking = hashlib.sha1(usedforsecurity=False), zlib.decompressobj()
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(unpacking.decompress(piece))
    except (OSError, zlib.error):
        return False
    return unpacking.eof and digest.hexdigest() == path.parent.name + path.name


def _sums_up(path: Path) -> bool:
    """Whether a pack, or the index of one, ends with the SHA-1 of what comes before."""
    digest, last = hashlib.sha1(usedforsecurity=False), b""
    try:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update((last + piece)[:-_ID_BYTES])
                last = (last + piece)[-_ID_BYTES:]
    except OSError:
        return False
    return last == digest.digest() and path.with_suffix(".pack").exists()


def _sorted_refs(repository: Repository) -> tuple[dict[str, str], list[str]]:
    """Refs to commits of which everything is there, with these; and the others."""
    whole: dict[str, str] = {}
    lost = []
    for name in repository.names(_REFS):
        try:
            target = repository.ref(name)
        except (DamageError, StoreError):
            target = None
        if target is not None and (target in whole.values() or _is_whole(repository, target, whole.values())):
            whole[name] = target
        else:
            lost.append(name)
    return whole, lost


def _is_whole(repository: Repository, commit: str, known: Iterable[str]) -> bool:
    """Whether all that a commit needs is there, beyond what others need that are known to be whole."""
    others = [f"^{other}" for other in set(known)]
    return git(Path(repository.path), "rev-list", "--objects", "--quiet", commit, *others).code == 0


def _newest_whole(repository: Repository, node: str, whole: dict[str, str]) -> tuple[str | None, bool]:
    """The newest commit of which everything is there, of those that main was; and whether main was much more since.

    Those are what refs of this node name, and all that it made itself. What it took over from others and made nothing
    of is not told from what it did not take over; that comes again.
    """
    named = {target for name, target in whole.items() if name.startswith(("refs/sync-keep/", f"refs/sync/{node}/"))}
    named |= {target for name, target in whole.items() if name.endswith("/seen")}
    listed = git(Path(repository.path), "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    commits = [line.split(" ")[1] for line in listed.output.decode("ascii").split("\n") if line.startswith("commit ")]
    times = {commit: repository.time(commit) for commit in commits if repository.node(commit) == node}
    times |= {commit: repository.time(commit) for commit in named}
    latest, newest = max(times.values(), default=0), None
    for commit in sorted(times, key=times.__getitem__, reverse=True):
        if newest is not None and times[commit] < times[newest]:
            break
        is_whole = commit in named or _is_whole(repository, commit, whole.values())
        if not is_whole and latest - times[commit] > SYNC_WRITTEN_SECONDS:
            return None, True
        if is_whole and (newest is None or repository.contains(commit, newest)):
            newest = commit
    return newest, False


def _forget(repository: Repository, path: Path) -> None:
    """Forgets of the rounds before what named commits that are gone."""
    state = State.read(os.fspath(path))
    state.lagging = {
        file: lag
        for file, lag in state.lagging.items()
        if lag.base is None or not lag.base.strip("0") or repository.known(lag.base)
    }
    state.write(os.fspath(path))
