"""What a node with a key of its own, or a stranger with an invite, may try; and what comes of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trial import as_node, files, hosts, log_in, push_as_node, refs, repository, say

from holdall.errors import TooLargeError, TreeError
from holdall.sync import keys
from holdall.sync.folder import Folder
from holdall.sync.invites import read_line
from holdall.sync.merge import DIRECTORY, FILE
from holdall.sync.merge import Entry as File
from holdall.sync.process import write_atomically
from holdall.sync.repository import Repository
from holdall.sync.roster import Entry, Roster, Signed, sign
from holdall.sync.vetting import Arrival
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdall.testing.hosts import Host

REFUSED = "holdall-shell: "
ID = "0123456789abcdef"


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host, Host]]:
    """alpha, with the folders `myrepo` and `other`; beta, which takes part in `myrepo` alone; gamma, in none."""
    with hosts(tmp_path_factory.mktemp("hosts"), "alpha", "beta", "gamma") as made:
        alpha, beta = made["alpha"], made["beta"]
        say(alpha, "mkdir ~/myrepo ~/other && echo secret > ~/other/file && echo one > ~/myrepo/file")
        say(alpha, "holdall sync bootstrap ~/other && holdall sync bootstrap ~/myrepo")
        line = say(alpha, "holdall sync invite ~/myrepo").strip()
        say(beta, f"holdall sync join '{line}' ~/myrepo")
        yield alpha, beta, made["gamma"]


@pytest.fixture
def pair(trio: tuple[Host, Host, Host]) -> tuple[Host, Host]:
    """The two that share `myrepo`."""
    return trio[:2]


def commit(host: Host, tree: Callable[[Repository], bytes]) -> str:
    """Makes a commit on a host's main with a tree of any kind; returns its id."""
    made = Repository(str(host.home / ".git.myrepo"))
    main = made.ref("refs/heads/main")
    assert main is not None
    return made.commit(tree(made), [main], author="x", time=1, message="x")


def nested(made: Repository, depth: int, width: int, inner: dict[bytes, File]) -> bytes:
    """A tree of trees of trees, each of which names the one below `width` times."""
    tree = made.put_tree(inner)
    for _ in range(depth):
        tree = made.put_tree({b"%d" % number: File(DIRECTORY, tree) for number in range(width)})
    return tree


