"""`holdall sync`: one folder on many hosts, over ssh."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Group, Parameter

from holdall.cli import output, sync_daemon, sync_demo, sync_history, sync_large, sync_nodes, sync_status
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.sync_folders import (
    DEFAULTS,
    Common,
    as_below_home,
    clusters,
    complain,
    own_name,
    own_user,
    reconciled,
    tell_of_place,
)
from holdall.errors import HoldallError, NotFoundError, UsageError
from holdall.limits.sync import SYNC_ENTRY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.sync.cluster import Cluster
    from holdall.sync.folder import Folder
    from holdall.sync.transport import Exchange

_SSH_PORT: Final = 22


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a host can be told that becomes a node.

    Attributes:
        node: What it is called among the others.
        address: Where others reach it.
        port: The port of its sshd.
        store: Where large files go.
        max_size: A file above this is large.
    """

    node: Annotated[
        str | None,
        Parameter(metavar="NAME", help="What this host is called among the others; by default its host name."),
    ] = None
    address: Annotated[
        str | None,
        Parameter(
            metavar="HOST",
            help="Where others reach this host; by default its host name. Where no sshd answers there, nobody connects "
            "to this host, and it does all the connecting.",
        ),
    ] = None
    port: Annotated[int, Parameter(metavar="N", help="The port of its sshd.")] = _SSH_PORT
    store: Annotated[str | None, Parameter(metavar="STORE", help="Where large files go; see holdall sync store.")] = (
        None
    )
    max_size: Annotated[str | None, Parameter(metavar="SIZE", help="A file above this is large, such as 50MB.")] = None

    def fields(self) -> "dict[str, Any]":
        """What a node's entry says of it."""
        return {"address": self.address or socket.gethostname(), "port": self.port, "user": own_user()}

    def settle(self, folder: "Folder", place: str | None) -> None:
        """Settles what was said of large files, if anything was; the place is what `checked` made of the store."""
        if place is not None or self.max_size is not None:
            sync_large.settle(folder, place, self.max_size)


_HOST: Final = Host()

app = App(
    name="sync",
    help="One folder on many hosts, kept the same over ssh, with git underneath.",
    group_parameters=Group("Options", sort_key=1),
)
app.command(sync_nodes.invite, usage="holdall sync invite [DIRECTORY] [OPTIONS]")
app.command(sync_nodes.unjoin, usage="holdall sync unjoin [NODE] [OPTIONS]")
app.command(sync_nodes.nodes, usage="holdall sync nodes [DIRECTORY] [OPTIONS]")
app.command(sync_nodes.admit, show=False)
app.command(sync_history.conflicts)
app.command(sync_history.log, usage="holdall sync log [PATH] [OPTIONS]")
app.command(sync_history.show, usage="holdall sync show AT PATH [OPTIONS]")
app.command(sync_history.restore, usage="holdall sync restore --at TIME|COMMIT PATH [OPTIONS]")
app.command(sync_daemon.watch, usage="holdall sync watch [DIRECTORY] [OPTIONS]")
app.command(sync_daemon.service, usage="holdall sync service [install|remove|show] [DIRECTORY]")
app.command(sync_status.status, usage="holdall sync status [DIRECTORY] [OPTIONS]")
app.command(sync_status.doctor, usage="holdall sync doctor [DIRECTORY] [OPTIONS]")
app.command(sync_daemon.release, usage="holdall sync release [DIRECTORY] [OPTIONS]")
app.command(sync_daemon.drift, usage="holdall sync drift [DIRECTORY] [OPTIONS]")
app.command(sync_daemon.overlay, usage="holdall sync overlay [show|use|approve|off] [-- COMMAND]")
app.command(sync_large.store, usage="holdall sync store [STORE] [OPTIONS]")
app.command(sync_demo.demo, usage="holdall sync demo [DIRECTORY] [OPTIONS]")


@app.command(usage="holdall sync bootstrap DIRECTORY [OPTIONS]")
def bootstrap(
    directory: str,
    /,
    *,
    host: Host = _HOST,
    common: Common = DEFAULTS,
) -> int:
    """Makes a folder the first of a cluster; what is in it is its first version.

    Run again, it renews what the cluster knows of where this host is reached.

    Args:
        directory: The folder; made if missing. Its history is beside it, in .git.NAME.
        host: What is known of this host.
        common: The options of every command.
    """
    from holdall.sync import keys  # noqa: PLC0415 - slow to import
    from holdall.sync.cluster import Cluster  # noqa: PLC0415 - as above
    from holdall.sync.folder import Folder  # noqa: PLC0415 - as above

    worktree, place = os.path.abspath(directory), sync_large.checked(host.store)
    try:
        folder = Folder.open(worktree)
    except NotFoundError:
        folder = Folder.create(
            worktree, node=host.node or own_name(), size_max_bytes=sync_large.size_bytes(host.max_size)
        )
    host.settle(folder, place)
    try:
        cluster = Cluster(folder)
    except NotFoundError:
        cluster = Cluster.found(folder, **host.fields())
        cluster.reconcile()
    else:
        where = keys.own_place(**host.fields())  # this may take seconds
        cluster.publish(lambda: cluster.changed(cluster.node, place=where))
    return _began(cluster, common, looks=host.store is not None)


