"""A command and a daemon on one folder at once, commands that are ended half-way, and nodes that contradict each other.

What is done at once is done here one after the other: one process has looked, another acts, then the first goes on.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trial import files, hosts, refs, say

from holdall.errors import ConflictError, PeerError, UsageError
from holdall.sync import joining, keys
from holdall.sync.cluster import Cluster
from holdall.sync.folder import Folder
from holdall.sync.large import Large, configure
from holdall.sync.leaving import unjoin
from holdall.sync.roster import Roster, sign
from holdall.sync.transfer import Mover
from support import DEADLINE_SECONDS, need_tool, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdall.stores.base import Store
    from holdall.testing.hosts import Host

_SAY = """
import sys
from holdall.sync.cluster import Cluster

cluster = Cluster.open("myrepo")
cluster.publish(lambda: cluster.changed(sys.argv[1], role=sys.argv[2]))
"""
"""What a command does that is ended before it has told any other node."""


@pytest.fixture
def alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A folder of alpha's; beta and gamma, to which nobody can connect, take part."""
    need_tool("ssh-keygen")
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / str(number)).write_text(str(number))
    made = Cluster.found(Folder.create(str(root), node="alpha"), address="", port=22, user="root")
    made.reconcile()
    for node in ("beta", "gamma"):
        joining.admit(made, request(tmp_path, node), None)
    return made


def request(place: Path, node: str, key: str = "") -> bytes:
    """What a host says that wants to join."""
    fields = {"node": node, "role": "rw", "key": keys.make_key(place / f"{key or node}.key", node)}
    return json.dumps(fields | {"address": "", "port": 22, "user": "root", "host_key": "", "has": []}).encode()


def again(cluster: Cluster) -> Cluster:
    """Another process's view of a folder."""
    return Cluster.open(cluster.worktree)


def let_in(cluster: Cluster) -> set[str]:
    """The nodes whom sshd, and the shell behind it, let in."""
    path = keys.authorized_keys()
    lines = path.read_text().splitlines() if path.exists() else []
    registry = keys.registry_path(cluster.repository)
    rows = registry.read_text().splitlines()[4:] if registry.exists() else []
    by_ssh = {line.rpartition(":")[2] for line in lines if not line.startswith("#")}

    assert by_ssh == {row.split()[0] for row in rows}
    return by_ssh


def in_tree(cluster: Cluster, node: str) -> str:
    """The entry of a node as others find it."""
    return cluster.folder.show(str(cluster.folder.head()), f".gitcluster/nodes/{node}.toml").decode()


# --- a command, and another process that changes the roster meanwhile ---


def test_a_command_builds_on_what_was_accepted_meanwhile(alpha: Cluster) -> None:
    daemon = again(alpha)
    unjoin(daemon, "beta")
    with pytest.raises(PeerError, match="no node 'beta'"):
        alpha.publish(lambda: alpha.changed("beta", role="ro"))

    assert again(alpha).roster.entries["beta"].role == "gone"


def test_an_invite_lets_nobody_in_who_was_unjoined_meanwhile(alpha: Cluster) -> None:
    unjoin(again(alpha), "beta")
    alpha.install()  # as an invite does

    assert let_in(alpha) == {"gamma"}


def test_two_hosts_that_ask_at_once_do_not_get_one_name(alpha: Cluster, tmp_path: Path) -> None:
    other = again(alpha)
    joining.admit(alpha, request(tmp_path, "delta"), None)
    with pytest.raises(PeerError, match="has a node delta"):
        joining.admit(other, request(tmp_path, "delta", "second"), None)

    assert again(alpha).roster.entries["delta"].key == keys.make_key(tmp_path / "delta.key", "delta")


def test_a_daemon_does_not_let_others_in_again_after_a_command_left(alpha: Cluster) -> None:
    daemon = again(alpha)
    unjoin(alpha, "beta")
    alpha.leave()
    with pytest.raises(PeerError, match="has left"):
        daemon.reconcile()

    assert let_in(alpha) == set()
    assert not (alpha.own / "roster.json").exists()


