"""`holdall sync conflicts`, `log`, `show` and `restore`: what a folder was, and of two versions which it is to be."""

import base64
import difflib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Group, Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.sync_folders import DEFAULTS, Common
from holdall.cli.sync_large import move_all, write_out
from holdall.errors import NotFoundError, UsageError
from holdall.limits.sync import SYNC_TEXT_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.sync.folder import Folder, Outcome
    from holdall.sync.merge import Conflict

_COMMIT_DIGITS: Final = 10
"""As many of a commit's 40 as people are shown."""

Directory = Annotated[str | None, Parameter(name=["--directory", "-C"], metavar="DIR")]

conflicts = App(
    name="conflicts",
    help="Files that were changed on two nodes at once, both versions of which are kept.",
    group_parameters=Group("Options", sort_key=1),
)


@conflicts.default
@conflicts.command(name="list", usage="holdall sync conflicts [list] [OPTIONS]")
def listed(*, directory: Directory = None, common: Common = DEFAULTS) -> int:
    """Lists every conflict copy, and which node wrote it. The exit code is 1 if there is one.

    With --json, each line is {"path", "copy", "node"}.

    Args:
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    folder, _ = _meant(None, directory)
    found = folder.conflicts()
    for conflict in found:
        if common.json:
            output.document({"path": conflict.path, "copy": conflict.copy, "node": conflict.node})
        else:
            output.path_line(f"{conflict.node}  ", os.fsencode(conflict.copy))
    if not common.quiet and not common.json:
        words = "" if not found else " Choose with holdall sync conflicts take PATH mine|theirs|both."
        output.note(f"{folder.worktree}: {output.count(len(found), 'conflict')}.{words}")
    return FAILED if found else DONE


@conflicts.command(usage="holdall sync conflicts diff PATH [OPTIONS]")
def diff(path: str, /, *, directory: Directory = None, common: Common = DEFAULTS) -> int:
    """Shows what the other versions of a file have otherwise than the one that kept its name.

    With --json, each line is {"path", "copy", "node", "diff"}; "diff" is null where it is not text.

    Args:
        path: The file, or one of its copies.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    folder, name = _meant(path, directory)
    found = [conflict for conflict in folder.conflicts() if name in {conflict.path, conflict.copy}]
    if not found:
        raise NotFoundError(f"{name} has no conflict.", hint="List them with holdall sync conflicts.")
    for conflict in found:
        shown = _difference(folder, conflict)
        if common.json:
            facts = {"path": conflict.path, "copy": conflict.copy, "node": conflict.node}
            output.document(facts | {"diff": None if shown is None else shown.decode(errors="surrogateescape")})
        elif shown is None:
            sizes = _sizes(folder, conflict)
            words = (
                "Not text, or too long to compare" if sizes is None else "{:,} bytes here, {:,} there".format(*sizes)
            )
            output.path_line(f"{words}: ", os.fsencode(conflict.copy))
        else:
            output.data(shown)
    return DONE


@conflicts.command(usage="holdall sync conflicts take PATH mine|theirs|both [OPTIONS]")
def take(
    path: str,
    version: Literal["mine", "theirs", "both"],
    /,
    *,
    directory: Directory = None,
    common: Common = DEFAULTS,
) -> int:
    """Ends the conflicts of a file; what is not taken stays in the history.

    Args:
        path: The file, or one of its copies: then that copy alone is meant.
        version: Whose stays: this node's, the other's, or both, the other then under an ordinary name.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    folder, name = _meant(path, directory)
    return _changed(folder, lambda: folder.resolve(name, version), common)


def log(
    path: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], metavar="N")] = 100,
    directory: Directory = None,
    common: Common = DEFAULTS,
) -> int:
    """Lists the newest versions of a folder, or of a file or directory in it, newest first.

    Each has a commit, a time, the node that made it and what it changed. With --json, each line is {"commit", "time",
    "node", "message"}.

    Args:
        path: Only versions in which this changed.
        limit: How many at most.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    if limit < 1:
        raise UsageError("--limit is at least 1.")
    folder, name = _meant(path, directory)
    for version in folder.log(name or None, limit):
        when = datetime.fromtimestamp(version.time, tz=UTC).astimezone().isoformat()
        if common.json:
            facts = {"commit": version.commit, "time": when, "node": version.node, "message": version.message}
            output.document(facts)
        else:
            words = f"{version.commit[:_COMMIT_DIGITS]}  {when}  {version.node}  "
            output.path_line(words, os.fsencode(version.message))
    return DONE


def show(at: str, path: str, /, *, directory: Directory = None, common: Common = DEFAULTS) -> int:
    """Writes what a file held at a time, or in a version, to standard output.

    With --json, prints {"path", "value"}, where a value that is not UTF-8 is called "value_base64" instead; of a large
    file, {"path", "address", "size_bytes"}.

    Args:
        at: A time such as 2026-03-01T12:00, or a commit of `sync log`.
        path: The file.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    from holdall.sync.pointer import parse  # noqa: PLC0415 - slow to import

    folder, name = _meant(path, directory)
    data = folder.show(at, name)
    pointer = parse(data)
    if pointer is not None and common.json:
        output.document({"path": name, "address": pointer.address.hex(), "size_bytes": pointer.size_bytes})
        return DONE
    if pointer is not None:
        write_out(folder, pointer)
        return DONE
    if not common.json:
        output.data(data)
        return DONE
    try:
        output.document({"path": name, "value": data.decode()})
    except UnicodeDecodeError:
        output.document({"path": name, "value_base64": base64.b64encode(data).decode()})
    return DONE


def restore(
    path: str,
    /,
    *,
    at: Annotated[str, Parameter(metavar="TIME|COMMIT")],
    directory: Directory = None,
    common: Common = DEFAULTS,
) -> int:
    """Lets a file, or what was in a directory, be as it was. What is there now stays in the history.

    Files that came into the directory later stay. With --json, prints {"commit", "changed"}.

    Args:
        path: The file or the directory; . is the folder, or where you are in it.
        at: A time such as 2026-03-01T12:00, or a commit of `sync log`.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    folder, name = _meant(path, directory)
    return _changed(folder, lambda: folder.restore(at, name or "."), common)


