"""`holdall verify`: a whole store, or one entry, read and held to its address."""

import os
import re
import sys
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, cast

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DAMAGED, DONE, FAILED
from holdall.cli.options import FROM_DEFAULTS, Common, CommonFrom, with_place
from holdall.cli.progress import Progress
from holdall.core.address import SUFFIX, Address
from holdall.core.units import format_size
from holdall.errors import (
    AddressError,
    DamageError,
    HoldallError,
    NotFoundError,
    SecretError,
    UnreachableError,
    UsageError,
)
from holdall.limits.snapshot import STORE_JOBS, STORE_JOBS_MAX
from holdall.stores.base import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from holdall.cli.profiles import Place
    from holdall.snapshot.verify_store import StoreVerification, VerifyReport
    from holdall.snapshot.whole_store import Trouble
    from holdall.stores.base import Store
    from holdall.stores.mirror import MirrorStore
    from holdall.stores.shares import SharesStore

_FAILURES_TOLD_MAX: Final = 10
"""Entries that could not be repaired which are named one by one."""


def verify(
    what: Annotated[str | None, Parameter(name="ADDRESS|STORE")] = None,
    /,
    *,
    sample: Annotated[str | None, Parameter(metavar="SHARE")] = None,
    quarantine: bool = False,
    repair: bool = False,
    jobs: Annotated[int, Parameter(metavar="N")] = STORE_JOBS,
    common: CommonFrom = FROM_DEFAULTS,
) -> int:
    """Reads every blob of a store, or what is at one address, and holds it to its hash. This is no use of them.

    Prints the address of each blob that is damaged or cannot be read; if there is one, the exit code is 4. Slots have
    no hash: it is only seen whether they can be read. Of a commit, every blob that it is made of is verified, and that
    they make up the tree that it names. With --json, each line is {"address", "slug", "message",
    "set_aside"}, and the last one {"blobs", "blobs_bytes", "slots", "damaged", "refused", "set_aside", "unmarked",
    "marked"}; for an address the only one is {"address", "kind", "size_bytes"}. With --repair of a store that has
    second copies it is {"entries", "repaired", "failed"}.

    Args:
        what: An address, or a store as --store takes it; the default store where nothing is named.
        sample: Read only a random part of the store, such as 1%.
        quarantine: Take damaged blobs out of the way, so that right bytes can take their place. A directory keeps them
            as .holdall-damaged-<hash>; a server deletes them, for its API key.
        repair: Read every copy in a mirror, or every share, and make those anew that are damaged or missing. If all
            could be, the exit code is 0. In any other store, mark as blobs again those that look like slots, since
            they were copied without their mode.
        jobs: Entries under way at once.
        common: The options of every command.
    """
    if not 1 <= jobs <= STORE_JOBS_MAX:
        raise UsageError(f"--jobs is between 1 and {STORE_JOBS_MAX}.")
    share = 1.0 if sample is None else _share(sample)
    address = None if what is None else _address(what)
    if address is None and what is not None:
        if common.store not in {(), (what,)}:
            raise UsageError("There are two stores to look at.", hint="Name one.")
        common = replace(common, store=(what,))
    place = common.place()
    if repair:
        if sample is not None or quarantine:
            raise UsageError("--repair goes with neither --sample nor --quarantine.")
        if place.outlives or place.is_sealed or address is not None:
            return _repair(place, address, common, jobs=jobs)
        return _verify_store(place, common, share=1.0, jobs=jobs, quarantine=False, mark=True)
    if address is not None:
        if sample is not None:
            raise UsageError("--sample is for whole stores.")
        return _verify_address(address, place, common, quarantine=quarantine)
    return _verify_store(place, common, share=share, jobs=jobs, quarantine=quarantine)


def _verify_store(
    place: "Place", common: Common, *, share: float, jobs: int, quarantine: bool, mark: bool = False
) -> int:
    """Verifies a whole store, or a random part of it; with `mark`, makes blobs of what is one and looks like a slot."""

    async def work(store: "Store") -> int:
        from holdall.snapshot.verify_store import StoreVerification  # noqa: PLC0415 - brings asyncio with it

        with Progress("Verifying", None, quiet=common.quiet) as progress:

            def count(size_bytes: int) -> None:
                progress.add(size_bytes)
                progress.relabel(f"Verifying, {run.report.seen:,} entries")

            marking = store if mark else None
            run = StoreVerification(store, share=share, jobs=jobs, quarantine=quarantine, mark=marking, count=count)
            await _report_troubles(run, progress, common)
        report = run.report
        if common.json:
            output.document({name: getattr(report, name) for name in report.__slots__})
        elif not common.quiet:
            output.note(_summary(report, quarantine=quarantine))
        if report.unmarked and not common.json:
            output.note(_unmarked(report.unmarked, place))
        return DAMAGED if report.damaged else FAILED if report.refused or report.unmarked else DONE

    return with_place(place, common, work, create=False)


