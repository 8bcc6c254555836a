"""A history that a loss of power left in parts is made whole again, with nothing of it thrown away.

What is written of a history is on the disk some seconds later: to wait for that would take longer than all the rest. So
after a loss of power the newest objects and refs may be empty, while the folder's files are there. Then what is damaged
is put aside, into `holdall/damaged`. Refs to commits of which something is missing go, and main becomes the newest
commit that this node had of which nothing is. What the folder has beyond that is, to the next look at it, an edit; what
other nodes have had comes back from them. Where no commit is whole, the folder is united with theirs.

Older damage is of another kind, such as a disk that fails. Main is not moved for it: too much would be left behind.
Nor is what cannot be read just now damaged: then nothing is done, and the error says so.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.errors import DamageError, LocalFileError
from holdall.limits import MIB
from holdall.limits.sync import SYNC_TRANSFER_SECONDS_MAX, SYNC_WRITTEN_SECONDS
from holdall.sync.process import GIT, git, run
from holdall.sync.repository import MAIN, Repository
from holdall.sync.sound import FATAL, checked, is_sound, note_look, put_aside
from holdall.sync.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

RESCUED: Final = "The history was damaged, as by a loss of power; what is whole was kept, in holdall/damaged the rest."
"""What is said before `last_rescue`."""

_REFS: Final = "refs/"
_OURS: Final = ("refs/sync/", "refs/sync-keep/", "refs/sync-drift/")
_LISTED_BYTES_MAX: Final = 512 * MIB
"""A list of ten million objects."""
_SHOWN: Final = 10


def is_suspect(repository: Repository, node: str) -> bool:
    """Whether something of a folder's history seems lost: what was written last is read; the rest has been on disk.

    It comes before anything else is read: libgit2 does not come to an end with an object that is cut off. What was
    read once is not read again, unless the machine has been started since; where all is well it takes milliseconds.
    """
    place, begun = Path(repository.path), time.time()
    with suppress(OSError):  # what cannot be read now is no loss; whoever needs it will say so
        if not is_sound(place):
            return True
        note_look(place, begun)
    try:
        head = repository.ref(MAIN)
        # git takes no push, and fetches nothing, while any ref names what is not there.
        refs = {name: commit for prefix in _OURS for name, commit in repository.refs(prefix).items()}
        if not all(map(repository.known, {*refs.values(), *([head] if head is not None else ())})):
            return True
        sent = refs.get(f"refs/sync/{node}/main")
        return sent is not None and (head is None or not repository.contains(head, sent))
    except DamageError:
        return True


def rescue(git_dir: str, node: str) -> bool:
    """Makes a folder's history whole. The caller holds the folder's lock, and opens the repository anew.

    It may be killed anywhere; the next one goes on.

    Args:
        git_dir: The folder's git directory.
        node: This node's name.

    Returns:
        Whether there was anything to do, and it could be done.

    Raises:
        LocalFileError: Something cannot be read now, or not be put aside, or git cannot be started.
        StoreError: The repository cannot be read to its end, or not be written.
    """
    place, begun = Path(git_dir), time.time()
    try:
        aside = put_aside(place)
        repository = Repository(git_dir)
        whole, lost = _sorted_refs(repository)
        own, head, left, is_far_back = f"refs/sync/{node}/main", None, list[str](), False
        if MAIN not in whole or own in lost or not repository.contains(whole[MAIN], whole.get(own, whole[MAIN])):
            start = lost.get(MAIN) or lost.get(own) or whole.get(own)
            head, left, is_far_back = _newest_whole(repository, node, whole, start)
        if aside or lost or head is not None:
            _tell(place, aside, {} if is_far_back else lost, left, _way(whole.get(MAIN), head, lost))
        if not is_far_back:
            if head is not None:
                # What is lost of them shows that something is to be done, so main is last where it is lost.
                for name in (MAIN, own) if MAIN in whole else (own, MAIN):
                    _set(repository, place, name, head)
                    lost.pop(name, None)
                # That is when it was there last: what the folder has from later is no loss.
                os.utime(place / MAIN, (repository.time(head),) * 2)
            for name in sorted(lost, key=lambda name: name == MAIN):
                (place / name).unlink(missing_ok=True)
                repository.delete_ref(name)
        note_look(place, begun)
        if is_far_back or (not aside and not lost and head is None):
            return False
        (place / "holdall" / "vetted.json").unlink(missing_ok=True)
    except OSError as error:
        raise LocalFileError(
            f"{error.filename or git_dir} cannot be read or put aside, while the history is made whole: "
            f"{error.strerror or error}."
        ) from error
    _forget(repository, place / "holdall" / "state", went_back=head is not None or MAIN in lost)
    return True


def last_rescue(git_dir: str | Path) -> str:
    """What the last rescue of a folder did, in a sentence, as long as what it put aside is there; else empty."""
    with suppress(OSError, IndexError, ValueError):
        return (Path(git_dir) / "holdall" / "damaged" / "notes").read_text(encoding="ascii").split("\n")[-2]
    return ""


def _way(main: str | None, head: str | None, lost: dict[str, str]) -> str:
    """Where main goes, in words; empty where it stays."""
    if head in {main, None}:
        return "main begins anew" if MAIN in lost and head is None else ""
    return f"main went {'back' if main is None else 'on'} to {str(head)[:12]}"


def _tell(place: Path, aside: int, lost: dict[str, str], left: list[str], way: str) -> None:
    """Writes down, before it is done, what is done to refs."""
    parts = [f"{aside} damaged files were put aside"] if aside else []
    parts += [way] if way else []
    if left:
        more = [f"and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else []
        parts.append(
            f"commits of which something is missing: {', '.join([*(one[:12] for one in left[:_SHOWN]), *more])}"
        )
    if lost:
        named = [f"{name} ({target[:12]})" for name, target in lost.items()]
        more = [f"and {len(named) - _SHOWN} more"] if len(named) > _SHOWN else []
        parts.append(f"refs that named nothing whole: {', '.join([*named[:_SHOWN], *more])}")
    folder = place / "holdall" / "damaged"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as notes:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC: {'; '.join(parts)}."
        notes.write(line.encode("ascii", "backslashreplace") + b"\n")


def _sorted_refs(repository: Repository) -> tuple[dict[str, str], dict[str, str]]:
    """Refs to commits of which everything is there, with these; and the others, with what they named if it is known."""
    whole: dict[str, str] = {}
    lost: dict[str, str] = {}
    for name in repository.names(_REFS):
        try:
            target = repository.ref(name)
        except DamageError:
            lost[name] = "?"
            continue
        if target is None:  # removed meanwhile, or the name of another ref
            continue
        if target in whole.values() or _is_whole(repository, target, whole.values()):
            whole[name] = target
        else:
            lost[name] = target
    return whole, lost


def _set(repository: Repository, place: Path, name: str, commit: str) -> None:
    """Lets a ref name a commit, whatever its file holds."""
    try:
        repository.set_ref(name, commit)
    except DamageError:
        (place / name).unlink(missing_ok=True)
        repository.set_ref(name, commit)


def _is_whole(repository: Repository, commit: str, known: Iterable[str]) -> bool:
    """Whether all that a commit needs is there, beyond what others need that are known to be whole."""
    words = ("rev-list", "--objects", "--quiet", commit, *(f"^{other}" for other in set(known)))
    done = git(Path(repository.path), *words, seconds=SYNC_TRANSFER_SECONDS_MAX)
    return checked(done, worked=(0, FATAL)).code == 0


def _newest_whole(
    repository: Repository, node: str, whole: dict[str, str], main: str | None
) -> tuple[str | None, list[str], bool]:
    """The newest commit of which everything is there, of those that main was.

    Those are what refs of this node name, and all that it made itself; of these, where the commit that main named can
    be read, the ones that it came after, and where main itself is whole, the ones that have it. What it took over from
    others and made nothing of is not told from what it did not take over; that comes again.

    Returns:
        It; those of this node's that came later, of which something is missing; and whether they are too many.
    """
    named = {target for name, target in whole.items() if name.startswith(("refs/sync-keep/", f"refs/sync/{node}/"))}
    named |= {target for name, target in whole.items() if name == MAIN or name.endswith("/seen")}
    left = list[str]()
    latest = None
    for commit in _newest_first(repository, main):
        if commit not in named and repository.node(commit) != node:
            continue
        if commit in named or _is_whole(repository, commit, whole.values()):
            if MAIN not in whole or repository.contains(commit, whole[MAIN]):
                return commit, left, False
            continue
        left.append(commit)
        latest = repository.time(commit) if latest is None else latest
        if latest - repository.time(commit) > SYNC_WRITTEN_SECONDS:
            return None, left, True
    return None, left, False


def _newest_first(repository: Repository, start: str | None) -> list[str]:
    """What can be read of a commit and those before it, or of all there are where it cannot be read itself.

    None stands behind one that it came after, whatever the clocks said; otherwise the later by its time is first.
    """
    listing = ("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    done = run(
        ("git", *GIT, "--git-dir", repository.path, *listing),
        seconds=SYNC_TRANSFER_SECONDS_MAX,
        output_bytes_max=_LISTED_BYTES_MAX,
    )
    found = re.findall(rb"^commit (.*)$", checked(done, worked=(0,)).output, re.MULTILINE)
    parents = {commit: set(repository.parents(commit)) for commit in (one.decode("ascii") for one in found)}
    if start is not None and start in parents:
        before, at = set[str](), [start]
        while at:
            if (commit := at.pop()) not in before and commit in parents:
                before.add(commit)
                at += parents[commit]
        parents = {commit: parents[commit] for commit in before}
    waits_for = Counter(parent for them in parents.values() for parent in them)
    ready = [(-repository.time(commit), commit) for commit in parents if not waits_for[commit]]
    heapq.heapify(ready)
    order = list[str]()
    while ready:
        _, commit = heapq.heappop(ready)
        order.append(commit)
        for parent in parents[commit]:
            waits_for[parent] -= 1
            if not waits_for[parent] and parent in parents:
                heapq.heappush(ready, (-repository.time(parent), parent))
    return order


def _forget(repository: Repository, path: Path, *, went_back: bool) -> None:
    """Forgets of the rounds before what named commits that are gone."""
    state = State.read(os.fspath(path))
    state.lagging = {
        file: lag
        for file, lag in state.lagging.items()
        if lag.base is None or not lag.base.strip("0") or repository.known(lag.base)
    }
    state.recalls = state.recalls or went_back
    state.write(os.fspath(path))