@app.command(usage="holdall sync join (HOST | INVITE | -) DIRECTORY [OPTIONS]")
def join(
    where: Annotated[str, Parameter(allow_leading_hyphen=True)],
    directory: str,
    /,
    *,
    there: Annotated[str | None, Parameter(name="--from", metavar="PATH")] = None,
    read_only: bool = False,
    host: Host = _HOST,
    common: Common = DEFAULTS,
) -> int:
    """Makes a folder of this host one with that of a cluster: all files and their whole history.

    A folder that is not empty is united with it, and both are kept.

    Args:
        where: A host of the cluster that you can log in to with ssh, or the line of an invite; - reads an invite from
            standard input, where nobody sees it in a list of processes.
        directory: The folder; made if missing.
        there: The folder's path on the other host, where it is another than here.
        read_only: Only take; what changes here is not passed on. With an invite, it says so itself.
        host: What is known of this host.
        common: The options of every command.
    """
    from holdall.sync import joining, transport  # noqa: PLC0415 - slow to import
    from holdall.sync.invites import SCHEME  # noqa: PLC0415 - as above

    worktree = os.path.abspath(directory)
    line = sys.stdin.readline(SYNC_ENTRY_BYTES_MAX) if where == "-" else where
    me = {"node": host.node or own_name(), **host.fields(), "size_max_bytes": sync_large.size_bytes(host.max_size)}
    place = sync_large.checked(host.store)
    if where == "-" or line.startswith(f"{SCHEME}:"):
        if there is not None or read_only:
            raise UsageError("--from and --read-only are for a HOST; an invite says both itself.")
        cluster = joining.join_by_invite(line, Path(worktree), **me)
    else:
        cluster = joining.join_by_login(
            where, Path(worktree), there or as_below_home(worktree), read_only=read_only, **me
        )
    host.settle(cluster.folder, place)
    code = _began(cluster, common, looks=True)
    complain(transport.push(cluster) if cluster.me.role == "rw" else [], is_new=True)
    return code


def _began(cluster: "Cluster", common: Common, *, looks: bool) -> int:
    """Says what has come to be, after a last look at the folder and its large files; returns the exit code."""
    tell_of_place(cluster, common)
    code = reconciled(cluster, common, moves=True) or sync_large.move(cluster, common) if looks else DONE
    if common.json:
        output.document(
            {"node": cluster.node, "repository": cluster.repository, "directory": os.fspath(cluster.worktree)}
        )
    return code


@app.command(usage="holdall sync push [DIRECTORY] [OPTIONS]")
def push(directory: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Commits what changed and brings it to every node. The exit code is 1 if one of them did not get it.

    Args:
        directory: The folder; without it, the one that this is in, else every one of this user's.
        common: The options of every command.
    """
    from holdall.sync import transport  # noqa: PLC0415 - slow to import

    def work(cluster: "Cluster") -> "tuple[int, list[Exchange]]":
        code = reconciled(cluster, common, moves=True)
        told, head = transport.push(cluster), cluster.folder.head()
        code = max(code, sync_large.move(cluster, common))
        return code, told if cluster.folder.head() == head else transport.push(cluster)

    return _exchanged(directory, common, work, "sent to")


@app.command(usage="holdall sync pull [DIRECTORY] [OPTIONS]")
def pull(directory: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Gets what the other nodes have and merges it, as after a reboot. The exit code is 1 if none of them answered.

    Args:
        directory: The folder; without it, the one that this is in, else every one of this user's.
        common: The options of every command.
    """
    from holdall.sync import transport  # noqa: PLC0415 - slow to import

    def work(cluster: "Cluster") -> "tuple[int, list[Exchange]]":
        told = transport.fetch(cluster)
        code = reconciled(cluster, common, moves=True)
        return max(code, sync_large.move(cluster, common)), told

    return _exchanged(directory, common, work, "fetched from", enough=1)


@app.command(usage="holdall sync reconcile [DIRECTORY] [OPTIONS]")
def reconcile(directory: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Commits what changed here and merges what has come; no other host is asked.

    Args:
        directory: The folder; without it, the one that this is in, else every one of this user's.
        common: The options of every command.
    """
    return max([reconciled(cluster, common) for cluster in clusters(directory)])


def _exchanged(
    directory: str | None,
    common: Common,
    work: "Callable[[Cluster], tuple[int, list[Exchange]]]",
    words: str,
    enough: int | None = None,
) -> int:
    """Does the work for each folder; says whom it reached."""
    code = DONE
    meant = clusters(directory)
    for cluster in meant:
        try:
            ended, told = work(cluster)
        except HoldallError as error:
            if len(meant) == 1:
                raise
            output.note(f"{cluster.worktree}: {error.sentence()}")
            code = FAILED
            continue
        code = max(code, ended)
        complain(told)
        good = sum(not row.error for row in told)
        if common.json:
            rows = [{"node": row.node, "error": row.error or None} for row in told]
            output.document({"directory": str(cluster.worktree), "nodes": rows})
        elif not common.quiet:
            output.note(f"{cluster.worktree}: {words} {good} of {output.count(len(told), 'node')}.")
        if told and good < (len(told) if enough is None else enough):
            code = FAILED
    return code
