"""Keys and ssh's files: what lets other nodes in here, and this one in there.

Everything here is written from values that `roster.Entry` has checked, to files outside the worktree. Of the user's own
files only authorized_keys is touched, and of that only the lines between two marks.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shlex
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdall.errors import LocalFileError, UsageError
from holdall.limits.sync import SYNC_CONNECT_SECONDS_MAX, SYNC_SILENCE_SECONDS_MAX
from holdall.sync.process import locked, run, write_atomically, write_if_other

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdall.sync.roster import Entry

_KIND: Final = b"ssh-ed25519"
_UNUSABLE: Final = frozenset("\"\\$'") | {chr(code) for code in (*range(32), 127)}
"""What a path in ssh's own files cannot hold."""
ALIVE_PROBES: Final = 3
"""Questions that the other side of a connection may leave without an answer."""
_SOCKET_SECONDS: Final = 7 * 86400
_SHELL: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shell_start.py")


def check_path(path: Path) -> None:
    """Refuses a folder whose path ssh's configuration cannot name.

    Raises:
        LocalFileError: It has such a character.
    """
    if _UNUSABLE & set(os.fspath(path)):
        raise LocalFileError(
            f"{os.fspath(path)!a} cannot be synchronised: ssh's files cannot name it.",
            hint="Give it a path without quotes, backslashes, dollars and control characters.",
        )


def make_key(path: Path, comment: str) -> str:
    """Makes an ed25519 key if there is none; returns its public part, `ssh-ed25519 AAAA…`.

    Raises:
        LocalFileError: It cannot be made.
    """
    public = path.with_name(f"{path.name}.pub")
    if not public.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        done = run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path))
        if done.code:
            raise LocalFileError(f"No key could be made at {path}: {done.last_words()}.")
    return " ".join(public.read_text(encoding="ascii").split()[:2])


def private_key(pair: bytes) -> bytes:
    """The file of a private key.

    Args:
        pair: 32 bytes of seed and the 32 of the public key, as an invite has them.
    """
    public = _packed(_KIND, pair[32:])
    secret = struct.pack(">II", 0, 0) + _packed(_KIND, pair[32:], pair, b"")
    secret += bytes(range(1, 1 + -len(secret) % 8))
    data = b"openssh-key-v1\0" + _packed(b"none", b"none", b"") + struct.pack(">I", 1) + _packed(public, secret)
    text = base64.encodebytes(data).decode("ascii")
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n".encode()


def key_pair(private: bytes) -> bytes:
    """The 64 bytes that `private_key` makes a file of, from a file that ssh-keygen made without a passphrase."""
    data = base64.b64decode(b"".join(private.split(b"\n")[1:-2]))
    # The last field before the comment: the seed and the public key, after their length.
    start = data.index(struct.pack(">I", 64), data.index(_KIND, data.index(_KIND) + 1)) + 4
    return data[start : start + 64]


def public_key(raw: bytes) -> str:
    """The public key of 32 bytes as ssh writes it."""
    return f"{_KIND.decode()} {base64.b64encode(_packed(_KIND, raw)).decode('ascii')}"


def all_folders() -> list[Path]:
    """The worktrees of this user that take part in a cluster."""
    place = Path(os.path.expanduser("~"), ".config", "holdall", "sync")
    found = []
    for path in sorted(place.glob("*")) if place.is_dir() else ():
        with contextlib.suppress(OSError, IndexError):
            git_dir, worktree = os.fsdecode(path.read_bytes()).split("\n")[:2]
            if _takes_part(git_dir):
                found.append(Path(worktree))
    return found


def check_new(repository: str, git_dir: str) -> None:
    """Refuses a second folder of one cluster: the shell behind a key finds one by the cluster's id.

    Raises:
        UsageError: This user has another.
    """
    with contextlib.suppress(OSError):
        there, worktree = os.fsdecode(registry_path(repository).read_bytes()).split("\n")[:2]
        if there != git_dir and _takes_part(there) and not _is_same(there, git_dir):
            raise UsageError(f"This user has a folder of that cluster already: {worktree}.")


