"""How a host becomes a node: by an invite, one line of text, or over a login that its user has already.

An invite is a key of its own that lets its holder in once, to say one thing: the request to join. The line names where,
which host key to expect there, and the private half; the other half stands in authorized_keys of the node that invites,
with a forced command, until it is used or has run out. Over a login of the user's the same request is made.

Either way the node that lets in signs an entry for the one that joins, and answers with the roster as it has accepted
it. Then the one that joins fetches the whole history; if its folder held files, they are united with it, and both kept.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from holdall.errors import (
    InviteError,
    LocalFileError,
    NotFoundError,
    PeerError,
    RosterError,
    UnreachableError,
    UsageError,
)
from holdall.limits import MIB
from holdall.limits.sync import (
    SYNC_CONNECT_SECONDS_MAX,
    SYNC_ENTRY_BYTES_MAX,
    SYNC_INVITES_MAX,
    SYNC_NODES_MAX,
    SYNC_PROGRAM_SECONDS_MAX,
)
from holdall.sync import keys, transport
from holdall.sync.cluster import Cluster
from holdall.sync.folder import Folder
from holdall.sync.invites import SCHEME, read_line
from holdall.sync.process import TIMED_OUT, Done, locked, run, write_atomically
from holdall.sync.roster import Entry, Role, Signed

_NAME: Final = re.compile(r"[0-9a-f]{12}")
_ANSWER_BYTES_MAX: Final = 4 * MIB
_PLACES: Final = "$HOME/.local/bin:/usr/local/bin:/opt/homebrew/bin"
"""Where programs lie that a login without a terminal does not look for."""


def invite(cluster: Cluster, *, read_only: bool, seconds: float) -> str:
    """Makes an invite and lets its key in; returns the line.

    Raises:
        PeerError: This node cannot let anybody in.
        UsageError: Too many are open.
    """
    me = cluster.me
    if me.role != "rw":
        raise PeerError(f"{cluster.node} is a read-only node: it cannot let others in.")
    if not me.address:
        raise PeerError(
            "No other host can connect to this one: no sshd answered when it took part.",
            hint="Start sshd and say so with holdall sync bootstrap.",
        )
    place = cluster.own / "invites"
    if len(keys.open_invites(place)) >= SYNC_INVITES_MAX:
        raise UsageError(f"{SYNC_INVITES_MAX} invites are open.", hint="They run out by themselves.")
    name, expires_ns = secrets.token_hex(6), time.time_ns() + int(seconds * 1_000_000_000)
    with tempfile.TemporaryDirectory(prefix="holdall-") as scratch:
        public = keys.make_key(Path(scratch, "key"), "invite")
        pair = keys.key_pair(Path(scratch, "key").read_bytes())
    place.mkdir(mode=0o700, exist_ok=True)
    record = keys.Invite(key=public, role="ro" if read_only else "rw", expires_ns=expires_ns)
    write_atomically(place / f"{name}.json", json.dumps(asdict(record)).encode(), mode=0o600)
    cluster.install()
    words = {
        "node": cluster.node,
        "host": me.host_key,
        "until": str(expires_ns // 1_000_000_000),
        "secret": base64.urlsafe_b64encode(pair).rstrip(b"=").decode("ascii"),
    }
    host = f"[{me.address}]" if ":" in me.address else me.address
    return f"{SCHEME}://{me.user}@{host}:{me.port}/{cluster.repository}?{urlencode(words)}"


def join_by_invite(
    line: str, worktree: Path, *, node: str, address: str, port: int, user: str, size_max_bytes: int
) -> Cluster:
    """Joins with the line that `invite` made.

    Args:
        line: The line.
        worktree: The folder; made if missing, united with the cluster's if not empty.
        node: What this node is to be called.
        address: Where this host's sshd is reached; an empty one for nowhere.
        port: Its port.
        user: Whom to log in as; this user.
        size_max_bytes: Files beyond this are large.

    Raises:
        InviteError: It is none, or is not accepted.
        UnreachableError: The node that made it does not answer.
    """
    inviter, pair, until = read_line(line)
    if time.time() > until:
        raise InviteError("This invite has run out.")

    def ask(request: bytes) -> Done:
        with tempfile.TemporaryDirectory(prefix="holdall-") as scratch:
            key = Path(scratch, "key")
            write_atomically(key, keys.private_key(pair), mode=0o600)
            config = keys.write_ssh_files(Path(scratch), key, [inviter])
            return run(
                ("ssh", "-F", config, inviter.node, "join"),
                stdin=request,
                seconds=SYNC_CONNECT_SECONDS_MAX + SYNC_PROGRAM_SECONDS_MAX,
                output_bytes_max=_ANSWER_BYTES_MAX,
            )

    def explained(done: Done) -> str:
        if "Permission denied" in done.words:
            return f"{inviter.node} does not accept this invite: it was used, or has run out."
        return transport.sentence(inviter, done)

    keys.check_new(inviter.repository, "")
    place = keys.own_place(address, port, user)
    request = _Request(worktree, node=node, place=place, role="rw", size_max_bytes=size_max_bytes)
    done = ask(request.text())
    if done.code:
        request.refused()
        raise _refusal(done, explained(done))
    return request.admitted(done.output, expected=inviter.repository)


def join_by_login(
    host: str,
    worktree: Path,
    there: str,
    *,
    node: str,
    address: str,
    port: int,
    user: str,
    read_only: bool,
    size_max_bytes: int,
) -> Cluster:
    """Joins over a login that this user has at a host of the cluster, whatever his own ssh does for it.

    Args:
        host: As ssh takes it.
        worktree: The folder here.
        there: The folder's path there; one that begins with ~/ is below that user's home.
        node: What this node is to be called.
        address: Where this host's sshd is reached; an empty one for nowhere.
        port: Its port.
        user: Whom to log in as; this user.
        read_only: Whether it only takes.
        size_max_bytes: Files beyond this are large.

    Raises:
        UnreachableError: The login fails.
        PeerError: The node there refuses; so it does where this user has a folder of that cluster.
    """
    role: Role = "ro" if read_only else "rw"
    place = keys.own_place(address, port, user)
    request = _Request(worktree, node=node, place=place, role=role, size_max_bytes=size_max_bytes)
    home, rest = ("~/", there[2:]) if there.startswith("~/") else ("", there)
    script = f'PATH="$PATH:{_PLACES}" exec holdall sync admit {home}{shlex.quote(rest)}'
    try:
        asked = subprocess.run(  # noqa: S603 - the user's own ssh, with the host that he named
            ["ssh", "--", host, f"exec sh -c {shlex.quote(script)}"],  # noqa: S607 - found as the user's shell finds it
            input=request.text(*keys.taken()),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise LocalFileError(f"ssh cannot be started: {error.strerror}.", hint="Install openssh-client.") from error
    done = Done(asked.returncode, asked.stdout, asked.stderr.decode("utf-8", "replace"))
    if done.code:
        request.refused()
    if done.code == 127:  # a shell's word for a program that it does not find
        raise UnreachableError(f"There is no holdall on {host}.", hint="Install it there, where a login finds it.")
    if done.code:
        ours = re.search(r"(?:^|\n)holdall: ([^\n]{1,400})", done.words)
        raise _refusal(done, f"{host} says: {ours[1]}" if ours else f"{host}: {done.last_words()}.")
    return request.admitted(done.output)


def admit(cluster: Cluster, request: bytes, invite_name: str | None) -> bytes:
    """Lets a node in: signs an entry for it; returns the answer.

    Args:
        cluster: The folder.
        request: What the one who joins said.
        invite_name: By which invite; None where it came in over a login of this user's.

    Raises:
        InviteError: The invite is spent or has run out.
        RosterError: The request is none.
        PeerError: There is another node of that name.
    """
    if len(request) > SYNC_ENTRY_BYTES_MAX:
        raise RosterError("The request is too long.")
    try:
        fields = json.loads(request)
        if cluster.repository in fields.pop("has", ()):
            raise PeerError("This user has a folder of that cluster already.")
        role: Role = "ro" if fields.pop("role") == "ro" else "rw"
        entry = Entry(repository=cluster.repository, serial=1, role=role, signer=cluster.node, **fields)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise RosterError("This is no request to join.") from None

    def admitted() -> Entry:
        known = cluster.roster.entries.get(entry.node)
        if known is not None and known.role != "gone" and known.key != entry.key:
            raise PeerError(
                f"The cluster has a node {entry.node} already.",
                hint="Take another name with --node, or unjoin that one.",
            )
        if any(other.key == entry.key and other.node != entry.node for other in cluster.roster.members()):
            raise PeerError("The cluster has a node with this key already.")
        if known is None and len(cluster.roster.entries) >= SYNC_NODES_MAX:
            raise PeerError(f"The cluster has {SYNC_NODES_MAX} nodes already.")
        role = entry.role if invite_name is None else _claimed(cluster, invite_name)
        return replace(entry, role=role, serial=known.serial + 1 if known is not None else 1)

    cluster.publish(admitted)
    rows = [asdict(row) for row in cluster.roster.signed()]
    return json.dumps({"repository": cluster.repository, "node": cluster.node, "roster": rows}).encode() + b"\n"


class _Request:
    """A request to join, and what is done when it is granted."""

    def __init__(self, worktree: Path, *, node: str, place: dict[str, Any], role: Role, size_max_bytes: int) -> None:
        try:
            self._folder = Folder.open(os.fspath(worktree))
            self._made = False
        except NotFoundError:
            self._folder = Folder.create(os.fspath(worktree), node=node, size_max_bytes=size_max_bytes)
            self._made = True
        own = Path(self._folder.git_dir, "holdall")
        if (own / "cluster.json").exists():
            raise UsageError(f"{worktree} takes part in a cluster already.")
        if (begun := self._folder.node) != node:
            raise UsageError(f"This folder was begun as that of the node {begun}.", hint=f"Say --node {begun}.")
        keys.check_path(Path(self._folder.git_dir))
        with locked(own / "keys.lock"):
            key = keys.make_key(own / "keys" / "id_ed25519", f"holdall:{node}")
        self._fields = {"node": node, "role": role, "key": key, **place}

    def text(self, *has: str) -> bytes:
        """What is sent, with the clusters that the user takes part in, as far as that is anybody's business."""
        return json.dumps(self._fields | {"has": has}).encode() + b"\n"

    def refused(self) -> None:
        """Takes back what was begun; the folder's files stay."""
        if self._made:
            shutil.rmtree(self._folder.git_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self._folder.worktree)

    def admitted(self, answer: bytes, *, expected: str | None = None) -> Cluster:
        """Takes up what was answered, and fetches and unites everything.

        Raises:
            RosterError: It is no answer, or not to this.
        """
        try:
            found: dict[str, Any] = json.loads(answer)
            rows = [Signed(str(row["text"]), str(row["signature"])) for row in found["roster"]]
            repository, inviter = str(found["repository"]), str(found["node"])
            entries = {entry.node: entry for entry in (Entry.parse(row.text) for row in rows)}
            mine = entries[str(self._fields["node"])]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RosterError("The node there gave no answer that could be understood.") from None
        if mine.key != self._fields["key"] or inviter not in entries or expected not in {None, repository}:
            raise RosterError("The node there answered something else than was asked.")
        cluster = Cluster.begin(self._folder, repository, lambda: rows)
        for exchange in transport.fetch(cluster, [inviter]):
            if exchange.error:
                raise UnreachableError(
                    f"This node was let in, but could not fetch: {exchange.error}", hint="Go on with holdall sync pull."
                )
        cluster.reconcile()
        return cluster


def _claimed(cluster: Cluster, name: str) -> Role:
    """Uses up an invite; of any that try, one succeeds."""
    place = cluster.own / "invites"
    there = keys.open_invites(place).get(name) if _NAME.fullmatch(name) else None
    if there is None:
        raise InviteError("This invite was used, or has run out.")
    try:
        os.unlink(place / f"{name}.json")
    except FileNotFoundError:
        raise InviteError("This invite was used just now.") from None
    return "ro" if there.role == "ro" else "rw"


def _refusal(done: Done, words: str) -> InviteError | PeerError | UnreachableError:
    if done.code in {255, TIMED_OUT} and "does not accept" not in words:
        return UnreachableError(words)
    return InviteError(words) if "invite" in words else PeerError(words)