def _meant(path: str | None, directory: str | None) -> "tuple[Folder, str]":
    """The folder that is meant, and a path within it.

    Args:
        path: As typed: from the folder where one is named, else from where the user is, who may be anywhere in it.
        directory: The folder, if it was named.

    Raises:
        NotFoundError: There is no such folder.
        UsageError: The path leads out of it, or there are several folders.
    """
    from holdall.sync.folder import Folder  # noqa: PLC0415 - slow to import
    from holdall.sync.keys import all_folders  # noqa: PLC0415 - as above

    base = os.getcwd() if directory is None else os.path.realpath(directory)
    full = os.path.normpath(os.path.join(base, path or ""))
    # The last name is not followed: it may be a symlink that is synced itself.
    full = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    root = _root_around(full) if directory is None else base
    if root is None:
        there = all_folders()
        if len(there) > 1:
            raise UsageError("Which folder? This user has several.", hint="Name it with --directory.")
        if not there or (path is not None and os.path.isabs(path)):
            raise NotFoundError(f"{path or base} is in no synced folder.", hint="Name one with --directory.")
        root = os.fspath(there[0])
        full = os.path.normpath(os.path.join(root, path or ""))
    if full != root and not full.startswith(root.rstrip(os.sep) + os.sep):
        raise UsageError(f"{path} is not in {root}.")
    return Folder.open(root), "" if full == root else os.path.relpath(full, root)


def _root_around(path: str) -> str | None:
    """The synced folder that a path is, or is in."""
    while True:
        parent, name = os.path.split(path)
        if os.path.exists(os.path.join(parent, f".git.{name}", "holdall", "config.toml")):
            return path
        if parent == path:
            return None
        path = parent


def _changed(folder: "Folder", work: "Callable[[], Outcome]", common: Common) -> int:
    """Does what a person wants changed, as a round of its own; says what came of it."""
    from holdall.sync.cluster import Cluster  # noqa: PLC0415 - slow to import
    from holdall.sync.status import poke_daemon  # noqa: PLC0415 - as above

    try:
        cluster = Cluster(folder)
    except NotFoundError:  # it has left its cluster; its history is there
        cluster = None
    outcome = work()
    if outcome.held is not None:
        output.note(f"{folder.worktree} is held, so nothing was changed. {outcome.held}")
        return FAILED
    code, is_told = _fetched(folder, outcome, common, gives=cluster is None or cluster.me.role == "rw"), True
    if cluster is not None:
        cluster.refresh()
        is_told = poke_daemon(cluster)
    for skipped, why in sorted(outcome.skipped.items()):
        if not common.quiet:
            output.note(f"{skipped!a} was left alone: {why}.")
    if common.json:
        output.document({"commit": outcome.head, "changed": outcome.applied})
    elif not common.quiet:
        output.note(f"{folder.worktree}: {output.count(len(outcome.applied), 'file')} changed.")
        if not is_told:
            output.note("No daemon runs here; holdall sync push brings it to the others.")
    return code


def _fetched(folder: "Folder", outcome: "Outcome", common: Common, *, gives: bool) -> int:
    """Gets large files that a round could not place, and places them; returns an exit code."""
    from holdall.sync.large import FROM_STORE  # noqa: PLC0415 - slow to import

    def look() -> int:
        later = folder.reconcile()
        outcome.applied += later.applied
        outcome.skipped = later.skipped
        return DONE

    return move_all(folder, look, common, gives=gives) if FROM_STORE in outcome.skipped.values() else DONE


def _texts(folder: "Folder", conflict: "Conflict") -> list[bytes]:
    """What the history has under a file's name and under that of a copy."""
    names = (os.fsencode(conflict.path), os.fsencode(conflict.copy))
    entries = [folder.repository.entry(folder.head(), name) for name in names]
    return [b"" if entry is None else folder.repository.blob(entry.blob) for entry in entries]


def _sizes(folder: "Folder", conflict: "Conflict") -> tuple[int, int] | None:
    """How long both versions are, where one of them is a large file."""
    from holdall.sync.pointer import parse  # noqa: PLC0415 - slow to import

    texts = _texts(folder, conflict)
    pointers = [parse(text) for text in texts]
    if not any(pointers):
        return None
    here, there = (found.size_bytes if found else len(text) for found, text in zip(pointers, texts, strict=True))
    return here, there


def _difference(folder: "Folder", conflict: "Conflict") -> bytes | None:
    """The version under the file's name and that of a copy, compared line by line; None where they are no texts."""
    texts = _texts(folder, conflict)
    if _sizes(folder, conflict) or any(b"\0" in text or len(text) > SYNC_TEXT_BYTES_MAX for text in texts):
        return None
    path, copy = os.fsencode(conflict.path), os.fsencode(conflict.copy)
    old, new = (text.splitlines(keepends=True) for text in texts)
    lines = difflib.diff_bytes(difflib.unified_diff, old, new, path, copy)
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)
