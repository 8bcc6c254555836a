"""The walk through gtfc's own page, as its commands were typed, and the same with an invite."""

from __future__ import annotations

import shlex
import socket
import sys
from typing import TYPE_CHECKING

from trial import as_node, files, hosts, log_in, push_as_node, refs, repository, say

from holdall.testing import hosts as testing
from holdall.testing.hosts import loopback_hosts
from support import need_tool, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from holdall.testing.hosts import Host


_ENDED_BY_ANOTHER = """#!/bin/sh
# What is seen of it when another process ends the connection that is kept open: the first push breaks off.
case "$*" in *git-receive-pack*)
    test -e ~/ended || {{ touch ~/ended; exit 255; }}
esac
exec {ssh} "$@"
"""

_LEAVE_HALF_WAY = """
from holdall.sync.cluster import Cluster

cluster = Cluster.open("f")
cluster.publish(lambda: cluster.changed("beta", role="gone"))
"""


def test_the_walk_through_of_gtfc(tmp_path: Path) -> None:
    with hosts(tmp_path, "local", "alpha", "beta", "gamma") as made:
        local, alpha, beta, gamma = (made[name] for name in ("local", "alpha", "beta", "gamma"))
        log_in(local, alpha, beta, gamma)
        for host in (beta, gamma):
            say(host, "ssh-keyscan -t ed25519 alpha 2>/dev/null >> ~/.ssh/known_hosts")
        agent = "eval $(ssh-agent) >/dev/null && trap 'ssh-agent -k >/dev/null' EXIT && ssh-add -q ~/.ssh/id_ed25519 &&"

        # 1. SSH into alpha and bootstrap the host
        say(local, "ssh alpha 'gtfc-bootstrap ~/myrepo'")
        # 2. SSH into beta with forwarding of the authentication agent connection and clone from alpha
        say(local, f"{agent} ssh -A beta 'gtfc-join alpha ~/myrepo'")
        # 3. On either, edit a file and push manually
        say(alpha, "echo `date` `hostname` > ~/myrepo/test")
        say(alpha, "gtfc-push")

        written = (alpha.home / "myrepo/test").read_bytes()
        assert written.endswith(b" alpha\n")
        assert files(beta) == {"test": written}

        say(beta, "echo `date` `hostname` > ~/myrepo/test")
        say(beta, "gtfc-push")

        assert files(alpha) == files(beta)
        assert files(alpha)["test"].endswith(b" beta\n")

        # 4. If a node is rebooted
        beta.power_off()
        say(alpha, "echo meanwhile > ~/myrepo/later")
        assert "beta" in say(alpha, "gtfc-push", code=1)
        beta.power_on()
        say(beta, "gtfc-pull")

        assert files(beta) == files(alpha)
        assert "later" in files(beta)
        assert say(alpha, "git --git-dir ~/.git.myrepo log --format=%H main") == say(
            beta, "git --git-dir ~/.git.myrepo log --format=%H main"
        )

        # Can some hosts be read-only?
        say(local, f"{agent} ssh -A gamma 'gtfc-join alpha ~/myrepo --read-only'")
        say(alpha, "echo for all > ~/myrepo/shared && gtfc-push")
        assert files(gamma) == files(beta) == files(alpha)

        before = refs(alpha)
        say(gamma, "echo drift > ~/myrepo/shared")
        assert "read-only" in say(gamma, "gtfc-push", code=5)
        assert "read-only" in push_as_node(gamma, "alpha", "main:refs/sync/gamma/main")
        assert refs(alpha) == before

        as_node(beta, "alpha", "hello")  # so that there is a connection, however long ago the last exchange was
        say(alpha, "holdall sync nodes --read-only beta")
        say(beta, "echo no more > ~/myrepo/test")
        assert "has changed" in push_as_node(beta, "alpha", "main:refs/sync/beta/main")  # over the connection of before
        say(beta, "ssh -F ~/.git.myrepo/holdall/ssh/config -O exit alpha")
        assert "read-only" in push_as_node(beta, "alpha", "main:refs/sync/beta/main")
        assert files(alpha)["test"].endswith(b" beta\n")


