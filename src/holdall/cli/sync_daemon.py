"""`holdall sync watch`, `service`, `release`, `drift` and `overlay`: a folder that is looked after all the time."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DONE, FAILED, NOT_FOUND, REFUSED, WRONG_USE
from holdall.cli.sync_folders import DEFAULTS, Common, clusters, only, reconciled
from holdall.cli.sync_large import open_named
from holdall.core.units import SECOND_NS, parse_duration_ns
from holdall.errors import BusyError, LocalFileError, UsageError
from holdall.limits.sync import SYNC_ASK_SECONDS, SYNC_LOG_BYTES_MAX, SYNC_PROGRAM_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.sync.cluster import Cluster

_PROGRAM: Final = (sys.executable, "-P", "-m", "holdall")
_POLL_SECONDS: Final = 0.05

_UNIT: Final = """\
[Unit]
Description=holdall sync of {folder}
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
TimeoutStartSec=infinity
TimeoutStopSec=30
WatchdogSec=10min
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={final}
KillMode=mixed
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""

Directory = Annotated[str | None, Parameter(name=["--directory", "-C"], metavar="DIR")]


def watch(
    directory: str | None = None,
    /,
    *,
    daemon: Annotated[bool, Parameter(negative="")] = False,
    every: Annotated[str, Parameter(metavar="TIME")] = f"{SYNC_ASK_SECONDS:.0f}s",
    log: Annotated[str | None, Parameter(metavar="FILE")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Keeps a folder the same as those of the other nodes, as long as it runs; says on standard error what happens.

    What changes here is committed and brought to every node at once, what comes is merged. SIGTERM ends it.

    Args:
        directory: The folder; not needed where it is clear.
        daemon: Goes on in the background; what happens is in holdall/daemon.log beside the history.
        every: How often other nodes are asked for what they have, beside what they tell of themselves.
        log: Says what happens in this file, and in FILE.1 what was before, of 1 MiB each.
        common: The options of every command.
    """
    from holdall.sync.daemon import Daemon  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    ask_seconds = parse_duration_ns(every) / SECOND_NS
    if ask_seconds <= 0:
        raise UsageError("--every has to be longer than nothing.")
    if daemon:
        return _go_on(cluster, ["--every", every, "--log", log or str(cluster.own / "daemon.log")], common)
    notify = os.environ.pop("NOTIFY_SOCKET", "")
    worker = Daemon(cluster, open_named, say=_teller(log), notify=notify, ask_seconds=ask_seconds)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: worker.stop())
    worker.run()
    return DONE


def _teller(log: str | None) -> "Callable[[str], None]":
    """Where a daemon says what happens."""
    if log is None:
        return output.note
    try:
        handler = RotatingFileHandler(log, maxBytes=SYNC_LOG_BYTES_MAX, backupCount=1, errors="backslashreplace")
    except OSError as error:
        raise LocalFileError(f"{log} cannot be written: {error.strerror}.") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("holdall.sync")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return logger.info


def _go_on(cluster: "Cluster", options: list[str], common: Common) -> int:
    """Starts the daemon in the background, and waits until it answers."""
    from holdall.sync.status import ask_daemon  # noqa: PLC0415 - slow to import

    if ask_daemon(cluster) is not None:
        raise BusyError(f"{cluster.worktree} is watched already.", hint="See holdall sync status.")
    process = subprocess.Popen(  # noqa: S603 - no shell
        [*_PROGRAM, "sync", "watch", str(cluster.worktree), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    deadline = time.monotonic() + SYNC_PROGRAM_SECONDS_MAX
    while (there := ask_daemon(cluster)) is None or there.pid != process.pid:
        if process.poll() is not None and there is not None:  # another was a moment earlier
            raise BusyError(f"{cluster.worktree} is watched already.", hint="See holdall sync status.")
        if process.poll() is not None or time.monotonic() > deadline:
            raise LocalFileError("The daemon did not start.", hint=f"See {options[-1]}.")
        time.sleep(_POLL_SECONDS)
    if not common.quiet:
        output.note(f"Watching {cluster.worktree} as process {process.pid}.")
    return DONE


def service(
    what: Literal["install", "remove", "show"] = "show",
    directory: str | None = None,
    /,
    *,
    common: Common = DEFAULTS,
) -> int:
    """Has systemd start `watch` when this user logs in, and again if it fails; or shows the unit that does so.

    Args:
        what: install writes the unit and starts it; remove stops it and deletes the unit; show prints it.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    if what == "remove" and directory is not None:  # it may have been unjoined
        worktree = os.path.realpath(directory)
    else:
        worktree = str(only(clusters(directory)).worktree)
    name = f"holdall-sync-{hashlib.sha256(os.fsencode(worktree)).hexdigest()[:12]}.service"
    command = " ".join(_unit_word(word) for word in (*_PROGRAM, "sync", "watch", worktree))
    final = f"{WRONG_USE} {NOT_FOUND} {REFUSED}"
    text = _UNIT.format(folder=worktree.replace("%", "%%"), command=command, final=final)
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(configuration, "systemd", "user", name)
    if what == "show":
        output.line(f"# {path}\n{text.rstrip()}")
        return DONE
    try:
        if what == "remove":
            if path.exists():
                _systemctl("disable", "--now", name)
                path.unlink()
            _systemctl("daemon-reload")
            return DONE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise LocalFileError(f"{path} cannot be changed: {error.strerror or error}.") from error
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", name)
    if not common.quiet:
        output.note(f"{name} runs. To have it run while you are not logged in: loginctl enable-linger")
    return DONE


def _unit_word(word: str) -> str:
    """A word of a command in a unit."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    if any(ord(letter) < ord(" ") for letter in word):
        raise UsageError(f"{word!a} cannot stand in a unit of systemd.", hint="Give the folder a plainer name.")
    return f'"{quoted}"'


def _systemctl(*words: str) -> None:
    """Has systemd do something for this user.

    Raises:
        LocalFileError: It does not.
    """
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            ["systemctl", "--user", *words],  # noqa: S607 - wherever this system has it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SYNC_PROGRAM_SECONDS_MAX,
            check=False,
        )
        why = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        raise LocalFileError(
            f"systemctl --user {' '.join(words)} failed: {why.splitlines()[-1]}",
            hint="Where this user has no systemd, start holdall sync watch --daemon at boot.",
        )


def release(directory: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Ends a hold: what vanished, here or in what other nodes sent, was meant. No other node asks the same again.

    Args:
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    from holdall.sync.status import poke_daemon  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    cluster.folder.release(tells=cluster.me.role == "rw")
    code = reconciled(cluster, common)
    poke_daemon(cluster)
    return code


def drift(
    directory: str | None = None,
    /,
    *,
    policy: Annotated[Literal["keep", "revert"] | None, Parameter(metavar="keep|revert")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Lists what a read-only node has otherwise than all others, or settles what becomes of that.

    With --json, prints {"policy", "paths"}.

    Args:
        directory: The folder; not needed where it is clear.
        policy: keep leaves it; revert brings the folder to what the others have, now and always. It stays in this
            node's history, under refs/sync-drift/TIME.
        common: The options of every command.
    """
    from holdall.sync import local  # noqa: PLC0415 - slow to import

    cluster = only(clusters(directory))
    if policy is not None:
        local.set_policy(cluster, policy)
        local.settle_drift(cluster, output.note)
    paths = local.drift(cluster)
    if common.json:
        output.document({"policy": local.policy(cluster), "paths": paths})
    else:
        for path in paths:
            output.path_line("", os.fsencode(path))
    return DONE


def overlay(
    what: Literal["show", "use", "approve", "off"] = "show",
    /,
    *words: Annotated[str, Parameter(metavar="COMMAND", allow_leading_hyphen=True)],
    directory: Directory = None,
    common: Common = DEFAULTS,
) -> int:
    """Says what is run after files were changed by a merge, or settles it, for this node alone.

    It runs in the folder, without a shell, for at most a minute. With --json, prints {"command", "approved", "script"}.

    Args:
        what: show says it; use runs a command of yours; approve runs the folder's gtfc-overlay.sh, as it is now and no
            other; off runs nothing.
        words: The command and its words, after --.
        directory: The folder; not needed where it is clear.
        common: The options of every command.
    """
    from holdall.sync.local import SCRIPT, Overlay  # noqa: PLC0415 - slow to import

    if words and what != "use":
        raise UsageError(f"holdall sync overlay {what} takes no command.")
    found = Overlay(only(clusters(directory)))
    if what == "use":
        found.use(words)
    elif what == "approve":
        found.approve()
    elif what == "off":
        found.off()
    found = Overlay(only(clusters(directory)))
    there = found.script_hash()
    if common.json:
        output.document({"command": found.command, "approved": found.approved or None, "script": there or None})
    elif found.command:
        output.line(f"runs {found.command}")
    elif found.approved:
        now = "as it is now" if there == found.approved else "not as it is now, so it does not run"
        output.line(f"runs {SCRIPT} {found.approved}, {now}")
    else:
        output.line("off")
    return FAILED if found.approved and there != found.approved else DONE
