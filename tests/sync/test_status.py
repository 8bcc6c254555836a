"""What is said of a folder, and what one node settles for itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from trial import say
from watched import Watched, watched

from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    wait_until(lambda: status(alpha, "--stale 1s", code=None)["beta"]["stale"], "beta lacks it for a second")
    assert not status(alpha, "--stale 1s", code=1)["ok"]
    assert status(beta)["alpha"]["behind"] is None
    say(alpha.host, "holdall sync push")

    assert status(alpha, "--stale 1s")["beta"]["ahead"] == 0


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

    assert status(alpha, "--stale 3s")["beta"]["link"] == "up"


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
    for number in range(30):
        (alpha.root / f"many-{number}").write_text("x")
    say(alpha.host, "holdall sync push")
    alpha.watch()
    try:
        for number in range(30):
            (alpha.root / f"many-{number}").unlink()
        wait_until(lambda: status(alpha, code=None)["held"] is not None, f"it is held: {alpha.said()}")
        alpha.stop()
        assert "vanished at once" in status(alpha, code=1)["held"]
        alpha.watch()
        assert "vanished at once" in say(alpha.host, "holdall sync status", code=1)
        say(alpha.host, "holdall sync release")
        wait_until(lambda: status(alpha, code=None)["ok"], f"it is not held: {alpha.said()}")
    finally:
        alpha.stop()

    assert "many-0" not in pair[1].files()


def test_the_drift_of_a_read_only_node_is_kept_or_reverted(pair: list[Watched]) -> None:
    alpha, beta = pair
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
    daemon = status(alpha)["daemon"]
    say(alpha.host, f"kill {daemon['pid']}")
    wait_until(lambda: status(alpha)["daemon"] is None, "it is gone")
    assert "Stopped." in (alpha.host.home / ".git.myrepo/holdall/daemon.log").read_text()

    script = (
        "import os, socket, subprocess, sys; link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "link.bind(sys.argv[1]); link.settimeout(30); os.environ['NOTIFY_SOCKET'] = sys.argv[1]; "
        "process = subprocess.Popen(['holdall', 'sync', 'watch', 'myrepo']); said = []\n"
        "while 'READY=1' not in said or said[-1] != 'WATCHDOG=1': said.append(link.recv(999).decode())\n"
        "process.terminate(); print(process.wait(), *said)"
    )
    told = alpha.host.run("python", "-c", script, tmp_path / "notify").stdout

    assert told.startswith("0 ")
    assert "STATUS=At " in told
