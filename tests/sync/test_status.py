"""What is said of a folder, and what one node settles for itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from trial import say
from watched import Watched, watched

from holdall.limits.snapshot import IGNORE_FILE_BYTES_MAX
from holdall.sync.repository import Repository
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


COMMIT_BY_A_CLOCK_THAT_IS_FAST = """
import sys, time
from holdall.sync.folder import Folder
folder = Folder.open(sys.argv[1])
head, kept = folder.head(), folder.repository
made = kept.commit(kept.tree_of(head), [head], author="alpha", time=int(time.time()) + 3600, message="fast")
kept.set_ref("refs/sync/alpha/main", made)
kept.set_ref("refs/heads/main", made)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    """Alpha, and beta, which only takes; no daemon runs."""
    place = tmp_path_factory.mktemp("hosts")
    with watched(place, "alpha", "beta", read_only=("beta",), daemons=False) as made:
        say(made[0].host, "echo first > ~/myrepo/file && holdall sync push")
        yield made


def status(one: Watched, *options: str, code: int | None = 0) -> dict[str, Any]:
    """What `holdall sync status --json` prints."""
    found: dict[str, Any] = json.loads(say(one.host, f"holdall sync status --json {' '.join(options)}", code=code))
    return found | {row["node"]: row for row in found["nodes"]}


def test_without_a_daemon_the_others_are_asked(pair: list[Watched]) -> None:
    alpha = pair[0]
    found = status(alpha)
    shown = say(alpha.host, "holdall sync status")

    assert found["ok"]
    assert found["daemon"] is None
    assert [row["link"] for row in found["nodes"]] == ["this", "up"]
    assert {row["head"] for row in found["nodes"]} == {alpha.head()}
    assert [(row["ahead"], row["behind"]) for row in found["nodes"][1:]] == [(0, 0)]
    assert shown.splitlines()[0].split() == [
        *("NODE", "ROLE", "LINK", "HEAD", "AHEAD", "BEHIND", "LAST-SYNC", "LATENCY", "CONFLICTS", "DRIFT", "ERROR")
    ]
    assert "No daemon watches" in shown


def test_a_node_that_lacks_something_is_stale_after_a_while(pair: list[Watched]) -> None:
    alpha, beta = pair
    say(alpha.host, "echo second > ~/myrepo/file && holdall sync reconcile")
    assert status(alpha)["beta"]["ahead"] == 1
    assert alpha.host.run("python", "-c", COMMIT_BY_A_CLOCK_THAT_IS_FAST, alpha.root).returncode == 0
    wait_until(lambda: status(alpha, "--stale 1s", code=None)["beta"]["stale"], "beta lacks it for a second")
    assert not status(alpha, "--stale 1s", code=1)["ok"]
    assert status(beta)["alpha"]["behind"] is None
    say(alpha.host, "holdall sync push")

    assert status(alpha)["beta"]["ahead"] == 0


def test_what_a_node_could_not_take_up_it_takes_up_when_it_is_pushed_again(pair: list[Watched]) -> None:
    alpha, beta = pair
    beta.root.rename(beta.root.with_name("away"))
    say(alpha.host, "echo third > ~/myrepo/file && holdall sync push", code=1)
    beta.root.with_name("away").rename(beta.root)
    say(alpha.host, "holdall sync push")

    assert beta.files() == alpha.files()


def test_a_node_that_is_away_is_stale_after_a_while(pair: list[Watched]) -> None:
    alpha, beta = pair
    assert status(alpha)["beta"]["link"] == "up"
    beta.host.power_off()
    try:
        wait_until(lambda: status(alpha, "--stale 3s", code=None)["beta"]["stale"], "it is stale")
        assert "refuses connections" in status(alpha, "--stale 3s", code=1)["beta"]["error"]
        assert "beta" in say(alpha.host, "holdall sync doctor", code=1)
    finally:
        beta.host.power_on()

    assert status(alpha)["beta"]["link"] == "up"


@pytest.mark.long
def test_a_peer_that_goes_is_told_of_within_a_minute(pair: list[Watched]) -> None:
    if "HOLDALL_TEST_LONG" not in os.environ:
        pytest.skip("takes a minute")
    alpha, beta = pair
    alpha.watch(every="20s")
    assert status(alpha)["ok"]
    beta.host.power_off()
    begun = time.monotonic()
    try:
        wait_until(lambda: not status(alpha, code=None)["ok"], "it is stale", 70)
        assert time.monotonic() - begun < 62
    finally:
        beta.host.power_on()
        alpha.stop()


