"""Hosts on one machine, each with its own name, home directory and sshd, to try a cluster on.

`namespace_hosts` needs root and Linux: each host is a network namespace on a switch of their own, so that they can be
cut off from each other; its host name, `/etc/hosts` and home directory are its own too. `loopback_hosts` needs no root:
each host is an sshd on a port of 127.0.0.1, run as this user with another HOME.

    with namespace_hosts(Path("/tmp/trial"), ["alpha", "beta"]) as hosts:
        hosts["alpha"].run("hostname")
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdall.errors import LocalFileError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS: Final = 60.0
_TOOLS: Final = ("sshd", "ssh", "ssh-keygen", "ssh-keyscan", "git")
_NAMESPACE_TOOLS: Final = ("ip", "unshare", "nsenter", "mount", "hostname")


@dataclass(slots=True)
class Host:
    """One host.

    Attributes:
        name: Its name.
        address: Where the others reach it.
        port: The port of its sshd.
        home: Its user's home directory.
        enter: Words before a command that have it run there.
        sshd: Its sshd.
    """

    name: str
    address: str
    port: int
    home: Path
    enter: tuple[str, ...] = ()
    sshd: subprocess.Popen[bytes] | None = None
    _uplink: tuple[str, ...] = field(default=(), repr=False)
    _space: str = field(default="", repr=False)

    def environment(self) -> dict[str, str]:
        """What a login there has in its environment."""
        return {
            "HOME": str(self.home),
            "USER": pwd.getpwuid(os.getuid()).pw_name,
            "PATH": f"{os.path.dirname(sys.executable)}:{_PATH}",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def run(
        self, *words: str | Path, stdin: str = "", cwd: Path | None = None, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end, and says how it ended."""
        return subprocess.run(  # noqa: S603 - no shell
            [*self.enter, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd or self.home,
            env=self.environment(),
            timeout=seconds,
            check=False,
        )

    def start(self, *words: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Starts a command there whose words go to a file."""
        with open(log, "ab") as file:
            return subprocess.Popen(  # noqa: S603 - no shell
                [*self.enter, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.home,
                env=self.environment(),
            )

    def power_off(self) -> None:
        """Kills everything that runs there, as a loss of power does; files stay."""
        if self._space:
            holder = int(self.enter[2])
            _kill(self._space, keep=holder)
        if self.sshd is not None:
            self.sshd.kill()
            self.sshd.wait()

    def power_on(self) -> None:
        """Starts its sshd again."""
        _start_sshd(self, self.home.parent)

    def cut_off(self) -> None:
        """Takes the host off the network; connections that there are hang, as when a cable is pulled."""
        _do(*self._uplink, "nomaster")

    def connect(self) -> None:
        """Puts it back."""
        _do(*self._uplink, "master", "switch")


def missing_tools(*, namespaces: bool) -> list[str]:
    """What hosts of this kind need that is not installed."""
    tools = _TOOLS + (_NAMESPACE_TOOLS if namespaces else ())
    return [tool for tool in tools if shutil.which(tool, path=_PATH) is None]


def why_no_namespaces() -> str | None:
    """Why `namespace_hosts` cannot work here, or None if it can."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces take root"
    missing = missing_tools(namespaces=True)
    if missing:
        return f"{missing[0]} is not installed"
    name = f"holdall-{secrets.token_hex(4)}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if tried.returncode:
        return f"network namespaces are not allowed: {tried.stderr.strip()}"
    _do("ip", "netns", "del", name)
    return None


@contextlib.contextmanager
def loopback_hosts(place: Path, names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts that are ports of 127.0.0.1; give commands there their name and port with --node, --address and --port.

    Args:
        place: A directory for their homes.
        names: Their names.

    Raises:
        LocalFileError: A program that they need is missing.
    """
    _check(namespaces=False)
    if os.geteuid() == 0:
        _make_empty_directory()
    hosts: dict[str, Host] = {}
    try:
        for name in names:
            home = place / name
            home.mkdir(parents=True, exist_ok=True)
            hosts[name] = Host(name, "127.0.0.1", _free_port(), home)
            _start_sshd(hosts[name], place, moves=True)
        yield hosts
    finally:
        for host in hosts.values():
            _end(host)


@contextlib.contextmanager
def namespace_hosts(place: Path, names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts that are network namespaces, called by their names.

    Args:
        place: A directory for their homes; programs that they run must not lie in this user's home directory.
        names: Their names.

    Raises:
        LocalFileError: A program that they need is missing.
    """
    _check(namespaces=True)
    _make_empty_directory()
    mark = f"holdall-{secrets.token_hex(3)}"
    spaces = [f"{mark}-switch", *(f"{mark}-{name}" for name in names)]
    holders: list[subprocess.Popen[bytes]] = []
    hosts: dict[str, Host] = {}
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=1)}
    place.mkdir(parents=True, exist_ok=True)
    table = "".join(f"{address} {name}\n" for name, address in addresses.items())
    # A copy, since a file that somebody replaces in /etc takes away what is mounted over it.
    _do("cp", "-a", "/etc", str(place / "etc"))
    (place / "etc" / "hosts").unlink(missing_ok=True)
    (place / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{table}", encoding="ascii")
    try:
        for space in spaces:
            _do("ip", "netns", "add", space)
            _do("ip", "-n", space, "link", "set", "lo", "up")
        _do("ip", "-n", spaces[0], "link", "add", "switch", "type", "bridge")
        _do("ip", "-n", spaces[0], "link", "set", "switch", "up")
        for number, name in enumerate(names, start=1):
            host = Host(name, name, 22, place / name)
            host.home.mkdir(exist_ok=True)
            host._uplink = ("ip", "-n", spaces[0], "link", "set", f"port{number}")  # noqa: SLF001 - ours
            host._space = spaces[number]  # noqa: SLF001 - ours
            _plug(spaces[0], spaces[number], f"port{number}", addresses[name])
            holders.append(_hold(host, spaces[number], place))
            host.enter = ("nsenter", "-t", str(holders[-1].pid), "-n", "-u", "-m", "--wd=.", "--")
            hosts[name] = host
            _start_sshd(host, place)
        yield hosts
    finally:
        for space in spaces:
            _clear(space)
        shutil.rmtree(place / "etc", ignore_errors=True)
        for holder in holders:
            holder.wait()
        for host in hosts.values():
            if host.sshd is not None:
                host.sshd.wait()


def _check(*, namespaces: bool) -> None:
    missing = missing_tools(namespaces=namespaces)
    if missing:
        raise LocalFileError(f"{missing[0]} is not installed.", hint="Install openssh-server, git and iproute2.")


def _make_empty_directory() -> None:
    """Makes the directory that root's sshd shuts itself into; the package makes it when the service starts."""
    with contextlib.suppress(OSError):  # where it is called otherwise, sshd says what is missing
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


def _plug(switch: str, space: str, port: str, address: str) -> None:
    """Connects a namespace to the switch, and gives it its address."""
    _do("ip", "-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
    _do("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
    _do("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
    _do("ip", "-n", space, "link", "set", "eth0", "up")


def _hold(host: Host, space: str, place: Path) -> subprocess.Popen[bytes]:
    """Starts the process that keeps a host's name and mounts: its own home in /etc/passwd, all names in /etc/hosts."""
    me = pwd.getpwuid(os.getuid())
    users = Path("/etc/passwd").read_text(encoding="utf-8").split("\n")
    rows = [row.split(":") for row in users if row]
    there = [":".join([*row[:5], str(host.home), *row[6:]]) if row[0] == me.pw_name else ":".join(row) for row in rows]
    (place / f"{host.name}.passwd").write_text("\n".join(there) + "\n", encoding="utf-8")
    script = (
        'hostname "$1" && mount --bind "$2" /etc && mount --bind "$3" /etc/passwd && echo ready && exec sleep infinity'
    )
    files = (str(place / "etc"), str(place / f"{host.name}.passwd"))
    enter = ("ip", "netns", "exec", space, "unshare", "--uts", "--mount", "--propagation", "private", "--")
    holder = subprocess.Popen(  # noqa: S603 - the script is ours
        [*enter, "sh", "-c", script, "sh", host.name, *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    with holder.stdout as words:
        if words.readline() != b"ready\n":
            holder.kill()
            holder.wait()
            raise LocalFileError(f"The host {host.name} cannot be made: mounts are not allowed.")
    return holder


def _start_sshd(host: Host, place: Path, *, moves: bool = False) -> None:
    """Starts a host's sshd, which lets in whom authorized_keys names; if it `moves`, on a port that is not in use."""
    ssh = host.home / ".ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    key = place / f"{host.name}.host_key"
    if not key.exists():
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key))
    rows = {
        "HostKey": str(key),
        "Port": str(host.port),
        "ListenAddress": "127.0.0.1" if not host.enter else "0.0.0.0",  # noqa: S104 - in a namespace of its own
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "AuthorizedKeysFile": str(ssh / "authorized_keys"),
        "Subsystem": "sftp internal-sftp",
        "MaxStartups": "200",
        "MaxSessions": "100",
        "SetEnv": f"HOME={host.home} PATH={host.environment()['PATH']}",
    }
    program = shutil.which("sshd", path=_PATH) or "sshd"
    asked = [program, "-T", "-f", "/dev/null", "-h", str(key), "-o", "PerSourcePenalties=no"]
    if not subprocess.run(asked, capture_output=True, check=False).returncode:  # noqa: S603 - no shell
        rows["PerSourcePenalties"] = "no"
    config = place / f"{host.name}.sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in rows.items()), encoding="utf-8")
    log = place / f"{host.name}.sshd.log"
    log.unlink(missing_ok=True)
    host.sshd = host.start(program, "-D", "-e", "-f", config, log=log)
    shown = key.with_name(f"{key.name}.pub").read_text(encoding="ascii").split()[1]  # by no other sshd
    ask = ("ssh-keyscan", "-T", "5", "-t", "ed25519", "-p", str(host.port), "127.0.0.1")
    deadline = time.monotonic() + _START_SECONDS
    while shown not in host.run(*ask).stdout:
        has_ended, said = host.sshd.poll() is not None, log.read_text(encoding="utf-8", errors="replace")
        if has_ended and moves and "Address already in use" in said:
            host.port = _free_port()
            return _start_sshd(host, place, moves=True)
        if has_ended or time.monotonic() > deadline:
            raise UnreachableError(f"The sshd of {host.name} does not answer: {said[-300:]}")
        time.sleep(0.02)
    return None


def _end(host: Host) -> None:
    if host.sshd is not None and host.sshd.poll() is None:
        host.sshd.terminate()
        host.sshd.wait()


def _kill(space: str, keep: int | None = None) -> None:
    """Kills whatever runs in a namespace of ours, but for one process."""
    for _ in range(100):
        listed = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)  # noqa: S603, S607
        pids = {int(pid) for pid in listed.stdout.split()} - {keep}
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _clear(space: str) -> None:
    """Removes a namespace of ours with whatever still runs in it."""
    _kill(space)
    subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)  # noqa: S603, S607


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _do(*words: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a command that has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - no shell
    if done.returncode:
        raise LocalFileError(f"{' '.join(words[:4])} failed: {done.stderr.strip()[:200]}")
