"""The program behind a node's key: what sshd runs instead of whatever was asked for.

A line of authorized_keys forces it: `--node beta --repo 7f3c… --mode rw --key 51b2…`. What the other side asked for is
compared with the few things that it may be, or refused; no word of it reaches a shell, names a file or becomes an
option. Which folder a repository id means is written in a file of this user's, `~/.config/holdall/sync/<id>`, and
nowhere else. That file also says what each node may do now: a connection may be older than authorized_keys.

It starts for every push, so it uses the standard library's quickest parts only (`python -I -S`), and imports nothing of
the rest of holdall. Nothing here may import typing, re, json, subprocess or socket: each costs milliseconds.

After a push the folder has to be reconciled. Where a daemon runs, it is told: the line `poke` on the socket
`<git dir>/holdall/daemon.sock`, answered by the line `ok` at once. Where none answers, this runs the reconcile itself,
before the connection ends, so that the one who pushed learns of a failure.
"""

from __future__ import annotations

import os
import sys
import time

USAGE = 2
REFUSED = 1

_POKE_SECONDS = 2.0
"""A daemon that does not answer within this is taken for stuck; the lock keeps the two apart."""
_IDLE_SECONDS = 600
"""A fetch that takes nothing for so long is ended."""
_COMMIT_BYTES_MAX = 4096
"""What is looked at of a commit: more than a head with as many parents as there are nodes."""
_ID_LENGTHS = range(16, 65)
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/homebrew/bin"
_QUIET = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "transfer.fsckObjects=true",
    "transfer.hideRefs=refs/",
)
_RECEIVE = (
    "receive.fsckObjects=true",
    "receive.denyCurrentBranch=refuse",
    "receive.advertisePushOptions=false",
    "receive.updateServerInfo=false",
    "receive.autogc=false",
    "core.fsync=objects,reference",
    "core.fsyncMethod=batch",
    "core.alternateRefsCommand=true",  # what is pushed lies beside the repository at first, whose refs are known
)


class RefusedError(Exception):
    """The key does not allow what was asked for."""


