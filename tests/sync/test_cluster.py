"""One node's part in a cluster, without a network: what it merges, what becomes of its roster, what it packs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from holdall.cli.sync_folders import complain
from holdall.sync import keys
from holdall.sync.cluster import Cluster
from holdall.sync.folder import Folder
from holdall.sync.merge import FILE, Entry
from holdall.sync.process import Done
from holdall.sync.roster import Entry as Node
from holdall.sync.roster import sign
from holdall.sync.roster_tree import put_back
from holdall.sync.transport import Exchange, sentence
from holdall.sync.upkeep import drop_drafts
from support import need_tool, run_cli, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBMODULE = 0o160000
"""What no node merges."""

ENTRIES = ["alpha.sig", "alpha.toml", "beta.sig", "beta.toml"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A folder of alpha's with ignore files that leave everything out; beta is in its roster."""
    need_tool("ssh-keygen")
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "tree"
    root.mkdir()
    (root / "f").write_text("1")
    folder = Folder.create(str(root), node="alpha")
    (root / ".gitignore").write_text("*\n.*\n.gitcluster\n.gitcluster/**\n")
    made = Cluster.found(folder, address="", port=22, user="root")
    key = keys.make_key(tmp_path / "beta", "beta")
    beta = Node(
        repository=made.repository,
        node="beta",
        serial=1,
        role="rw",
        address="",
        port=22,
        user="root",
        host_key="",
        key=key,
        signer="alpha",
    )
    made.roster.trust([sign(beta, made.key)])
    made.reconcile()
    yield made
    made.leave()


def send(cluster: Cluster, name: bytes, mode: int = FILE) -> str:
    """A commit of beta's with one more file, as if it had been pushed; returns its id."""
    return send_changes(cluster, {name: Entry(mode, cluster.folder.repository.put_blob(name))})


def send_changes(cluster: Cluster, changes: dict[bytes, Entry | None]) -> str:
    """A commit of beta's, as if it had been pushed; returns its id."""
    repository = cluster.folder.repository
    head = cluster.folder.head()
    assert head is not None
    tree = repository.edited(repository.tree_of(head), changes)
    made = repository.commit(tree, [head], author="beta", time=int(time.time()) + 60, message="sent")
    repository.set_ref("refs/sync/beta/main", made)
    return made


def roster_in_tree(cluster: Cluster) -> list[str]:
    repository = cluster.folder.repository
    paths = [path for path, _ in repository.files(repository.tree_of(cluster.folder.head()))]
    return sorted(os.fsdecode(path) for path in paths if path.startswith(b".gitcluster"))


def test_what_lands_after_the_look_is_not_merged_with_what_was_looked_at(cluster: Cluster) -> None:
    vet = cluster.vet
    landed = []

    def look_then_land() -> dict[str, str]:
        seen = vet()
        landed.append(send(cluster, b"bad", SUBMODULE))
        return seen

    cluster.folder.merge_only(look_then_land, cluster.mend)
    good = send(cluster, b"good")
    merged = cluster.reconcile().merged

    assert merged == ["beta"]
    assert cluster.folder.head() == good

    cluster.folder.merge_only(vet, cluster.mend)
    cluster.reconcile()

    assert cluster.folder.head() == good
    assert "neither file, symlink nor directory" in cluster.refused["beta"]
    assert cluster.folder.tips()["beta"] == good != landed[0]


def test_what_a_person_changes_merges_nothing_that_was_not_looked_at(cluster: Cluster) -> None:
    head = str(cluster.folder.head())
    bad = send(cluster, b"bad", SUBMODULE)
    cluster.folder.restore(head, "f")

    assert cluster.folder.head() == head
    assert bad not in cluster.folder.tips().values()


def test_no_ignore_file_leaves_the_roster_out(cluster: Cluster) -> None:
    names = [f".gitcluster/nodes/{name}" for name in ENTRIES]

    assert roster_in_tree(cluster) == names


def test_a_roster_that_is_removed_by_hand_is_put_back(cluster: Cluster) -> None:
    place, head, there = cluster.worktree / ".gitcluster", cluster.folder.head(), roster_in_tree(cluster)
    shutil.rmtree(place)
    outcome = cluster.reconcile()

    assert outcome.put_back == there == outcome.applied
    assert sorted(os.listdir(place / "nodes")) == ENTRIES
    assert (outcome.committed, outcome.skipped, cluster.folder.head()) == (False, {}, head)

    shutil.rmtree(place)
    place.write_text("a file in its place")
    (cluster.worktree / "f").write_text("2")
    outcome = cluster.reconcile()

    assert set(outcome.skipped) >= {".gitcluster", *there}
    assert (outcome.committed, roster_in_tree(cluster)) == (True, there)
    assert place.read_text() == "a file in its place"

    place.unlink()
    cluster.reconcile()

    assert sorted(os.listdir(place / "nodes")) == ENTRIES
    assert cluster.folder.show(str(cluster.folder.head()), "f") == b"2"