async def _report_troubles(run: "StoreVerification", progress: Progress, common: Common) -> None:
    """Goes through the store; on a terminal also finds out, beside that, how much there is."""
    import asyncio  # noqa: PLC0415 - see the parser's imports
    from contextlib import aclosing  # noqa: PLC0415 - as above

    async def expect() -> None:
        total = await run.size_bytes()
        if total is not None:
            progress.expect(total)

    sizing = asyncio.create_task(expect()) if sys.stderr.isatty() and not common.quiet else None
    try:
        async with aclosing(run.troubles()) as troubles:
            async for trouble in troubles:
                _show(trouble, common)
    finally:
        if sizing is not None:
            sizing.cancel()
            await asyncio.gather(sizing, return_exceptions=True)


def _verify_address(address: Address, place: "Place", common: Common, *, quarantine: bool) -> int:
    """Verifies what is at one address."""

    async def work(store: "Store") -> int:
        from holdall.cli.verify_commit import is_commit, verify_commit  # noqa: PLC0415 - brings asyncio with it
        from holdall.snapshot.verify_store import look_twice, set_aside  # noqa: PLC0415 - as above
        from holdall.snapshot.whole_store import Trouble  # noqa: PLC0415 - as above

        with Progress("Verifying", None, quiet=common.quiet) as progress:
            found = await look_twice(store, address, count=progress.add)
            if not isinstance(found, Trouble) and await is_commit(store, found.info):
                show = partial(_show, common=common)
                return await verify_commit(store, address, progress, common, quarantine=quarantine, show=show)
        if isinstance(found, Trouble):
            if found.is_damage and quarantine:
                found = replace(found, set_aside=await set_aside(store, found))
            _show(found, common)
            return DAMAGED if found.is_damage else FAILED
        info = found.info
        if info.kind is Kind.SLOT:
            raise UsageError(f"{address} holds a slot, which has no hash to be held to.")
        if common.json:
            output.document({"address": address.path, "kind": info.kind.value, "size_bytes": info.size_bytes})
        elif not common.quiet:
            output.note(f"{address} is whole ({format_size(info.size_bytes)}).")
        return DONE

    return with_place(place, common, work, create=False)


# --- repair ---


def _repair(place: "Place", address: Address | None, common: Common, *, jobs: int) -> int:
    """Repairs a store, or what is at one address, or everything where that is None; says what was done."""
    if not place.outlives:
        raise UsageError(
            "There is no second copy to repair from in this store.",
            hint="Mirrors have one, and shares of which not all are needed; any store can be filled from a backup.",
        )
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without

    return asyncio.run(_repair_at(place, address, common, jobs))


async def _repair_at(place: "Place", address: Address | None, common: Common, jobs: int) -> int:
    from holdall.cli.spread import failures_of, open_place  # noqa: PLC0415 - brings asyncio with it

    entries, failed, repaired = 0, 0, Counter[str]()
    store = cast("MirrorStore | SharesStore", await open_place(place, create=False, probe=True))
    try:
        with Progress("Repairing", None, quiet=common.quiet) as progress:
            async with aclosing(_outcomes(store, address, jobs)) as outcomes:
                async for outcome in outcomes:
                    entries += 1
                    progress.relabel(f"Repairing, {entries:,} entries")
                    progress.add(0)
                    if isinstance(outcome, HoldallError):
                        failed += 1
                        if failed <= _FAILURES_TOLD_MAX and not isinstance(outcome, UnreachableError):
                            output.failure(outcome, as_json=common.json)
                    else:
                        repaired.update(outcome)
        away = [failure for failure in failures_of(store) if failure.is_away]
    finally:
        await store.aclose()
    code = DAMAGED if failed or away else DONE
    for failure in away:
        output.member_failure(failure.member, failure.message, as_json=common.json)
    if common.json:
        output.document({"entries": entries, "repaired": dict(repaired), "failed": failed})
        return code
    for member, number in sorted(repaired.items()):
        output.line(f"{member}: {output.count(number, 'entry', 'entries')} repaired")
    if code:
        output.note(f"Not all of {output.count(entries, 'entry', 'entries')} could be made whole in every store.")
    elif not common.quiet:
        output.note(f"{output.count(entries, 'entry is', 'entries are')} whole in every store.")
    return code


