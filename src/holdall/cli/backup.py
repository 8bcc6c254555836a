"""`holdall backup`: everything of one store into another."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdall.cli import output
from holdall.cli.exit_codes import DAMAGED, DONE, FAILED
from holdall.cli.options import DEFAULTS, Common
from holdall.cli.progress import Progress
from holdall.core.units import format_size
from holdall.errors import AccessError, HoldallError, UsageError
from holdall.limits.snapshot import STORE_JOBS, STORE_JOBS_MAX
from holdall.stores.opening import directory_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdall.cli.profiles import Place
    from holdall.snapshot.backup import Backup, BackupReport
    from holdall.stores.base import Store


def backup(
    source: Annotated[str, Parameter(name="FROM")],
    target: Annotated[str, Parameter(name="TO")],
    /,
    *,
    blobs_only: bool = False,
    keep: bool = False,
    dry_run: bool = False,
    jobs: Annotated[int, Parameter(metavar="N")] = STORE_JOBS,
    from_key_file: Annotated[str | None, Parameter(metavar="FILE")] = None,
    to_key_file: Annotated[str | None, Parameter(metavar="FILE")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Copies everything of one store to another: what TO lacks, and the slots whose values differ.

    Nothing is removed from TO. A backup that was broken off goes on where it was; the next one copies what has come
    since. Every blob is checked against its address on the way: one that is damaged is reported and left out, the rest
    goes on, and the exit code is 4. With --json, prints {"copied", "copied_bytes", "there", "damaged", "refused",
    "left_out", "dry_run"}.

    Args:
        source: The store to copy: a directory, a profile, or a server with its API key, without which it lists nothing.
        target: The store to copy to; a directory is made if it is missing.
        blobs_only: Leave slots out.
        keep: Count this as a use of everything in FROM, so that nothing there expires between two backups.
        dry_run: Copy nothing, and say how much would be. What TO has already counts as used all the same.
        jobs: Entries under way at once.
        from_key_file: Read FROM's API key from this file.
        to_key_file: Read TO's API key from this file.
        common: The options of every command.
    """
    if not 1 <= jobs <= STORE_JOBS_MAX:
        raise UsageError(f"--jobs is between 1 and {STORE_JOBS_MAX}.")
    if common.store or common.spread is not None:
        option = "--store" if common.store else "--spread"
        raise UsageError(
            f"{option} has no use here.", hint="The stores are FROM and TO; several as one have a profile."
        )
    ends = _ends((source, target), (from_key_file, to_key_file), common)

    async def work(here: "Store", there: "Store") -> int:
        from holdall.snapshot.backup import Backup  # noqa: PLC0415 - brings asyncio with it

        with Progress("Copying", None, quiet=common.quiet) as progress:

            def count(size_bytes: int) -> None:
                progress.add(size_bytes)
                progress.relabel(f"Copying, {run.report.seen:,} entries seen")

            run = Backup(here, there, blobs_only=blobs_only, keep=keep, dry_run=dry_run, jobs=jobs, count=count)
            return await _run(run, common, dry_run=dry_run)

    try:
        return _with_stores(*ends, common, work, dry_run=dry_run)
    except AccessError as error:
        if all(end.name is None and directory_of(end.stores[0].url) is None for end in ends):
            error.hint = "Bring each store's key with --from-key-file and --to-key-file, or ?apikey=KEY in its URL."
        raise


async def _run(run: "Backup", common: Common, *, dry_run: bool) -> int:
    from contextlib import aclosing  # noqa: PLC0415 - after the parser's imports

    report = run.report
    try:
        async with aclosing(run.troubles()) as troubles:
            async for trouble in troubles:
                output.failure(trouble.error, as_json=common.json)
    except HoldallError:
        if not common.quiet and not common.json and report.seen:
            output.note(f"Broken off: {_summary(report, dry_run=dry_run)}. Run it again to go on.")
        raise
    if common.json:
        output.document(
            {
                "copied": report.copied,
                "copied_bytes": report.copied_bytes,
                "there": report.there,
                "damaged": report.damaged,
                "refused": report.refused,
                "left_out": report.left_out,
                "dry_run": dry_run,
            }
        )
    elif not common.quiet:
        output.note(_summary(report, dry_run=dry_run))
    return DAMAGED if report.damaged else FAILED if report.refused else DONE


def _summary(report: "BackupReport", *, dry_run: bool) -> str:
    entries = "entry" if report.copied == 1 else "entries"
    words = [
        f"{'would copy' if dry_run else 'copied'} {report.copied:,} {entries} ({format_size(report.copied_bytes)})",
        f"{report.there:,} were there",
        f"{report.damaged:,} damaged",
    ]
    if report.refused:
        words.append(f"{report.refused:,} refused")
    if report.left_out:
        words.append(f"{report.left_out:,} slot{'' if report.left_out == 1 else 's'} left out")
    return ", ".join(words)


def _ends(names: tuple[str, str], key_files: tuple[str | None, str | None], common: Common) -> tuple["Place", "Place"]:
    """The two stores; a key that is not said to be one's own goes to a server only if it is the only one.

    Raises:
        UsageError: They are the same, or a key cannot be read, or it is not said whose it is.
    """
    from holdall.cli.spread import place_of  # noqa: PLC0415 - --help and wrong use do without

    words = [os.path.expanduser(name) for name in names]
    plain = [place_of([word], None, []) for word in words]
    servers = [end for end in plain if end.name is None and directory_of(end.stores[0].url) is None]
    if len(servers) != 1 and common.api_key_file:
        raise UsageError("--api-key-file does not say whose key it is.", hint="Use --from-key-file and --to-key-file.")
    ends = []
    for word, place, key_file in zip(words, plain, key_files, strict=True):
        own = common.api_key_file if place in servers else ()
        named = replace(common, store=(word,), api_key_file=own if key_file is None else (key_file,))
        ends.append(named.place(environment_key=len(servers) == 1))
    if _where(ends[0]) == _where(ends[1]):
        raise UsageError("FROM and TO are the same store.")
    return ends[0], ends[1]


def _where(place: "Place") -> tuple[object, ...]:
    """What two names of one store have in common."""
    paths = [directory_of(member.url) for member in place.stores]
    urls = [
        member.url.partition("?")[0].rstrip("/") if path is None else os.path.realpath(path)
        for member, path in zip(place.stores, paths, strict=True)
    ]
    return place.spread, place.secret, *urls


def _with_stores(
    here: "Place",
    there: "Place",
    common: Common,
    work: "Callable[[Store, Store], Awaitable[int]]",
    *,
    dry_run: bool,
) -> int:
    """Opens both stores, does the work, and closes them."""
    import asyncio  # noqa: PLC0415 - slow to import; --help and wrong use do without

    from holdall.cli.profiles import Member, Place  # noqa: PLC0415 - as above
    from holdall.cli.spread import open_place, tell  # noqa: PLC0415 - as above

    path = directory_of(there.stores[0].url) if there.name is None else None
    if dry_run and path is not None and not os.path.lexists(path):
        # A dry run makes no directory: nothing is in one that is missing.
        there = Place(stores=(Member(name="memory:", url="memory:"),))

    async def done() -> int:
        source = await open_place(here, create=False)
        lasts = False
        try:
            target = await open_place(there)
            try:
                code = await work(source, target)
            finally:
                lasts = tell(there, target, as_json=common.json)
                await target.aclose()
        finally:
            tell(here, source, as_json=common.json)
            await source.aclose()
        return code or (FAILED if lasts else DONE)

    return asyncio.run(done())