def test_a_held_folder_is_told_of_and_released(pair: list[Watched]) -> None:
    alpha = pair[0]
    (alpha.root / "many").mkdir()
    for number in range(30):
        (alpha.root / f"many/{number}").write_text("x")
    say(alpha.host, "holdall sync push")
    alpha.watch()
    try:
        (alpha.root / "many").rename(alpha.host.home / "gone")  # file by file, it would be seen in several rounds
        wait_until(lambda: status(alpha, code=None)["held"] is not None, f"it is held: {alpha.said()}")
        alpha.stop()
        assert "vanished at once" in status(alpha, code=1)["held"]
        alpha.watch()
        assert "vanished at once" in say(alpha.host, "holdall sync status", code=1)
        say(alpha.host, "holdall sync release")
        wait_until(lambda: status(alpha, code=None)["ok"], f"it is not held: {alpha.said()}")
        wait_until(lambda: not (pair[1].root / "many").exists(), f"its removal is at the peer: {alpha.said()}")
    finally:
        alpha.stop()


def test_a_removal_that_came_is_told_of_and_released(pair: list[Watched]) -> None:
    alpha, beta = pair
    names = [f"some-{number}" for number in range(30)]
    for name in names:
        (alpha.root / name).write_text(name)
    say(alpha.host, "holdall sync push")
    # What a node does that has no brake.
    repository, head = Repository(str(alpha.host.home / ".git.myrepo")), alpha.head()
    tree = repository.edited(repository.tree_of(head), {name.encode(): None for name in names})
    made = repository.commit(tree, [head], author="alpha", time=int(time.time()), message="x")
    for ref in ("refs/heads/main", "refs/sync/alpha/main"):
        repository.set_ref(ref, made)
    for name in names:
        (alpha.root / name).unlink()

    assert "What alpha sent was not merged. It would remove 30 of" in say(alpha.host, "holdall sync push", code=1)
    assert status(beta, code=1)["held_back"].keys() == {"alpha"}
    assert "What alpha sent is held back. It would remove 30 of" in say(beta.host, "holdall sync status", code=1)
    assert "some-0" in beta.files()
    say(beta.host, "holdall sync release")
    assert "some-0" not in beta.files()
    assert status(beta)["held_back"] == {}
    assert beta.head() == alpha.head()


