"""From what a command was told to the store that it works on: one, a profile, or several as one.

Here several stores become one, members that are not there are done without where others have the same, and it is told
at the end who failed.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from holdall.cli import output, profiles
from holdall.cli.profiles import Member, Place
from holdall.core.address import Address
from holdall.errors import StoreError, UnreachableError, UsageError
from holdall.limits.stores import SHARES_FAULTS_MAX
from holdall.stores.absent import Absent
from holdall.stores.base import missing
from holdall.stores.opening import directory_of, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdall.cli.profiles import Spread
    from holdall.stores.base import Store
    from holdall.stores.mirror import MirrorStore
    from holdall.stores.shares_member import Fault

_PROFILE: Final = "profile:"
_AWAY: Final = {"unreachable", "refused"}
_WHOLE_MEMBER: Final = {"unreachable": "it did not answer", "everything missing": "it lost what it held"}


# --- what was named ---


def place_of(words: Sequence[str], spread: Spread | None, keys: Sequence[str | None]) -> Place:
    """What a command's words for its store mean.

    Args:
        words: As given: a profile's name alone, or one store or several.
        spread: How to use several; a mirror where it is not said.
        keys: The API keys given, one for each server in their order, or for one store alone.

    Raises:
        UsageError: They mean nothing, or not one thing.
    """
    named = _profile_in(words[0]) if len(words) == 1 else None
    if named is not None:
        place = profiles.read(named)
        if spread is not None and spread != place.spread:
            raise UsageError(f"The profile {place.name} is not spread so.", hint="Leave --spread away.")
        if any(keys):
            raise UsageError(f"The profile {place.name} has its API keys.", hint="Leave --api-key-file away.")
        return place
    if len(words) == 1 and len(keys) > 1:
        raise UsageError("--api-key-file was given more than once for one store.")
    if len(words) == 1 and spread in {None, "mirror"}:
        return Place(stores=(Member(name=words[0], url=words[0], api_key=keys[0] if keys else None),))
    members = members_of(words, keys)
    if spread in {"split", "shares"}:
        raise UsageError(
            "That takes a secret, which a profile keeps.",
            hint=f"Run holdall store add NAME {' '.join(map(_shown, words))} --spread {spread}, and then use NAME.",
        )
    if len(words) == 1:
        raise UsageError(f"--spread {spread} takes two stores or more.")
    return Place(stores=members, spread=spread or "mirror")


def members_of(words: Sequence[str], keys: Sequence[str | None]) -> tuple[Member, ...]:
    """The members that words name, each with its own key, and named by its place.

    Raises:
        UsageError: A word is no store, or is a profile, or there are not as many keys as servers.
    """
    servers = [word for word in words if is_server(word)]
    if keys and len(keys) != len(servers):
        raise UsageError(
            f"--api-key-file was given {output.count(len(keys), 'time')} for {output.count(len(servers), 'server')}.",
            hint="Give it once for each server, in their order.",
        )
    left = list(keys) or [None] * len(servers)
    found = []
    for word in words:
        if word.startswith(_PROFILE) or profiles.exists(word):
            raise UsageError(
                f"{word} is a profile, and a store is not made of profiles.",
                hint=f"Name its stores instead, or ./{word.removeprefix(_PROFILE)} for a directory.",
            )
        if not is_server(word):
            where = directory_of(word) or word
            found.append(Member(name=where, url=where))
            continue
        from holdall.stores.http_wire import split_url  # noqa: PLC0415 - needed for servers only

        base, own = split_url(word)
        found.append(Member(name=base, url=base, api_key=left.pop(0) or own))
    return tuple(found)


def is_server(word: str) -> bool:
    """Whether a word names a server."""
    return not word.lower().startswith(("memory:", _PROFILE)) and directory_of(word) is None


def _profile_in(word: str) -> str | None:
    """The profile that a word names, or None where it is a store itself.

    Raises:
        UsageError: It might be either, or seems to be one that is not there.
    """
    if word.startswith(_PROFILE):
        return word.removeprefix(_PROFILE)
    if not profiles.is_name(word):
        return None
    if os.path.lexists(word):
        if not profiles.exists(word):
            return None
        raise UsageError(
            f"{word} is a profile, and there is a directory of that name here.",
            hint=f"Write {_PROFILE}{word} for the one and ./{word} for the other.",
        )
    if profiles.exists(word):
        return word
    if known := profiles.names():
        raise UsageError(
            f"There is neither a profile nor a directory {word}.",
            hint=f"Write ./{word} for a new directory; profiles are {', '.join(known)}.",
        )
    return None


def _shown(word: str) -> str:
    return word.partition("?")[0]


# --- opening ---


async def open_place(place: Place, *, create: bool = True, probe: bool = False) -> Store:
    """Opens what was named; close it with `aclose`.

    A directory of a profile is never made: where it is missing, its disk is not there. What can do without a member
    that cannot be opened does; each call to it fails.

    Args:
        place: What was named.
        create: Make directories that are missing, where they were named themselves.
        probe: Ask each member for something first, and do without those that do not answer.

    Raises:
        StoreError: It cannot be opened.
        SettingError: Its members do not go together, or a package is not installed.
    """
    stores: list[Store] = []
    absent = 0
    try:
        for member in place.stores:
            try:
                stores.append(await _open(member, create=create and place.name is None, probe=probe))
            except StoreError as error:
                absent += 1
                if absent > place.outlives:
                    raise
                stores.append(Absent(error))
        return composed(place, stores)
    except BaseException:
        for store in stores:
            await store.aclose()
        raise


def composed(place: Place, stores: Sequence[Store]) -> Store:
    """The store that a place's members make up.

    Of a mirror and a stripe each member is encrypted, and not the whole: so a mirror still sees blobs, which it can
    hold to their addresses.

    Args:
        place: How they go together.
        stores: Its members, in order.

    Raises:
        SettingError: They do not, or a package is not installed.
    """
    names, secret = [member.name for member in place.stores], bytes.fromhex(place.secret or "")
    if place.spread == "split":
        from holdall.stores.split import SplitStore  # noqa: PLC0415 - only what is used is imported

        return SplitStore(stores, secret, names=names)
    if place.spread == "shares":
        from holdall.stores.shares import SharesStore  # noqa: PLC0415 - as above

        needed = place.needed or 0
        return SharesStore(stores, needed, secret, least=max(needed, place.outlives + 1), names=names)
    if place.encrypt:
        from holdall.stores.encrypted import EncryptedStore  # noqa: PLC0415 - as above

        stores = [EncryptedStore(store, secret, name=name) for store, name in zip(stores, names, strict=True)]
    if place.spread == "mirror":
        from holdall.stores.mirror import MirrorStore  # noqa: PLC0415 - as above

        return MirrorStore(list(zip(names, stores, strict=True)))
    if place.spread == "stripe":
        from holdall.stores.stripe import StripeStore  # noqa: PLC0415 - as above

        return StripeStore(list(zip(names, stores, strict=True)))
    return stores[0]


async def _open(member: Member, *, create: bool, probe: bool) -> Store:
    store = await open_store(member.url, api_key=member.api_key, create=create)
    if probe:
        try:
            await missing(store, [Address(bytes(32))])
        except UnreachableError:
            await store.aclose()
            raise
    return store


# --- who failed ---


class Failure(NamedTuple):
    """What became of one member during a command.

    Attributes:
        member: Its name.
        message: One sentence.
        is_away: Whether it did not do something that it was asked.
        lasts: Whether something is still to be made good.
    """

    member: str
    message: str
    is_away: bool
    lasts: bool


def failures_of(store: Store) -> list[Failure]:
    """What a composite's members were found to do wrong."""
    from holdall.stores.mirror import MirrorStore  # noqa: PLC0415 - brings the composites with it
    from holdall.stores.shares_base import SharesBase  # noqa: PLC0415 - as above

    if isinstance(store, MirrorStore):
        return _of_mirror(store)
    return _of_shares(store.faults) if isinstance(store, SharesBase) else []