def test_a_folder_is_begun_once(alpha: Cluster) -> None:
    with pytest.raises(UsageError, match="takes part in a cluster already"):
        Cluster.found(Folder.open(str(alpha.worktree)), address="", port=22, user="root")

    assert again(alpha).repository == alpha.repository
    assert let_in(again(alpha)) == {"beta", "gamma"}


def test_two_that_unjoin_each_other_both_leave_whoever_is_heard_first(alpha: Cluster, tmp_path: Path) -> None:
    by_alpha = sign(alpha.changed("beta", role="gone"), alpha.key)
    by_beta = sign(replace(alpha.changed("alpha", role="gone"), signer="beta"), tmp_path / "beta.key")
    heard = {"beta": by_alpha}, {"alpha": by_beta}
    for number, order in enumerate((heard, heard[::-1], [heard[0] | heard[1]])):
        third = Roster(tmp_path / f"roster-{number}", alpha.repository)
        third.trust(alpha.roster.signed())
        for entries in order:
            third.consider(entries)

        assert {entry.node: entry.role for entry in third.entries.values()} == {
            "alpha": "gone",
            "beta": "gone",
            "gamma": "rw",
        }


# --- a command that is ended half-way ---


def test_an_unjoin_that_was_ended_half_way_is_finished_by_whoever_comes_next(alpha: Cluster) -> None:
    alpha.roster.trust([sign(alpha.changed("beta", role="gone"), alpha.key)])
    assert let_in(alpha) == {"beta", "gamma"}
    again(alpha).reconcile()

    assert let_in(alpha) == {"gamma"}
    assert 'role = "gone"' in in_tree(alpha, "beta")

    alpha.roster.trust([sign(alpha.changed("gamma", role="gone"), alpha.key)])
    unjoin(again(alpha), "gamma")

    assert 'role = "gone"' in in_tree(alpha, "gamma")


def test_what_could_not_be_written_once_is_written_the_next_time(alpha: Cluster) -> None:
    daemon = again(alpha)
    path = keys.authorized_keys()
    good = path.read_text()
    path.write_text(good.replace("ends", "broken"))
    alpha.roster.trust([sign(alpha.changed("beta", role="gone"), alpha.key)])
    for _ in range(2):
        with pytest.raises(Exception, match="marks of holdall"):
            daemon.reconcile()
    path.write_text(good)
    daemon.reconcile()

    assert let_in(alpha) == {"gamma"}


def test_what_a_leaving_left_behind_does_not_come_into_another_cluster(alpha: Cluster) -> None:
    roster, head = (alpha.own / "roster.json").read_bytes(), str(alpha.folder.head())
    alpha.leave()
    (alpha.own / "roster.json").write_bytes(roster)
    alpha.folder.repository.set_ref("refs/sync/beta/main", head)
    made = Cluster.found(Folder.open(str(alpha.worktree)), address="", port=22, user="root")

    assert list(made.roster.entries) == ["alpha"]
    assert "beta" not in made.folder.tips()


def test_nobody_is_said_to_know_what_a_held_folder_tells_nobody(alpha: Cluster) -> None:
    alpha.folder.hold("for now")
    with pytest.raises(ConflictError, match="No other node hears that beta leaves"):
        unjoin(again(alpha), "beta")

    assert let_in(alpha) == {"gamma"}
    assert 'role = "rw"' in in_tree(alpha, "beta")

    alpha.folder.release()
    unjoin(again(alpha), "beta")

    assert 'role = "gone"' in in_tree(alpha, "beta")


# --- a folder that is moved, and one that is copied ---


@pytest.mark.usefixtures("alpha")
def test_a_folder_that_was_moved_is_found_again_and_a_copy_takes_no_place(tmp_path: Path) -> None:
    for name in ("tree", ".git.tree"):
        (tmp_path / name).rename(tmp_path / name.replace("tree", "moved"))
    Cluster.open(tmp_path / "moved").reconcile()

    assert keys.all_folders() == [tmp_path / "moved"]

    for name in ("moved", ".git.moved"):
        shutil.copytree(tmp_path / name, tmp_path / name.replace("moved", "tree"))
    with pytest.raises(UsageError, match="has a folder of that cluster already"):
        Cluster.open(tmp_path / "tree").reconcile()

    assert keys.all_folders() == [tmp_path / "moved"]


# --- large files ---