def test_the_drift_of_a_read_only_node_is_kept_or_reverted(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("hosts")  # of its own: beta has commits after it that nobody else has
    with watched(place, "alpha", "beta", read_only=("beta",), daemons=False) as (alpha, beta):
        say(alpha.host, "echo shared > ~/myrepo/shared && holdall sync push")
        say(beta.host, "echo drift > ~/myrepo/shared; echo mine > ~/myrepo/mine; holdall sync reconcile")

        assert status(beta)["beta"]["drift"] == 2
        assert say(beta.host, "holdall sync drift").split() == ["mine", "shared"]
        assert beta.files()["shared"] == b"drift\n"
        say(beta.host, "holdall sync drift --policy revert")
        assert beta.files() == alpha.files()
        say(beta.host, "echo drift again > ~/myrepo/shared; holdall sync reconcile")
        assert beta.files() == alpha.files()
        assert status(beta)["beta"]["drift"] == 0
        refs = say(beta.host, "git --git-dir ~/.git.myrepo for-each-ref --format='%(refname)' refs/sync-drift").split()
        kept = [say(beta.host, f"git --git-dir ~/.git.myrepo show {ref}:shared") for ref in refs]
        assert kept == ["drift\n", "drift again\n"]
        assert "drift" not in say(alpha.host, "git --git-dir ~/.git.myrepo log --all --format=%s%an -p")


def test_an_overlay_runs_after_an_apply_and_only_what_was_approved(pair: list[Watched]) -> None:
    alpha, beta = pair
    script = "#!/bin/sh\necho ran >> ~/ran\n"
    (alpha.root / "gtfc-overlay.sh").write_text(script)
    (alpha.root / "gtfc-overlay.sh").chmod(0o755)
    say(alpha.host, "holdall sync push")
    ran = beta.host.home / "ran"
    assert say(beta.host, "holdall sync overlay").strip() == "off"
    assert not ran.exists()
    say(beta.host, "holdall sync overlay approve")
    say(alpha.host, "echo 1 > ~/myrepo/file && holdall sync push")
    assert ran.read_text() == "ran\n"

    (alpha.root / "gtfc-overlay.sh").write_text(script.replace("ran >>", "bad >>"))
    say(alpha.host, "holdall sync push")
    assert ran.read_text() == "ran\n"
    assert "not as it is now" in say(beta.host, "holdall sync overlay", code=1)

    beta.watch()
    try:
        say(beta.host, "holdall sync overlay use -- sh -c 'pwd > ~/where; exit 3'")
        say(alpha.host, "echo 2 > ~/myrepo/file && holdall sync push")
        wait_until(lambda: "The overlay failed" in beta.said(), f"it runs: {beta.said()}")
    finally:
        beta.stop()
    assert (beta.host.home / "where").read_text() == f"{beta.root}\n"
    say(beta.host, "holdall sync overlay off")
    assert say(beta.host, "holdall sync overlay").strip() == "off"


def doctor(one: Watched, before: str = "", *, code: int = 0) -> dict[str, tuple[str, str]]:
    """What `holdall sync doctor` finds, outcome and detail by check, and the words behind `before`."""
    found = json.loads(say(one.host, f"{before} holdall sync doctor --json ~/myrepo", code=code).splitlines()[-1])
    assert found["ok"] == (code == 0)
    return {row["check"]: (row["outcome"], row["detail"]) for row in found["checks"]}


def test_the_doctor_finds_an_old_git_and_a_full_disk(pair: list[Watched]) -> None:
    alpha = pair[0]
    old = alpha.host.home / "old"
    old.mkdir()
    (old / "git").write_text("#!/bin/sh\necho git version 2.37.9\n")
    (old / "git").chmod(0o755)
    room = "unshare -Urm sh -c 'mount -t tmpfs -o size={}m none ~/myrepo && \"$@\"' -"

    assert doctor(alpha)["git"][0] == doctor(alpha)["room"][0] == "ok"
    assert doctor(alpha, 'PATH=~/old:"$PATH"', code=1)["git"] == ("fail", "version 2.37.9")
    (old / "git").write_text("#!/bin/sh\n")
    assert doctor(alpha, 'PATH=~/old:"$PATH"', code=1)["git"] == ("fail", "its version is not known")
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        pytest.skip("no disk can be mounted for one process here")
    assert doctor(alpha, room.format(32), code=1)["room"] == ("fail", "32.0 MiB free")
    assert doctor(alpha, room.format(200))["room"] == ("warn", "200.0 MiB free")


def test_the_doctor_finds_what_ails_the_daemon(pair: list[Watched]) -> None:
    alpha = pair[0]
    assert doctor(alpha)["daemon"] == ("warn", "none runs")
    alpha.watch()
    exclude = alpha.host.home / ".git.myrepo/info/exclude"
    before = exclude.read_text()
    try:
        assert doctor(alpha)["daemon"][0] == "ok"
        exclude.write_text("x" * (IGNORE_FILE_BYTES_MAX + 1))
        (alpha.root / "file").write_text("new")
        wait_until(lambda: status(alpha, code=None)["alpha"]["error"] != "", f"a round fails: {alpha.said()}")
        outcome, detail = doctor(alpha, code=1)["daemon"]
        assert (outcome, "is longer than" in detail) == ("fail", True)
        assert "is longer than" in status(alpha, code=1)["alpha"]["error"]
    finally:
        exclude.write_text(before)
        alpha.stop()
    limit = ("unshare", "-Ur", "sh", "-c", 'echo 1 > /proc/sys/user/max_inotify_watches && exec "$@"', "-")
    if subprocess.run([*limit, "true"], check=False, capture_output=True).returncode:
        pytest.skip("inotify watches cannot be limited for one process here")
    alpha.watch(*limit)
    try:
        outcome, detail = doctor(alpha)["daemon"]
    finally:
        alpha.stop()

    assert (outcome, "inotify watches are used up" in detail) == ("warn", True)


def test_the_doctor_finds_files_that_sshd_does_not_trust_and_no_address(pair: list[Watched]) -> None:
    alpha = pair[0]
    keys = alpha.host.home / ".ssh/authorized_keys"
    keys.chmod(0o620)
    assert doctor(alpha, code=1)["ssh files"] == (
        "fail",
        f"{keys} can be written by others, so sshd lets no other node in",
    )
    keys.chmod(0o600)
    keys.rename(keys.with_name("away"))
    assert doctor(alpha, code=1)["ssh files"] == ("fail", f"{keys}: No such file or directory")
    keys.with_name("away").rename(keys)
    say(alpha.host, f"holdall sync bootstrap ~/myrepo --address {alpha.host.address} --port 9")
    assert doctor(alpha)["address"][0] == "warn"
    say(alpha.host, f"holdall sync bootstrap ~/myrepo --address {alpha.host.address} --port {alpha.host.port}")

    assert "address" not in doctor(alpha)


def test_the_doctor_finds_a_slow_login_another_clock_and_another_host_key(pair: list[Watched]) -> None:
    alpha, beta = pair
    own = alpha.host.home / ".git.myrepo/holdall"
    keys, known = beta.host.home / ".ssh/authorized_keys", own / "ssh/known_hosts"
    keys_before, known_before = keys.read_text(), known.read_text()
    other = (own / "keys/id_ed25519.pub").read_text().split()[1]
    hang_up = "ssh -F ~/.git.myrepo/holdall/ssh/config -O exit beta"
    assert doctor(alpha)["beta clock"] == ("ok", "agrees with this one")
    forced = r'command="sleep 0.3; echo $(( $(date +%s%N) + 3600000000000 ))"'
    try:
        keys.write_text(re.sub(r'command="[^"]*--node[^"]*"', lambda _: forced, keys_before))
        say(alpha.host, hang_up, code=None)
        found = doctor(alpha)
        keys.write_text(keys_before)
        known.write_text(re.sub(r"ssh-ed25519 \S+", f"ssh-ed25519 {other}", known_before))
        say(alpha.host, hang_up, code=None)
        outcome, detail = doctor(alpha, code=1)["beta"]
    finally:
        keys.write_text(keys_before)
        known.write_text(known_before)

    assert found["beta"][0] == "warn"
    assert int(found["beta"][1].removeprefix("answers in ").removesuffix(" ms")) >= 300
    assert found["beta clock"][0] == "warn"
    assert found["beta clock"][1].endswith(" s apart from this one")
    assert (outcome, "shows another host key" in detail) == ("fail", True)


def test_the_unit_is_one_that_systemd_takes(pair: list[Watched], tmp_path: Path) -> None:
    shown = say(pair[0].host, "holdall sync service show")
    name = shown.splitlines()[0].rpartition("/")[2]
    assert f'"sync" "watch" "{pair[0].root}"' in shown
    if shutil.which("systemd-analyze") is None:
        return
    (tmp_path / name).write_text(shown)
    verified = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(tmp_path / name)], capture_output=True, text=True, check=False
    )

    assert name not in verified.stderr


