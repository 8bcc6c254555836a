"""What processes share besides files: locks that die with their holder, words that outlive it, and who is last."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from holdall.core.address import Address
from holdall.limits.stores import LOCK_STRIPES, REMOVALS_REMEMBERED
from holdall.stores.control import CONTROL_NAME, PROCESSES_MAX, Control
from holdall.stores.locks import let_go, take
from holdall.testing.contract import fresh_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDER = """
import sys
from holdall.stores.control import Control
control = Control(sys.argv[1])
control.settle(journaled=False)
control.pin(3)
stripe = control.stripe(bytes(32))
with control.locks.held(stripe.lock):
    stripe.begin_append(bytes(32), 77)
    stripe.begin_change(bytes(32))
    print(control.index, control.incarnation, flush=True)
    sys.stdin.read()
"""


def joined(path: Path) -> Control:
    control = Control(str(path))
    control.settle(journaled=False)
    return control


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = joined(tmp_path)
    yield control
    control.close()


def test_the_first_to_open_a_directory_is_alone_and_everybody_after_it_is_not(tmp_path: Path) -> None:
    first = joined(tmp_path)
    second = joined(tmp_path)
    found = [(first.alone, first.fresh), (second.alone, second.fresh)]
    first.close()
    second.close()
    third = joined(tmp_path)
    found.append((third.alone, third.fresh))
    third.close()

    assert found == [(True, True), (False, False), (True, False)]


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"holdall control\x01" + b"another boot".ljust(36)])
def test_what_another_boot_or_a_power_cut_left_is_started_afresh(tmp_path: Path, damage: bytes) -> None:
    earlier = joined(tmp_path)
    earlier.stripe(Address(bytes(32))).begin_append(Address(bytes(32)), 5)
    incarnation = earlier.incarnation
    earlier.close()
    (tmp_path / CONTROL_NAME).write_bytes(damage)

    control = joined(tmp_path)
    try:
        assert (control.alone, control.fresh) == (True, True)
        assert control.broken_stripes() == []
        assert control.incarnation > incarnation
    finally:
        control.close()


def test_no_incarnation_is_given_twice(tmp_path: Path) -> None:
    found = []
    for turn in range(6):
        control = joined(tmp_path)
        found.append(control.incarnation)
        control.close()
        if turn % 2:
            (tmp_path / CONTROL_NAME).unlink()

    assert sorted(set(found)) == found


def test_a_lock_excludes_threads_and_converts_and_is_let_go(control: Control) -> None:
    one, other = control.locks.descriptor(), control.locks.descriptor()
    try:
        offset = control.stripe(fresh_address()).lock
        assert take(one, offset, shared=True, wait=False)
        assert take(other, offset, shared=True, wait=False)
        assert not take(one, offset, wait=False)
        let_go(other, offset)
        assert take(one, offset, wait=False)
        assert not take(other, offset, shared=True, wait=False)
        let_go(one, offset)
        assert take(other, offset, wait=False)
    finally:
        os.close(one)
        os.close(other)


def test_threads_take_turns_under_a_lock(control: Control) -> None:
    stripe, seen = control.stripe(fresh_address()), []

    def count() -> None:
        for _ in range(200):
            with control.locks.held(stripe.lock):
                revision = stripe.next_revision(0)
                seen.append(revision)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == sorted(set(seen))
    assert len(seen) == 800


def test_a_killed_process_lets_go_of_its_locks_and_leaves_what_it_was_doing(tmp_path: Path, control: Control) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        index, incarnation = map(int, holder.stdout.readline().split())
        stripe = control.stripe(Address(bytes(32)))
        fd = control.locks.descriptor()
        assert not take(fd, stripe.lock, wait=False)
        assert (control.is_current(index, incarnation), control.pinned(3), control.pinned(2)) == (True, True, False)
    finally:
        holder.kill()
        holder.communicate()
    try:
        assert take(fd, stripe.lock)
    finally:
        os.close(fd)
    pending = stripe.pending_append()

    assert pending is not None
    assert (pending.address, pending.size_bytes) == (bytes(32), 77)
    assert stripe.pending_change() == bytes(32)
    assert [found.lock for found in control.broken_stripes()] == [stripe.lock]
    assert (control.is_current(index, incarnation), control.pinned(3)) == (False, False)


def test_of_processes_that_leave_at_once_one_is_the_last(tmp_path: Path) -> None:
    for _ in range(20):
        controls = [joined(tmp_path) for _ in range(6)]
        barrier = threading.Barrier(len(controls))
        last: list[bool] = []

        def leave(control: Control, barrier: threading.Barrier, last: list[bool]) -> None:
            barrier.wait()
            last.append(control.leave())
            control.close()

        threads = [threading.Thread(target=leave, args=(control, barrier, last)) for control in controls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(last) == [False] * 5 + [True]


def test_who_opens_while_the_last_leaves_is_alone_afterwards(tmp_path: Path) -> None:
    leaving, opened = joined(tmp_path), []
    assert leaving.leave()
    thread = threading.Thread(target=lambda: opened.append(Control(str(tmp_path))))
    thread.start()
    leaving.close()
    thread.join()

    assert opened[0].alone
    opened[0].close()


def test_more_processes_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    controls = [joined(tmp_path) for _ in range(PROCESSES_MAX)]
    late = Control(str(tmp_path))
    try:
        with pytest.raises(OSError, match="processes share the directory"):
            late.settle(journaled=False)
        assert sorted(control.index for control in controls) == list(range(PROCESSES_MAX))
    finally:
        for control in [*controls, late]:
            control.close()


def test_revisions_rise_whatever_the_clock_does(control: Control) -> None:
    stripe = control.stripe(fresh_address())

    assert [stripe.next_revision(now) for now in (100, 50, 101, 500, 500)] == [100, 101, 102, 500, 501]


def test_every_stripe_is_reached_and_keeps_to_itself(control: Control) -> None:
    stripes = [control.stripe(Address(number.to_bytes(2, "big") + bytes(30))) for number in range(LOCK_STRIPES)]
    for number in (0, 17, LOCK_STRIPES - 1):
        stripes[number].begin_append(Address(bytes([number % 256]) * 32), number)

    assert len({stripe.lock for stripe in stripes}) == LOCK_STRIPES
    assert [number for number, stripe in enumerate(stripes) if stripe.pending_append()] == [0, 17, LOCK_STRIPES - 1]
    assert not any(stripe.pending_change() for stripe in stripes)


def test_the_change_sequence_is_found_without_its_stripe(control: Control) -> None:
    address, other = Address(b"\x12\x34" + bytes(30)), Address(b"\x12\x35" + bytes(30))
    stripe = control.stripe(address)
    found = [control.change_sequence(address)]
    stripe.begin_change(address)
    found.append(control.change_sequence(address))
    stripe.end_change()
    found.append(control.change_sequence(address))

    assert found == [0, 1, 2]
    assert control.change_sequence(other) == 0


def test_removals_are_told_in_order_while_they_are_remembered(tmp_path: Path, control: Control) -> None:
    other = joined(tmp_path)
    try:
        removed = [fresh_address() for _ in range(REMOVALS_REMEMBERED + 10)]
        start = other.removals.position
        for address in removed[:20]:
            control.removals.note(address)
        assert other.removals.since(start) == removed[:20]
        assert other.removals.since(start + 15) == removed[15:20]
        assert other.removals.since(start + 20) == []
        for address in removed[20:]:
            control.removals.note(address)
        assert other.removals.since(start) is None
        assert other.removals.since(other.removals.position - 100) == removed[-100:]
    finally:
        other.close()