def tell(place: Place, store: Store, *, as_json: bool) -> bool:
    """Says which members failed, a sentence each, and how that is made good; whether anything is to be."""
    if place.spread in {None, "stripe"} and not place.encrypt:
        return False
    failures = failures_of(store)
    for failure in failures:
        output.member_failure(failure.member, failure.message, as_json=as_json)
    lasts = any(failure.lasts for failure in failures)
    if lasts and place.outlives and not as_json:
        output.note(f"What they lack is made good by holdall verify {place.words} --repair.")
    return lasts


def _of_mirror(store: MirrorStore) -> list[Failure]:
    found = []
    lacking, overlooked, mended = store.degraded, store.overlooked, store.mended
    for name, error in store.failed.items():
        lacks = len(lacking[name]) + overlooked[name]
        words = []
        if error is not None:
            words.append(error.rstrip("."))
        if lacks:
            words.append(f"it lacks {output.count(lacks, 'entry', 'entries')}")
        if mended[name]:
            words.append(f"{output.count(mended[name], 'entry', 'entries')} it lacked or had wrong were mended")
        if words:
            found.append(Failure(name, f"{'; '.join(words)}.", error is not None, bool(lacks or error is not None)))
    return found


def _of_shares(faults: Sequence[Fault]) -> list[Failure]:
    counts: dict[str, Counter[str]] = {}
    for fault in faults:
        reason = "everything missing" if fault.address is None and fault.reason == "missing" else fault.reason
        counts.setdefault(fault.member, Counter())[reason] += 1
    most = "at least " if len(faults) >= SHARES_FAULTS_MAX else ""
    found = []
    for name, reasons in counts.items():
        words = [
            _WHOLE_MEMBER.get(reason) or f"{most}{output.count(number, 'entry', 'entries')} {reason}"
            for reason, number in reasons.items()
        ]
        found.append(Failure(name, f"{'; '.join(words)}.", not _AWAY.isdisjoint(reasons), lasts=True))
    return found
