"""`gtfc-watch`, as the page of gtfc has it."""

from __future__ import annotations

import subprocess

import pytest
from trial import say
from watched import arrive, watched

from support import DEADLINE_SECONDS, wait_until


def test_gtfc_watch_as_its_page_has_it_and_without_inotify_watches(tmp_path_factory: pytest.TempPathFactory) -> None:
    limit = "echo 1 > /proc/sys/user/max_inotify_watches"
    if subprocess.run(["unshare", "-Ur", "sh", "-c", limit], check=False, capture_output=True).returncode:
        pytest.skip("inotify watches cannot be limited for one process here")
    with watched(tmp_path_factory.mktemp("hosts"), "alpha", "beta", daemons=False) as (alpha, beta):
        # 5. To watch for automatic changes, use kqueue watchdog or inotify, etc
        alpha.daemon = alpha.host.start("gtfc-watch", log=alpha.log)
        # 3. On either, edit a file ...
        say(alpha.host, "mkdir ~/myrepo/sub && echo `date` `hostname` > ~/myrepo/sub/test")
        beta.daemon = beta.host.start("unshare", "-Ur", "sh", "-c", f"{limit} && exec gtfc-watch", log=beta.log)
        arrive(beta, "sub/test", (alpha.root / "sub/test").read_bytes())
        (beta.root / "sub/test").write_bytes(b"seen all the same\n")
        arrive(alpha, "sub/test", b"seen all the same\n")

        used_up = "inotify watches are used up"
        wait_until(
            lambda: used_up in say(beta.host, "holdall sync status", code=None), f"status says so: {beta.said()}"
        )
        say(beta.host, "holdall sync unjoin")
        assert beta.daemon.wait(DEADLINE_SECONDS) == 5
        # By what it reads first: its setup, or the roster.
        assert "has left the cluster" in beta.said() or "was unjoined by beta" in beta.said()
