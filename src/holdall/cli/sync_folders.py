"""What the commands of `holdall sync` share: their options, which folder is meant, and what they say of others."""

import os
import pwd
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.options import EVERYWHERE
from holdall.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdall.sync.cluster import Cluster
    from holdall.sync.transport import Exchange


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command of sync can be told.

    Attributes:
        json: Write JSON.
        quiet: Say nothing beside the result.
        debug: Show where an error came from.
    """

    json: Annotated[bool, Parameter(help="Write JSON: a document, or one a line.")] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Say nothing beside the result.")] = False
    debug: Annotated[bool, Parameter(help="Show where an error came from.")] = False


DEFAULTS: Final = Common()


def clusters(directory: str | None) -> "list[Cluster]":
    """The folder that is meant: the one named, the one that this is in, or all of this user's."""
    from holdall.sync.cluster import Cluster  # noqa: PLC0415 - slow to import
    from holdall.sync.keys import all_folders  # noqa: PLC0415 - as above

    if directory is not None:
        return [Cluster.open(os.path.abspath(directory))]
    there = all_folders()
    here = os.getcwd()
    around = [path for path in there if here == str(path) or here.startswith(f"{path}{os.sep}")]
    found = around or there
    if not found:
        raise NotFoundError("This user has no synchronised folder.", hint="See holdall sync bootstrap and join.")
    return [Cluster.open(path) for path in found]


def only(clusters: "list[Cluster]") -> "Cluster":
    """The folder that is meant, where one has to be."""
    if len(clusters) > 1:
        names = ", ".join(str(cluster.worktree) for cluster in clusters)
        raise UsageError(f"Which folder? There are {names}.", hint="Name it.")
    return clusters[0]


def complain(told: "Iterable[Exchange]", *, is_new: bool = False) -> None:
    """Says which exchanges failed, and why; a node that `is_new` is not to be let in before it was heard of."""
    from holdall.sync.transport import DENIED  # noqa: PLC0415 - slow to import

    for row in told:
        if is_new and DENIED in row.error:
            output.note(f"{row.node} has not heard of this node yet, and lets it in as soon as it has.")
        elif row.error:
            output.note(row.error)


def reconciled(cluster: "Cluster", common: Common, *, moves: bool = False) -> int:
    """Reconciles a folder, says what stands in the way of that, and returns the exit code.

    Args:
        cluster: It.
        common: The options of every command.
        moves: Whether the caller moves the large files that wait, so that nothing is said of them.
    """
    from holdall.sync.ignore import ROSTER  # noqa: PLC0415 - slow to import
    from holdall.sync.large import FROM_STORE, TO_STORE  # noqa: PLC0415 - as above
    from holdall.sync.local import after_apply  # noqa: PLC0415 - slow to import

    outcome = cluster.reconcile()
    after_apply(cluster, output.note, applied=bool(outcome.applied))
    if outcome.held is not None:
        output.note(f"{cluster.worktree} is held, so nothing was committed or merged. {outcome.held}")
    for path in outcome.put_back if not common.quiet else ():
        if path not in outcome.skipped:
            is_roster = path.startswith(os.fsdecode(ROSTER) + "/")
            why = "is the cluster's, and was put back; to leave it, run holdall sync unjoin"
            output.note(f"{path!a} {why if is_roster else 'was emptied by a loss of power, and was put back'}.")
    for node, why in sorted((cluster.refused | outcome.held_back).items()):
        output.note(f"What {node} sent was not merged. {why}")
    if outcome.held_back:
        output.note("If that was meant: holdall sync release.")
    if not common.quiet:
        silent = {TO_STORE, FROM_STORE} if moves else set()
        for path, why in sorted(outcome.skipped.items()):
            if why not in silent:
                output.note(f"{path!a} was left alone: {why}.")
        for conflict in outcome.conflicts:
            output.note(f"{conflict.path!a} was changed here and there: the other version is in {conflict.copy!a}.")
    return FAILED if outcome.held is not None or outcome.held_back or cluster.refused else DONE


def tell_of_place(cluster: "Cluster", common: Common) -> None:
    """Says so where no other node can connect to this one."""
    if not cluster.me.address and not common.quiet:
        output.note(
            "No sshd answers at this host's address, so no other node can connect to it; it connects to them. To "
            "change that, start sshd and run holdall sync bootstrap for this folder, with --address and --port."
        )


def own_name() -> str:
    """This host's name as a node's."""
    name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:32]
    if not name:
        raise UsageError("This host's name cannot be a node's.", hint="Give one with --node.")
    return name


def own_user() -> str:
    """This user's name."""
    return pwd.getpwuid(os.getuid()).pw_name


def as_below_home(worktree: str) -> str:
    """A path as it is to be found on another host: below the home directory there, if it is here."""
    home = os.path.expanduser("~")
    return f"~/{worktree[len(home) + 1 :]}" if worktree.startswith(f"{home}{os.sep}") else worktree