def test_what_went_to_another_store_is_not_taken_to_be_in_this_one(tmp_path: Path) -> None:
    from holdall.stores.opening import open_store  # noqa: PLC0415 - heavy

    root, old, new = tmp_path / "tree", tmp_path / "old", tmp_path / "new"
    for place in (root, old, new):
        place.mkdir()
    folder = Folder.create(str(root), node="alpha", size_max_bytes=9)
    (root / "film").write_bytes(bytes(10))
    configure(folder, store=str(old))
    folder.reconcile()

    async def opened_while_it_changes(name: str) -> Store:
        configure(folder, store=str(new))
        return await open_store(name, create=False)

    Mover(folder, opened_while_it_changes, gives=lambda: True, say=lambda _: None, tell=lambda _: None).run()
    folder.reconcile()

    assert list(old.glob("*.tig"))
    assert Large(folder.repository).ledger.known == {}
    assert b"film" not in dict(folder.repository.files(folder.repository.tree_of(folder.head())))


# --- hosts ---


def publish(host: Host, node: str, role: str) -> None:
    """Has a host say what a node is from now on, to nobody yet."""
    say(host, shlex.join([sys.executable, "-c", _SAY, node, role]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    """Alpha and beta; gamma and delta, of which there are no hosts, take part."""
    place = tmp_path_factory.mktemp("hosts")
    with hosts(place, "alpha", "beta") as made:
        alpha, beta = made["alpha"], made["beta"]
        say(alpha, "mkdir ~/myrepo && echo 1 > ~/myrepo/file && holdall sync bootstrap ~/myrepo")
        for node in ("gamma", "delta"):
            say(alpha, "holdall sync admit ~/myrepo", stdin=request(place, node).decode() + "\n")
        line = say(alpha, "holdall sync invite").strip()
        say(beta, f"holdall sync join '{line}' ~/myrepo")
        yield alpha, beta


def test_of_what_two_hosts_say_of_a_third_at_once_that_counts_which_allows_less(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    publish(alpha, "gamma", "gone")
    publish(beta, "gamma", "ro")
    publish(alpha, "delta", "ro")
    publish(beta, "delta", "gone")
    say(alpha, "holdall sync push && holdall sync pull")
    say(beta, "holdall sync pull")

    for host in pair:
        shown = say(host, "holdall sync nodes && holdall sync conflicts")
        assert not {"gamma", "delta"} & set(shown.split())
    assert say(alpha, "cat ~/.git.myrepo/refs/heads/main").strip() in refs(beta)


def test_a_push_that_another_of_this_node_has_overtaken_is_no_failure(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    slow = beta.home / "slow/ssh"
    slow.parent.mkdir()
    waits = "touch ~/begun; until test -e ~/go; do sleep 0.02; done"
    slow.write_text(f'#!/bin/sh\n{waits}\nexec {need_tool("ssh")} "$@"\n')
    slow.chmod(0o755)
    (beta.home / "myrepo/file").write_text("2\n")
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(say, beta, "PATH=~/slow:$PATH holdall sync push")
        wait_until((beta.home / "begun").exists, "the push is begun")
        say(beta, "echo 3 > ~/myrepo/file && holdall sync push")
        (beta.home / "go").touch()

        assert "sent to 1 of 1 node" in pushing.result()
    assert files(alpha) == {"file": b"3\n"}


def test_of_two_that_begin_to_watch_at_once_one_does(pair: tuple[Host, Host], tmp_path: Path) -> None:
    host = pair[0]
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    words = ("holdall", "sync", "watch", "--daemon", str(host.home / "myrepo"))
    processes = [host.start(*words, log=log) for log in logs]
    codes = sorted(process.wait(DEADLINE_SECONDS) for process in processes)
    said = "".join(log.read_text() for log in logs)

    assert codes[0] == 0 != codes[1], said
    assert (said.count("Watching"), said.count("is watched already")) == (1, 1)


def test_a_node_that_gives_nothing_from_now_on_says_so_itself(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    say(beta, "holdall sync nodes --read-only beta")
    say(alpha, "holdall sync reconcile")

    assert re.search(r"^beta +ro ", say(alpha, "holdall sync nodes"), re.MULTILINE)