def test_the_walk_through_with_an_invite(tmp_path: Path) -> None:
    with hosts(tmp_path, "alpha", "beta", "gamma") as made:
        alpha, beta, gamma = made["alpha"], made["beta"], made["gamma"]
        mine = "# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEpHkNUMmKcRmZJZ1G5tOcCdPzCVLdhYVDIjEzHJ3vzT me\n\n# last"
        (alpha.home / ".ssh/authorized_keys").write_text(mine)
        say(
            alpha,
            "mkdir ~/myrepo && echo one > ~/myrepo/both && echo a > ~/myrepo/a && holdall sync bootstrap ~/myrepo",
        )
        say(beta, "mkdir ~/myrepo && echo two > ~/myrepo/both && echo b > ~/myrepo/b")

        line = say(alpha, "holdall sync invite").strip()
        assert "\n" not in line
        say(beta, "holdall sync join - ~/myrepo", stdin=line)
        line = say(beta, "holdall sync invite --read-only").strip()
        say(gamma, f"holdall sync join '{line}' ~/myrepo")

        there = files(alpha)
        assert there == files(beta) == files(gamma)
        assert there["a"] == b"a\n"
        assert there["b"] == b"b\n"
        assert {content for name, content in there.items() if name.startswith("both")} == {b"one\n", b"two\n"}
        wait_until(lambda: "gamma" in say(alpha, "holdall sync nodes"), "beta has told alpha of gamma")
        rows = [line.split() for line in say(alpha, "holdall sync nodes").splitlines()]
        assert [row[:2] for row in rows[1:]] == [["alpha", "rw"], ["beta", "rw"], ["gamma", "ro"]]

        assert open_doors(alpha, "gamma") == open_doors(beta, "gamma") == ["authorized_keys", "config", "known_hosts"]
        head = say(alpha, "git --git-dir ~/.git.myrepo rev-parse main")
        assert as_node(gamma, "alpha", "hello") == as_node(gamma, "beta", "hello") == head
        say(alpha, "holdall sync unjoin gamma")
        fetch = f"git-upload-pack '{repository(gamma)}'"
        for host in (alpha, beta):
            assert open_doors(host, "gamma") == []
            for asked in ("hello", "poke", fetch):
                assert "has changed" in as_node(gamma, host.name, asked)  # over the connection that is kept open
                assert "Permission denied" in as_node(gamma, host.name, asked, "-o", "ControlPath=none")

        say(beta, "cp -a ~/.git.myrepo/holdall ~/stolen")
        say(beta, "holdall sync unjoin")
        assert not (beta.home / ".git.myrepo/holdall/keys").exists()
        assert open_doors(beta, "alpha") == []
        assert files(beta) == there
        say(beta, "cp -a ~/stolen/. ~/.git.myrepo/holdall")
        assert open_doors(alpha, "beta") == []
        assert "Permission denied" in as_node(beta, "alpha", fetch)
        assert "Permission denied" in push_as_node(beta, "alpha", "main:refs/sync/beta/main")
        assert "refs/sync/beta" not in refs(alpha)
        assert "holdall:" not in (alpha.home / ".ssh/authorized_keys").read_text()
        say(alpha, "holdall sync unjoin")
        assert (alpha.home / ".ssh/authorized_keys").read_text().removesuffix("\n") == mine


def open_doors(host: Host, node: str) -> list[str]:
    """By what a node could still come to a host, or be gone to from there."""
    own = host.home / ".git.myrepo/holdall/ssh"
    places = [host.home / ".ssh/authorized_keys", own / "config", own / "known_hosts"]
    found = [place.name for place in places if place.exists() and node in place.read_text()]
    return found + [ref for ref in refs(host).split() if ref.startswith(f"refs/sync/{node}/")]


def test_hosts_of_one_machine_that_take_no_root(tmp_path: Path) -> None:
    for tool in ("ssh", "ssh-keygen", "ssh-keyscan", "sshd"):
        need_tool(tool)
    with loopback_hosts(tmp_path, ["alpha", "beta"]) as made:
        alpha, beta = made["alpha"], made["beta"]
        place = {name: f"~/f --node {name} --address 127.0.0.1 --port {host.port}" for name, host in made.items()}
        say(alpha, f"mkdir ~/f && echo hello > ~/f/file && holdall sync bootstrap {place['alpha']}")
        line = say(alpha, "holdall sync invite").strip()
        say(beta, f"holdall sync join '{line}' {place['beta']}")
        say(beta, "echo bye > ~/f/file && holdall sync push")

        assert files(alpha, "f") == files(beta, "f") == {"file": b"bye\n"}

        (beta.home / "bin").mkdir()
        (beta.home / "bin/ssh").write_text(_ENDED_BY_ANOTHER.format(ssh=need_tool("ssh")))
        (beta.home / "bin/ssh").chmod(0o755)
        say(beta, 'echo again > ~/f/file && PATH=~/bin:"$PATH" holdall sync push')
        assert (beta.home / "ended").exists()
        assert files(alpha, "f") == {"file": b"again\n"}

        say(beta, shlex.join([sys.executable, "-c", _LEAVE_HALF_WAY]))
        assert "has left the cluster" in say(beta, "holdall sync push", code=5)
        assert "Permission denied" not in push_as_node(beta, "alpha", "main:refs/sync/beta/main", folder="f")
        assert "Permission denied" in as_node(beta, "alpha", "hello", "-o", "ControlPath=none", folder="f")
        assert "1 of 1 nodes know" in say(beta, "holdall sync unjoin")
        assert not (beta.home / ".git.f/holdall/ssh").exists()


def test_a_host_of_this_machine_takes_another_port_where_its_own_was_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("ssh", "ssh-keygen", "ssh-keyscan", "sshd"):
        need_tool(tool)
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        found, free = [int(somebody.getsockname()[1])], testing._free_port

        def first_taken() -> int:
            found.append(free() if len(found) > 1 else found[0])
            return found[-1]

        monkeypatch.setattr(testing, "_free_port", first_taken)
        with loopback_hosts(tmp_path, ["alpha"]) as made:
            assert made["alpha"].port == found[-1] != found[0]


def test_a_read_only_node_follows_one_that_lost_what_it_had_sent(tmp_path: Path) -> None:
    with hosts(tmp_path, "alpha", "beta") as made:
        alpha, beta = made["alpha"], made["beta"]
        say(alpha, "mkdir ~/f && seq 9 > ~/f/file && holdall sync bootstrap ~/f")
        line = say(alpha, "holdall sync invite --read-only").strip()
        say(beta, f"holdall sync join '{line}' ~/f")
        say(alpha, "cp -a ~/.git.f ~/before")
        say(alpha, "sed -i s/1/one/ ~/f/file && holdall sync push")
        say(alpha, "rm -r ~/.git.f && mv ~/before ~/.git.f")  # as after a loss of power, or from a backup
        say(alpha, "sed -i s/9/nine/ ~/f/file && echo new > ~/f/new && holdall sync push", code=1)
        say(beta, "holdall sync pull")

        assert files(alpha, "f") == files(beta, "f")
        assert files(beta, "f")["file"] == b"one\n2\n3\n4\n5\n6\n7\n8\nnine\n"
        say(alpha, "echo newer > ~/f/new && holdall sync push")
        assert files(alpha, "f") == files(beta, "f")
