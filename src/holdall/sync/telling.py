"""What a daemon says of its rounds: each thing once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.limits.sync import SYNC_HINTS_MAX
from holdall.sync.rescue import RESCUED, last_rescue
from holdall.sync.status import tell_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdall.sync.outcome import Outcome


class Teller:
    """Says what rounds did.

    Args:
        say: Told it in a line.
        notify: The address of systemd's socket; empty where there is none.
        git_dir: Where the folder's history is.
    """

    def __init__(self, say: Callable[[str], None], notify: str, git_dir: str) -> None:
        self._say = say
        self._notify = notify
        self._held = ""
        self._held_back: dict[str, str] = {}
        self._skipped: dict[str, str] = {}
        self._status = ""
        self._git_dir = git_dir
        self._rescue = ""

    def tell(self, outcome: Outcome, refused: Mapping[str, str]) -> None:
        """Says what a round did, and of which nodes something was not merged, and why."""
        if (rescue := last_rescue(self._git_dir)) not in {"", self._rescue}:
            self._rescue = rescue
            self._say(f"{RESCUED} {rescue}")
        held = outcome.held or ""
        if held != self._held:
            self._say(f"Held, nothing is committed or merged. {held}" if held else "Not held any more.")
        self._held = held
        done = ["committed"] if outcome.committed else []
        done += [f"merged {', '.join(outcome.merged)}"] if outcome.merged else []
        done += [f"changed {len(outcome.applied)} files"] if outcome.applied else []
        done += [f"put back {len(outcome.put_back)} files"] if outcome.put_back else []
        if done and outcome.head is not None:
            self._say(f"{outcome.head[:12]}: {', '.join(done)}.")
        for conflict in outcome.conflicts:
            self._say(f"{conflict.path!a} was changed here and there: the other version is in {conflict.copy!a}.")
        news = dict(outcome.held_back.items() - self._held_back.items())
        self._held_back = outcome.held_back
        for node, why in sorted(({**refused, **news}).items()):
            self._say(f"What {node} sent was not merged. {why}")
        for path, why in sorted(outcome.skipped.items()):
            if self._skipped.get(path) != why:
                self._say(f"{path!a} is left alone: {why}.")
        if len(self._skipped) > SYNC_HINTS_MAX:
            self._skipped.clear()
        self._skipped |= outcome.skipped
        status = held or (outcome.head or "empty")[:12]
        if status != self._status:
            self._status = status
            tell_systemd(self._notify, f"STATUS={'Held: ' if held else 'At '}{status}")
