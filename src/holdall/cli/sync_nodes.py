"""`holdall sync invite`, `unjoin` and `nodes`: who takes part."""

import signal
import subprocess
import sys
from typing import Annotated, Final

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED
from holdall.cli.sync_folders import DEFAULTS, Common, clusters, complain, only
from holdall.core.units import parse_duration_ns
from holdall.errors import UsageError
from holdall.limits.sync import SYNC_ENTRY_BYTES_MAX, SYNC_INVITE_SECONDS

_REQUEST_SECONDS: Final = 30
_SECOND_NS: Final = 1_000_000_000


def invite(
    directory: str | None = None,
    /,
    *,
    read_only: bool = False,
    ttl: Annotated[str, Parameter(metavar="TIME")] = f"{SYNC_INVITE_SECONDS / 60:.0f}m",
    common: Common = DEFAULTS,
) -> int:
    """Prints a line with which one host can join, once.

    Whoever has the line first can join: pass it on as you would a password. With --json, prints {"invite"}.

    Args:
        directory: The folder; not needed where it is clear.
        read_only: Whoever joins by it only takes.
        ttl: How long it is good for.
        common: The options of every command.
    """
    from holdall.sync import joining  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    line = joining.invite(cluster, read_only=read_only, seconds=parse_duration_ns(ttl) / _SECOND_NS)
    if common.json:
        output.document({"invite": line})
    else:
        output.line(line)
    return DONE


def admit(
    directory: str,
    /,
    *,
    invite: Annotated[str | None, Parameter(metavar="NAME")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Answers the request to join on standard input; `join` runs this on the other host.

    Args:
        directory: The folder.
        invite: The invite by which the request came.
        common: The options of every command.
    """
    from holdall.sync import joining  # noqa: PLC0415 - slow to import

    del common
    cluster = only(clusters(directory))
    signal.alarm(_REQUEST_SECONDS)  # a stranger says what he wants, or is gone
    request = sys.stdin.buffer.readline(SYNC_ENTRY_BYTES_MAX + 1)
    signal.alarm(0)
    output.data(joining.admit(cluster, request, invite))
    output.flush()
    if len(cluster.peers()) > 1:  # the others learn of it too, which may take longer than the one who joins waits
        subprocess.Popen(  # noqa: S603 - no shell
            [sys.executable, "-P", "-m", "holdall", "sync", "push", "--quiet", str(cluster.worktree)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return DONE


def unjoin(
    node: str | None = None,
    /,
    *,
    directory: Annotated[str | None, Parameter(name=["--directory", "-C"], metavar="DIR")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Makes a node leave: this one, or another. Every node takes its key away as it hears of it.

    Files and history stay where they are.

    Args:
        node: Which; without it, this one.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    from holdall.sync import leaving  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    told = leaving.unjoin(cluster, node or cluster.node)
    complain(told)
    if not common.quiet:
        output.note(f"{node or cluster.node} has left; {sum(not row.error for row in told)} of {len(told)} nodes know.")
    return FAILED if told and all(row.error for row in told) else DONE


def nodes(
    directory: str | None = None,
    /,
    *,
    read_only: Annotated[str | None, Parameter(metavar="NODE")] = None,
    read_write: Annotated[str | None, Parameter(metavar="NODE")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Lists the nodes of a cluster, or changes what one of them may do.

    With --json, each line is {"node", "role", "address", "port", "user", "serial", "signer", "this"}.

    Args:
        directory: The folder; not needed where it is clear.
        read_only: From now on this node only takes: no other takes anything from it.
        read_write: From now on this node takes part.
        common: The options of every command.
    """
    from holdall.sync import transport  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    if read_only is not None and read_write is not None:
        raise UsageError("--read-only and --read-write are two commands.")
    node = read_write if read_only is None else read_only
    if node is not None:
        held = cluster.publish(lambda: cluster.changed(node, role="rw" if read_only is None else "ro"))
        if held:
            output.note(f"No other node hears of this yet, since the folder is held. {held}")
        complain(transport.push_to(cluster, cluster.peers()))  # also that this one gives nothing any more
    refused = cluster.refresh()
    for name, why in sorted(refused.items()):
        output.note(f"The entry {name[:40]!a} in the folder does not count. {why}")
    rows = [("NODE", "ROLE", "ADDRESS", "SERIAL", "SIGNER")]
    for entry in cluster.roster.members():
        facts = {"node": entry.node, "role": entry.role, "address": entry.address, "port": entry.port}
        facts |= {"user": entry.user, "serial": entry.serial, "signer": entry.signer}
        if common.json:
            output.document(facts | {"this": entry.node == cluster.node})
        place = f"{entry.user}@{entry.address}:{entry.port}" if entry.address else "-"
        rows.append((entry.node, entry.role, place, str(entry.serial), entry.signer))
    if not common.json:
        output.table(rows)
    return DONE