def test_a_key_does_what_it_is_for_and_nothing_else(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    own, other = repository(alpha), repository(alpha, "other")
    before = refs(alpha)
    for asked in (
        "",
        "id",
        "sh",
        "git",
        "hello; id",
        "hello\nid",
        f"git-upload-pack '{other}'",
        f"git-upload-pack '{alpha.home}/.git.other'",
        f"git-upload-pack '{own}/../../.git.other'",
        f"git-upload-pack '{own}'; id",
        f"git-upload-pack '{own}'\nid",
        f"git-upload-pack '{own}' '{own}'",
        f"git-upload-pack '{own}''$(id)'",
        f"git-upload-pack --upload-pack=id '{own}'",
        f"git-upload-pack --exec=id '{own}'",
        f"git upload-pack '{own}'",
        f"git-upload-archive '{own}'",
        "git-upload-pack ''",
        "git-upload-pack '''\n'''",
        "git-receive-pack '--help'",
        f"scp -t {alpha.home}",
        "internal-sftp",
        "join",
        "x" * 100_000,
    ):
        shown = as_node(beta, "alpha", asked)

        assert REFUSED in shown, asked[:60]
        assert "uid=" not in shown, asked[:60]
    assert say(beta, "ssh -F ~/.git.myrepo/holdall/ssh/config -s alpha sftp", code=1) == ""
    assert refs(alpha) == before
    assert as_node(beta, "alpha", "hello").strip() in before


def test_a_push_that_was_begun_while_it_was_allowed_is_refused_when_it_is_not(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    made = commit(beta, lambda made: made.put_tree({b"f": File(FILE, made.put_blob(b"late"))}))
    hook = beta.home / ".git.myrepo/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ~/begun\nuntil test -e ~/go; do sleep 0.02; done\n")
    hook.chmod(0o755)
    try:
        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(push_as_node, beta, "alpha", f"{made}:refs/sync/beta/main")
            wait_until((beta.home / "begun").exists, "the push is begun")
            say(alpha, "holdall sync nodes --read-only beta ~/myrepo")
            (beta.home / "go").touch()

            assert "has changed" in pushing.result()
        assert made not in refs(alpha)
    finally:
        hook.unlink()
        say(alpha, "holdall sync nodes --read-write beta ~/myrepo")
        say(beta, "ssh -F ~/.git.myrepo/holdall/ssh/config -O exit alpha", code=None)


def test_a_key_forwards_nothing_and_gets_no_terminal(pair: tuple[Host, Host]) -> None:
    _, beta = pair
    alone = ("-o", "ControlPath=none", "-o", "ClearAllForwardings=no", "-o", "ExitOnForwardFailure=yes")

    assert "remote port forwarding failed" in as_node(beta, "alpha", "hello", *alone, "-R", "2222:localhost:22")
    assert "open failed" in say(
        beta,
        f"ssh -F ~/.git.myrepo/holdall/ssh/config {shlex.join(alone)} -o LogLevel=INFO -W localhost:22 alpha",
        code=255,
    )
    loud = ("-o", "ControlPath=none", "-o", "LogLevel=INFO")
    assert "PTY allocation request failed" in as_node(beta, "alpha", "hello", *loud, "-tt")


def test_a_node_writes_its_own_ref_alone(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    say(beta, "echo more > ~/myrepo/more && holdall sync reconcile")
    before = refs(alpha)
    for target in (
        "refs/heads/main",
        "refs/heads/other",
        "refs/tags/v1",
        "refs/sync/alpha/main",
        "refs/sync/gamma/main",
        "refs/sync/beta2/main",
        "refs/sync/beta/more",
        "refs/sync-keep/1",
        "HEAD",
    ):
        shown = push_as_node(beta, "alpha", f"+main:{target}")

        assert "rejected" in shown or "error" in shown, target
        assert refs(alpha) == before, target
    assert "invalid refspec" in push_as_node(beta, "alpha", "main:refs/sync/beta/../alpha/main")
    line = f"{'0' * 40} {before.split('refs/heads/main ')[1][:40]} refs/sync/beta/../alpha/main\0report-status\n"
    pack = b"PACK\0\0\0\x02\0\0\0\0"
    (beta.home / "raw").write_bytes(f"{len(line) + 4:04x}{line}0000".encode() + pack + hashlib.sha1(pack).digest())
    asked = f"git-receive-pack '{repository(beta)}'"
    assert "ng refs/sync/beta/../alpha/main" in say(
        beta, f'ssh -F ~/.git.myrepo/holdall/ssh/config alpha "{asked}" < ~/raw | tr "\\0" "\\n"', code=None
    )
    assert refs(alpha) == before
    assert REFUSED in push_as_node(beta, "alpha", ":refs/sync/beta/main")
    made = Repository(str(beta.home / ".git.myrepo"))
    other = made.commit(made.put_tree({}), [], author="x", time=1, message="x")
    assert REFUSED in push_as_node(beta, "alpha", f"+{other}:refs/sync/beta/main")
    assert refs(alpha) == before
    say(beta, "holdall sync push")
    assert files(alpha)["more"] == b"more\n"


def test_what_is_planted_stays_data(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    ssh_before = {path.name: path.read_bytes() for path in (alpha.home / ".ssh").iterdir()}
    config = alpha.home / ".git.myrepo/holdall/ssh/config"
    config_before = config.read_bytes()
    mark = alpha.home / "planted"
    script = f"#!/bin/sh\ntouch {mark}\n"
    for name in ("gtfc-overlay.sh", "hooks/post-receive", "hooks/reference-transaction", "holdall/ssh/config"):
        path = beta.home / "myrepo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    (beta.home / "myrepo/.ssh").mkdir()
    (beta.home / "myrepo/.ssh/authorized_keys2").write_text("ssh-ed25519 AAAA evil\n")
    (beta.home / "myrepo/config").write_text(f"[core]\n\tfsmonitor = touch {mark}\n\thooksPath = hooks\n")
    (beta.home / "myrepo/.gitattributes").write_text("* filter=evil\n")
    (beta.home / "myrepo/.gitcluster/config").write_text(f"Host *\n  ProxyCommand touch {mark}\n")
    roster = beta.home / "myrepo/.gitcluster/nodes"
    (roster / "mallory.toml").write_text(
        (roster / "beta.toml").read_text().replace('node = "beta"', 'node = "mallory"')
    )
    (roster / "mallory.sig").write_bytes((roster / "beta.sig").read_bytes())
    (roster / "alpha.toml").unlink()
    say(beta, "holdall sync push")
    say(alpha, "holdall sync push && holdall sync pull")
    known = say(alpha, "holdall sync nodes ~/myrepo")

    assert files(alpha)["gtfc-overlay.sh"] == script.encode()
    assert files(alpha)[".ssh/authorized_keys2"] == b"ssh-ed25519 AAAA evil\n"
    assert "'mallory' in the folder does not count. It was not signed by alpha, as it says." in known
    assert [row.split()[0] for row in known.splitlines() if " rw " in row] == ["alpha", "beta"]
    assert not mark.exists()
    assert config.read_bytes() == config_before
    assert {path.name: path.read_bytes() for path in (alpha.home / ".ssh").iterdir()} == ssh_before
    assert not (alpha.home / ".git.myrepo/hooks/reference-transaction").exists()


@pytest.mark.parametrize("name", [".git", ".GIT", ".Git", "git~1", "..", ".git "])
def test_no_spelling_of_git_gets_in(pair: tuple[Host, Host], name: str) -> None:
    alpha, beta = pair
    before = refs(alpha)

    def tree(made: Repository) -> bytes:
        inner = made.put_tree({b"config": File(FILE, made.put_blob(b"x"))})
        return made.put_tree({name.encode(): File(DIRECTORY, inner)})

    made = commit(beta, tree)
    shown = push_as_node(beta, "alpha", f"{made}:refs/sync/beta/main")

    assert "fsck error" in shown or "unpack" in shown
    assert refs(alpha) == before


def test_a_link_that_leads_out_of_the_tree_is_not_followed(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    outside = alpha.home / "outside"
    outside.mkdir()
    (beta.home / "myrepo/way").symlink_to(outside)
    say(beta, "holdall sync push")
    (beta.home / "myrepo/way").unlink()
    (beta.home / "myrepo/way").mkdir()
    (beta.home / "myrepo/way/in").write_text("in")
    say(beta, "holdall sync push")

    assert list(outside.iterdir()) == []
    assert files(alpha)["way/in"] == b"in"


def test_a_push_that_is_too_long_is_refused_and_leaves_nothing(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    registry = alpha.home / ".config/holdall/sync" / repository(alpha)
    was = registry.read_text()
    registry.write_text(was.replace(was.split("\n")[3], "50000"))
    before = refs(alpha)
    try:
        made = commit(beta, lambda made: made.put_tree({b"big": File(FILE, made.put_blob(os.urandom(100_000)))}))
        shown = push_as_node(beta, "alpha", f"{made}:refs/sync/beta/main")
    finally:
        registry.write_text(was)

    assert "exceeds maximum allowed size" in shown
    assert refs(alpha) == before
    assert list((alpha.home / ".git.myrepo/objects").glob("*incoming*")) == []


def test_a_fetch_that_is_too_long_is_refused_and_what_came_of_it_goes(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    (beta.home / "myrepo/big").write_bytes(os.urandom(200_000))
    say(beta, "holdall sync reconcile ~/myrepo")
    before = refs(alpha)
    code = "import holdall.sync.process as p, holdall.cli.main as m; p.SYNC_PUSH_BYTES_MAX = 50_000; exit(m.main())"
    shown = say(alpha, f"{sys.executable} -P -c '{code}' sync pull ~/myrepo", code=1)
    drafts = list((alpha.home / ".git.myrepo/objects/pack").glob("tmp_*"))

    assert "beta sent what git does not take" in shown
    assert refs(alpha) == before
    assert all(path.stat().st_size < 50_000 for path in drafts)

    for path in drafts:
        os.utime(path, (1, 1))
    say(alpha, "holdall sync pull ~/myrepo")

    assert files(alpha) == files(beta)
    assert list((alpha.home / ".git.myrepo/objects/pack").glob("tmp_*")) == []


def test_a_small_push_that_stands_for_billions_of_files_is_not_merged(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    made = commit(beta, lambda made: nested(made, 10, 10, {b"f": File(FILE, made.put_blob(b"x"))}))
    main = refs(alpha).split("refs/heads/main ")[1][:40]
    push_as_node(beta, "alpha", f"{made}:refs/sync/beta/main")  # which would take hours

    assert made not in refs(alpha)
    assert refs(alpha).split("refs/heads/main ")[1][:40] == main


def test_a_host_with_another_host_key_is_not_spoken_to(pair: tuple[Host, Host], tmp_path: Path) -> None:
    alpha, beta = pair
    say(beta, "ssh -F ~/.git.myrepo/holdall/ssh/config -O exit alpha; echo private > ~/myrepo/private", code=None)
    before, place = refs(alpha), alpha.home.parent
    alpha.power_off()
    for path in place.glob("alpha.host_key*"):
        path.rename(tmp_path / path.name)
    alpha.power_on()
    try:
        shown = say(beta, "holdall sync push ~/myrepo", code=1)
    finally:
        alpha.power_off()
        for path in tmp_path.glob("alpha.host_key*"):
            path.replace(place / path.name)
        alpha.power_on()

    assert "another host key than the roster has; nothing was sent" in shown
    assert refs(alpha) == before


def test_an_invite_is_good_once_and_for_a_while_and_for_joining_only(trio: tuple[Host, Host, Host]) -> None:
    alpha, beta, gamma = trio
    before, begun = invites(alpha), time.time()
    line = say(alpha, "holdall sync invite ~/myrepo --ttl 1h").strip()
    (name,) = invites(alpha) - before
    record = alpha.home / f".git.myrepo/holdall/invites/{name}.json"
    there = json.loads(record.read_text())
    assert begun + 3600 <= there["expires_ns"] / 1e9 <= time.time() + 3600
    record.write_text(json.dumps(there | {"expires_ns": time.time_ns()}))
    until = str(there["expires_ns"] // 10**9)
    assert "run out" in say(gamma, f"holdall sync join '{line.replace(until, str(int(begun)))}' ~/late", code=5)
    assert "used, or has run out" in say(gamma, f"holdall sync join '{line}' ~/late", code=5)
    line = say(alpha, "holdall sync invite ~/myrepo").strip()
    assert "has a node beta already" in say(gamma, f"holdall sync join '{line}' ~/myrepo --node beta", code=5)
    assert "folder of that cluster already" in say(beta, f"holdall sync join '{line}' ~/again", code=2)
    say(gamma, f"holdall sync join '{line}' ~/myrepo")
    assert files(gamma) == files(alpha)
    say(gamma, "holdall sync unjoin")
    assert "does not accept this invite" in say(gamma, f"holdall sync join '{line}' ~/third", code=5)
    assert not (gamma.home / ".git.third").exists()
    assert invites(alpha) == before


def invites(host: Host) -> set[str]:
    """The invites by which a host lets somebody in."""
    return set(re.findall("holdall-invite:([0-9a-f]+)", (host.home / ".ssh/authorized_keys").read_text()))


def test_an_invites_key_asks_to_join_and_nothing_else(trio: tuple[Host, Host, Host]) -> None:
    alpha, _, gamma = trio
    inviter, pair, _ = read_line(say(alpha, "holdall sync invite ~/myrepo").strip())
    key = gamma.home / "key"
    write_atomically(key, keys.private_key(pair), mode=0o600)
    config = keys.write_ssh_files(gamma.home / "invite", key, [inviter])
    before = refs(alpha)
    for asked in ("", "poke", f"git-upload-pack '{repository(alpha)}'", "join x"):
        assert REFUSED in say(gamma, shlex.join(["ssh", "-F", str(config), "alpha", asked]), code=None)
    for request in ("", "[" * 9000, '{"role": "rw", "serial": 9}'):
        assert "holdall: " in say(gamma, f"ssh -F {config} alpha join", stdin=f"{request}\n", code=None)
    assert refs(alpha) == before


def test_a_login_of_the_users_joins_without_an_invite(pair: tuple[Host, Host]) -> None:
    alpha, beta = pair
    log_in(beta, alpha)
    say(beta, "holdall sync join alpha ~/copy --from '~/other'")

    assert files(beta, "copy") == {"file": b"secret\n"}
    second = "holdall sync join alpha ~/second --from '~/other' --node beta2"
    assert "has a folder of that cluster already" in say(beta, second, code=5)
    assert "beta2" not in say(alpha, "holdall sync nodes ~/other")
    assert not (beta.home / ".git.second").exists()
    assert "is not a synced folder" in say(beta, "holdall sync join alpha ~/none --from /etc", code=5)
    assert not (beta.home / "none").exists()


@pytest.fixture
def cluster(tmp_path: Path) -> tuple[Roster, Path, dict[str, Entry]]:
    """A roster that alpha founded, with a key for each of alpha, beta and mallory."""
    entries = {}
    for node in ("alpha", "beta", "mallory"):
        entries[node] = Entry(
            repository=ID,
            node=node,
            serial=1,
            role="rw",
            address="",
            port=22,
            user="root",
            host_key="",
            key=keys.make_key(tmp_path / node, node),
            signer="alpha",
        )
    roster = Roster(tmp_path / "roster.json", ID)
    roster.trust([sign(entries["alpha"], tmp_path / "alpha")])
    return roster, tmp_path, entries


def test_an_entry_counts_if_a_member_signed_it(cluster: tuple[Roster, Path, dict[str, Entry]]) -> None:
    roster, place, entries = cluster
    beta = sign(entries["beta"], place / "alpha")
    by_beta = sign(replace(entries["mallory"], signer="beta"), place / "beta")

    assert roster.consider({"mallory": by_beta, "beta": beta}) == {}
    assert Roster(place / "roster.json", ID).entries == roster.entries
    assert set(roster.entries) == {"alpha", "beta", "mallory"}


def test_entries_that_are_forged_replayed_or_of_elsewhere_do_not_count(
    cluster: tuple[Roster, Path, dict[str, Entry]],
) -> None:
    roster, place, entries = cluster
    beta, mallory = entries["beta"], entries["mallory"]
    first = sign(beta, place / "alpha")
    left = sign(replace(beta, serial=3, role="gone"), place / "alpha")
    reader = sign(replace(mallory, role="ro"), place / "alpha")
    assert roster.consider({"beta": first, "mallory": reader}) == {}
    assert roster.consider({"beta": left}) == {}
    good = replace(beta, serial=4)
    signed = sign(good, place / "alpha")
    forgeries = {
        "rolled back": ("beta", first),
        "by another's key": ("beta", sign(good, place / "mallory")),
        "by a reader": ("beta", sign(replace(good, signer="mallory"), place / "mallory")),
        "by who left": ("beta", sign(replace(good, signer="beta"), place / "beta")),
        "changed after": ("beta", Signed(replace(good, address="evil", host_key=beta.key).text(), signed.signature)),
        "unsigned": ("beta", Signed(good.text(), "")),
        "under another name": ("gamma", signed),
        "of another cluster": ("beta", sign(replace(good, repository="f" * 16), place / "alpha")),
        "a line too many": ("beta", Signed(good.text() + "# x\n", signed.signature)),
        "ssh's option": (
            "beta",
            Signed(good.text().replace('user = "root"', 'user = "-oProxyCommand=id"'), signed.signature),
        ),
        "two lines": ("beta", Signed(good.text().replace('"root"', '"a\\nb"'), signed.signature)),
    }
    for what, (name, forged) in forgeries.items():
        assert set(roster.consider({name: forged})) == {name}, what
        assert roster.entries["beta"].role == "gone", what
    assert roster.consider({"beta": signed}) == {}
    assert roster.entries["beta"] == good


def test_what_a_tree_stands_for_is_counted_once(tmp_path: Path) -> None:
    made = Folder.create(str(tmp_path / "folder"), node="alpha").repository
    inner = {b"f": File(FILE, made.put_blob(b"x" * 1000))}

    Arrival(made, 1_000_000).check(made.empty, nested(made, 3, 10, inner))
    with pytest.raises(TooLargeError, match="1,000,000 bytes"):
        Arrival(made, 999_999).check(made.empty, nested(made, 3, 10, inner))
    Arrival(made, 1 << 40).check(made.empty, nested(made, 6, 10, inner))
    with pytest.raises(TooLargeError, match="1,000,000 files"):
        Arrival(made, 1 << 40).check(made.empty, nested(made, 7, 10, inner))
    with pytest.raises(TooLargeError, match="200 directories"):
        Arrival(made, 1 << 40).check(made.empty, nested(made, 201, 1, inner))
    with pytest.raises(TreeError, match="neither file, symlink nor directory"):
        Arrival(made, 1 << 40).check(made.empty, made.put_tree({b"sub": File(0o160000, inner[b"f"].blob)}))