class Place:
    """What this user's file says of a repository id.

    Attributes:
        git_dir: The repository.
        worktree: The folder.
        git: The git program.
        push_bytes_max: Longest pack that is taken.
        members: What each node may do, with a mark of its key.
    """

    def __init__(self, repository: str) -> None:
        """Reads the file.

        Raises:
            RefusedError: There is none.
        """
        path = os.path.join(os.path.expanduser("~"), ".config", "holdall", "sync", repository)
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                self.git_dir, self.worktree, self.git, size, *members = file.read(1 << 20).split("\n")
            self.push_bytes_max = int(size)
            self.members = {tuple(member.split(" ")) for member in members}
        except (OSError, ValueError):
            raise RefusedError("This folder is not synchronised here any more.") from None

    def run(self, words: list[str], settings: tuple[str, ...], *, quiet: bool = False) -> int:
        """Starts git on the repository, with nothing of the caller's environment; returns its process id."""
        options = [word for setting in (*_QUIET, *settings) for word in ("-c", setting)]
        return _start([self.git, *options, *words], quiet=quiet)

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether a commit comes after another."""
        if ancestor in self._parents(commit):
            return True
        words = ["--git-dir", self.git_dir, "merge-base", "--is-ancestor", ancestor, commit]
        return _ended(self.run(words, (), quiet=True)) == 0

    def _parents(self, commit: str) -> list[str]:
        """The parents of a commit that lies in a file of its own, as one lately pushed does; else none."""
        from zlib import decompressobj, error  # noqa: PLC0415 - the module around it starts slowly

        try:
            with open(os.path.join(self.git_dir, "objects", commit[:2], commit[2:]), "rb") as file:
                head = decompressobj().decompress(file.read(_COMMIT_BYTES_MAX), _COMMIT_BYTES_MAX).partition(b"\n\n")[0]
        except (OSError, error):
            return []
        return [line[7:].decode("ascii", "replace") for line in head.split(b"\n") if line.startswith(b"parent ")]

    def ref(self, name: str) -> str:
        """The commit a ref is at, or an empty word."""
        try:
            with open(os.path.join(self.git_dir, name), encoding="ascii") as file:
                return file.read(64).strip()
        except OSError:
            pass
        try:
            with open(os.path.join(self.git_dir, "packed-refs"), encoding="utf-8", errors="replace") as file:
                return next((line[:40] for line in file if line.rstrip("\n")[41:] == name), "")
        except OSError:
            return ""


def main() -> int:
    """Does what the key allows of what was asked for; returns the exit code."""
    try:
        options = _options(sys.argv[1:])
        asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
        if "invite" in options:
            return _admit(options["repo"], options["invite"], asked)
        return _serve(options["node"], options["repo"], (options["mode"], options["key"]), asked)
    except RefusedError as error:
        sys.stderr.write(f"holdall-shell: {error}\n")
        return REFUSED
    except (KeyError, ValueError):
        sys.stderr.write("holdall-shell: This is started by sshd for the keys of synchronised folders.\n")
        return USAGE


def parse(asked: str, repository: str) -> str:
    """What was asked for: `git-receive-pack`, `git-upload-pack`, `hello`, `clock` or `poke`.

    Args:
        asked: SSH_ORIGINAL_COMMAND.
        repository: The only repository id that the key may name.

    Raises:
        RefusedError: Anything else was.
    """
    if asked in {"hello", "clock", "poke"}:
        return asked
    for service in ("git-receive-pack", "git-upload-pack"):
        if asked == f"{service} '{repository}'":
            return service
    raise RefusedError("This key is for synchronising one folder, and for nothing else.")


def _options(words: list[str]) -> dict[str, str]:
    """The words of the forced command, each of which has to be harmless as a part of a path or a ref."""
    found = dict(zip(words[0::2], words[1::2], strict=True))
    for name, value in found.items():
        if name not in {"--node", "--repo", "--mode", "--key", "--invite"} or not set(value) <= set(
            "abcdefghijklmnopqrstuvwxyz0123456789-"
        ):
            raise ValueError(name)
    if len(found["--repo"]) not in _ID_LENGTHS:
        raise ValueError("repo")
    return {name[2:]: value for name, value in found.items()}


def _serve(node: str, repository: str, may: tuple[str, str], asked: str) -> int:
    service = parse(asked, repository)
    place = Place(repository)
    if (node, *may) not in place.members:
        raise RefusedError(f"What {node} may do here has changed; connect again.")
    if service == "hello":
        sys.stdout.write(f"{place.ref('refs/heads/main') or '-'}\n")
        return 0
    if service == "clock":
        sys.stdout.write(f"{time.time_ns()}\n")
        return 0
    if service == "poke":
        return _tell(place)
    if service == "git-upload-pack":
        settings = ("uploadpack.hideRefs=!refs/heads/main", "uploadpack.allowAnySHA1InWant=false")
        words = ["upload-pack", "--strict", f"--timeout={_IDLE_SECONDS}", place.git_dir]
        return _ended(place.run(words, settings))
    if may[0] != "rw":
        raise RefusedError(f"{node} is a read-only node: it may fetch, and not push.")
    return _receive(place, (node, *may), repository)


def _receive(place: Place, member: tuple[str, ...], repository: str) -> int:
    """Takes a push to the refs of a node, and has the folder reconciled if it moved them.

    A push may be begun long before there is anything to push, so what the node may do is looked at again after it.
    """
    node = member[0]
    ref = f"refs/sync/{node}/main"
    before = place.ref(ref)
    seen = f"refs/sync/{node}/seen"
    if not place.ref(seen) and place.ref("refs/heads/main"):
        # Shown to the other side as what it need not send; a hint, which later on the reconcile renews.
        _ended(place.run(["--git-dir", place.git_dir, "update-ref", seen, "refs/heads/main"], (), quiet=True))
    settings = (
        *_RECEIVE,
        f"receive.maxInputSize={place.push_bytes_max}",
        f"receive.hideRefs=!refs/sync/{node}/main",
        f"receive.hideRefs=!{seen}",
    )
    code = _ended(place.run(["receive-pack", place.git_dir], settings))
    after = place.ref(ref)
    if code or (after == before and _has(place, after)):
        return code
    may_not = member not in Place(repository).members
    # git refuses to take something back of branches alone. What came is not lost: nobody had taken it up yet.
    if may_not or (before and after != before and not (after and place.contains(after, before))):
        words = ["update-ref", ref, before] if before else ["update-ref", "-d", ref]
        _ended(place.run(["--git-dir", place.git_dir, *words], (), quiet=True))
        if may_not:
            raise RefusedError(f"What {node} may do here has changed; connect again.")
        raise RefusedError(f"{node} can add to what it has pushed, and not take it back.")
    return _tell(place)


def _has(place: Place, commit: str) -> bool:
    """Whether main has a commit; what was pushed when it could not be merged is merged when it is pushed again."""
    main = place.ref("refs/heads/main")
    return commit in {"", main} or (main != "" and place.contains(main, commit))


def _tell(place: Place) -> int:
    """Has the folder reconciled: by its daemon, or here and now."""
    if _poke(os.path.join(place.git_dir, "holdall", "daemon.sock")):
        return 0
    return _holdall("reconcile", "--quiet", place.worktree)


def _poke(path: str) -> bool:
    from _socket import AF_UNIX, SOCK_STREAM, socket  # noqa: PLC0415 - the module around it starts slowly

    if not os.path.exists(path):
        return False
    link = socket(AF_UNIX, SOCK_STREAM)
    try:
        link.settimeout(_POKE_SECONDS)
        link.connect(path)
        link.sendall(b"poke\n")
        return link.recv(16) == b"ok\n"
    except OSError:
        return False
    finally:
        link.close()


def _admit(repository: str, invite: str, asked: str) -> int:
    """Lets a stranger with an invite ask to join: once, and nothing else."""
    if asked != "join":
        raise RefusedError("This invite is for joining one folder, and for nothing else.")
    return _holdall("admit", Place(repository).worktree, "--invite", invite, answers=True)


def _holdall(*words: str, answers: bool = False) -> int:
    """Runs `holdall sync`; its standard output is the other side's only where it answers something."""
    return _ended(_start([sys.executable, "-P", "-m", "holdall", "sync", *words], to_stderr=not answers))


def _start(words: list[str], *, quiet: bool = False, to_stderr: bool = False) -> int:
    environment = {
        "HOME": os.path.expanduser("~"),
        "PATH": f"{os.path.dirname(sys.executable)}:{_PATH}",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if quiet:
        actions += [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    elif to_stderr:
        actions.append((os.POSIX_SPAWN_DUP2, 2, 1))
    return os.posix_spawn(words[0], words, environment, file_actions=actions)


def _ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
