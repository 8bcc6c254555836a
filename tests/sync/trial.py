"""What the tests of sync's network side share: hosts on this machine, or the reason why there can be none."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdall.testing.hosts import missing_tools, namespace_hosts, why_no_namespaces
from support import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.testing.hosts import Host


def need_namespaces() -> None:
    """Skips the test where there can be no hosts that are namespaces."""
    for tool in ("ssh", "ssh-keygen", "ssh-keyscan", "ip", "unshare", "nsenter", "mount", "hostname"):
        need_tool(tool)
    if missing_tools(namespaces=True):
        need_tool("sshd")
    reason = why_no_namespaces()
    if reason is not None:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def hosts(place: Path, *names: str) -> Iterator[dict[str, Host]]:
    """Hosts that reach each other by name; the test is skipped where there can be none."""
    need_namespaces()
    with namespace_hosts(place, names) as made:
        yield made


def say(host: Host, line: str, *, code: int | None = 0, stdin: str = "") -> str:
    """Types a line on a host, as its user; returns all that it showed.

    Args:
        host: The host.
        line: For its shell.
        code: The exit code that it has to end with; any where it is None.
        stdin: For its standard input.
    """
    done = host.run("bash", "-c", line, stdin=stdin)
    shown = done.stdout + done.stderr

    assert code is None or done.returncode == code, f"{host.name}$ {line}\n{done.returncode}: {shown}"
    return shown


def log_in(host: Host, *others: Host) -> None:
    """Gives the user of a host what it takes to log in to others: a key that they let in, and their host keys."""
    say(host, "test -e ~/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    key = (host.home / ".ssh/id_ed25519.pub").read_text()
    for other in others:
        with open(other.home / ".ssh/authorized_keys", "a", encoding="ascii") as file:
            file.write(key)
        say(host, f"ssh-keyscan -t ed25519 {other.name} 2>/dev/null >> ~/.ssh/known_hosts")


def as_node(host: Host, peer: str, command: str, *options: str, folder: str = "myrepo") -> str:
    """Lets a host say something to a peer with the key of its folder; returns what came of it."""
    config = host.home / f".git.{folder}/holdall/ssh/config"
    return say(host, shlex.join(["ssh", "-F", str(config), *options, peer, command]), code=None)


def push_as_node(host: Host, peer: str, *refspecs: str, folder: str = "myrepo") -> str:
    """Lets a host push to a peer whatever it likes with the key of its folder; returns what came of it."""
    git_dir = host.home / f".git.{folder}"
    ssh = f"GIT_SSH_COMMAND='ssh -F {git_dir}/holdall/ssh/config'"
    words = shlex.join(["git", "--git-dir", str(git_dir), "push", f"{peer}:{repository(host, folder)}", *refspecs])
    return say(host, f"{ssh} {words}", code=None)


def repository(host: Host, folder: str = "myrepo") -> str:
    """The id of the cluster that a folder is of."""
    return (host.home / f".git.{folder}/holdall/cluster.json").read_text().split('"')[3]


def refs(host: Host, folder: str = "myrepo") -> str:
    """Every ref of a folder, with where it is."""
    return say(host, f"git --git-dir ~/.git.{folder} for-each-ref --format='%(refname) %(objectname)'")


def files(host: Host, folder: str = "myrepo") -> dict[str, bytes]:
    """The files of a folder but for the roster."""
    place, found = host.home / folder, {}
    for above, names, inside in os.walk(place):
        names[:] = set(names) - {".gitcluster"}
        for path in (Path(above, name) for name in inside):
            with suppress(FileNotFoundError):  # a daemon may work on it
                found[path.relative_to(place).as_posix()] = path.read_bytes()
    return found