@pytest.mark.parametrize("how", ["deleted", "garbled", "forged", "covered"])
def test_a_roster_that_another_node_takes_away_is_put_back_once(cluster: Cluster, how: str, tmp_path: Path) -> None:
    repository, there = cluster.folder.repository, roster_in_tree(cluster)
    forged = re.sub("serial = 1", "serial = 9", (cluster.worktree / ".gitcluster/nodes/alpha.toml").read_text())
    garbage = Entry(FILE, repository.put_blob(forged.encode() if how == "forged" else b"garbage"))
    changes: dict[str, dict[bytes, Entry | None]] = {
        "deleted": {os.fsencode(path): None for path in there},
        "garbled": {b".gitcluster/nodes/alpha.sig": garbage},
        "forged": {b".gitcluster/nodes/alpha.toml": garbage},
        "covered": {os.fsencode(path): None for path in there} | {b".gitcluster": garbage},
    }
    sent = send_changes(cluster, changes[how])
    # Another node that merges the same, and has accepted the same.
    other = Folder.create(str(tmp_path / "other"), node="gamma")
    roster = cluster.roster
    other.merge_only(other.tips, lambda head, target: put_back(other.repository, roster, head, target))
    heads = []
    for _ in range(4):
        for source, target, name, commit in (
            (cluster.folder, other, "beta", sent),
            (cluster.folder, other, "alpha", cluster.folder.head()),
            (other, cluster.folder, "gamma", other.head()),
        ):
            if commit is not None:
                words = ("git", f"--git-dir={source.git_dir}", "push", "-q", target.git_dir)
                subprocess.run([*words, f"{commit}:refs/sync/{name}/main"], check=True, stderr=subprocess.DEVNULL)
        cluster.folder.merge_only(cluster.folder.tips, cluster.mend)
        outcome = cluster.reconcile()
        other.reconcile()
        heads.append((cluster.folder.head(), other.head()))
        assert not outcome.skipped

    assert roster_in_tree(cluster) == there
    assert "serial = 1\n" in (cluster.worktree / ".gitcluster/nodes/alpha.toml").read_text()
    assert cluster.refresh() == {}
    assert len(set(heads[-1])) == 1
    assert heads[-1] == heads[-2]


def test_what_piles_up_is_packed_once_in_a_while_and_all_of_it_stays(cluster: Cluster) -> None:
    repository, place = cluster.folder.repository, cluster.git_dir / "objects" / "17"
    found = (data for data in map(b"%d".__mod__, count()) if hashed(data).startswith("17"))
    blobs = [repository.put_blob(next(found)) for _ in range(30)]
    stamp = cluster.git_dir / "holdall" / "upkeep"
    lying = [place / blob.hex()[2:] for blob in blobs]  # commits and keys may make more there
    cluster.reconcile()

    assert all(path.exists() for path in lying)

    os.utime(stamp, (1, 1))
    cluster.reconcile()
    # By a process that everything else comes before.
    wait_until(lambda: not any(path.exists() for path in lying), "what lay about is packed", 240)

    assert [hashed(repository.blob(blob)) for blob in blobs] == [blob.hex() for blob in blobs]
    assert repository.tree_of(cluster.folder.head())
    assert stamp.stat().st_mtime > 1


def hashed(data: bytes) -> str:
    """The id of a blob."""
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


def test_a_pack_that_was_not_ended_goes_when_nobody_writes_it(tmp_path: Path) -> None:
    place = tmp_path / "objects" / "pack"
    place.mkdir(parents=True)
    for name in ("tmp_pack_old", "tmp_pack_open", "pack-whole.pack"):
        (place / name).touch()
        os.utime(place / name, (1, 1))
    (place / "tmp_pack_young").touch()
    os.utime(place / "tmp_pack_young", (time.time() + 600,) * 2)  # however long it takes
    with open(place / "tmp_pack_open", "rb"):
        drop_drafts(tmp_path)

    left = {"tmp_pack_young", "pack-whole.pack"}
    assert set(os.listdir(place)) - {"tmp_pack_open"} == left
    assert (place / "tmp_pack_open").exists() or not os.path.isdir("/proc/self/fd")


def test_a_node_that_joined_just_now_is_told_why_others_do_not_let_it_in(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = sentence(cluster.roster.entries["beta"], Done(255, b"", "root@beta: Permission denied (publickey)."))
    away = sentence(cluster.roster.entries["beta"], Done(255, b"", "ssh: connect to host beta: Connection refused"))
    complain([Exchange("alpha", ""), Exchange("beta", refused), Exchange("gamma", away)], is_new=True)

    assert capsys.readouterr().err.splitlines() == [
        "holdall: beta has not heard of this node yet, and lets it in as soon as it has.",
        f"holdall: {away}",
    ]


def test_the_overview_says_what_every_command_does() -> None:
    shown = run_cli("sync", "--help").stdout.decode()
    rows = re.findall(r"^  ([a-z]+)(.*)$", shown.split("Commands:\n")[1].split("\n\n")[0], re.MULTILINE)

    assert len(rows) > 15
    assert [name for name, words in rows if not words.strip()] == []
