"""The roster as a tree has it: its entries read, written into the folder, and put back where a merge would lose them.

What a tree holds is data only, so an entry that is deleted or garbled there changes nothing for the nodes that accepted
it. But the tree is where others learn of it. So a node that merges such a change puts the entry back, as an edit of its
own. Two nodes that do so at once write the same bytes, and no entry gives way to one of a lower rank: so they end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError, RosterError
from holdall.limits.sync import SYNC_ENTRY_BYTES_MAX, SYNC_NODES_MAX
from holdall.sync.merge import DIRECTORY, FILE
from holdall.sync.merge import Entry as File
from holdall.sync.process import write_atomically
from holdall.sync.roster import Entry, Roster, Signed, checked_signed, verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from holdall.sync.repository import Repository

NODES: Final = ".gitcluster/nodes"


class _Trial(Roster):
    """A roster that accepts as another would, and writes nothing down."""

    def __init__(self, roster: Roster) -> None:
        self._repository = roster._repository  # noqa: SLF001 - it is one
        self._signed = dict(roster._signed)  # noqa: SLF001 - as above
        self.entries = dict(roster.entries)

    def _save(self) -> None:
        pass


def entries_in(repository: Repository, commit: str | None) -> tuple[dict[str, Signed], dict[str, str]]:
    """The entries in the tree of a commit with their signatures, and why others cannot be read, by node."""
    found, refused = {}, {}
    there = repository.entry(commit, NODES.encode())
    files = repository.tree(there.blob) if there is not None and there.mode == DIRECTORY else {}
    for name in sorted(files)[: 4 * SYNC_NODES_MAX]:
        node = name.removesuffix(b".toml").decode("ascii", "replace")
        signature = files.get(name.removesuffix(b".toml") + b".sig")
        if not name.endswith(b".toml") or signature is None:
            continue
        if files[name].mode != FILE or signature.mode != FILE:
            continue
        try:
            found[node] = checked_signed(
                repository.blob(files[name].blob)[: SYNC_ENTRY_BYTES_MAX + 1],
                repository.blob(signature.blob)[: SYNC_ENTRY_BYTES_MAX + 1],
            )
        except RosterError as error:
            refused[node] = error.message
    return found, refused


def put_back(repository: Repository, roster: Roster, head: str | None, target: str) -> dict[bytes, File]:
    """What has to be in the tree of a commit so that it has every entry that counts.

    Args:
        repository: Where the commits are.
        roster: What is accepted.
        head: What main was.
        target: The commit that it is to become.

    Returns:
        Files by path; none where the roster is as it was.
    """
    before, after = repository.entry(head, NODES.encode()), repository.entry(target, NODES.encode())
    if before == after or not any(there is not None and there.mode == DIRECTORY for there in (before, after)):
        return {}
    found, _ = entries_in(repository, target)
    trial = _Trial(roster)
    trial.consider(found)
    files: dict[bytes, File] = {}
    for entry, signed in lacking(trial, found):
        for kind, text in (("toml", signed.text), ("sig", signed.signature)):
            path = f"{NODES}/{entry.node}.{kind}".encode()
            files[path] = File(FILE, repository.put_blob(text.encode()))
    return files


def lacking(roster: Roster, found: Mapping[str, Signed]) -> list[tuple[Entry, Signed]]:
    """The accepted entries that a tree with these entries has not, nor anything that may come to count instead."""
    rows = [(Entry.parse(signed.text), signed) for signed in roster.signed()]
    there = [(entry, signed, found.get(entry.node)) for entry, signed in rows]
    return [
        (entry, signed)
        for entry, signed, other in there
        if other is None or (other != signed and not _may_stay(roster, entry, other))
    ]


def _may_stay(roster: Roster, accepted: Entry, there: Signed) -> bool:
    """Whether something else than the accepted entry is signed, or may turn out to be, and is no older."""
    try:
        entry = Entry.parse(there.text)
    except RosterError:
        return False
    if (entry.node, entry.repository) != (accepted.node, accepted.repository) or entry.rank() < accepted.rank():
        return False
    signer = roster.entries.get(entry.signer)
    return signer is None or verified(there, signer)


def write_entries(worktree: Path, roster: Roster, nodes: Iterable[str]) -> None:
    """Puts accepted entries into the worktree, through no symlink.

    Raises:
        LocalFileError: They cannot be written.
    """
    known = {Entry.parse(row.text).node: row for row in roster.signed()}
    place = worktree
    for part in NODES.split("/"):
        place /= part
        try:
            place.mkdir()
        except FileExistsError:
            pass
        except OSError as error:
            raise LocalFileError(f"{place} cannot be made: {error.strerror}.") from error
        if place.is_symlink() or not place.is_dir():
            raise LocalFileError(f"{place} is no directory.", hint="The roster lies there: move it away.")
    for node in nodes:
        write_atomically(place / f"{node}.toml", known[node].text.encode(), mode=0o644)
        write_atomically(place / f"{node}.sig", known[node].signature.encode(), mode=0o644)