def test_systemd_is_told_and_a_daemon_in_the_background_ends_at_sigterm(pair: list[Watched], tmp_path: Path) -> None:
    alpha = pair[0]
    say(alpha.host, "holdall sync watch --daemon")
    assert "watched already" in say(alpha.host, "holdall sync watch --daemon", code=1)
    daemon = status(alpha, code=None)["daemon"]  # beta may not have been spoken to for a minute
    say(alpha.host, f"kill {daemon['pid']}")
    wait_until(lambda: status(alpha, code=None)["daemon"] is None, "it is gone")
    assert "Stopped." in (alpha.host.home / ".git.myrepo/holdall/daemon.log").read_text()

    script = (
        "import os, socket, subprocess, sys; link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "link.bind(sys.argv[1]); link.settimeout(60); os.environ['NOTIFY_SOCKET'] = sys.argv[1]; "
        "process = subprocess.Popen(['holdall', 'sync', 'watch', 'myrepo']); said = []\n"
        "while 'READY=1' not in said or said[-1] != 'WATCHDOG=1': said.append(link.recv(999).decode())\n"
        "while said.count('WATCHDOG=1') < 3: said.append(link.recv(999).decode())\n"
        "process.terminate(); code = process.wait()\n"
        "while said[-1] != 'STOPPING=1': said.append(link.recv(999).decode())\n"
        "print(code, *said)"
    )
    told = alpha.host.run("python", "-c", script, tmp_path / "notify").stdout

    assert told.startswith("0 ")
    assert "STATUS=At " in told
    assert told.split()[-1] == "STOPPING=1"


def test_what_was_done_about_a_damaged_history_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    with watched(tmp_path_factory.mktemp("hosts"), "alpha", "beta", daemons=False) as (alpha, _):
        place = alpha.root.with_name(".git.myrepo")
        before = set(place.glob("objects/*/*"))
        (alpha.root / "torn").write_text("torn\n")
        say(alpha.host, "holdall sync reconcile ~/myrepo")
        for path in set(place.glob("objects/*/*")) - before:
            path.chmod(0o600)
            path.write_bytes(b"")

        assert "main went back to" in status(alpha, code=None)["rescued"]
        assert re.search(
            r"history +warn .* damaged files were put aside", say(alpha.host, "holdall sync doctor", code=None)
        )
        shutil.rmtree(place / "holdall/damaged")
        say(alpha.host, "holdall sync push")
        assert status(alpha, code=None)["rescued"] is None