def _takes_part(git_dir: str) -> bool:
    """Whether a folder's git directory is there, and has not left its cluster."""
    return os.path.exists(os.path.join(git_dir, "holdall", "cluster.json"))


def _is_same(one: str, other: str) -> bool:
    """Whether two paths lead to one directory."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def taken() -> list[str]:
    """The clusters of which this user has a folder, for none of which `check_new` lets another be made."""
    place, found = registry_path("-").parent, []
    for path in sorted(place.glob("*")) if place.is_dir() else ():
        try:
            check_new(path.name, "")
        except UsageError:
            found.append(path.name)
    return found


def own_host_key(address: str, port: int) -> str:
    """The key that this host's sshd shows, asked of itself, or nothing where none answers."""
    for place in ("127.0.0.1", address):
        words = ("ssh-keyscan", "-T", "10", "-t", "ed25519,ecdsa,rsa", "-p", str(port), "--", place)  # it may be busy
        rows = [row.split() for row in run(words, seconds=30).output.decode("ascii", "replace").split("\n")]
        found = {row[1]: f"{row[1]} {row[2]}" for row in rows if len(row) == 3 and not row[0].startswith("#")}
        for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"):
            if kind in found:
                return found[kind]
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What this node remembers of an invite that is still open.

    Attributes:
        key: The public key that it lets in, once.
        role: What the one who joins by it will be.
        expires_ns: When it ends, in nanoseconds since 1970.
    """

    key: str
    role: str
    expires_ns: int


def open_invites(place: Path) -> dict[str, Invite]:
    """The invites in a directory that have not run out, by name; those that have are removed."""
    found = {}
    for path in sorted(place.glob("*.json")) if place.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, TypeError):
            invite = Invite(**json.loads(path.read_text(encoding="utf-8")))
            if invite.expires_ns > time.time_ns():
                found[path.stem] = invite
            else:
                path.unlink(missing_ok=True)
    return found


def own_place(address: str, port: int, user: str) -> dict[str, Any]:
    """Where this host is reached, as fields of an entry; no address if no sshd answers there."""
    host_key = own_host_key(address, port) if address else ""
    return {"address": address if host_key else "", "port": port, "user": user, "host_key": host_key}


def registry_path(repository: str) -> Path:
    """The file in which the shell behind a key finds the folder."""
    return Path(os.path.expanduser("~"), ".config", "holdall", "sync", repository)


def authorized_keys() -> Path:
    """The file by which sshd lets other nodes in as this user."""
    return Path(os.path.expanduser("~"), ".ssh", "authorized_keys")


def mark(key: str) -> str:
    """By which a connection is told that was made with this key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def forced_line(options: Sequence[str], key: str, comment: str) -> str:
    """A line of authorized_keys that lets a key do nothing but what the shell does with these options."""
    command = shlex.join([sys.executable, "-I", "-S", _SHELL, *options])
    quoted = command.replace('"', '\\"')
    return f'restrict,command="{quoted}" {key} {comment}'


