"""The mirror's slots: one member decides, the others follow, and no change is lost because somebody was away."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unplugged import Unplugged, awaited

from holdall.core.address import Address
from holdall.core.shares import HEAD_BYTES
from holdall.errors import (
    AlreadySetError,
    BlobInTheWayError,
    DamageError,
    NotFoundError,
    StoreError,
    UnreachableError,
    VersionMismatchError,
)
from holdall.limits import KIB, MIB
from holdall.stores.base import ABSENT, ALWAYS, IfVersion, Kind
from holdall.stores.composite import Member
from holdall.stores.encrypted import EncryptedStore
from holdall.stores.memory import MemoryStore
from holdall.stores.mirror import MirrorStore
from holdall.stores.mirror_leading import Standing, note_address, note_from, note_text, source_of
from holdall.testing.contract import content, fresh_address, fresh_bytes
from holdall.testing.racing import line, lines_of, outcomes, won

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.stores.base import Info, Reading, Store

KEY = Address.of(b"a key")


def mirrored(*members: Store) -> MirrorStore:
    """A mirror of members called a, b, c, as far as they go; a new client with each call."""
    return MirrorStore(list(zip("abc", members, strict=False)))


def plugged(count: int = 2) -> list[Unplugged]:
    return [Unplugged() for _ in range(count)]


def reach(members: list[Unplugged], *which: bool) -> None:
    """Plugs in just these members."""
    for member, here in zip(members, which, strict=True):
        member.plugged = here


async def value(store: Store, address: Address = KEY) -> bytes | None:
    """What is there, or None."""
    try:
        return await content(store, address)
    except NotFoundError:
        return None


async def held(members: list[Unplugged]) -> list[list[tuple[Address, Kind, int]]]:
    """What each member holds."""
    return [
        sorted([(info.address, info.kind, info.size_bytes) async for info in member.store.entries()])
        for member in members
    ]


@awaited
async def test_every_member_has_the_value_and_no_note_stays() -> None:
    members = plugged(3)
    store = mirrored(*members)

    await store.write(KEY, b"one")
    await store.append(KEY, b", two")
    await store.append(fresh_address(), fresh_bytes(2 * MIB))
    await store.write(KEY, b"three", when=IfVersion((await store.stat(KEY)).version))
    taken = (await store.write(fresh_address(), b"for once")).address
    await (await store.take(taken)).aclose()

    assert [await value(member) for member in members] == [b"three"] * 3
    assert await held(members) == [(await held(members))[0]] * 3
    assert len((await held(members))[0]) == 2


@awaited
async def test_a_night_without_the_first_member_loses_nothing() -> None:
    members = plugged()
    await mirrored(*members).append(KEY, b"evening\n")
    reach(members, False, True)
    await mirrored(*members).append(KEY, b"night\n")
    reach(members, True, True)

    assert await value(mirrored(*members)) == b"evening\nnight\n"
    await mirrored(*members).append(KEY, b"morning\n")

    assert [await value(member) for member in members] == [b"evening\nnight\nmorning\n"] * 2
    assert len((await held(members))[0]) == len((await held(members))[1]) == 1


@awaited
async def test_a_night_without_the_second_member_loses_nothing() -> None:
    members = plugged()
    await mirrored(*members).append(KEY, b"evening\n")
    reach(members, True, False)
    await mirrored(*members).append(KEY, b"night\n")
    reach(members, True, True)

    assert await mirrored(*members).repair(KEY) == ["b"]

    assert [await value(member) for member in members] == [b"evening\nnight\n"] * 2
    assert len((await held(members))[0]) == len((await held(members))[1]) == 1


@pytest.mark.parametrize("away", [0, 1])
@pytest.mark.parametrize("how", ["delete", "take"])
@awaited
async def test_what_was_removed_does_not_come_back_with_a_member_that_was_away(away: int, how: str) -> None:
    members = plugged()
    await mirrored(*members).write(KEY, b"gone soon")
    members[away].plugged = False
    if how == "delete":
        await mirrored(*members).delete(KEY)
    else:
        async with await mirrored(*members).take(KEY) as reading:
            assert await reading.read() == b"gone soon"
    members[away].plugged = True

    assert await value(mirrored(*members)) is None
    assert await mirrored(*members).missing([KEY]) == [KEY]
    with pytest.raises(NotFoundError):
        await mirrored(*members).take(KEY)
    with pytest.raises(NotFoundError):
        await mirrored(*members).repair(KEY)

    assert await held(members) == [[], []]


@pytest.mark.parametrize("lost", [0, 1])
@awaited
async def test_a_member_that_lost_its_disk_is_given_the_value_and_does_not_decide(lost: int) -> None:
    calls: list[Callable[[MirrorStore], Awaitable[object]]] = [
        lambda store: store.append(KEY, b" and more"),
        lambda store: store.stat(KEY),
        lambda store: store.repair(KEY),
        lambda store: store.missing([KEY]),
        lambda store: content(store, KEY),
    ]
    for call in calls:
        members = plugged()
        await mirrored(*members).write(KEY, b"a value")
        members[lost].store = MemoryStore()

        await call(mirrored(*members))

        assert (await value(mirrored(*members)) or b"").startswith(b"a value")
        await mirrored(*members).append(KEY, b"!")
        assert await value(members[0]) == await value(members[1])
        with pytest.raises(AlreadySetError):
            await mirrored(*members).write(KEY, b"new", when=ABSENT)


@awaited
async def test_a_value_that_breaks_off_while_it_is_taken_is_not_lost() -> None:
    members, text = plugged(), fresh_bytes(2 * MIB)
    store = mirrored(*members)
    await store.write(KEY, text)
    members[0].breaks_after_bytes = 700 * KIB

    with pytest.raises(UnreachableError, match=r"^a: The cable was pulled"):
        await store.take(KEY)
    assert await value(members[0].store) is None
    members[0].breaks_after_bytes = None
    async with await mirrored(members[1]).take(KEY) as reading:
        assert await reading.read() == text


@awaited
async def test_a_value_whose_answer_was_lost_comes_back_from_the_other_member() -> None:
    class Losing(Unplugged):
        async def take(self, address: Address) -> Reading:
            await super().take(address)
            raise UnreachableError("The answer was lost.")

    members = [Losing(), Unplugged()]
    await mirrored(*members).write(KEY, b"a job")

    with pytest.raises(UnreachableError):
        await mirrored(*members).take(KEY)

    assert await value(mirrored(*members)) == b"a job"
    assert [await value(member) for member in members] == [b"a job"] * 2
    assert await held(members) == [(await held(members))[0]] * 2


@awaited
async def test_of_two_values_written_without_the_other_member_the_newer_wins() -> None:
    for order in ([True, False], [False, True]):
        members = plugged()
        await mirrored(*members).write(KEY, b"old")
        for here, text in zip(([*order], [*order[::-1]]), (b"earlier", b"later"), strict=True):
            reach(members, *here)
            await mirrored(*members).write(KEY, text)
        reach(members, True, True)

        assert await value(mirrored(*members)) == b"later"
        await mirrored(*members).repair(KEY)

        assert [await value(member) for member in members] == [b"later"] * 2


@awaited
async def test_a_refused_change_leaves_no_note() -> None:
    members = plugged()
    info = await mirrored(*members).write(KEY, b"kept")
    reach(members, True, False)

    for call, error in (
        (mirrored(*members).write(KEY, b"x", when=ABSENT), AlreadySetError),
        (mirrored(*members).write(KEY, b"x", when=IfVersion(info.version + "0")), VersionMismatchError),
        (mirrored(*members).take(fresh_address()), NotFoundError),
    ):
        with pytest.raises(error):
            await call

    assert len((await held(members))[0]) == 1
    await mirrored(*members).write(KEY, b"new", when=IfVersion(info.version))
    assert len((await held(members))[0]) == 2


@awaited
async def test_a_version_holds_at_the_member_that_gave_it_only() -> None:
    members = plugged()
    store = mirrored(*members)
    first = await store.write(KEY, b"first")
    assert [(await member.store.stat(KEY)).version for member in members] == ["1", "1"]
    reach(members, False, True)

    with pytest.raises(VersionMismatchError):
        await store.write(KEY, b"second", when=IfVersion(first.version))
    seen = await store.stat(KEY)
    second = await store.write(KEY, b"second", when=IfVersion(seen.version))
    reach(members, True, True)

    assert len({first.version, seen.version, second.version}) == 3
    assert await value(store) == b"second"


@awaited
async def test_a_blob_in_any_member_is_in_the_way() -> None:
    members, data = plugged(), fresh_bytes()
    address = await members[1].put(data)
    store = mirrored(*members)

    for call, error in (
        (store.write(address, b"slot"), BlobInTheWayError),
        (store.append(address, b"slot"), BlobInTheWayError),
        (store.take(address), BlobInTheWayError),
        (store.write(address, data, when=ABSENT), AlreadySetError),
        (store.write(address, b"slot", when=ABSENT), AlreadySetError),
    ):
        with pytest.raises(error):
            await call

    assert (await store.write(address, data)).kind is Kind.BLOB
    assert await content(members[0], address) == data


@awaited
async def test_a_blob_takes_the_place_of_a_slot_that_only_one_member_has() -> None:
    data = fresh_bytes()
    for which in (0, 1):
        members = plugged()
        await members[which].write(Address.of(data), b"a slot")
        await members[1 - which].put(data)
        store = mirrored(*members)

        assert (await store.stat(Address.of(data))).kind is Kind.BLOB
        assert await content(store, Address.of(data)) == data
        await store.repair(Address.of(data))

        assert [await content(member, Address.of(data)) for member in members] == [data] * 2


@awaited
async def test_a_change_that_nobody_can_make_is_an_error() -> None:
    members = plugged()
    reach(members, False, False)

    with pytest.raises(UnreachableError, match=r"^a: "):
        await mirrored(*members).write(KEY, b"x")
    with pytest.raises(UnreachableError, match=r"^a: "):
        await mirrored(*members).repair(KEY)


@awaited
async def test_a_leader_that_cannot_be_brought_up_to_date_leaves_it_to_the_next() -> None:
    members = plugged()
    members[0].store = MemoryStore(size_bytes_max=1000)
    reach(members, False, True)
    await mirrored(*members).write(KEY, fresh_bytes(2000))
    reach(members, True, True)

    await mirrored(*members).append(KEY, b"x")

    assert len(await value(mirrored(*members)) or b"") == 2001
    assert await value(members[0]) is None
    with pytest.raises(StoreError, match=r"^a: "):
        await mirrored(*members).repair(KEY)
    await mirrored(*members).write(KEY, b"short")
    assert await value(mirrored(*members)) == b"short"

    assert [await value(member) for member in members] == [b"short"] * 2
    assert await held(members) == [(await held(members))[0]] * 2


@awaited
async def test_a_follower_that_fails_in_the_middle_is_noted_and_catches_up() -> None:
    class Failing(Unplugged):
        async def append(self, address: Address, source: object) -> Info:
            del address, source
            raise StoreError("Its disk failed.")

    members = [Unplugged(), Failing()]
    store = mirrored(*members)
    await store.append(KEY, b"one")

    assert store.degraded == {"a": set(), "b": {KEY}}
    assert note_from(await content(members[0], note_address(KEY))).keys() == {Member("b", members[1]).tag}
    assert await store.repair_degraded() == {}

    assert [await value(member) for member in members] == [b"one"] * 2
    assert await held(members) == [(await held(members))[0]] * 2
    assert store.degraded == {"a": set(), "b": set()}


@awaited
async def test_members_agree_after_many_clients_changed_a_slot_at_once() -> None:
    for turn in range(10):
        members = plugged(3)
        clients = [mirrored(*members) for _ in range(4)]

        async def work(client: MirrorStore, sender: int, turn: int = turn) -> None:
            for number in range(6):
                text = line(sender, number, 70 * KIB if (number + turn) % 5 == 0 else 0)
                if (number + sender) % 3 == 0 and turn % 2:
                    await client.write(KEY, text)
                else:
                    await client.append(KEY, text)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(client, sender) for sender, client in enumerate(clients)))

        values = [await value(member) for member in members]
        assert values == [values[0]] * 3
        found = lines_of(values[0] or b"")
        if turn % 2 == 0:
            assert sorted(found) == [(sender, number) for sender in range(4) for number in range(6)]
        assert await held(members) == [(await held(members))[0]] * 3


@awaited
async def test_one_of_many_clients_takes_what_all_members_have() -> None:
    for lost in (None, 0, 1):
        members = plugged()
        await mirrored(*members).write(KEY, b"once")
        if lost is not None:
            members[lost].store = MemoryStore()

        async def take(client: MirrorStore) -> bytes:
            async with await client.take(KEY) as reading:
                return await reading.read()

        answers = await outcomes((take(mirrored(*members)) for _ in range(12)), NotFoundError)

        if lost != 0:
            assert [answer for _, answer in won(answers)] == [b"once"]
        assert await held(members) == [[], []]


OPERATIONS = st.sampled_from(
    ["write", "write", "append", "delete", "take", "create", "get", "stat", "repair", "missing", "refused"]
)


@given(
    st.sampled_from([2, 3]).flatmap(
        lambda count: st.lists(
            st.tuples(OPERATIONS, st.lists(st.booleans(), min_size=count, max_size=count).filter(any), st.booleans()),
            min_size=1,
            max_size=25,
        )
    )
)
@settings(
    max_examples=3000 if "HOLDALL_TEST_LONG" in os.environ else 150,
)
def test_whoever_is_away_when_the_newest_change_counts(steps: list[tuple[str, list[bool], bool]]) -> None:
    """Every step is by a new client, which reaches some members; after some of them all are reached and compared."""

    async def check() -> None:
        members = plugged(len(steps[0][1]))
        expected: bytes | None = None
        for number, (operation, here, look) in enumerate(steps):
            reach(members, *here)
            expected = await changed(mirrored(*members), operation, b"%d " % number, expected)
            reach(members, *[True] * len(members))
            if look:
                assert await value(mirrored(*members)) == expected
                try:
                    await mirrored(*members).repair(KEY)
                except NotFoundError:
                    assert expected is None
                assert await held(members) == [(await held(members))[0]] * len(members)
                assert [await value(member) for member in members] == [expected] * len(members)

    asyncio.run(check())


async def changed(store: MirrorStore, operation: str, text: bytes, before: bytes | None) -> bytes | None:
    """What should be there after an operation, given what should have been there before."""
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "refused": lambda: store.write(KEY, text, when=IfVersion("of nobody")),
        "get": lambda: content(store, KEY),
        "stat": lambda: store.stat(KEY),
        "repair": lambda: store.repair(KEY),
        "missing": lambda: store.missing([KEY]),
    }
    try:
        match operation:
            case "write" | "create":
                await store.write(KEY, text, when=ALWAYS if operation == "write" else ABSENT)
                return text
            case "append":
                seen = await value(store) or b""
                await store.append(KEY, text)
                assert await content(store, KEY) == seen + text
                return seen + text
            case "delete":
                await store.delete(KEY)
                return None
            case "take":
                await (await store.take(KEY)).aclose()
                return None
        await looks[operation]()
    except (AlreadySetError, NotFoundError, UnreachableError, VersionMismatchError):
        pass
    return before


def test_a_note_says_who_is_behind_and_survives_what_else_is_in_it() -> None:
    behind = {"0123456789abcdef": 1_700_000_000_000_000_000, "fedcba9876543210": 5}

    text = note_text(KEY, behind)

    assert note_from(text) == behind
    assert note_from(text + b"\xff\xfe\n1 2\n999999999999999999999 0123456789abcdef\n") == behind
    assert text.startswith(b"# holdall mirror")
    assert KEY.path.encode() in text
    assert note_address(KEY) not in {KEY, Address.of(text)}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(["slot", "slot"], 0, id="the first of equals"),
        pytest.param([None, None], 0, id="nobody has it"),
        pytest.param([None, "slot"], 1, id="the first lost it"),
        pytest.param(["gone", "slot"], 0, id="the first removed it just now"),
        pytest.param(["slot", "blob"], 1, id="a blob wins"),
        pytest.param([{"b": 5}, "slot"], 0, id="the second is behind"),
        pytest.param(["slot", {"a": 5}], 1, id="the first is behind"),
        pytest.param(["slot", {"a": 5, "none": True}], 1, id="the first missed a removal"),
        pytest.param([{"b": 5}, {"a": 6}], 1, id="each changed alone, the second later"),
        pytest.param([{"b": 6}, {"a": 5}], 0, id="each changed alone, the first later"),
        pytest.param(["slot", {"a": 5}, {"a": 5}], 1, id="the others agree on the first"),
        pytest.param([{"b": 9, "c": 9}, {"a": 7, "c": 7}, "slot"], 0, id="the last change of three"),
    ],
)
def test_whose_word_counts(members: list[str | dict[str, int] | None], expected: int) -> None:
    async def check() -> None:
        blob, slot = MemoryStore(), MemoryStore()
        here = await slot.write(KEY, b"slot")
        there = await blob.stat(await blob.put(b"blob"))
        tags = {name: Member(name, slot).tag for name in "abc"}
        standings = []
        for name, say in zip("abc", members, strict=False):
            behind = {tags[who]: at for who, at in say.items() if who in tags} if isinstance(say, dict) else {}
            absent = say is None or say == "gone" or (isinstance(say, dict) and "none" in say)
            info = None if absent else there if say == "blob" else here
            standings.append(Standing(Member(name, slot), info, held=info is not None or say == "gone", behind=behind))

        assert standings.index(source_of(standings)) == expected

    asyncio.run(check())


@pytest.mark.parametrize("damaged", [0, 1])
@pytest.mark.parametrize("at", [3, -3])
def test_a_copy_that_does_not_decrypt_is_replaced_by_one_that_does(damaged: int, at: int) -> None:
    """Its head or its body is changed, at the member that leads or at the one that follows."""

    async def scenario() -> tuple[list[str], list[bytes | None], list[str], int]:
        raw = [MemoryStore(), MemoryStore()]
        sealed = [EncryptedStore(member, bytes(range(32))) for member in raw]
        store = mirrored(*sealed)
        await store.write(KEY, b"a value")
        await spoil(raw[damaged], at)
        mended = await store.repair(KEY)
        notes = [await value(member, note_address(KEY)) for member in sealed]
        return (
            mended,
            [await value(member) for member in sealed],
            await mirrored(*sealed).repair(KEY),
            notes.count(None),
        )

    assert asyncio.run(scenario()) == (["ab"[damaged]], [b"a value"] * 2, [], 2)


def test_a_damaged_copy_is_not_replaced_by_an_earlier_value() -> None:
    async def scenario() -> tuple[str, bytes | None]:
        raw, away = MemoryStore(), Unplugged()
        sealed = [EncryptedStore(raw, bytes(range(32))), EncryptedStore(away, bytes(range(32)))]
        store = mirrored(*sealed)
        await store.write(KEY, b"earlier")
        away.plugged = False
        await store.write(KEY, b"later")
        away.plugged = True
        await spoil(raw, -3, size_bytes=len(b"later"))
        with pytest.raises(DamageError) as caught:
            await mirrored(*sealed).repair(KEY)
        return caught.value.message, await value(sealed[1])

    message, kept = asyncio.run(scenario())

    assert "holds the latest value" in message
    assert kept == b"earlier"


async def spoil(member: MemoryStore, at: int, size_bytes: int = len(b"a value")) -> None:
    """Changes one byte of the only ciphertext in a member that is of a value of this length."""
    [name] = [info.address async for info in member.entries() if info.size_bytes == HEAD_BYTES + 16 + size_bytes]
    data = bytearray(await content(member, name))
    data[at] ^= 1
    await member.write(name, bytes(data))
