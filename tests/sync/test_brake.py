"""Removals of more than half of a folder: in one go, in several, from another node; and what only looks like one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pygit2
import pytest

from holdall.limits.sync import SYNC_BRAKE_SECONDS
from holdall.sync.folder import Folder
from holdall.sync.state import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [f"d/{number}" for number in range(40)]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Folder]:
    """Makes the folder of a node, with 40 files unless others are named."""

    def folder(node: str, names: list[str] = NAMES) -> Folder:
        root = tmp_path / node
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{name}\n")
        return Folder.create(str(root), node=node)

    return folder


def send(folder: Folder, *others: Folder) -> None:
    """Gives other nodes what one has, as a push does."""
    for other in others:
        ref = f"refs/sync/{folder.node}/main"
        pygit2.Repository(folder.git_dir).remotes.create_anonymous(other.git_dir).push([f"+{ref}:{ref}"])


def trio(make: Callable[..., Folder]) -> tuple[Folder, Folder, Folder]:
    """Three nodes that have the same 40 files."""
    alpha, beta, gamma = make("alpha"), make("beta", []), make("gamma", [])
    send(alpha, beta, gamma)
    for node in (beta, gamma):
        assert node.reconcile().held_back == {}
    return alpha, beta, gamma


def remove(folder: Folder, names: list[str]) -> None:
    for name in names:
        os.unlink(os.path.join(folder.worktree, name))


def slip(folder: Folder, names: list[str], ago: int = 0, node: str = "") -> None:
    """Lets a node have removed files in one commit some seconds ago, without a brake."""
    repository, head = folder.repository, str(folder.head())
    tree = repository.edited(repository.tree_of(head), {name.encode(): None for name in names})
    made = repository.commit(tree, [head], author=node or folder.node, time=int(time.time()) - ago, message="x")
    for ref in ("refs/heads/main", f"refs/sync/{folder.node}/main"):
        repository.set_ref(ref, made)
    remove(folder, names)


def count(folder: Folder) -> int:
    return sum(len(files) for _, _, files in os.walk(folder.worktree))


def later(folder: Folder, seconds: int) -> None:
    """Lets time have passed since the last round, as far as the brake knows."""
    path = os.path.join(folder.git_dir, "holdall", "state")
    state = State.read(path)
    state.marks = [(when - seconds, commit) for when, commit in state.marks]
    state.write(path)


# --- in the folder ---


def test_a_removal_that_is_seen_in_several_rounds_is_held_as_one(make: Callable[..., Folder]) -> None:
    folder = make("alpha")
    for start in range(0, 20, 5):
        remove(folder, NAMES[start : start + 5])
        assert folder.reconcile(changed=["d"]).held is None
    remove(folder, NAMES[20:25])
    folder = Folder.open(folder.worktree)

    assert folder.reconcile(changed=["d"]).held == "25 of 40 files vanished within 60 seconds."

    later(folder, SYNC_BRAKE_SECONDS + 1)

    assert folder.reconcile().held is not None  # it is not forgotten while it holds
    assert len(list(folder.repository.files(folder.repository.tree_of(folder.head())))) == 20

    folder.release()
    outcome = folder.reconcile()
    remove(folder, NAMES[25:26])

    assert (outcome.held, outcome.committed) == (None, True)
    assert folder.reconcile().held is None


def test_what_comes_back_ends_a_hold(make: Callable[..., Folder]) -> None:
    folder = make("alpha")
    remove(folder, NAMES[:25])
    assert folder.reconcile().held is not None
    for name in NAMES[:10]:
        with open(os.path.join(folder.worktree, name), "w", encoding="ascii") as file:
            file.write(f"{name}\n")

    assert folder.reconcile().held is None


def test_small_removals_minutes_apart_are_not_held(make: Callable[..., Folder]) -> None:
    folder = make("alpha")
    for start in range(0, 40, 5):
        remove(folder, NAMES[start : start + 5])
        assert folder.reconcile().held is None
        later(folder, SYNC_BRAKE_SECONDS + 1)


def test_what_is_moved_has_not_vanished(make: Callable[..., Folder]) -> None:
    alpha, beta, _ = trio(make)
    os.rename(os.path.join(alpha.worktree, "d"), os.path.join(alpha.worktree, "e"))

    assert alpha.reconcile().committed

    send(alpha, beta)

    assert beta.reconcile().held_back == {}
    assert os.listdir(beta.worktree) == ["e"]


# --- from other nodes ---


def test_a_removal_that_another_node_let_slip_is_held_back_until_it_is_released_anywhere(
    make: Callable[..., Folder],
) -> None:
    alpha, beta, gamma = trio(make)
    slip(alpha, NAMES[:30])
    send(alpha, beta, gamma)
    outcome = beta.reconcile()

    assert outcome.held_back == {"alpha": "It would remove 30 of 40 files."}
    assert (outcome.merged, count(beta)) == ([], 40)

    with open(os.path.join(beta.worktree, "own"), "w", encoding="ascii") as file:
        file.write("what is new here goes on\n")
    beta = Folder.open(beta.worktree)

    assert beta.reconcile().committed
    assert beta.reconcile().held_back.keys() == {"alpha"}

    send(beta, gamma)
    outcome = gamma.reconcile()

    assert (outcome.merged, list(outcome.held_back), count(gamma)) == (["beta"], ["alpha"], 41)

    beta.release()

    assert beta.reconcile().merged == ["alpha"]
    assert count(beta) == 11

    send(beta, gamma)

    assert gamma.reconcile().held_back == {}
    assert count(gamma) == 11
    assert gamma.head() == beta.head()

    remove(gamma, NAMES[30:31])

    assert gamma.reconcile().held is None


def test_a_removal_that_was_released_where_it_was_made_is_taken_everywhere(make: Callable[..., Folder]) -> None:
    alpha, beta, gamma = trio(make)
    remove(alpha, NAMES[:30])
    assert alpha.reconcile().held is not None
    alpha.release()
    alpha.reconcile()
    with open(os.path.join(alpha.worktree, "more"), "w", encoding="ascii") as file:
        file.write("more\n")
    alpha.reconcile()
    send(alpha, beta, gamma)
    beta.reconcile()
    send(beta, gamma)

    assert gamma.reconcile().held_back == {}
    assert [count(node) for node in (alpha, beta, gamma)] == [11, 11, 11]
    assert len({node.head() for node in (alpha, beta, gamma)}) == 1


def test_a_removal_that_slipped_can_be_released_where_it_was_made(make: Callable[..., Folder]) -> None:
    alpha, beta, _ = trio(make)
    slip(alpha, NAMES[:30])
    send(alpha, beta)
    assert beta.reconcile().held_back
    alpha.release()
    alpha.reconcile()
    send(alpha, beta)

    assert beta.reconcile().held_back == {}
    assert (count(beta), beta.head()) == (10, alpha.head())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_removal_that_slips_in_parts_is_held_back_as_one(make: Callable[..., Folder], at_once: bool) -> None:
    alpha, beta, _ = trio(make)
    for start in range(0, 30, 6):
        slip(alpha, NAMES[start : start + 6])
        if not at_once:
            send(alpha, beta)
            beta.reconcile()
    send(alpha, beta)

    assert beta.reconcile().held_back.keys() == {"alpha"}
    assert count(beta) == (40 if at_once else 22)


def test_what_is_undone_where_it_was_made_is_held_back_no_longer(make: Callable[..., Folder]) -> None:
    alpha, beta, _ = trio(make)
    first = str(alpha.head())
    slip(alpha, NAMES[:30])
    send(alpha, beta)
    assert beta.reconcile().held_back
    alpha.restore(first, ".")
    send(alpha, beta)

    assert beta.reconcile().held_back == {}
    assert State.read(os.path.join(beta.git_dir, "holdall", "state")).held_back == {}
    assert beta.head() == alpha.head()
    assert count(beta) == 40


def test_a_node_that_was_away_for_long_takes_what_went_little_by_little(make: Callable[..., Folder]) -> None:
    alpha, beta, gamma = trio(make)
    for minutes, start in enumerate(range(0, 36, 4)):
        slip(alpha, NAMES[start : start + 4], ago=(20 - minutes) * 60)
    send(alpha, beta)

    assert beta.reconcile().held_back == {}
    assert count(beta) == 4

    remove(beta, NAMES[36:37])

    assert beta.reconcile().held is None

    joining = make("delta", ["own"])
    send(beta, joining)

    assert joining.reconcile().held_back == {}
    assert count(joining) == 4
    assert count(gamma) == 40