def write_authorized_keys(path: Path, repository: str, lines: Iterable[str]) -> bool:
    """Puts lines between the marks of a repository; the user's own lines stay as they are, to the byte.

    Args:
        path: The file; made, with its directory, if missing.
        repository: Whose marks.
        lines: What to put there; nothing takes the marks away too.

    Returns:
        Whether anything had to be changed.

    Raises:
        LocalFileError: It cannot be written, or somebody broke the marks.
    """
    begin = f"# holdall sync {repository} begins: written by holdall, which replaces what is changed here".encode()
    end = f"# holdall sync {repository} ends".encode()
    block = [line.encode("ascii") for line in lines]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.with_name(".holdall-lock")):
            real = Path(os.path.realpath(path))
            there = real.read_bytes() if real.exists() else b""
            rows = there.split(b"\n")
            if (rows.count(begin), rows.count(end)) not in {(0, 0), (1, 1)} or (
                begin in rows and rows.index(end) < rows.index(begin)
            ):
                raise LocalFileError(f"The marks of holdall in {path} are broken.", hint="Delete its lines by hand.")
            if begin in rows:
                at = rows.index(begin)
                del rows[at : rows.index(end) + 1]
            else:
                at = len(rows) - 1 if not rows[-1] else len(rows)
            if block:
                rows[at:at] = [begin, *block, end]
            wanted = b"\n".join(rows)
            if wanted and not wanted.endswith(b"\n"):
                wanted += b"\n"
            if wanted == there:
                return False
            mode = real.stat().st_mode & 0o777 & ~0o022 if real.exists() else 0o600
            write_atomically(real, wanted, mode=mode)
            return True
    except OSError as error:
        raise LocalFileError(f"{path} cannot be changed: {error.strerror}.") from error


def write_ssh_files(place: Path, identity: Path, peers: Sequence[Entry], *, scope: str = "") -> Path:
    """Writes `config` and `known_hosts` for connections to peers, which rest on nothing else.

    Args:
        place: The directory for them.
        identity: The private key to bring.
        peers: Whom it may connect to, each with an address.
        scope: Names whose connections these are, so that they are shared by no other node; none are kept without.

    Returns:
        The configuration, for `ssh -F`.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = place / "known_hosts"
    write_if_other(known, "".join(f"{peer.node} {peer.host_key}\n" for peer in peers).encode(), mode=0o600)
    sockets = _socket_directory() if scope else None
    common = [
        f"IdentityFile {_word(identity)}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        "PreferredAuthentications publickey",
        f"UserKnownHostsFile {_word(known)}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "VerifyHostKeyDNS no",
        "CheckHostIP no",
        "BatchMode yes",
        "RequestTTY no",
        "ForwardAgent no",
        "ForwardX11 no",
        "ClearAllForwardings yes",
        "PermitLocalCommand no",
        "LogLevel ERROR",
        f"ConnectTimeout {SYNC_CONNECT_SECONDS_MAX:.0f}",
        f"ServerAliveInterval {SYNC_SILENCE_SECONDS_MAX / (ALIVE_PROBES + 1):.0f}",
        f"ServerAliveCountMax {ALIVE_PROBES}",
    ]
    rows = []
    for peer in peers:
        own = [f"HostName {peer.address}", f"HostKeyAlias {peer.node}", f"Port {peer.port}", f"User {peer.user}"]
        if sockets is not None:
            name = hashlib.sha256(f"{socket.gethostname()}\0{scope}\0{peer.rank()}".encode()).hexdigest()[:32]
            own += ["ControlMaster auto", "ControlPersist 120", f"ControlPath {_word(sockets / name)}"]
        rows += [f"Host {peer.node}", *(f"  {row}" for row in own + common), ""]
    config = place / "config"
    write_if_other(config, "\n".join(rows).encode(), mode=0o600)
    return config


def _socket_directory() -> Path | None:
    """A directory with a short path that nobody else can look into, or none: then connections are not shared."""
    place = Path(f"/tmp/holdall-{os.getuid()}")  # noqa: S108 - a socket's path has at most 104 bytes; checked below
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700)
    try:
        status = place.lstat()
    except OSError:
        return None
    if (status.st_mode, status.st_uid) != (0o40700, os.getuid()):
        return None
    for stale in place.iterdir():  # left by an ssh that was killed; one in use is made anew when it is needed
        with contextlib.suppress(OSError):
            if stale.lstat().st_mtime < time.time() - _SOCKET_SECONDS:
                stale.unlink()
    return place


def _word(path: Path) -> str:
    """A path in ssh's configuration."""
    return '"' + os.fspath(path).replace("%", "%%") + '"'


def _packed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)