async def _outcomes(
    store: "MirrorStore | SharesStore", address: Address | None, jobs: int
) -> "AsyncGenerator[list[str] | HoldallError, None]":
    """Yields for each entry the members where it was made anew, or why it could not be."""
    from holdall.snapshot.whole_store import trouble_with  # noqa: PLC0415 - brings asyncio with it
    from holdall.stores.mirror import MirrorStore  # noqa: PLC0415 - as above
    from holdall.stores.ordered import in_order  # noqa: PLC0415 - as above

    async def mend(one: Address) -> list[str] | HoldallError:
        try:
            return await store.repair(one)
        except NotFoundError as error:
            return [] if address is None else error  # it has gone since it was listed
        except HoldallError as error:
            return trouble_with(one, error).error

    if address is not None:
        wanted = _made_of(store, address)
    elif isinstance(store, MirrorStore):
        wanted = store.addresses()
    else:
        try:
            async with aclosing(store.repair_all()) as repairs:  # type: ignore[type-var]
                async for done in repairs:
                    yield done.members if done.error is None else trouble_with(done.address, done.error).error
        except SecretError:
            raise
        except HoldallError as error:
            yield error
        return
    async with aclosing(wanted) as addresses, aclosing(in_order(addresses, mend, width=jobs)) as outcomes:  # type: ignore[type-var]
        async for outcome in outcomes:
            yield outcome


async def _made_of(store: "MirrorStore | SharesStore", address: Address) -> "AsyncIterator[Address]":
    """Yields an address, and of a commit those of all that it is made of."""
    from holdall.cli.verify_commit import is_commit  # noqa: PLC0415 - brings asyncio with it
    from holdall.core.manifest import decode_manifest  # noqa: PLC0415 - as above
    from holdall.snapshot.fetching import read_manifest  # noqa: PLC0415 - as above
    from holdall.snapshot.keep import members_of  # noqa: PLC0415 - as above

    info = await store.stat(address, use=False)
    yield address
    if not await is_commit(store, info):
        return
    manifest = decode_manifest(await read_manifest(store, address, use=False))
    seen: set[Address] = set()
    async with aclosing(members_of(store, manifest, use=False)) as lists:
        async for members in lists:
            for member in members:
                if member not in seen:
                    seen.add(member)
                    yield member


# --- words ---


def _show(trouble: "Trouble", common: Common) -> None:
    """Damage is the result, on standard output; what only could not be looked at is said beside it."""
    error = trouble.error
    if not trouble.is_damage:
        output.failure(error, as_json=common.json)
    elif common.json:
        told = {"slug": error.slug, "message": error.message, "set_aside": trouble.set_aside}
        output.document({"address": trouble.address.path, **told})
    else:
        output.line(trouble.address.path)
        if not isinstance(error, DamageError):
            output.failure(error)
    output.flush()


def _summary(report: "VerifyReport", *, quarantine: bool) -> str:
    blobs = f"{report.blobs:,} blob{'' if report.blobs == 1 else 's'}"
    words = f"verified {blobs} ({format_size(report.blobs_bytes)}), {report.damaged:,} damaged"
    if quarantine and report.damaged:
        words += f", {report.set_aside:,} of them taken out of the way"
    if report.refused:
        words += f", {report.refused:,} refused"
    if report.marked:
        words += f", {report.marked:,} marked as blobs again"
    if report.slots:
        words += (
            "; read 1 slot, which has no hash"
            if report.slots == 1
            else f"; read {report.slots:,} slots, which have no hash"
        )
    if report.damaged and not quarantine:
        words += ". --quarantine takes damaged blobs out of the way"
    return words


def _unmarked(number: int, place: "Place") -> str:
    """What to say of blobs that look like slots; of more stores than one, each has marks of its own."""
    looks = output.count(number, "blob looks like a slot", "blobs look like slots")
    each = "" if len(place.stores) == 1 else "for each store "
    return (
        f"{looks}, as after a copy without modes, so that damage among the slots does not show; "
        f"{each}holdall verify --repair marks them again, but not what is damaged."
    )


def _address(text: str) -> Address | None:
    """The address that a word is, or None where it can only be a store."""
    try:
        return Address.parse_text(text)
    except AddressError:
        if text.endswith(SUFFIX) and not os.path.isdir(text):
            raise
        return None


def _share(text: str) -> float:
    """Reads a percentage above 0."""
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", text.strip(), re.ASCII)
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{text[:40]!r} is no part of a store.", hint="Write a percentage, such as 1% or 0.1%.")
    return share
